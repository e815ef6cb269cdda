"""What mlxpsub and the programs of its script tell each other, by way of a folder."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripts import PLACEHOLDERS, parsed

from mlxp_core.mlxpsub.session import Session, record_path, runs_from_json, runs_to_json
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import this_process
from mlxp_core.runs.submission_record import QueuedJob

SCRIPT = "#!/bin/bash\n#SBATCH --time=5\n# a\nexport A=1\npython main.py\ncd $SLURM_SUBMIT_DIR\n"


@pytest.fixture
def session(tmp_path: Path) -> Session:
    folder = tmp_path / "session"
    folder.mkdir()
    record = tmp_path / "state" / "sub" / "x.jsonl"
    return Session(folder, tmp_path, "slurm", False, record, PLACEHOLDERS, parsed(SCRIPT), this_process())


def jobs(folder: Path, *numbers: int) -> list[QueuedJob]:
    return [QueuedJob(RunDir(folder / str(number)), "slurm", "7", number) for number in numbers]


def test_a_program_finds_the_session_that_mlxpsub_made(session: Session) -> None:
    """Bug: a field that is lost, or of another type, on its way to the program: directives as a list, say."""
    session.save()
    loaded = Session.load(session.folder)
    assert loaded == session
    assert [loaded.script.text(part) for part in loaded.script.parts] == [
        ["# a", "export A=1"],
        ["python main.py"],
        ["cd $SLURM_SUBMIT_DIR"],
    ]


def test_what_is_told_comes_in_order_and_a_line_that_was_cut_is_passed_over(session: Session) -> None:
    """Bug: a program that was killed in the middle of a line hides what the others have told."""
    for number in (1, 2):
        session.emit("started", process={"process_id": number}, number=number)
    with (session.folder / "events").open("a") as file:
        file.write('{"event": "sta\n')
    session.emit("ended", process={"process_id": 1})
    session.emit("started", process={"process_id": 3}, number=1)
    assert [event["process"]["process_id"] for event in session.events("started")] == [1, 2, 3]
    assert [event["process"]["process_id"] for event in session.unfinished()] == [2, 3]
    assert session.events("failed") == []


def test_the_third_of_equal_launches_is_the_third(session: Session) -> None:
    """Bug: two equal lines of a script are one launch, and what the second would submit is taken for done."""
    assert [session.next_occurrence("i") for _ in range(3)] == [0, 1, 2]
    assert [session.next_occurrence("j"), session.next_occurrence("i")] == [0, 3]


def test_what_an_earlier_call_has_submitted_is_found_by_launch_and_number(session: Session, tmp_path: Path) -> None:
    """Bug: the second of two equal lines gets the runs of the first; or a call that was killed submits all again."""
    session.record_submission("i", 0, jobs(tmp_path, 1, 2))
    session.record_submission("i", 1, jobs(tmp_path, 3))
    session.record_submission("j", 0, jobs(tmp_path, 4))
    assert session.submitted_before("i", 0) is None  # by this call itself
    os.link(session.record, session.folder / "before")
    found = [session.submitted_before(*key) for key in (("i", 0), ("i", 1), ("j", 0), ("j", 1), ("k", 0))]
    assert [answer and answer[1] for answer in found] == [
        jobs(tmp_path, 1, 2),
        jobs(tmp_path, 3),
        jobs(tmp_path, 4),
        None,
        None,
    ]
    assert runs_from_json(json.loads(json.dumps(runs_to_json(jobs(tmp_path, 5))))) == jobs(tmp_path, 5)


def test_each_log_directory_knows_which_commands_are_programs(session: Session, tmp_path: Path) -> None:
    """Bug: a job whose log directory is not that of the first program runs the other programs of the script."""
    for name in ("a", "b", "gone"):
        (tmp_path / name / ".mlxp").mkdir(parents=True)
    for number in (5, 3, 5):
        session.emit("started", process={"process_id": number}, number=number)
    for name in ("a", "b", "a", "gone"):
        session.emit("submitted", runs=runs_to_json(jobs(tmp_path / name, 1, 2)))
    (tmp_path / "gone" / ".mlxp").rmdir()
    session.note_programs()
    places = [tmp_path / name / ".mlxp" / "scripts" / session.name for name in ("a", "b")]
    assert [place.read_text() for place in places] == ["3\n5\n"] * 2
    session.note_programs()
    assert places[0].read_text() == "3\n5\n" * 2  # looked for line by line


def test_a_script_is_known_again_by_its_lines_and_where_it_is_called(session: Session, tmp_path: Path) -> None:
    """Bug: what one script has noted counts for another, whose commands have other numbers."""
    others = [
        replace(session, record=tmp_path / "other"),
        replace(session, script=parsed(SCRIPT.replace("A=1", "A=2"))),
    ]
    assert len({session.name, *(other.name for other in others)}) == 3
    assert replace(session, folder=tmp_path / "again", process={}).name == session.name
    paths = [record_path(Path("/job.sh"), Path("/a"), tmp_path), record_path(Path("/job.sh"), Path("/b"), tmp_path)]
    assert len({*paths, record_path(Path("/jo"), Path("b.sh/a"), tmp_path)}) == 3


def exported(session: Session, number: int, variables: Mapping[str, str]) -> None:
    """As the script notes them before a command."""
    text = "\0".join(f"{name}={value}" for name, value in variables.items())
    (session.folder / f"variables.{number}").write_text(f"{text}\0")


FIRST = {"A": "1", "GONE": "x", "SAME": "s", "PATH": "/bin", "SHLVL": "1", "MLXP_SUB_AT": "0"}


def test_what_a_command_has_exported_is_told(session: Session) -> None:
    """Bug: one that was set and is not, or the shell's own; what is made of a job's taken along as it is here."""
    exported(session, 0, FIRST)
    then = {
        "A": "2",
        "NEW": "a\nb=c",
        "SAME": "s",
        "PATH": f"{session.bin}:/x:/bin:/s/SLURM_TMPDIR/bin",
        "SHLVL": "2",
        "_": "/bin/env",
        "MLXP_SUB_AT": "1",
        "MLXP_SUB_STARTERS": "srun",
        "OUT": "/scratch/794000000001",
        "SLURM_JOB_ID": "794000000001",
        "BASH_FUNC_f%%": "() { :; }",
        "münchen": "1",
    }
    exported(session, 1, then)
    changes = {"A": ("1", "2"), "GONE": ("x", None), "NEW": (None, "a\nb=c"), "PATH": ("/bin", "/x:/bin")}
    assert session.changes(0) == changes
    assert session.changes(0, {**FIRST, "A": "3"}) == {"A": ("1", "3")}
    assert session.made_of_a_job(0, then) == ["OUT"]
    assert session.made_of_a_job(1, then) == []


def test_a_variable_whose_job_made_value_was_there_before_is_not_unset(session: Session) -> None:
    """Bug: `unset OUT` in every job, as what the script made of a job's variable has no value here."""
    exported(session, 0, {"OUT": "/old"})
    exported(session, 1, {"OUT": "/scratch/794000000001"})
    assert session.changes(0) == {}


@pytest.mark.parametrize("missing", [0, 1])
def test_what_was_not_noted_has_not_changed(session: Session, missing: int) -> None:
    """Bug: every variable of the shell exported in each job, as an `env` that cannot -0 has noted nothing."""
    exported(session, 1 - missing, FIRST)
    assert session.changes(0) == {}
    assert session.made_of_a_job(5, {"OUT": "/scratch/794000000001"}) == ["OUT"]


def test_no_further_program_submits_once_it_is_stopped(session: Session) -> None:
    """Bug: Ctrl-C, and the next program of the script submits all the same."""
    assert not session.stopped
    session.stop()
    session.stop()
    assert session.stopped


def test_the_script_finds_stand_ins_first_and_its_places(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bug: the real srun, which allocates; a `cd $SLURM_SUBMIT_DIR` into the home directory."""
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_SUBMIT_DIR", "/of/another/job")
    given = session.environment()
    assert given["PATH"] == f"{session.folder}/bin:/usr/bin"
    assert (given["SLURM_JOB_ID"], given["SLURM_SUBMIT_DIR"]) == ("794000000001", str(tmp_path))
    assert given["MLXP_SUB"] == str(session.folder)
    monkeypatch.setenv("PATH", "")
    assert session.environment()["PATH"] == f"{session.folder}/bin"


def test_each_launcher_has_a_stand_in(session: Session) -> None:
    """Bug: a stand-in that cannot be executed, or that loses a blank of its arguments."""
    session.make_launcher_shims("/a b/python", Path("/x/launcher_shim.py"))
    srun, flux = (Path(session.bin, name) for name in ("srun", "flux"))
    assert os.access(srun, os.X_OK)
    assert srun.read_text() == f"#!/bin/sh\nexec '/a b/python' -I /x/launcher_shim.py {session.bin} srun '' \"$@\"\n"
    assert f" {session.bin} flux run,submit " in flux.read_text()


def test_an_environment_is_told_without_what_is_ours(session: Session) -> None:
    """Bug: jobs that are told that mlxpsub reads them, and do nothing."""
    given: dict[str, Any] = {"A": "1", "MLXP_SUB": "/s", "MLXP_SUB_AT": "3", "MLXP_SUB_STARTERS": "srun"}
    assert session.user_variables({**given, "PATH": f"{session.bin}:/bin"}) == {"A": "1", "PATH": "/bin"}


def test_half_of_what_a_full_disk_takes_does_not_hide_what_is_kept_next(session: Session, tmp_path: Path) -> None:
    """Bug: a submission that is kept behind half of another's line is not known, and is made a second time."""
    session.record_submission("i", 0, jobs(tmp_path, 1))
    before = session.record.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before + 10, limits[1]))
    try:
        with pytest.raises(OSError, match=r"No space left on device.*x\.jsonl"):
            session.record_submission("i", 1, jobs(tmp_path, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert session.record.stat().st_size == before
    session.record_submission("i", 2, jobs(tmp_path, 3))
    (session.folder / "before").write_bytes(session.record.read_bytes())
    found = [session.submitted_before("i", number) for number in range(3)]
    assert [kept and kept[1] for kept in found] == [jobs(tmp_path, 1), None, jobs(tmp_path, 3)]
