"""A script in its session, whose lines say what programs would; and waiting, by a clock, for what it leaves behind."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_scheduler import Clock

from mlxp_core.errors import ConfigurationError
from mlxp_core.mlxpsub import run, shell_process
from mlxp_core.mlxpsub.instrument import SESSION
from mlxp_core.mlxpsub.session import record_path
from mlxp_core.runs.process import this_process
from mlxp_core.user_dirs import state_dir


class Background:
    """A session whose processes come and go by a clock: programs by name, other processes by pid."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock(0.0)
        self.programs: dict[str, tuple[float, float]] = {}  # when the process has ended, when it has said that
        self.others: dict[int, float] = {}  # when it has ended, or has said that it is a program
        self.stopped = False
        self.reported: list[str] = []
        monkeypatch.setattr(run, "time", self.clock)
        monkeypatch.setattr(run, "is_alive", lambda process: self.clock.now < self.programs[process][0])

    def unfinished(self) -> list[dict[str, Any]]:
        return [{"process": name} for name, (_, said) in self.programs.items() if self.clock.now < said]

    def unregistered_processes(self) -> dict[int, list[str]]:
        return {pid: ["python", f"a {pid}"] for pid, end in self.others.items() if self.clock.now < end}

    def wait(self) -> float:
        """Wait; give how long that took."""
        session: Any = SimpleNamespace(
            stopped=self.stopped, unfinished=self.unfinished, unregistered_processes=self.unregistered_processes
        )
        run._wait_for_background(session, self.reported.append)
        return self.clock.now


NEVER = float("inf")


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> Background:
    return Background(monkeypatch)


def test_any_program_that_lives_is_waited_for(background: Background) -> None:
    """Bug: mlxpsub ends, and takes its folder away, while one of three programs is still at it."""
    background.programs = {"killed": (0.0, NEVER), "slow": (5.0, NEVER), "done": (NEVER, 2.0)}
    assert 5.0 <= background.wait() < 5.2
    assert background.reported == []


def test_without_anything_in_the_background_there_is_no_wait(background: Background) -> None:
    """Bug: a second for each call; or for ever for a program that was killed."""
    background.programs = {"killed": (0.0, NEVER)}
    assert background.wait() == 0.0


def test_what_may_be_a_program_that_starts_is_said_and_waited_for_half_a_minute(background: Background) -> None:
    """Bug: a program in the background that is slow to start submits to a session that is gone; or `sleep` holds it."""
    background.others = {7: 3.0, 8: NEVER, 9: 0.5}
    assert 30.0 <= background.wait() < 30.3
    (message,) = background.reported  # each once
    assert message.splitlines()[1:] == ["  process 7, python 'a 7'", "  process 8, python 'a 8'"]


def test_after_an_interrupt_only_what_has_begun_is_waited_for(background: Background) -> None:
    """Bug: Ctrl-C, and half a minute of waiting for a program that would not submit any more."""
    background.others, background.stopped = {8: NEVER}, True
    background.programs = {"at it": (2.0, NEVER)}
    assert 2.0 <= background.wait() < 2.2
    assert background.reported == []


class Called:
    """mlxpsub, called with a script from a directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "job.sh"
        state = state_dir()
        assert state is not None
        self.record = record_path(self.path, directory, state)
        self.temporary = Path(tempfile.gettempdir())
        self.reported: list[str] = []

    def __call__(self, *lines: str, dry_run: bool = False, anew: bool = False) -> run.Outcome:
        text = "\n".join(["#!/bin/sh", "#SBATCH --time=5", *lines])
        self.path.write_text(text)
        script = run.read_script(self.path, None)
        return run.run(script, dry_run=dry_run, anew=anew, report=self.reported.append)

    def sessions(self) -> list[str]:
        return [folder.name for folder in self.temporary.glob("mlxpsub-*")]


def tell(event: str, **fields: Any) -> str:
    """The line of a script that tells what a program of Hydra's would."""
    return f"""echo '{json.dumps({"event": event, **fields})}' >> "${SESSION}/events\""""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Called:
    for name in ("work", "state", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(run, "_QUIET", 0)
    monkeypatch.chdir(tmp_path / "work")
    return Called(tmp_path / "work")


def queued(*numbers: int) -> list[list[Any]]:
    return [[f"/logs/{number}", "slurm", str(100 + number), None] for number in numbers]


def test_what_the_programs_have_told_is_the_outcome_each_kind_by_itself(call: Called) -> None:
    """Bug: what was planned counts as submitted, a program that failed as complete, one's runs as another's."""
    outcome = call(
        tell("started", process={"process_id": 1}, number=0),
        tell("submitted", runs=queued(1, 2), n="a"),
        tell("ended", process={"process_id": 1}),
        tell("complete", n="b"),
        tell("submitted", runs=queued(7), n="c"),
        tell("failed", n="d"),
        tell("would", n="e"),
        tell("here", n="f"),
        tell("started", process={"process_id": 999999999}, number=3),
    )
    kinds = ("submitted", "complete", "errors", "planned", "local")
    told = {kind: [event["n"] for event in getattr(outcome, kind)] for kind in kinds}
    assert told == {"submitted": ["a", "c"], "complete": ["b"], "errors": ["d"], "planned": ["e"], "local": ["f"]}
    assert [event["number"] for event in outcome.unfinished] == [3]
    assert [(job.run.id, job.job_id) for job in outcome.runs] == [(1, "101"), (2, "102"), (7, "107")]
    assert (outcome.shell_code, outcome.exit_code, call.sessions()) == (0, 1, [])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([tell("submitted", runs=queued(1))], (0, False)),
        ([tell("complete")], (0, False)),
        ([tell("would")], (0, False)),
        ([tell("here")], (1, True)),
        (["true"], (1, True)),
        ([tell("submitted", runs=queued(1)), "exit 7"], (7, False)),
        (["exit 3"], (3, True)),
        ([tell("complete"), "kill -9 $$"], (128 + 9, False)),
        ([tell("complete"), tell("started", process={"process_id": 999999999}, number=0)], (1, False)),
    ],
)
def test_the_exit_code_is_the_scripts_or_1_where_something_is_missing(
    call: Called, lines: list[str], expected: tuple[int, bool]
) -> None:
    """Bug: success of a script whose only program never was one, or was killed; the code of the shell is lost."""
    outcome = call(*lines)
    assert (outcome.exit_code, outcome.is_empty) == expected


@pytest.mark.parametrize(
    ("last", "options", "is_kept"),
    [
        ("true", {}, False),
        ("true", {"dry_run": True}, True),
        ("true", {"dry_run": True, "anew": True}, True),
        ("exit 1", {}, True),
        (tell("started", process={"process_id": 999999999}, number=0), {}, True),
        ("exit 1", {"anew": True}, False),
    ],
)
def test_what_was_submitted_is_kept_until_a_call_that_submits_has_come_to_its_end(
    call: Called, last: str, options: dict[str, bool], is_kept: bool
) -> None:
    """Bug: a dry run makes the next call submit twice; or a script that ended well is never submitted again."""
    call.record.parent.mkdir(parents=True)
    call.record.write_text("before\n")
    call(f'cat "${SESSION}/before" > seen 2> /dev/null', last, **options)
    assert call.record.exists() == is_kept
    assert Path("seen").read_text() == ("" if options.get("anew") else "before\n")


def test_a_script_without_commands_is_refused_and_leaves_nothing(call: Called) -> None:
    """Bug: "nothing was submitted", as of a script that was run; a session's folder stays, or its lock."""
    with pytest.raises(ConfigurationError, match=r"job\.sh has no commands"):
        call("# only this")
    assert call.sessions() == []
    assert call(tell("complete")).exit_code == 0


def test_a_script_that_another_mlxpsub_is_at_is_refused(call: Called) -> None:
    """Bug: two calls that submit the same jobs, each once."""
    call.path.write_text("#!/bin/sh\n#SBATCH --time=5\ntrue\n")
    script = run.read_script(call.path, None)
    with run._open_session(script, dry_run=True, anew=False) as session:
        assert session.directory == Path.cwd()
        assert session.process == this_process()
        with pytest.raises(ConfigurationError, match="another mlxpsub is at"):
            call("true")
    assert call("true").shell_code == 0


def test_an_interrupted_script_has_the_exit_code_of_ctrl_c(call: Called) -> None:
    """Bug: a script that goes on after Ctrl-C has stopped its programs, and ends with 0."""
    assert call(tell("complete"), f'touch "${SESSION}/stopped"').exit_code == 130


def test_no_home_to_keep_the_record_in_is_said(call: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a stack trace for a user without a home; or a script that is run, and twice."""
    monkeypatch.setattr(run, "state_dir", lambda: None)
    with pytest.raises(ConfigurationError, match="set XDG_STATE_HOME"):
        call("touch ran")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("text", "shebang", "lines"),
    [
        ("#!/bin/sh -e  \n#SBATCH --time=5\na\n", "#!/bin/sh -e", ("a",)),
        ("\ufeff#!/bin/sh\r\n#SBATCH --time=5\r\na\r\nb\r\n", "#!/bin/sh", ("a", "b")),
        ("#SBATCH --time=5\na\n", "#!/bin/bash", ("a",)),
    ],
)
def test_a_script_is_read_as_editors_write_it(tmp_path: Path, text: str, shebang: str, lines: tuple[str, ...]) -> None:
    """Bug: a byte order mark before the first line, a carriage return in each argument, `sh` for a script of bash."""
    (tmp_path / "job.sh").write_bytes(text.encode())
    script = run.read_script(tmp_path / "job.sh", None)
    assert (script.scheduler, script.parsed.shebang, script.parsed.header) == ("slurm", shebang, ("#SBATCH --time=5",))
    assert tuple(line for part in script.parsed.parts for line in script.parsed.text(part)) == lines


def test_a_script_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Bug: a stack trace, without what to do."""
    with pytest.raises(ConfigurationError, match=r"gone\.sh cannot be read: No such file"):
        run.read_script(tmp_path / "gone.sh", None)


class Waited:
    """A process that is interrupted some times, and then ends."""

    def __init__(self, interrupts: int, code: int) -> None:
        self.interrupts, self.code = interrupts, code

    def wait(self) -> int:
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        return self.code


def test_every_ctrl_c_is_told_and_the_shells_end_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the second Ctrl-C leaves a script that runs on alone; the code of what a signal ended is negative."""
    started: list[Any] = []

    def start(command: list[str], env: dict[str, str]) -> Waited:
        started.append((command, env))
        return Waited(2, -15)

    monkeypatch.setattr(shell_process.subprocess, "Popen", start)
    told: list[None] = []
    script = tmp_path / "a b.sh"
    code = shell_process.run("#!/usr/bin/env -S bash  -e", "true", script, {"A": "b"}, lambda: told.append(None))
    assert (code, len(told)) == (143, 2)
    assert started == [(["/usr/bin/env", "-S bash  -e", "-c", "true", str(script)], {"A": "b"})]


def test_what_no_shell_takes_is_refused_with_its_reason(tmp_path: Path) -> None:
    """Bug: "Argument list too long", or a stack trace for a shell that is not here."""
    with pytest.raises(ConfigurationError, match="longer than 120,000 bytes"):
        shell_process.run("#!/bin/sh", "#" * 120_001, tmp_path / "x.sh", {}, lambda: None)
    with pytest.raises(ConfigurationError, match=r"^/no/shell -l cannot be run: .*No such file"):
        shell_process.run("#!/no/shell -l", "true", tmp_path / "x.sh", {}, lambda: None)
    with pytest.raises(ConfigurationError, match=r"/no/shell, which the script's first line names, cannot be run"):
        shell_process.is_complete("#!/no/shell", "true")


@pytest.mark.parametrize("shebang", ["#!/bin/sh", "#! /bin/bash -l", "#!/usr/bin/env -S bash -e"])
def test_the_scripts_own_shell_says_what_is_a_whole_command(shebang: str) -> None:
    """Bug: an option of `env` is run as the shell, and a script with `env -S` in its first line is refused."""
    texts = ["for i in 1; do", "for i in 1; do true; done"]
    assert [shell_process.is_complete(shebang, text) for text in texts] == [False, True]
