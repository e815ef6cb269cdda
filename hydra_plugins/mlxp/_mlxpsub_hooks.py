"""Hooks into Hydra under ``mlxpsub``: a program becomes a multirun with the launcher of the script's directives.

Imported where the variable is set. A program that only composes a configuration does not get past the hooks.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser, run_and_report
from hydra.core.config_store import ConfigStore
from hydra.types import RunMode
from omegaconf import read_write

from hydra_plugins.mlxp import _mlxpsub_state
from hydra_plugins.mlxp._mlxpsub_program import MlxpsubProgram
from hydra_plugins.mlxp._names import LAUNCHER
from hydra_plugins.mlxp._run_dirs import rewrite_run_dir
from mlxp_core.mlxpsub.instrument import COMMAND, IN_A_JOB, SESSION
from mlxp_core.mlxpsub.session import Session
from mlxp_core.runs.process import is_alive


def watch() -> None:
    """Hook into the question for the mode of a program, the first after which one runs, and into its multirun."""
    if hasattr(Hydra.get_mode, "mlxp_original"):
        return
    get_mode, multirun = Hydra.get_mode, Hydra.multirun

    @functools.wraps(get_mode)
    def our_mode(hydra: Hydra, *args: Any, **named: Any) -> Any:
        mode = get_mode(hydra, *args, **named)
        place = os.environ.get(SESSION)
        if (place is None and _mlxpsub_state.current() is None) or mode is RunMode.RUN or _asks_to_run_here():
            _stay_out_of_dry_runs(place)
            return mode
        if place == IN_A_JOB:
            sys.exit(0)  # a line of the script around another program: this one has jobs of its own
        if place is not None:  # else it is the second of one process
            _enter(Path(place))
        if mode is not RunMode.MULTIRUN:
            rewrite_run_dir(named.get("overrides"), named.get("parsed_overrides"))
        if _mlxpsub_state.is_dry() and not run_and_report(lambda: _chooses_our_launcher(hydra, *args, **named)):
            _report_run_here()
        return RunMode.MULTIRUN

    @functools.wraps(multirun)
    def our_multirun(hydra: Hydra, *args: Any, **named: Any) -> Any:
        program = _mlxpsub_state.current()
        with program.to_its_end() if program is not None else contextlib.nullcontext():
            return multirun(hydra, *args, **named)

    our_mode.mlxp_original = get_mode  # type: ignore[attr-defined]
    replaced: Any = Hydra
    replaced.get_mode, replaced.multirun = our_mode, our_multirun


def _enter(folder: Path) -> None:
    """Choose the launcher, unless the program's configuration or command line does."""
    session = _load(folder)
    if session.stopped:
        sys.exit(130)
    _mlxpsub_state.set_current(MlxpsubProgram(session))
    node = ConfigStore.instance().repo["hydra"]["config.yaml"].node
    with read_write(node):
        for entry in node.defaults:
            if "launcher" in entry:
                entry["launcher"] = f"mlxp_{session.scheduler}"


def _load(folder: Path) -> Session:
    """Load the session; a program that outlives it ends, for nobody would know what it submits."""
    with contextlib.suppress(OSError):
        session = Session.load(folder)
        if is_alive(session.process) is not False:
            return session
    sys.exit("the mlxpsub that runs this program's script has ended: put `wait` behind what runs in the background")


def _asks_to_run_here() -> bool:
    known, _ = get_args_parser().parse_known_args(sys.argv[1:])
    return bool(known.run)


def _chooses_our_launcher(hydra: Hydra, config_name: str | None, overrides: list[str], **_: Any) -> bool:
    config = hydra.compose_config(
        config_name=config_name, overrides=overrides, run_mode=RunMode.MULTIRUN, with_log_configuration=False
    )
    return bool(config.hydra.launcher.get("_target_") == LAUNCHER)


def _stay_out_of_dry_runs(place: str | None) -> None:
    if place is None or place == IN_A_JOB:
        return
    session = _load(Path(place))
    if session.dry_run:
        session.emit("here", number=int(os.environ[COMMAND]), command=sys.orig_argv)
        sys.exit(0)


def _report_run_here() -> None:
    program = _mlxpsub_state.current()
    if program is not None:
        program.session.emit("here", **program.origin)
        program.session.emit("ended", **program.origin)
        sys.exit(0)
