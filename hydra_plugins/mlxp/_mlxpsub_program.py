"""What a Hydra program does under ``mlxpsub``: it becomes a multirun with the launcher of the script's directives.

Imported where the variable is set, and by what submits. A program that only composes a configuration never gets here.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser, run_and_report
from hydra.core.config_store import ConfigStore
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, flag_override

from hydra_plugins.mlxp import _omegaconf
from hydra_plugins.mlxp._names import LAUNCHER
from mlxp_core.jobs.template import Template
from mlxp_core.mlxpsub import job_template
from mlxp_core.mlxpsub.instrument import COMMAND, IN_A_JOB, SESSION, STARTERS
from mlxp_core.mlxpsub.parse import ProgramStart
from mlxp_core.mlxpsub.session import Session, stderr_file, to_plain
from mlxp_core.runs.listing import format_runs
from mlxp_core.runs.process import is_alive, this_process
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.scheduler import variables

if TYPE_CHECKING:
    from mlxp_core.versioning.git import Repository, WorkTreeStatus
    from mlxp_core.versioning.snapshot import Decision, DecisionPrompt

log = logging.getLogger(__name__)


class MlxpsubProgram:
    """This program, in a session of mlxpsub."""

    def __init__(self, session: Session) -> None:
        """Take the program out of the session: what it starts, jobs included, is to know nothing of it."""
        self.session = session
        self.number = int(os.environ[COMMAND])
        variables = dict(os.environ)
        self.changes = session.changes(self.number, variables)
        self._made_of_a_job = tuple(session.made_of_a_job(self.number, variables))
        self.starters = tuple(shlex.split(variables.get(STARTERS, "")))
        own = session.user_variables(variables)
        computed = job_template.computed_of_a_job(session.script, self.number, session.variables)
        # what is made of a job's variables, or may be: Hydra looks it up in the job
        self.of_a_job = frozenset((set(variables) - set(own)) | (set(computed) & set(variables)))
        for name in self.of_a_job:
            del os.environ[name]
        os.environ["PATH"] = own.get("PATH", os.defpath)
        self._claimed: dict[str, int] = {}  # the number of each launch among those of the script that are the same
        self.told = {"process": this_process(), "number": self.number, "command": sys.orig_argv}
        # the text of its command, which is its own process's: an `exec` may follow
        session.emit("started", **self.told)
        # jobs that are submitted already leave out this command, which they took for one of the script's other lines
        session.note_programs()

    def template(self) -> Template:
        """The script as a template for this program's jobs."""
        session, count = self.session, len(sys.argv) - 1
        others = {one["number"] for one in session.events("started")} - {self.number}
        head = sys.orig_argv[: len(sys.orig_argv) - count]
        reached = ProgramStart(
            self.number,
            tuple(head),
            tuple(sys.argv[1:]),
            str(Path.cwd()),
            self.changes,
            self._made_of_a_job,
            self.starters,
            {number: session.changes(number) for number in sorted(others)},
        )
        return job_template.build_template(
            session.script, reached, str(session.directory), session.variables, session.name
        )

    def submitted_before(self, identity: str) -> list[QueuedJob] | None:
        """What an earlier call of mlxpsub that was interrupted has submitted of the same; told to the user."""
        self._claimed[identity] = self.session.next_occurrence(identity)
        before = self.session.submitted_before(identity, self._claimed[identity])
        if before is None:
            return None
        time, runs = before
        log.warning(
            "submitted already by the mlxpsub of %s, which did not come to its end: run %s (mlxpsub --anew forgets it)",
            time,
            format_runs(one.run for one in runs),
        )
        self.session.emit("submitted", **self.told, runs=to_plain(runs), before=True)
        self.session.note_programs()
        return runs

    def submitted(self, identity: str, runs: Sequence[QueuedJob]) -> None:
        """Tell what has been submitted, and have a later call know it."""
        self.session.record_submission(identity, self._claimed[identity], runs)
        self.session.emit("submitted", **self.told, runs=to_plain(runs), before=False)
        self.session.note_programs()  # others have started meanwhile, that could not know of these runs

    def submitted_again(self, runs: Sequence[QueuedJob]) -> None:
        """Tell which runs have been submitted again in their own folders."""
        self.session.emit("submitted", **self.told, runs=to_plain(runs), before=False)

    def complete(self) -> None:
        """Tell that nothing is left to be submitted."""
        self.session.emit("complete", **self.told)

    @contextlib.contextmanager
    def to_its_end(self) -> Iterator[None]:
        """Tell that it comes to its end, or why not, which the script may have sent into a file."""
        try:
            yield
        except (Exception, SystemExit) as error:
            said = isinstance(error, (CompactHydraException, SystemExit))  # in words that are meant for people
            text = str(error) if said else f"{type(error).__name__}: {error}"
            self.session.emit("failed", **self.told, error=text, stderr=stderr_file())
            raise
        self.session.emit("ended", **self.told)

    def would_submit(
        self, scheduler: str, template: Template, jobs: Sequence[Sequence[str]], words: Sequence[str]
    ) -> None:
        """Tell what would be."""
        self.session.emit(
            "would",
            **self.told,
            jobs=[list(job) for job in jobs],
            words=list(words),
            directory=str(Path.cwd()),
            scheduler=scheduler,
            header=list(template.header),
            setup=list(template.setup),
            prefix=template.prefix,
            after=list(template.after),
        )


_program: MlxpsubProgram | None = None  # of this process


def current() -> MlxpsubProgram | None:
    """The program, where mlxpsub has started it."""
    return _program


def is_of_a_job(name: str) -> bool:
    """Whether a variable is known when the job runs: the scheduler's, or what the script makes of them."""
    return variables.is_of_a_job(name) or (_program is not None and name in _program.of_a_job)


def is_dry() -> bool:
    """Whether nothing is to be written."""
    return _program is not None and _program.session.dry_run


def redirect(config: DictConfig) -> None:
    """Have what sweepers write into a multirun's folder go where it is removed again."""
    if _program is not None:
        with flag_override(config.hydra, ["struct", "readonly"], [False, False]):
            config.hydra.sweep.dir = str(_program.session.folder / "sweep")


def once(ask: DecisionPrompt) -> DecisionPrompt:
    """Ask once for all programs of a script, as for all batches of a sweep; a commit leaves nothing to ask about."""
    if _program is None:
        return ask
    from mlxp_core.versioning.snapshot import ADD, Decision  # noqa: PLC0415  (git, which not every program needs)

    session = _program.session

    def asked(repository: Repository, status: WorkTreeStatus) -> Decision:
        top = str(repository.top)
        before = [one["what"] for one in session.events("answered") if one["top"] == top]
        answer = Decision(before[-1]) if before else ask(repository, status)
        if answer.what != ADD:
            session.emit("answered", top=top, what=answer.what)
        return answer

    return asked


def chosen(config: DictConfig) -> list[str]:
    """What jobs must be told, because they do not have it from mlxpsub: the launcher."""
    if _program is None:
        return []
    name = config.hydra.runtime.choices.get("hydra/launcher")
    said = any(override.startswith("hydra/launcher=") for override in _omegaconf.overrides(config, "hydra"))
    return [] if said else [f"hydra/launcher={name}"]


def watch() -> None:
    """Be asked for the mode of every program; the first question after which a program runs."""
    if hasattr(Hydra.get_mode, "mlxp_original"):
        return
    get_mode, multirun = Hydra.get_mode, Hydra.multirun

    @functools.wraps(get_mode)
    def our_mode(hydra: Hydra, *args: Any, **more: Any) -> Any:
        mode = get_mode(hydra, *args, **more)
        place = os.environ.get(SESSION)
        if (place is None and _program is None) or mode is RunMode.RUN or _asks_to_run_here():
            _stay_out_of_dry_runs(place)
            return mode
        if place == IN_A_JOB:
            sys.exit(0)  # a line of the script around another program: this one has jobs of its own
        if place is not None:  # else it is the second of one process
            _enter(Path(place))
        if mode is not RunMode.MULTIRUN:
            from hydra_plugins.mlxp._run_dirs import say_as_sweep  # noqa: PLC0415  (whose imports end up here)

            say_as_sweep(more.get("overrides"), more.get("parsed_overrides"))
        if is_dry() and not run_and_report(lambda: _is_launched_by_us(hydra, *args, **more)):
            _say_here()
        return RunMode.MULTIRUN

    @functools.wraps(multirun)
    def our_multirun(hydra: Hydra, *args: Any, **more: Any) -> Any:
        with _program.to_its_end() if _program is not None else contextlib.nullcontext():
            return multirun(hydra, *args, **more)

    our_mode.mlxp_original = get_mode  # type: ignore[attr-defined]
    replaced: Any = Hydra
    replaced.get_mode, replaced.multirun = our_mode, our_multirun


def _enter(folder: Path) -> None:
    """Choose the launcher, unless the program's configuration or command line does."""
    global _program  # noqa: PLW0603  (one program for each process)
    session = _load(folder)
    if session.stopped:
        sys.exit(130)
    _program = MlxpsubProgram(session)
    node = ConfigStore.instance().repo["hydra"]["config.yaml"].node
    with flag_override(node, ["struct", "readonly"], [False, False]):
        for entry in node.defaults:
            if "launcher" in entry:
                entry["launcher"] = f"mlxp_{session.scheduler}"


def _load(folder: Path) -> Session:
    """The session; a program that outlives it ends, for nobody would know what it submits."""
    with contextlib.suppress(OSError):
        session = Session.load(folder)
        if is_alive(session.process) is not False:
            return session
    sys.exit("the mlxpsub that runs this program's script has ended: put `wait` behind what runs in the background")


def _asks_to_run_here() -> bool:
    known, _ = get_args_parser().parse_known_args(sys.argv[1:])
    return bool(known.run)


def _is_launched_by_us(hydra: Hydra, config_name: str | None, overrides: list[str], **_: Any) -> bool:
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


def _say_here() -> None:
    if _program is not None:
        _program.session.emit("here", **_program.told)
        _program.session.emit("ended", **_program.told)
        sys.exit(0)
