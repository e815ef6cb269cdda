"""Look environment variables up across all schedulers: a job's, those of its submission, and those of clients."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import cache

from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.scheduler.base import Kind, Scheduler

# set by the prologs of many sites, whatever the scheduler does; where it is the submitter's own, it is one as well
_OF_ANY_JOB = {"TMPDIR": Kind.DIRECTORY}

# kinds by the look of a name, for those that no manual has; the first that fits
_KINDS_BY_NAME = (
    (Kind.RANK, r"\w+_(?:PROCID|LOCALID|NODEID|V?NODENUM|TASKNUM|RANK)"),
    (
        Kind.COUNT,
        (
            r"\w+_(?:(?:N(?:TASKS|PROCS|NODES|CPUS|GPUS|P)|NUM|CPUS|GPUS|MEM|TASKS|THREADS|CORES)(?:_\w+)?"
            r"|\w*(?:(?<!AC)COUNT|MAX|MIN|STEP|STEPSIZE|FIRST|LAST|TIME|WALLTIME|SECONDS|INTERVAL|PERIOD|SIZE|PORT"
            r"|NUMPROC|PROCESSORS))"
        ),
    ),
    (Kind.NUMBER, r"\w*(?:ID|INDEX|IDX|NUM)"),
    (Kind.DIRECTORY, r"\w+(?:TMP|TMPDIR|SCRATCH|DIR|DIRECTORY)"),
    (Kind.HOSTFILE, r"\w+(?<!PRO)FILE\w*"),
)
# what a script and all that it runs may count on; with counts and lists programs would see that they are in a job
_COMMON = (Kind.ID, Kind.DIRECTORY, Kind.HOSTFILE)


def is_of_a_job(name: str, scheduler: str | None = None) -> bool:
    """Tell the variables that only a job has from others, such as the user's own.

    Names that are no scheduler's alone, such as TMPDIR or QUEUE, are of a job of those schedulers that set them:
    they count where ``scheduler`` is said, for its scripts.
    """
    return job_variable_kind(name, scheduler) is not None


def job_variable_kind(name: str, scheduler: str | None = None) -> Kind | None:
    """The kind of a job's variable; None for one that is not a job's, see ``is_of_a_job``."""
    if scheduler is not None:
        listed = _kinds(scheduler).get(name)
        if listed is not None:
            return listed
    return _kind_of_distinctive(name) if is_distinctive(name) else None


def common_job_variables(scheduler: str) -> list[str]:
    """The names of the ids, directories and lists of hosts that each job of a scheduler has."""
    return [name for name, kind in _kinds(scheduler).items() if kind in _COMMON]


@cache
def is_distinctive(name: str) -> bool:
    """Tell a job's variable by its name alone: no scheduler but its own, and nobody else, uses such names."""
    return not _is_of_the_submission(name) and any(
        re.fullmatch(scheduler.job_variable_pattern, name) for scheduler in _schedulers()
    )


def submit_dir_variables() -> frozenset[str]:
    """The variables that hold the directory of the submission."""
    return frozenset(name for scheduler in _schedulers() for name in scheduler.submit_dir_variables)


def submitter_values() -> dict[str, str]:
    """The variables that tell a job of its submission's environment, as they would be were this process it."""
    known: Mapping[str, str] = {
        **os.environ,
        "HOST": platform.node(),
        "SYSTEM": platform.system(),
        "UID": str(os.getuid()),
        "GID": str(os.getgid()),
    }
    pairs = (pair for scheduler in _schedulers() for pair in scheduler.submitter_variables.items())
    return {name: known.get(source, "") for name, source in pairs}


def placement() -> dict[str, str]:
    """Where and as what the schedulers say that this process was placed."""
    in_job = [scheduler for scheduler in _schedulers() if scheduler.job_variable in os.environ]
    names = dict.fromkeys(name for scheduler in in_job for name in scheduler.placement_variables)
    return {name: os.environ[name] for name in names if name in os.environ}


@cache
def _schedulers() -> tuple[Scheduler, ...]:
    return tuple(map(load_scheduler, SCHEDULERS))


@cache
def _kinds(scheduler: str) -> Mapping[str, Kind]:
    listed = load_scheduler(scheduler).job_variables
    return {**_OF_ANY_JOB, **{name: kind for kind, names in listed.items() for name in names}}


def _kind_of_distinctive(name: str) -> Kind:
    listed = (_kinds(scheduler).get(name) for scheduler in SCHEDULERS)
    by_name = (kind for kind, pattern in _KINDS_BY_NAME if re.fullmatch(pattern, name))
    return next((kind for kind in (*listed, *by_name) if kind is not None), Kind.TEXT)


@cache
def _names_of_the_submission() -> frozenset[str]:
    return frozenset(
        name
        for scheduler in _schedulers()
        for name in (*scheduler.client_variables, *scheduler.submitter_variables, *scheduler.submit_dir_variables)
    )


def _is_of_the_submission(name: str) -> bool:
    return name in _names_of_the_submission()
