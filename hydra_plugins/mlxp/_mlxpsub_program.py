"""A Hydra program in a session of ``mlxpsub``: its template is the script, and it tells mlxpsub what it submits."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import CompactHydraException
from omegaconf import DictConfig, read_write

from hydra_plugins.mlxp import _omegaconf
from mlxp_core.jobs.template import Template
from mlxp_core.mlxpsub import job_template, provenance
from mlxp_core.mlxpsub.instrument import COMMAND, STARTERS
from mlxp_core.mlxpsub.parse import ProgramStart
from mlxp_core.mlxpsub.session import Session, runs_to_json, stderr_file
from mlxp_core.runs.listing import format_runs
from mlxp_core.runs.process import this_process
from mlxp_core.runs.submission_record import QueuedJob

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
        user_variables = session.user_variables(variables)
        computed = provenance.computed_from_job(session.script, self.number, session.variables)
        # what is made of a job's variables, or may be: Hydra looks it up in the job
        self.job_variables = frozenset((set(variables) - set(user_variables)) | (set(computed) & set(variables)))
        for name in self.job_variables:
            del os.environ[name]
        os.environ.update(session.variables.restore(variables))
        os.environ["PATH"] = user_variables.get("PATH", os.defpath)
        self._claimed: dict[str, int] = {}  # the number of each launch among those of the script that are the same
        self.origin = {"process": this_process(), "number": self.number, "command": sys.orig_argv}
        # the text of its command, which is its own process's: an `exec` may follow
        session.emit("started", **self.origin)
        # jobs that are submitted already leave out this command, which they took for one of the script's other lines
        session.note_programs()

    def template(self) -> Template:
        """The script as a template for this program's jobs."""
        session, count = self.session, len(sys.argv) - 1
        others = {event["number"] for event in session.events("started")} - {self.number}
        head = sys.orig_argv[: len(sys.orig_argv) - count]
        reached = ProgramStart(
            self.number,
            tuple(head),
            tuple(sys.argv[1:]),
            str(Path.cwd()),
            self.changes,
            self._made_of_a_job,
            self.starters,
            {number: session.changes(number) for number in others},
        )
        return job_template.build_template(
            session.script, reached, str(session.directory), session.variables, session.name
        )

    def submitted_before(self, identity: str) -> list[QueuedJob] | None:
        """The runs of the same launch that an interrupted call of mlxpsub has submitted; told to the user."""
        self._claimed[identity] = self.session.next_occurrence(identity)
        before = self.session.submitted_before(identity, self._claimed[identity])
        if before is None:
            return None
        time, runs = before
        log.warning(
            "submitted already by the mlxpsub of %s, which did not come to its end: run %s (mlxpsub --anew forgets it)",
            time,
            format_runs(job.run for job in runs),
        )
        self.session.emit("submitted", **self.origin, runs=runs_to_json(runs), before=True)
        self.session.note_programs()
        return runs

    def submitted(self, identity: str, runs: Sequence[QueuedJob]) -> None:
        """Report the submitted runs, and record them for a later call."""
        self.session.record_submission(identity, self._claimed[identity], runs)
        self.session.emit("submitted", **self.origin, runs=runs_to_json(runs), before=False)
        self.session.note_programs()  # others have started meanwhile, that could not know of these runs

    def submitted_again(self, runs: Sequence[QueuedJob]) -> None:
        """Report the runs that are submitted again in their own folders."""
        self.session.emit("submitted", **self.origin, runs=runs_to_json(runs), before=False)

    def complete(self) -> None:
        """Report that nothing is left to be submitted."""
        self.session.emit("complete", **self.origin)

    @contextlib.contextmanager
    def to_its_end(self) -> Iterator[None]:
        """Report that it comes to its end, or why not: the script may have sent the message into a file."""
        try:
            yield
        except (Exception, SystemExit) as error:
            is_message = isinstance(error, (CompactHydraException, SystemExit))  # words that are meant for people
            text = str(error) if is_message else f"{type(error).__name__}: {error}"
            self.session.emit("failed", **self.origin, error=text, stderr=stderr_file())
            raise
        self.session.emit("ended", **self.origin)

    def would_submit(
        self, scheduler: str, template: Template, jobs: Sequence[Sequence[str]], words: Sequence[str]
    ) -> None:
        """Report jobs that a dry run does not submit."""
        self.session.emit(
            "would",
            **self.origin,
            jobs=[list(job) for job in jobs],
            words=list(words),
            directory=str(Path.cwd()),
            scheduler=scheduler,
            header=list(template.header),
            setup=list(template.setup),
            prefix=template.prefix,
            after=list(template.after),
        )

    def redirect(self, config: DictConfig) -> None:
        """Have what sweepers write into a multirun's folder go where it is removed again."""
        with read_write(config.hydra):
            config.hydra.sweep.dir = str(self.session.folder / "sweep")

    def ask_once(self, ask: DecisionPrompt) -> DecisionPrompt:
        """Ask once for all programs of a script, as for all batches of a sweep. A commit leaves nothing to ask."""
        from mlxp_core.versioning.snapshot import Decision, OnChanges  # noqa: PLC0415  (git, which not every program needs)

        def asked(repository: Repository, status: WorkTreeStatus) -> Decision:
            top = str(repository.top)
            before = [event["what"] for event in self.session.events("answered") if event["top"] == top]
            decision = Decision(OnChanges(before[-1])) if before else ask(repository, status)
            if decision.action is not OnChanges.COMMIT:
                self.session.emit("answered", top=top, what=str(decision.action))
            return decision

        return asked

    @staticmethod
    def launcher_override(config: DictConfig) -> list[str]:
        """The override that jobs need, because they do not have the launcher from mlxpsub; none where it is given."""
        name = config.hydra.runtime.choices.get("hydra/launcher")
        is_given = any(override.startswith("hydra/launcher=") for override in _omegaconf.overrides(config, "hydra"))
        return [] if is_given else [f"hydra/launcher={name}"]
