"""What `mlxpsub` prints of a script's outcome, in process. With scripts: end_to_end/test_mlxpsub.py."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from scripts import parsed
from typer.testing import CliRunner, Result

from mlxp_core.jobs import live_table
from mlxp_core.mlxpsub import run as running
from mlxp_core.mlxpsub.run import Outcome, Script
from mlxp_core.mlxpsub.session import stderr_file
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob

mlxpsub = importlib.import_module("mlxp_core.cli.mlxpsub")

SCRIPT = Script(Path("job.sh"), "slurm", parsed("#!/bin/bash\n#SBATCH --time=5\npython a.py\npython b.py\n"))


def outcome(*submitted: dict[str, Any], code: int = 0) -> Outcome:
    return Outcome(code, submitted, [], [], [], [], [])


def event(number: int, *jobs: tuple[str, int | None], before: bool = False) -> dict[str, Any]:
    """Runs 1, 2, … of a program, with job and index of each."""
    runs = [[f"/logs/{run}", "slurm", *job] for run, job in enumerate(jobs, start=1)]
    return {"number": number, "runs": runs, "before": before, "process": {"process_id": number}}


def test_a_table_says_which_line_has_submitted_what(capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: an array as a hundred jobs; what an earlier call has submitted counts once more."""
    first, second = event(0, ("7", 1), ("7", 2), ("8", None)), event(1, ("123", None), before=True)
    mlxpsub._print_submitted(SCRIPT, outcome(first, second))
    assert capsys.readouterr().out.splitlines() == [
        "",
        "line  runs        jobs        where",
        "3     1-3         slurm 7, 8  /logs",
        "4     1 (before)  slurm 123   /logs",
        "job.sh: 3 jobs submitted",
    ]
    mlxpsub._print_submitted(SCRIPT, outcome())
    assert capsys.readouterr().out == ""


def test_the_table_comes_before_what_is_said_on_stderr_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: in `mlxpsub job.sh &>log` the errors come first, for the table waits in a buffer."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    mlxpsub._print_submitted(SCRIPT, outcome(event(0, ("7", None))))
    shown = raw.getvalue().decode()
    assert shown.endswith("job.sh: 1 job submitted\n")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (outcome(event(0, ("7", None))), []),
        (outcome(), ["mlxpsub: no Hydra program in job.sh has submitted anything"]),
        (outcome(code=3), ["mlxpsub: job.sh ended with exit code 3"]),
        (
            outcome(event(0, ("7", None)), code=3),
            [
                "mlxpsub: job.sh ended with exit code 3",
                "mlxpsub: the same command again submits what is left; with --anew, everything",
            ],
        ),
    ],
)
def test_what_went_wrong_is_said_with_what_to_do(
    capsys: pytest.CaptureFixture[str], result: Outcome, said: list[str]
) -> None:
    """Bug: a script without a Hydra program that looks like a success; or one that fails after its jobs."""
    mlxpsub._print_outcome(SCRIPT, result, dry_run=False)
    assert capsys.readouterr().err.splitlines() == said


SEVEN, EIGHT = outcome(event(0, ("7", None))), outcome(event(0, ("8", None)))
WAITED = (
    "it waited for a job that did not complete, or not all of its jobs are submitted. mlxp status tells; after an mlxp "
    "rerun of what has failed, the same command goes on from here"
)


def program(number: int, process: int, *command: str, **more: Any) -> dict[str, Any]:
    return {"number": number, "process": {"process_id": process}, "command": list(command), **more}


def test_a_program_that_has_not_come_to_its_end_is_named_with_what_it_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: the error of another program, or one that stands above already; no word of what to do next."""
    first, second = program(0, 1, "python", "a b.py"), program(1, 2, "python", "b.py")
    errors = [
        {"process": {"process_id": 1}, "stderr": "/err.txt", "error": "no disk\nleft"},
        {"process": {"process_id": 1}, "stderr": stderr_file(), "error": "stands above"},
        {"process": {"process_id": 2}, "stderr": "/err.txt", "error": "of the second"},
    ]
    told = [event(1, (job, None)) | {"process": {"process_id": process}} for job, process in (("7", 2), ("8", 3))]
    result = replace(outcome(*told), errors=errors)
    for one in (first, second):
        mlxpsub._print_unfinished(SCRIPT, result, one)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "mlxpsub: line 3 of job.sh: python 'a b.py' has not come to its end: not all of its jobs are submitted",
        "  no disk",
        "  left",
        f"mlxpsub: line 4 of job.sh: python b.py has not come to its end: {WAITED}",
        "  of the second",
    ]


def test_a_plan_shows_each_job_as_its_script_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: a plan that cannot be read as a script, of one job where there are three, or of what would run here."""
    planned = {
        "number": 0,
        "scheduler": "slurm",
        "directory": "/home/me",
        "header": ["#SBATCH --time=5"],
        "setup": ["module load x"],
        "prefix": "srun ",
        "words": ["python", "a.py"],
        "jobs": [["lr=1"], ["msg=a b"]],
        "after": ["echo done"],
    }
    one = {**planned, "number": 1, "header": [], "setup": [], "after": [], "prefix": "", "jobs": [[]]}
    result = replace(outcome(), planned=[planned, one], local=[program(0, 1, "python", "b c.py")])
    mlxpsub._print_outcome(SCRIPT, result, dry_run=True)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "",
        "# line 3 of job.sh: 2 slurm jobs, in /home/me",
        "#SBATCH --time=5",
        "module load x",
        "srun python a.py lr=1",
        "srun python a.py 'msg=a b'",
        "echo done",
        "",
        "# line 4 of job.sh: 1 slurm job, in /home/me",
        "python a.py",
        "",
        "# line 3 of job.sh would run here: python 'b c.py'",
        "",
        "job.sh: 3 jobs would be submitted",
    ]
    assert err == ""


@pytest.mark.parametrize(
    ("result", "dry_run", "said"),
    [
        (
            replace(outcome(event(0, ("7", None))), unfinished=[program(0, 9, "x")]),
            False,
            ["line 3", "the same command"],
        ),
        (replace(outcome(event(0, ("7", None))), unfinished=[program(0, 9, "x")]), True, ["line 3"]),
        (replace(outcome(), unfinished=[program(0, 9, "x")]), False, ["line 3"]),
        (replace(outcome(), complete=[program(0, 9, "x")]), False, []),
        (replace(outcome(), planned=[]), True, ["no Hydra program"]),
    ],
)
def test_the_same_command_goes_on_where_something_is_left(
    capsys: pytest.CaptureFixture[str], result: Outcome, dry_run: bool, said: list[str]
) -> None:
    """Bug: "no Hydra program" of a script whose jobs are all there; advice to go on where nothing was begun."""
    mlxpsub._print_outcome(SCRIPT, result, dry_run=dry_run)
    lines = [line.removeprefix("mlxpsub: ") for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))


@dataclass
class World:
    """What becomes of scripts, by name, and what was asked for."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    waited: list[Status] | type[BaseException] = field(default_factory=lambda: [Status.COMPLETE])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    def read(path: Path, scheduler: str | None) -> Script:
        made.asked.append(("read", str(path), scheduler))
        return replace(SCRIPT, path=path)

    def execute(script: Script, *, dry_run: bool, anew: bool, report: Callable[[str], None]) -> Outcome:
        made.asked.append(("run", str(script.path), dry_run, anew))
        report("it waits for a program")
        return made.outcomes[str(script.path)]

    def wait(jobs: list[QueuedJob], overrides: Mapping[RunDir, str], tell: Callable[[str], None]) -> list[Status]:
        made.asked.append(("wait", [job.job_id for job in jobs], overrides))
        tell("all have ended")
        if isinstance(made.waited, list):
            return made.waited
        raise made.waited

    monkeypatch.setattr(running, "read_script", read)
    monkeypatch.setattr(running, "run", execute)
    monkeypatch.setattr(live_table, "wait_with_progress", wait)
    return made


def sub(*words: str) -> Result:
    return CliRunner().invoke(mlxpsub.app, [*words])


def test_all_scripts_are_read_before_one_is_run(world: World) -> None:
    """Bug: the second script cannot be read, and the jobs of the first are there already."""
    world.outcomes = {"a.sh": SEVEN, "b.sh": EIGHT}
    done = sub("a.sh", "b.sh")
    assert world.asked == [
        ("read", "a.sh", None),
        ("read", "b.sh", None),
        ("run", "a.sh", False, False),
        ("run", "b.sh", False, False),
    ]
    assert done.exit_code == 0
    assert done.stdout.endswith("b.sh: 1 job submitted\n")
    assert done.stderr == "mlxpsub: it waits for a program\n" * 2


def test_options_are_handed_on(world: World) -> None:
    """Bug: --dry-run that submits; --anew that goes on; the scheduler of the directives although one was named."""
    world.outcomes = {"a.sh": replace(outcome(), planned=[])}
    sub("a.sh", "--scheduler", "oar", "--dry-run", "--anew")
    sub("a.sh", "--anew")
    assert world.asked == [
        ("read", "a.sh", "oar"),
        ("run", "a.sh", True, True),
        ("read", "a.sh", None),
        ("run", "a.sh", False, True),
    ]


@pytest.mark.parametrize(
    ("outcomes", "waited", "asked", "code"),
    [
        ({"a.sh": SEVEN, "b.sh": EIGHT}, [Status.COMPLETE] * 2, ["7", "8"], 0),
        ({"a.sh": SEVEN, "b.sh": EIGHT}, [Status.COMPLETE, Status.FAILED], ["7", "8"], 1),
        ({"a.sh": replace(SEVEN, shell_code=3), "b.sh": EIGHT}, [Status.FAILED] * 2, ["7", "8"], 3),
        ({"a.sh": SEVEN, "b.sh": EIGHT}, KeyboardInterrupt, ["7", "8"], 130),
        ({"a.sh": SEVEN, "b.sh": replace(EIGHT, shell_code=130)}, [], None, 130),
        ({"a.sh": replace(SEVEN, shell_code=130)}, [], None, 130),  # and b.sh is not begun
        ({"a.sh": replace(outcome(), complete=[program(0, 1)]), "b.sh": outcome(code=4)}, [], None, 4),
    ],
)
def test_the_exit_code_is_the_first_that_is_not_0(
    world: World, outcomes: dict[str, Outcome], waited: Any, asked: list[str] | None, code: int
) -> None:
    """Bug: `mlxpsub --wait && next` goes on after a failure, or waits after Ctrl-C, or for nothing."""
    world.outcomes, world.waited = outcomes, waited
    done = sub("a.sh", "b.sh", "--wait")
    assert done.exit_code == code
    assert [call for call in world.asked if call[0] == "wait"] == ([("wait", asked, {})] if asked else [])
    assert ("waiting for them\nall have ended\n" in done.stdout) is (asked is not None)


def test_what_is_said_before_and_while_it_waits_is_seen_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `mlxpsub --wait job.sh | tee log` is silent for the days that jobs take."""
    raw = io.BytesIO()
    seen: list[bytes] = []

    def wait(_: object, __: object, tell: Callable[[str], None]) -> list[Status]:
        for text in ("", "run 1: COMPLETE"):
            if text:
                tell(text)
            seen.append(raw.getvalue())
        return [Status.COMPLETE]

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    monkeypatch.setattr(live_table, "wait_with_progress", wait)
    world.outcomes = {"a.sh": SEVEN}
    with pytest.raises(typer.Exit):
        mlxpsub.sub([Path("a.sh")], wait=True)
    assert [text.splitlines()[-1] for text in seen] == [b"waiting for them", b"run 1: COMPLETE"]
    mlxpsub._print_plan(SCRIPT, outcome())
    assert raw.getvalue().endswith(b"job.sh: 0 jobs would be submitted\n")


def test_ctrl_c_ends_the_waiting_alone(world: World) -> None:
    """Bug: a stack trace, or a job that ends with whoever waited for it."""
    world.waited = KeyboardInterrupt
    assert mlxpsub._wait([]) == 130


def test_nobody_waits_who_was_not_asked_to(world: World) -> None:
    """Bug: a shell that is held for the days that jobs take."""
    world.outcomes = {"a.sh": SEVEN}
    assert sub("a.sh").exit_code == 0
    assert [call[0] for call in world.asked] == ["read", "run"]


def test_the_command_has_its_own_name_and_a_short_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the errors of another command; options for a shell's completion, or -h that is no help."""
    called: list[Any] = []
    monkeypatch.setattr(mlxpsub, "run_app", lambda *words: called.append(words))
    mlxpsub.main(["a.sh"])
    mlxpsub.main()
    assert called == [(mlxpsub.app, "mlxpsub", ["a.sh"]), (mlxpsub.app, "mlxpsub", None)]
    shown = sub("-h")
    assert shown.exit_code == 0
    assert "Usage: " in shown.stdout
    assert "completion" not in shown.stdout
    assert mlxpsub.app.pretty_exceptions_enable is False  # which print the values of all variables
