"""Detect the scheduler that a job script is written for: by its directives, and by what answers where two read them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from mlxp_core.errors import CommandError, ConfigurationError
from mlxp_core.jobs.template import is_directive
from mlxp_core.scheduler import SCHEDULERS, client, load_scheduler
from mlxp_core.scheduler.base import Probe, Scheduler

_PROBE_TIMEOUT = 10.0  # seconds


def detect_scheduler(text: str, source: str) -> str:
    """The name of the scheduler. Raises ConfigurationError where the script does not tell."""
    lines = text.splitlines()
    candidates = [scheduler for scheduler in map(load_scheduler, SCHEDULERS) if _has_directives(lines, scheduler)]
    # one that obeys another's directives beside its own is told by its own
    obeyed = {prefix for scheduler in candidates for prefix in scheduler.other_prefixes}
    candidates = [scheduler for scheduler in candidates if scheduler.directive not in obeyed]
    candidates = [scheduler for scheduler in candidates if _is_the_one(scheduler, candidates)]
    if len(candidates) > 1:  # a script for several sites: the one whose commands are here
        candidates = [scheduler for scheduler in candidates if shutil.which(scheduler.submit[0])] or candidates
    names = [scheduler.name for scheduler in candidates]
    if len(names) != 1:
        what = f"has directives of {', '.join(names)}" if names else "has no directives of a scheduler"
        raise ConfigurationError(f"{source} {what}: say which with --scheduler, one of {', '.join(SCHEDULERS)}")
    return names[0]


def _has_directives(lines: Iterable[str], scheduler: Scheduler) -> bool:
    spellings = (scheduler.directive, *scheduler.other_spellings)
    return any(
        line[len(prefix) :].lstrip().startswith("-")
        for line in lines
        for prefix in spellings
        if line.startswith(prefix) and is_directive(line, scheduler)
    )


def _is_the_one(scheduler: Scheduler, candidates: Iterable[Scheduler]) -> bool:
    """Tell a scheduler from the others whose directives are the same."""
    rivals = [other for other in candidates if other.directive == scheduler.directive and other is not scheduler]
    if not rivals:
        return True
    if scheduler.probe is not None:
        return _answers(scheduler.probe)
    return not any(rival.probe is not None and _answers(rival.probe) for rival in rivals)


def _answers(probe: Probe) -> bool:
    try:
        answer = client.run_command(probe.command, limit=_PROBE_TIMEOUT)
    except CommandError:
        return False  # said when it is submitted to
    return probe.pattern.search(answer.text) is not None
