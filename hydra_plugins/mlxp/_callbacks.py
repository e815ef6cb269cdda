"""The recording of a Hydra job, by its callback: its run is opened, and closed."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar, cast

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mlxp import _mlxpsub_state, _omegaconf
from hydra_plugins.mlxp._dead_workers import watch_workers
from hydra_plugins.mlxp._job_exit_hook import watch_endings
from hydra_plugins.mlxp._mlxp_settings import check_settings
from hydra_plugins.mlxp._names import LAUNCHER, MAIN
from hydra_plugins.mlxp._run_dirs import choose_run_dir, resolve_sweep_dir
from hydra_plugins.mlxp._task_function import function_hash, program_file
from hydra_plugins.mlxp._unrecorded import (
    give_hydras_run_dir,
    give_hydras_sweep_dir,
    is_unrecorded,
    refuse_to_submit,
)
from mlxp_core.errors import ConfigurationChangedError, SnapshotError, StoreError
from mlxp_core.recording import current
from mlxp_core.recording.lifecycle import end_recording, finish, start_recording, start_unrecorded
from mlxp_core.recording.run import Run
from mlxp_core.recording.running_code import code_of_launched, running_code
from mlxp_core.runs import info
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.runs.git_exclusion import hide_folder
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.status import Status
from mlxp_core.versioning.copy_guard import guard_copy
from mlxp_core.versioning.python_path import modules_outside_copy
from mlxp_core.yaml_io import load_yaml, load_yaml_or_empty

if TYPE_CHECKING:
    from mlxp_core.recording.streams import StreamCopies

log = logging.getLogger(__name__)

_mains = itertools.count(1)  # the main functions of this job's program, as they begin
_open: list[Run] = []  # the runs that on_job_start has opened, in this process
_Hook = TypeVar("_Hook", bound=Callable[..., None])


def _remembers_failure(hook: _Hook) -> _Hook:
    """Have current_run() raise an exception of a callback again, which Hydra turns into a warning."""

    @functools.wraps(hook)
    def wrapped(*args: Any, **named: Any) -> None:
        try:
            hook(*args, **named)
        except Exception as error:
            current.remember_failure(error)
            raise

    return cast("_Hook", wrapped)


@contextmanager
def _ending_the_program() -> Iterator[None]:
    """End the program where Hydra would only warn, and go on with a folder that it cannot make either."""
    try:
        yield
    except StoreError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error


@functools.cache
def _job_main() -> int:
    """The number of the main function that this job is to run; programs that it starts are not told."""
    return int(os.environ.pop(MAIN, "1"))


def watch() -> None:
    """Watch for the ends of jobs that Hydra does not report."""
    watch_endings(_close)


@_remembers_failure
def on_run_start(config: DictConfig, config_name: str | None = None, *, record: bool = True) -> None:
    """Choose the folder; in a launched job, take over the decisions of its submission."""
    single = _single(config)
    is_job = not OmegaConf.is_missing(config.hydra.job, "id")  # set by its command; it would submit itself
    if not is_job and is_unrecorded(record=record):
        if single == "submit":
            refuse_to_submit()
        give_hydras_run_dir(config)
        return
    if not is_job:
        check_settings(config, "run")
    if single == "submit" and not is_job:
        from hydra_plugins.mlxp._submit_single import submit_single  # noqa: PLC0415

        submit_single(config, config_name)
        return
    with _ending_the_program():
        run = RunDir(choose_run_dir(config))
    if not run.path.exists():  # else it may hold the user's own files, as the directory of the program
        with suppress(OSError):  # which Hydra then says, of its own
            run.path.mkdir(parents=True)
            hide_folder(run.path)
    if _is_launched(run):
        number = next(_mains)
        if number == _job_main():
            _take_over(config, run)
        else:
            from hydra_plugins.mlxp._replace_run import skip  # noqa: PLC0415

            log.debug("not the main function of this job, but the %dth of its program", number)
            skip(config)
    elif single is not None:
        name = config.hydra.runtime.choices.get("hydra/launcher")
        log.warning(
            "without -m (--multirun) nothing is submitted: hydra/launcher=%s is not used, the run is here "
            "(hydra.launcher.single=submit submits it)",
            name,
        )


def _single(config: DictConfig) -> str | None:
    """Tell what a run without -m does that has chosen one of our launchers; None where it has not."""
    launcher = config.hydra.launcher
    if launcher.get("_target_") != LAUNCHER:
        return None
    single = str(launcher.get("single", "run"))
    if single not in {"run", "submit"}:
        raise SystemExit(f"ConfigurationError: hydra.launcher.single={single}: it is run or submit")
    return single


@_remembers_failure
def on_multirun_start(config: DictConfig, *, record: bool = True) -> None:
    """Choose the log directory; defer those options of the launcher that only the jobs' configurations can resolve."""
    if is_unrecorded(record=record):
        give_hydras_sweep_dir(config)
        return
    check_settings(config, "sweep")
    resolve_sweep_dir(config)
    if config.hydra.launcher.get("_target_") != LAUNCHER:  # whose jobs are not children of this process
        with _ending_the_program():
            watch_workers(Path(config.hydra.runtime.cwd, str(config.hydra.sweep.dir)))
        return
    _omegaconf.defer_to_jobs(config, "hydra.launcher", ("header", "setup"))
    if (program := _mlxpsub_state.current()) is not None and program.session.dry_run:
        program.redirect(config)


@_remembers_failure
def on_job_start(
    config: DictConfig,
    task_function: Callable[..., Any] | None,
    snapshot: str,
    *,
    record: bool = True,
    log_streams: bool = False,
) -> None:
    """Open the run; ``snapshot``, ``record`` and ``log_streams`` are the callback's options."""
    if not _open and _streams is not None:
        _close_streams()
    run = RunDir(Path(config.hydra.runtime.output_dir))
    facts = {"hydra": {"job_name": config.hydra.job.name, "overrides": _omegaconf.overrides(config, "task")}}
    launch_dir = Path(config.hydra.runtime.cwd)
    program = program_file(task_function, launch_dir)
    if _is_launched(run):
        recorded = load_yaml_or_empty(run.info)
        version = CodeVersion.from_info(recorded)
        code = version.repo_path and version.copy
        running = code_of_launched(recorded, program)
        _open.append(start_recording(run, config=None, facts=facts, code=code, running=running, launch_dir=launch_dir))
        return
    if is_unrecorded(record=record):
        _open.append(start_unrecorded(_omegaconf.resolved(config), launch_dir))
        return
    full, raw = _omegaconf.resolved(config), _omegaconf.unresolved(config)
    if own := function_hash(task_function):
        facts |= CodeVersion(function_hash=own).as_info
    running = running_code(program, run.path.parent, snapshot)
    code = running.tree if running is not None else program.parent
    _open.append(
        start_recording(
            run, config=full, config_unresolved=raw, facts=facts, code=code, running=running, launch_dir=launch_dir
        )
    )
    if log_streams and _streams is None:  # of a run within a run all that is printed is the outer's
        _copy_streams(config, run)


def version_here(
    task_function: Callable[..., Any] | None, launch_dir: Path, log_dir: Path, snapshot: str
) -> CodeVersion:
    """The code version that is recorded for runs of this process, as far as it is known."""
    running = running_code(program_file(task_function, launch_dir), log_dir, snapshot)
    version = CodeVersion() if running is None else running.refresh()
    return replace(version, function_hash=function_hash(task_function))


@_remembers_failure
def on_job_end(job_return: JobReturn) -> None:
    """Close the run, by the outcome of its task function."""
    value = job_return._return_value  # noqa: SLF001  (the property raises that of a job that failed)
    if job_return.status is JobStatus.COMPLETED:
        _close(None, value)
    else:
        _close(value)


def _close(error: BaseException | None, value: Any = None) -> None:
    if _open:
        run = _open.pop()
        end_recording(run, error, value, advice=_advice(run, error))
    if not _open and _streams is not None and _streams.is_of_one_job:
        _close_streams(error)


def _advice(run: Run, error: BaseException | None) -> str:
    """Say what to do where a launched job has failed for a file that is not where it started; in the log, too."""
    if error is None or run.keeps_nothing or (frozen := _frozen(run.layout)) is None:
        return ""
    from mlxp_core.versioning.file_advice import JobPlaces, advise  # noqa: PLC0415  (for those that fail)

    repo, copy = frozen
    start = Path(str(load_yaml_or_empty(run.layout.info).get("work_dir")))
    advice = advise(error, JobPlaces(copy, repo, run.layout.work, start, run.original_path("")))
    if advice:
        log.error("%s", advice)
    return advice


class _Streams(NamedTuple):
    """The copies that are being made of what the run prints."""

    copies: StreamCopies
    is_of_one_job: bool  # of several that this process runs; else they go on to the end of the program


_streams: _Streams | None = None


def _copy_streams(config: DictConfig, run: RunDir) -> None:
    """Keep what the run prints. A program's only run has what is printed after it, too, such as Hydra's stack trace."""
    global _streams  # noqa: PLW0603  (the descriptors are the process's)
    from mlxp_core.recording.streams import StreamCopies  # noqa: PLC0415  (jobs of a launcher have script.sh for it)

    is_of_one_job = config.hydra.get("mode") == RunMode.MULTIRUN
    _streams = _Streams(StreamCopies({1: run.stdout, 2: run.stderr}), is_of_one_job)


def _close_streams(error: BaseException | None = None) -> None:
    """End the copies; Hydra tells of the error of one job when all have ended, so its log is told now."""
    global _streams
    if _streams is not None:
        streams, _streams = _streams, None
        words = "".join(traceback.format_exception(error)) if isinstance(error, Exception) else None
        streams.copies.close({2: words} if words else None)


def _is_launched(run: RunDir) -> bool:
    """Tell whether a launcher of ours has made the folder, for this job to run in."""
    return "launcher" in load_yaml_or_empty(run.settings)


def _take_over(config: DictConfig, run: RunDir) -> None:
    """Run the configuration that was submitted; a job that composes another one ends here, with the difference."""
    submitted = load_yaml(run.config_unresolved)
    different = _omegaconf.differences(submitted, _omegaconf.unresolved(config))
    if different:
        _refuse(
            run,
            ConfigurationChangedError(
                f"run {run.path} was submitted with another configuration than its job composes now, so it does not "
                "run.\nsubmitted -> now\n  " + "\n  ".join(different) + "\n"
                "Is a configuration file, or a package that adds to the configuration, another one on this machine?"
            ),
        )
    settings = load_yaml(run.settings)
    config.hydra.runtime.cwd = settings["launcher"]["launch_dir"]  # what hydra.utils.get_original_cwd() answers
    take_values_over(config, run)


def take_values_over(config: DictConfig, run: RunDir) -> None:
    """Use the code and the values that were submitted; interpolations might resolve to others here."""
    _check_modules(run)
    pinned = _omegaconf.pin(config, load_yaml(run.config))
    if pinned:
        log.debug("as at the submission, and not as they would be resolved now: %s", ", ".join(pinned))


def _check_modules(run: RunDir) -> None:
    """Refuse to run code that changes while jobs wait: modules that come from the work tree and not from the copy."""
    frozen = _frozen(run)
    if frozen is None:
        return
    repo, copy = frozen
    guard_copy(copy)
    if misplaced := modules_outside_copy(sys.modules, repo, copy):
        _refuse(
            run,
            SnapshotError(
                f"run {run.path} was submitted with the code in {copy}, and Python has loaded these from the work tree:"
                "\n  " + "\n  ".join(misplaced[:20]) + "\nIs there a line in the template, or an installation of the "
                "package, that puts them first on sys.path? hydra.launcher.snapshot=none runs the work tree as it is."
            ),
        )


def _refuse(run: RunDir, error: Exception) -> NoReturn:
    finish(start_recording(run, config=None), Status.FAILED, info.describe_error(error))
    raise SystemExit(f"{type(error).__name__}: {error}")


def _frozen(run: RunDir) -> tuple[Path, Path] | None:
    """The work tree, and the copy of its code, of a launched run; None where it runs in place."""
    version = CodeVersion.from_info(load_yaml_or_empty(run.info))
    return (version.repo_path, version.copy) if version.repo_path and version.copy else None
