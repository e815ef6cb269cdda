"""A program in a session of mlxpsub, in process: what it tells, what it knows, and how it becomes a multirun."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from scripts import PLACEHOLDERS, parsed

from hydra_plugins.mlxp import _mlxpsub_hooks, _mlxpsub_state
from hydra_plugins.mlxp._mlxpsub_program import MlxpsubProgram
from hydra_plugins.mlxp._names import LAUNCHER
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.template import Template
from mlxp_core.mlxpsub import job_template
from mlxp_core.mlxpsub.session import Session, runs_to_json, stderr_file
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.process import this_process
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.versioning.snapshot import Decision, OnChanges

SCRIPT = """\
#!/bin/bash
#SBATCH --time=5
export LR=0.1
export OUT=/s/SLURM_TMPDIR/out
export HALF=$((SLURM_NTASKS / 2))
python -u main.py a=1
python -u other.py
"""
HERE = 3  # the number of the program's command


class Process:
    """This process, as a program that mlxpsub's script has started."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        (folder / "session").mkdir()
        shadowed = replace(PLACEHOLDERS, shadowed={"SLURM_TMPDIR": "/my/tmp"})
        record = folder / "state" / "x.jsonl"
        self.session = Session(
            folder / "session", folder, "slurm", False, record, shadowed, parsed(SCRIPT), this_process()
        )
        self.save()
        kept = {"HOME": "/home/me", "LR": "0.1", "PATH": f"{self.session.bin}:/usr/bin"}
        ours = {"MLXP_SUB": str(self.session.folder), "MLXP_SUB_AT": str(HERE), "MLXP_SUB_STARTERS": "srun -n '2 3'"}
        of_a_job = {**PLACEHOLDERS.values, "OUT": "/s/SLURM_TMPDIR/out", "HALF": "0"}
        self.variables = {**kept, **ours, **of_a_job}
        monkeypatch.setattr(os, "environ", dict(self.variables))  # so that a test changes no other's
        monkeypatch.setattr(sys, "argv", ["main.py", "a=1", "b=2"])
        monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "main.py", "a=1", "b=2"])
        monkeypatch.setattr(_mlxpsub_state, "_program", None)

    def save(self, **changes: Any) -> None:
        self.session = replace(self.session, **changes)
        self.session.save()

    def exported(self, number: int, variables: dict[str, str]) -> None:
        """Have the shell's variables be these as a command began."""
        text = "\0".join(f"{name}={value}" for name, value in variables.items())
        (self.session.folder / f"variables.{number}").write_text(text)

    def program(self) -> MlxpsubProgram:
        for name in set(os.environ) - set(self.variables):  # of pytest's
            del os.environ[name]
        return MlxpsubProgram(self.session)

    def events(self) -> list[dict[str, Any]]:
        path = self.session.folder / "events"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def told(self) -> list[dict[str, Any]]:
        """What has been told after the start, without who has told it."""
        origin = {"process", "number", "command"}
        return [{key: value for key, value in event.items() if key not in origin} for event in self.events()[1:]]

    def runs(self, *numbers: int) -> list[QueuedJob]:
        log_dir = self.folder / "logs"
        (log_dir / ".mlxp").mkdir(parents=True, exist_ok=True)
        return [QueuedJob(RunDir(log_dir / str(number)), "slurm", f"10{number}", number) for number in numbers]

    def noted(self) -> list[str]:
        """The commands that the jobs of these runs take for programs'."""
        path = LogDir(self.folder / "logs").mlxpsub_scripts / self.session.name
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(tmp_path, monkeypatch)


def test_what_a_program_starts_knows_nothing_of_mlxpsub(process: Process) -> None:
    """Bug: a program that the training starts is a multirun, too; it has a placeholder for the id of its job."""
    program = process.program()
    left = {name: os.environ[name] for name in process.variables if name in os.environ}
    assert left == {"HOME": "/home/me", "LR": "0.1", "PATH": "/usr/bin", "SLURM_TMPDIR": "/my/tmp"}
    assert program.number == HERE
    assert program.starters == ("srun", "-n", "2 3")
    of_a_job = {"SLURM_JOB_ID", "SLURM_TMPDIR", "SLURM_NTASKS", "OUT", "HALF"}
    assert program.job_variables == of_a_job | {"MLXP_SUB", "MLXP_SUB_AT", "MLXP_SUB_STARTERS"}


def test_only_variables_that_are_there_are_of_a_job(process: Process) -> None:
    """Bug: KeyError where the shell has unset a variable, or where no srun is around the program."""
    for name in ("HALF", "MLXP_SUB_STARTERS", "PATH"):
        del os.environ[name]
    program = process.program()
    assert "HALF" not in program.job_variables
    assert program.starters == ()
    assert os.environ["PATH"] == os.defpath


def test_a_program_tells_that_it_has_come_up(process: Process) -> None:
    """Bug: mlxpsub takes the line for set-up, and each job runs the program as well."""
    process.session.emit("submitted", runs=runs_to_json(process.runs(4)))
    process.program()
    started = process.events()[-1]
    assert (started["event"], started["number"]) == ("started", HERE)
    assert started["command"] == ["python", "-u", "main.py", "a=1", "b=2"]
    assert started["process"] == json.loads(json.dumps(this_process()))
    assert process.noted() == [str(HERE)]  # jobs of the others, that are submitted already


def test_its_template_is_made_of_how_it_was_started(process: Process) -> None:
    """Bug: the arguments of the program in the place of the interpreter; what another line exports is lost."""
    start = {"HOME": "/home/me", "PATH": "/usr/bin"}
    process.exported(HERE, {**start, "LR": "1", "HALF": "0"})
    process.exported(4, {**start, "LR": "5"})
    process.exported(5, {**start, "LR": "5", "SEED": "7"})
    for number in (4, 4, 2):
        process.session.emit("started", number=number, process={"process_id": number})
    given: list[Any] = []

    def build_template(*words: Any) -> str:
        given.extend(words)
        return "the template"

    process.monkeypatch.setattr(job_template, "build_template", build_template)
    process.monkeypatch.chdir(process.folder)
    program = process.program()
    assert program.template() == "the template"
    script, start_of, directory, variables, name = given
    session = process.session
    assert (script, directory, variables, name) == (
        session.script,
        str(process.folder),
        session.variables,
        session.name,
    )
    assert (start_of.number, start_of.head, start_of.arguments) == (HERE, ("python", "-u", "main.py"), ("a=1", "b=2"))
    assert (start_of.directory, start_of.starters) == (str(process.folder), ("srun", "-n", "2 3"))
    assert start_of.changes == {"LR": ("1", "0.1")}
    assert start_of.made_of_a_job == ("OUT",)
    assert start_of.others == {2: {}, 4: {"SEED": (None, "7")}}


def test_what_was_submitted_before_is_the_users_and_mlxpsubs_to_know(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: the second of two equal lines gets the runs of the first; mlxpsub counts the runs as new."""
    before = {"identity": "i", "number": 0, "time": "yesterday", "runs": runs_to_json(process.runs(3, 4))}
    (process.session.folder / "before").write_text(json.dumps(before) + "\n")
    program = process.program()
    assert program.submitted_before("i") == process.runs(3, 4)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        (
            "submitted already by the mlxpsub of yesterday, which did not come to its end: run 3-4 "
            "(mlxpsub --anew forgets it)"
        ),
    )
    assert process.told() == [{"event": "submitted", "runs": runs_to_json(process.runs(3, 4)), "before": True}]
    assert process.noted() == [str(HERE)]
    assert program.submitted_before("i") is None
    assert program.submitted_before("j") is None
    assert len(process.told()) == 1


def test_what_is_submitted_is_kept_for_a_later_call_by_its_number(process: Process) -> None:
    """Bug: an interrupted mlxpsub submits everything again; the second of two equal launches is kept as the first."""
    program = process.program()
    for number in (3, 4):
        assert program.submitted_before("i") is None
        program.submitted("i", process.runs(number))
    kept = [json.loads(line) for line in process.session.record.read_text().splitlines()]
    assert [(entry["identity"], entry["number"], entry["runs"]) for entry in kept] == [
        ("i", 0, runs_to_json(process.runs(3))),
        ("i", 1, runs_to_json(process.runs(4))),
    ]
    runs = [runs_to_json(process.runs(number)) for number in (3, 4)]
    assert process.told() == [{"event": "submitted", "runs": run, "before": False} for run in runs]
    assert process.noted() == [str(HERE)] * 2  # once more, for others may have come up meanwhile


def test_what_runs_again_and_what_is_complete_is_told(process: Process) -> None:
    """Bug: mlxpsub says that a program has submitted nothing which has nothing to submit."""
    program = process.program()
    program.submitted_again(process.runs(3))
    program.complete()
    assert process.told() == [
        {"event": "submitted", "runs": runs_to_json(process.runs(3)), "before": False},
        {"event": "complete"},
    ]
    assert [event["number"] for event in process.events()] == [HERE] * 3
    assert not process.session.record.exists()


class OwnError(Exception):
    """An error of the user's."""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, None),
        (OwnError("no luck"), "OwnError: no luck"),
        (ConfigCompositionException("no such group"), "no such group"),
        (HydraException("no luck"), "HydraException: no luck"),
        (SystemExit("ConfigurationError: x"), "ConfigurationError: x"),
        (ConfigurationError("x"), "ConfigurationError: x"),
    ],
)
def test_a_program_tells_how_it_has_ended(process: Process, error: BaseException | None, text: str | None) -> None:
    """Bug: `mlxpsub: 0 runs`, and the reason is in a file that the script has sent it to."""
    program = process.program()
    if error is None:
        with program.to_its_end():
            pass
        assert process.told() == [{"event": "ended"}]
        return
    with pytest.raises(type(error)), program.to_its_end():
        raise error
    assert process.told() == [{"event": "failed", "error": text, "stderr": stderr_file()}]


def test_an_interrupt_is_neither_an_end_nor_a_failure(process: Process) -> None:
    """Bug: Ctrl-C is reported as an error of the program, or as all is well."""
    program = process.program()
    with pytest.raises(KeyboardInterrupt), program.to_its_end():
        raise KeyboardInterrupt
    assert process.told() == []


def test_a_dry_run_tells_what_would_be_submitted(process: Process) -> None:
    """Bug: a line of the script that the job would run is missing where somebody looks before he submits."""
    process.monkeypatch.chdir(process.folder)
    program = process.program()
    template = Template("#!/bin/bash", ("#SBATCH -n 1",), ("module load x",), "srun ", ("rm x",))
    program.would_submit("oar", template, [("a=1",), ("a=2", "b=3")], ("python", "main.py"))
    assert process.told() == [
        {
            "event": "would",
            "jobs": [["a=1"], ["a=2", "b=3"]],
            "words": ["python", "main.py"],
            "directory": str(process.folder),
            "scheduler": "oar",
            "header": ["#SBATCH -n 1"],
            "setup": ["module load x"],
            "prefix": "srun ",
            "after": ["rm x"],
        }
    ]


def test_what_sweepers_write_in_a_dry_run_goes_away_with_the_session(process: Process) -> None:
    """Bug: a log directory in the user's folder after a dry run."""
    config = OmegaConf.create({"hydra": {"sweep": {"dir": "logs"}}})
    OmegaConf.set_readonly(config, value=True)
    OmegaConf.set_struct(config, value=True)
    process.program().redirect(config)
    assert config.hydra.sweep.dir == str(process.session.folder / "sweep")


@pytest.mark.parametrize(
    ("action", "asked"), [(OnChanges.CAPTURE, 1), (OnChanges.IGNORE, 1), (OnChanges.STOP, 1), (OnChanges.COMMIT, 2)]
)
def test_a_question_is_asked_once_for_a_repository(process: Process, action: OnChanges, asked: int) -> None:
    """Bug: the same question for each program of a script; the answer for one repository taken for another's."""
    questions: list[str] = []

    def ask(repository: Any, status: Any) -> Decision:
        questions.append(f"{repository.top} {status}")
        return Decision(action, ("a.py",), "message")

    program = process.program()
    ours, other = SimpleNamespace(top=Path("/repo")), SimpleNamespace(top=Path("/other"))
    first = program.ask_once(ask)(ours, "changed")
    assert first == Decision(action, ("a.py",), "message")
    again = program.ask_once(ask)(ours, "changed")
    assert again.action is action
    assert questions == ["/repo changed"] * asked
    program.ask_once(ask)(other, "changed")
    assert questions[asked:] == ["/other changed"]


def test_of_two_answers_the_last_holds(process: Process) -> None:
    """Bug: an answer of the script's first program, which another one was given since."""
    program = process.program()
    for what in ("capture", "ignore"):
        process.session.emit("answered", top="/repo", what=what)
    repository = SimpleNamespace(top=Path("/repo"))
    assert program.ask_once(lambda *_: pytest.fail("asked"))(repository, None) == Decision(OnChanges.IGNORE)


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], ["hydra/launcher=mlxp_oar"]),
        (["hydra.verbose=true", "hydra.launcher.pack=2"], ["hydra/launcher=mlxp_oar"]),
        (["hydra.verbose=true", "hydra/launcher=mlxp_oar"], []),
    ],
)
def test_jobs_have_the_launcher_that_mlxpsub_has_chosen(given: list[str], added: list[str]) -> None:
    """Bug: the job composes another launcher than the submission, and refuses to run."""
    config = OmegaConf.create(
        {"hydra": {"overrides": {"hydra": given}, "runtime": {"choices": {"hydra/launcher": "mlxp_oar"}}}}
    )
    assert MlxpsubProgram.launcher_override(config) == added


class Hooks:
    """Hydra with the hooks; ``mode`` is what the program itself would run as, ``ran`` what has been asked of Hydra."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.mode: RunMode | None = None
        self.launcher = LAUNCHER
        self.ran: list[Any] = []
        self.node = OmegaConf.create({"defaults": [{"output": "default"}, {"launcher": "basic"}, "_self_"]})
        OmegaConf.set_readonly(self.node, value=True)
        store = SimpleNamespace(repo={"hydra": {"config.yaml": SimpleNamespace(node=self.node)}})
        patch = process.monkeypatch.setattr
        patch(_mlxpsub_hooks, "ConfigStore", SimpleNamespace(instance=lambda: store))
        patch(Hydra, "get_mode", self.get_mode)
        patch(Hydra, "multirun", self.multirun)
        patch(Hydra, "compose_config", self.compose)
        self.original = Hydra.get_mode
        _mlxpsub_hooks.watch()
        self.hydra = object.__new__(Hydra)

    def get_mode(self, *args: Any, **named: Any) -> RunMode | None:
        self.ran.append(("mode", args[1:] if args and isinstance(args[0], Hydra) else args, named))
        return self.mode

    def multirun(self, *args: Any, **named: Any) -> Any:
        self.ran.append("multirun")
        if named.get("fails"):
            raise OwnError("no luck")
        return "ran"

    def compose(self, **given: Any) -> Any:
        self.ran.append(("compose", given))
        return OmegaConf.create({"hydra": {"launcher": {"_target_": self.launcher}}})

    def __call__(self, *overrides: str, **more: Any) -> Any:
        """Ask for the mode, as Hydra does."""
        return self.hydra.get_mode(config_name="conf", overrides=list(overrides), **more)


@pytest.fixture
def hooks(process: Process) -> Hooks:
    return Hooks(process)


def events_of(process: Process) -> list[str]:
    return [event["event"] for event in process.events()]


def test_a_program_of_the_script_becomes_a_multirun_with_its_launcher(hooks: Hooks, process: Process) -> None:
    """Bug: the program runs here, on the login node; or with Hydra's own launcher."""
    overrides = ["a=1", "hydra.run.dir=x/y"]
    assert hooks.hydra.get_mode(config_name="conf", overrides=overrides) is RunMode.MULTIRUN
    assert overrides == ["a=1", "hydra.sweep.dir='x'", "hydra.sweep.subdir='y'"]
    assert hooks.node.defaults == [{"output": "default"}, {"launcher": "mlxp_slurm"}, "_self_"]
    assert events_of(process) == ["started"]
    program = _mlxpsub_state.current()
    assert program is not None
    assert program.session == process.session
    assert hooks.hydra.multirun("conf") == "ran"
    assert events_of(process) == ["started", "ended"]


def test_what_is_a_multirun_already_keeps_its_overrides(hooks: Hooks) -> None:
    """Bug: hydra.run.dir of a multirun, which means nothing there, is made its folder."""
    hooks.mode = RunMode.MULTIRUN
    overrides = ["hydra.run.dir=x/y"]
    assert hooks.hydra.get_mode(config_name="conf", overrides=overrides) is RunMode.MULTIRUN
    assert overrides == ["hydra.run.dir=x/y"]


def test_the_parsed_overrides_are_rewritten_as_well(hooks: Hooks) -> None:
    """Bug: Hydra 1.4, which goes by these, ignores the folder."""
    parsed: list[Any] = ["parsed"]
    hooks("hydra.run.dir=x/y", parsed_overrides=parsed)
    assert [one.input_line for one in parsed] == ["hydra.sweep.dir='x'", "hydra.sweep.subdir='y'"]


def test_a_second_main_function_is_in_the_session_of_the_first(hooks: Hooks, process: Process) -> None:
    """Bug: the second function of a program runs here; or is counted as another program."""
    hooks()
    assert "MLXP_SUB" not in os.environ
    assert hooks() is RunMode.MULTIRUN
    assert events_of(process) == ["started"]


def test_without_a_session_a_program_is_its_own(hooks: Hooks, process: Process) -> None:
    """Bug: a program that was started by one of mlxpsub's, with its variables gone, becomes a multirun."""
    del os.environ["MLXP_SUB"]
    for mode in (None, RunMode.RUN, RunMode.MULTIRUN):
        hooks.mode = mode
        assert hooks("hydra.run.dir=x/y") is mode
    assert hooks.hydra.multirun("conf") == "ran"
    assert process.events() == []


@pytest.mark.parametrize("argument", ["--run", "-r", "hydra.mode=RUN"])
@pytest.mark.parametrize("place", ["a session", "in-a-job", None])
def test_who_asks_to_run_here_runs_here(hooks: Hooks, process: Process, argument: str, place: str | None) -> None:
    """Bug: `--run` submits; in a job, where the line belongs to the set-up, nothing is run."""
    process.monkeypatch.setattr(sys, "argv", ["main.py", argument, "a=1"])
    hooks.mode = RunMode.RUN if argument == "hydra.mode=RUN" else None
    if place is None:
        del os.environ["MLXP_SUB"]
    elif place == "in-a-job":
        os.environ["MLXP_SUB"] = place
    assert hooks() is hooks.mode
    assert (process.events(), _mlxpsub_state.current()) == ([], None)


def test_the_name_of_the_program_is_none_of_its_options(hooks: Hooks, process: Process) -> None:
    """Bug: `python -c …` in a script ends with "argument --cfg/-c: invalid choice"."""
    process.monkeypatch.setattr(sys, "argv", ["-c", "a=1"])
    assert hooks() is RunMode.MULTIRUN


def test_who_asks_to_run_here_does_nothing_in_a_dry_run(hooks: Hooks, process: Process) -> None:
    """Bug: a dry run that trains."""
    process.save(dry_run=True)
    hooks.mode = RunMode.RUN
    with pytest.raises(SystemExit) as caught:
        hooks()
    assert caught.value.code == 0
    (event,) = process.events()
    assert event == {"event": "here", "number": HERE, "command": sys.orig_argv}


def test_in_a_job_another_program_of_the_script_ends_at_once(hooks: Hooks, process: Process) -> None:
    """Bug: each job of the one program submits the other one."""
    os.environ["MLXP_SUB"] = "in-a-job"
    with pytest.raises(SystemExit) as caught:
        hooks()
    assert (caught.value.code, process.events()) == (0, [])


def test_after_ctrl_c_no_further_program_starts(hooks: Hooks, process: Process) -> None:
    """Bug: mlxpsub was interrupted, and the next line of its script submits."""
    process.session.stop()
    with pytest.raises(SystemExit) as caught:
        hooks()
    assert (caught.value.code, process.events()) == (130, [])


@pytest.mark.parametrize("gone", ["process", "folder"])
@pytest.mark.parametrize("mode", [None, RunMode.RUN])
def test_a_program_that_outlives_its_mlxpsub_ends(
    hooks: Hooks, process: Process, gone: str, mode: RunMode | None
) -> None:
    """Bug: jobs that nobody knows of, submitted by a line that was left in the background."""
    if gone == "process":
        process.save(process={**this_process(), "process_start": 1})
    else:
        (process.session.folder / "session.json").unlink()
    hooks.mode = mode
    with pytest.raises(SystemExit, match=r"^the mlxpsub that runs this program's script has ended: put `wait` behind"):
        hooks()
    assert process.events() == []


def test_a_session_of_another_host_is_taken_for_alive(hooks: Hooks, process: Process) -> None:
    """Bug: `ssh node python main.py` in a script is refused, for nobody knows whether mlxpsub runs there."""
    process.save(process={**this_process(), "hostname": "elsewhere"})
    assert hooks() is RunMode.MULTIRUN


@pytest.mark.parametrize(("launcher", "submits"), [(LAUNCHER, True), ("hydra._internal.core_plugins.basic", False)])
def test_a_dry_run_ends_before_another_launcher_runs_anything(
    hooks: Hooks, process: Process, launcher: str, submits: bool
) -> None:
    """Bug: a program that has chosen joblib trains in a dry run."""
    process.save(dry_run=True)
    hooks.launcher = launcher
    if submits:
        assert hooks("a=1") is RunMode.MULTIRUN
        assert events_of(process) == ["started"]
    else:
        with pytest.raises(SystemExit) as caught:
            hooks("a=1")
        assert caught.value.code == 0
        started, here, ended = process.events()
        assert [started["event"], here["event"], ended["event"]] == ["started", "here", "ended"]
        origin = {key: started[key] for key in ("number", "process", "command")}
        assert here == {"event": "here", **origin}
        assert ended == {"event": "ended", **origin}
    asked = {"config_name": "conf", "overrides": ["a=1"], "run_mode": RunMode.MULTIRUN, "with_log_configuration": False}
    assert hooks.ran[-1] == ("compose", asked)


def test_a_real_run_is_not_composed_once_more(hooks: Hooks) -> None:
    """Bug: each start takes a composition longer."""
    hooks("a=1")
    assert [event[0] for event in hooks.ran] == ["mode"]


def test_a_configuration_that_does_not_compose_is_said_in_hydras_words(
    hooks: Hooks, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: a stack trace of Hydra's inside, in a dry run only."""

    def fails(*_: Any, **__: Any) -> Any:
        raise ConfigCompositionException("no such group")

    process.save(dry_run=True)
    process.monkeypatch.setattr(Hydra, "compose_config", fails)
    with pytest.raises(SystemExit) as caught:
        hooks()
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("no such group\n")


def test_hydra_is_hooked_once(hooks: Hooks, process: Process) -> None:
    """Bug: each import asks one time more; a multirun of another program reports to nobody's session."""
    before = (Hydra.get_mode, Hydra.multirun)
    _mlxpsub_hooks.watch()
    assert (Hydra.get_mode, Hydra.multirun) == before
    replaced: Callable[..., Any] = Hydra.get_mode
    assert replaced.mlxp_original is hooks.original


def test_a_failure_of_the_multirun_is_told(hooks: Hooks, process: Process) -> None:
    """Bug: mlxpsub says "0 runs" of a sweep that was refused."""
    hooks()
    with pytest.raises(OwnError):
        hooks.hydra.multirun("conf", fails=True)
    assert process.events()[-1]["error"] == "OwnError: no luck"
