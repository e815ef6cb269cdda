"""The specification of a run's submission, kept in its folder so that it can be submitted again as it was."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mlxp_core.errors import (
    ConfigurationError,
)
from mlxp_core.jobs import directives
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler import load_scheduler
from mlxp_core.scheduler.base import Scheduler
from mlxp_core.yaml_io import load_yaml_or_empty


@dataclass(frozen=True)
class SubmitSpec:
    """How a run is submitted. Kept in its folder (mlxp.yaml), so that it can be submitted again as it was."""

    scheduler: str
    name: str  # of its job
    shebang: str
    header: tuple[str, ...]  # the user's directives, byte for byte
    directory: str  # where the submit command is run: the launch directory
    array: bool = True
    max_parallel: int | None = None  # runs at once, of those that are submitted together
    pack: int = 1  # runs side by side in one job
    command_timeout: float = 60.0  # seconds
    submit_timeout: float = 300.0  # seconds of trying

    @classmethod
    def load(cls, run: RunDir) -> SubmitSpec:
        """Read a run's order. Raises ConfigurationError where the run has none: no launcher of ours made it."""
        (spec,) = load_specs([run])
        return spec

    @property
    def plain(self) -> dict[str, Any]:
        """The order in plain values."""
        return {**asdict(self), "header": list(self.header)}


def load_specs(runs: Iterable[RunDir]) -> list[SubmitSpec]:
    """The specs of several runs. Raises as SubmitSpec.load; of a thousand files that are the same one is parsed."""
    known: dict[bytes, SubmitSpec] = {}
    specs = []
    for run in runs:
        text = run.settings.read_bytes() if run.settings.exists() else b""
        if text not in known:
            known[text] = _load_spec(run)
        specs.append(known[text])
    return specs


def _load_spec(run: RunDir) -> SubmitSpec:
    settings = load_yaml_or_empty(run.settings)
    order = settings.get("order")
    if not isinstance(order, dict) and isinstance(settings.get("launcher"), dict):
        raise ConfigurationError(
            f"{run.path} was made by a launcher of an earlier version of hydra-mlxp, which has not recorded how to "
            f"submit it again: `bash {shlex.quote(str(run.script))}` runs it here, or launch the same command anew"
        )
    if not isinstance(order, dict):
        raise ConfigurationError(
            f"{run.path} was not made by a launcher of hydra-mlxp, so it is not known how to submit it again"
        )
    try:
        loaded = SubmitSpec(**{**order, "header": tuple(order["header"])})
    except (TypeError, KeyError) as error:
        raise ConfigurationError(f"the order in {run.settings} cannot be used: {error!r}") from error
    if not _is_usable(loaded):
        raise ConfigurationError(f"the order in {run.settings} cannot be used: {order}")
    return loaded


def _is_usable(spec: SubmitSpec) -> bool:
    """Tell whether each field is of its type, in a file that may have been edited."""
    texts = (spec.scheduler, spec.name, spec.shebang, spec.directory, *spec.header)
    counts = (spec.pack, 1 if spec.max_parallel is None else spec.max_parallel)
    limits = (spec.command_timeout, spec.submit_timeout)
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(spec.array, bool)
        and all(type(count) is int and count > 0 for count in counts)  # true is an int as well
        and all(type(limit) in {int, float} and limit > 0 for limit in limits)
    )


def validate(spec: SubmitSpec) -> None:
    """Raise ConfigurationError for what would keep such runs from being submitted; nothing is written."""
    scheduler = load_scheduler(spec.scheduler)
    if spec.pack < 1:
        raise ConfigurationError(f"hydra.launcher.pack={spec.pack}: at least one run is in each job")
    if spec.max_parallel is not None:
        _check_max_parallel(spec, scheduler)
    directives.check_array(spec.header, scheduler)


def _check_max_parallel(spec: SubmitSpec, scheduler: Scheduler) -> None:
    if scheduler.throttle is None:
        raise ConfigurationError(
            f"{scheduler.name} cannot limit how many jobs of an array run at once, so hydra.launcher.max_parallel="
            f"{spec.max_parallel} cannot be kept. Leave it out; hydra.launcher.pack runs several in one allocation."
        )
    if not spec.array:
        raise ConfigurationError(
            f"hydra.launcher.max_parallel={spec.max_parallel} is the throttle of an array, and hydra.launcher.array="
            "false asks for none: leave one of them out"
        )
