"""The plan of a launch, in process: what is refused, what is submitted, and what a launch is known again by."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError

from hydra_plugins.mlxp import _mlxpsub_state, _plan, _start_dir
from hydra_plugins.mlxp._context import JobCode
from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core import __version__
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.spec import SubmitSpec
from mlxp_core.jobs.template import Template
from mlxp_core.runs.code_version import CodeVersion, SnapshotMode
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.versioning.snapshot import FrozenCode, WorkTreeVersion


class Program:
    """The program that jobs run."""

    called = "main.py"
    module: str | None = None
    function_hash: str | None = None
    name = "main.py"

    def words(self, python: str, map_path: Any) -> list[str]:
        return [python, str(map_path(Path("/work") / self.name))]

    def arguments(self, given: list[str], job: Any, run: RunDir) -> list[str]:
        return [*given, *job.overrides, str(run.path)]

    @staticmethod
    def environment(main: int) -> dict[str, str]:
        return {"MLXP_MAIN": str(main)}


class Job:
    """A job as the composer gives it: ``hydra`` is its part of Hydra's node, ``failing`` what has no value in it."""

    def __init__(self, *overrides: str, number: int = 0, **hydra: Any) -> None:
        self.overrides, self.number = list(overrides), number
        self.unresolved: dict[str, Any] = {"a": "${b}", "lines": list(overrides)}
        self.late_values: dict[str, Any] = {"job.num": number}
        self.environment: list[Any] = []
        self.failing = ""
        self._hydra = {
            "sweep.dir": "logs",
            "launcher.header": None,
            "launcher.setup": [],
            "job.name": "main",
            "job.env_copy": [],
            **hydra,
        }

    def hydra(self, path: str) -> Any:
        if path == self.failing:
            raise InterpolationKeyError("Interpolation key 'gpu' not found")
        return self._hydra[path]

    def raw(self, path: str) -> str:
        return f"text of {path}"

    def resolved(self) -> dict[str, Any]:
        return {"a": 1}

    def environment_values(self) -> list[Any]:
        return self.environment


class Launch:
    """A launch from a folder; its jobs are what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, Job] = {}
        self.taken: list[Any] = []
        self.options: dict[str, Any] = {"scheduler": "slurm"}
        self.program: Any = Program()
        self.main = 1
        self.hydra_overrides = ["hydra/launcher=mlxp_slurm"]

    @property
    def context(self) -> Any:
        config = {
            "hydra": {
                "sweep": {"dir": "logs"},
                "runtime": {"cwd": str(self.folder), "choices": {"hydra/launcher": "mlxp_slurm"}},
                "job": {"name": "my job"},
                "overrides": {"hydra": self.hydra_overrides, "task": []},
            }
        }
        return SimpleNamespace(
            options=LauncherConf(**self.options),
            program=self.program,
            launch_dir=self.folder,
            config=OmegaConf.create(config),
            composer=SimpleNamespace(take=self.take),
            main=self.main,
        )

    def take(self, overrides: list[str], number: int) -> Job:
        self.taken.append((overrides, number))
        return self.jobs.get(" ".join(overrides)) or Job(*overrides, number=number)

    def plan(self, *overrides: list[str], first: int = 0) -> _plan.Batch:
        return _plan.plan(self.context, overrides or [["a=1"]], first)

    def template(self, text: str | bytes, name: str = "job.sh") -> None:
        (self.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        self.options["template"] = name


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    return Launch(tmp_path)


def test_jobs_are_composed_in_order_and_numbered_on(launch: Launch) -> None:
    """Bug: the second batch of a sweep has the numbers of the first."""
    batch = launch.plan(["a=1"], ["a=2"], first=3)
    assert launch.taken == [(["a=1"], 3), (["a=2"], 4)]
    assert [job.overrides for job in batch.jobs] == [["a=1"], ["a=2"]]
    assert batch.log_dir == LogDir(launch.folder / "logs")
    assert os.listdir(launch.folder) == []


def test_each_job_has_the_template_that_its_own_options_make(launch: Launch) -> None:
    """Bug: all jobs ask for the resources of the first; equal templates are compared line by line a thousand times."""
    launch.template("#!/bin/sh\n#SBATCH --time=5\nmodule load x\nsrun python main.py\nrm -r tmp\n")
    launch.options |= {"pack": 2, "array": False, "command_timeout": 7.0, "submit_timeout": 8.0}
    big = {"launcher.header": "#SBATCH --mem=9G", "launcher.setup": ["export A=1"]}
    launch.jobs = {"a=1": Job("a=1", **big), "a=2": Job("a=2", **{"launcher.setup": None}), "a=3": Job("a=3", **big)}
    batch = launch.plan(["a=1"], ["a=2"], ["a=3"])
    plain = Template("#!/bin/sh", ("#SBATCH --time=5",), ("module load x",), "srun ", ("rm -r tmp",))
    both = ("#SBATCH --time=5", "#SBATCH --mem=9G")
    with_header = Template("#!/bin/sh", both, ("module load x", "export A=1"), "srun ", ("rm -r tmp",))
    assert batch.templates == [with_header, plain, with_header]
    assert batch.templates[0] is batch.templates[2]
    usual: dict[str, Any] = {
        "scheduler": "slurm",
        "name": "my-job",
        "shebang": "#!/bin/sh",
        "directory": str(launch.folder),
        "array": False,
        "pack": 2,
        "command_timeout": 7.0,
        "submit_timeout": 8.0,
    }
    assert batch.specs[0] == batch.specs[2] == SubmitSpec(header=both, **usual)
    assert batch.specs[1] == SubmitSpec(header=("#SBATCH --time=5",), **usual)
    grouped = batch.overrides_by_template()
    assert grouped == {with_header: [["a=1"], ["a=3"]], plain: [["a=2"]]}
    assert list(grouped) == [with_header, plain]


def test_without_a_template_a_job_has_what_its_options_say(launch: Launch) -> None:
    """Bug: a launch without a template fails; the throttle is lost."""
    launch.options["max_parallel"] = 3
    batch = launch.plan()
    assert batch.templates == [Template()]
    assert (batch.specs[0].max_parallel, batch.specs[0].header, batch.specs[0].array) == (3, (), True)


def test_a_submission_that_cannot_be_is_refused_also_that_of_the_last_job(launch: Launch) -> None:
    """Bug: half of a sweep is submitted, and then the scheduler refuses."""
    launch.jobs = {"a=2": Job("a=2", **{"launcher.header": "#SBATCH --array=1-9"})}
    with pytest.raises(ConfigurationError, match=r"the header sets --array or -a itself"):
        launch.plan(["a=1"], ["a=2"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"wait": "yes"}, r"hydra\.launcher\.wait=yes is none of auto, true, false"),
        ({"wait": 1}, r"wait=1 is none of"),
        ({"wait": None}, r"wait=None is none of"),
        ({"max_parallel": 0}, r"hydra\.launcher\.max_parallel=0: at least one job must run"),
        ({"snapshot": "head"}, r"hydra\.launcher\.snapshot=head is not one of"),
        ({"pack": 0}, r"hydra\.launcher\.pack=0"),
    ],
)
def test_an_option_that_means_nothing_is_refused(launch: Launch, options: dict[str, Any], said: str) -> None:
    """Bug: `wait=yes` that is taken for true, or for auto; a throttle of none."""
    launch.options |= options
    with pytest.raises(ConfigurationError, match=said):
        launch.plan()


@pytest.mark.parametrize("options", [{"wait": wait} for wait in (True, False, "auto")] + [{"max_parallel": 1}])
def test_options_that_mean_something_are_taken(launch: Launch, options: dict[str, Any]) -> None:
    """Bug: `wait=false`, or a throttle of one, refused."""
    launch.options |= options
    assert len(launch.plan().jobs) == 1


def test_the_python_of_the_jobs_is_this_one_or_the_users() -> None:
    """Bug: hydra.launcher.python that nobody looks at."""
    assert _start_dir.job_interpreter(LauncherConf(python="/py")) == "/py"
    assert _start_dir.job_interpreter(LauncherConf()) == sys.executable


def test_a_template_lies_beside_the_launch_at_home_or_anywhere(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bug: ~/job.sh taken for a folder named ~; a relative path looked for where Hydra has changed to."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("job.sh", str(tmp_path / "home" / "job.sh")):
        launch.template("#SBATCH --time=1\n", name)
        assert launch.plan().specs[0].header == ("#SBATCH --time=1",)
    launch.options["template"] = "~/job.sh"
    assert launch.plan().specs[0].header == ("#SBATCH --time=1",)


def test_a_template_that_cannot_be_read_is_named_with_its_option(launch: Launch) -> None:
    """Bug: a stack trace of open()."""
    launch.options["template"] = "none.sh"
    path = launch.folder / "none.sh"
    said = f"^the template {path} .hydra.launcher.template=none.sh. cannot be read: No such file or directory$"
    with pytest.raises(ConfigurationError, match=said):
        launch.plan()
    launch.options["template"] = "."
    with pytest.raises(ConfigurationError, match=r"cannot be read: Is a directory"):
        launch.plan()


def test_a_template_in_another_encoding_goes_through_but_for_its_directives(launch: Launch) -> None:
    """Bug: a comment in Latin-1 stops the launch; or a directive that the scheduler reads as something else."""
    launch.template(b"#SBATCH --time=1\n# caf\xe9\nexport A=\xff\n")
    assert launch.plan().templates[0].setup == ("# caf\udce9", "export A=\udcff")
    for byte in (b"\x80", b"\xff"):
        launch.template(b"#SBATCH --time=1\n#SBATCH --comment=" + byte + b"\n")
        with pytest.raises(ConfigurationError, match=r"--comment=.*is no UTF-8: write directives in UTF-8"):
            launch.plan()
    launch.template("#SBATCH --comment=café\n")
    assert launch.plan().specs[0].header == ("#SBATCH --comment=café",)


def test_directives_that_the_scheduler_does_not_read_are_said(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: jobs without the memory that the last line of the header asks for."""
    launch.template("#SBATCH --time=1\nmodule load x\n#SBATCH --mem=1G\n#SBATCH --gpus=1\n")
    launch.plan()
    assert [record.getMessage() for record in caplog.records] == [
        f"slurm does not read directives after the first command: #SBATCH --{line}" for line in ("mem=1G", "gpus=1")
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize(
    ("scheduler", "options", "header"),
    [
        ("slurm", {}, ("#SBATCH --of=mlxpsub",)),
        ("oar", {}, ()),  # the program has chosen another launcher
        ("slurm", {"template": "job.sh"}, ("#SBATCH --time=1",)),
    ],
)
def test_under_mlxpsub_the_script_is_the_template(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, scheduler: str, options: dict[str, Any], header: tuple[str, ...]
) -> None:
    """Bug: directives of Slurm for OAR; the user's own template is not looked at."""
    launch.template("#SBATCH --time=1\n")
    launch.options = {"scheduler": "slurm", **options}
    session = SimpleNamespace(scheduler=scheduler)
    mlxpsub = SimpleNamespace(session=session, template=lambda: Template(header=("#SBATCH --of=mlxpsub",)))
    monkeypatch.setattr(_mlxpsub_state, "_program", mlxpsub)
    assert launch.plan().specs[0].header == header


@pytest.mark.parametrize("key", ["header", "setup"])
def test_an_option_that_a_job_cannot_fill_in_is_said_with_the_job(launch: Launch, key: str) -> None:
    """Bug: OmegaConf's words alone, for one of a thousand jobs."""
    bad = Job("a=2", "b=3")
    bad.failing = f"launcher.{key}"
    launch.jobs = {"a=2 b=3": bad}
    said = rf"^hydra\.launcher\.{key}=text of launcher\.{key} has no value for the job a=2 b=3: .* key 'gpu' not found"
    with pytest.raises(ConfigurationError, match=said):
        launch.plan(["a=1"], ["a=2", "b=3"])


VERSION = WorkTreeVersion(Path("/work"), "c" * 40, SnapshotMode.COMMIT, "c" * 40, "main", ())
IN_PLACE = JobCode(None, None)


def frozen(copy: Path, repo: Path = Path("/work")) -> JobCode:
    version = WorkTreeVersion(repo, "c" * 40, SnapshotMode.COMMIT, "c" * 40, "main", ())
    return JobCode(FrozenCode(version, copy), None)


def test_a_launch_is_known_again_by_its_command_its_code_and_its_jobs(launch: Launch, tmp_path: Path) -> None:
    """Bug: a launch that differs in one of these takes over the folders of another; or the same one does not."""
    code = frozen(Path("/copy"))

    def identities(jobs: list[Job], code: JobCode = code) -> tuple[str, str]:
        context = launch.context
        return _plan.identity(context, jobs, code), _plan.script_identity(context, jobs)

    before = identities([Job("a=1"), Job("a=2", number=1)])
    same = [Job("a=1"), Job("a=2", number=1)]
    launch.options |= {"pack": 2, "header": "x", "python": "/other", "submit_timeout": 1.0}
    assert identities(same) == before
    assert identities(same, frozen(Path("/another place"))) == before

    other_config, other_environment, second = Job("a=1"), Job("a=1"), Job("a=2", number=1)
    other_config.unresolved["a"] = 2
    other_environment.environment = ["/data"]
    for jobs in (
        [other_config, second],
        [Job("a=1", "b=1"), second],
        [Job("a=1", number=5), second],
        [second],
        same[::-1],
    ):
        assert identities(jobs)[0] != before[0]
        assert identities(jobs)[1] != before[1]
    # for mlxpsub, a script's command is the same with other code, and with other variables
    for changed in (identities([other_environment, second]), identities(same, IN_PLACE)):
        assert changed[0] != before[0]
        assert changed[1] == before[1]
    for change in (
        lambda: vars(launch).update(main=2),
        lambda: vars(launch).update(folder=tmp_path / "b"),
        lambda: launch.options.update(scheduler="oar"),
        lambda: setattr(launch.program, "name", "eval.py"),
    ):
        was = identities(same)
        change()
        assert identities(same)[0] != was[0]
        assert identities(same)[1] != was[1]


def test_what_all_runs_have_in_common(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: jobs run the work tree instead of the copy; mlxp.yaml says twice, or not at all, how a run was launched."""
    monkeypatch.setattr(_plan, "python_path", lambda map_path, links: [str(map_path(Path("/work"))), str(links)])
    launch.options |= {"setup": ["a"], "header": "#SBATCH --x", "pack": 2, "python": "/py", "wait": True}
    launch.main = 3
    launch.program.function_hash = "hash"
    copy = launch.folder / "copy"
    copy.mkdir()
    code = frozen(copy)
    shared = _plan.SharedFields.of(launch.context, code)
    assert shared.program is launch.program
    assert shared.words == ["/py", str(copy / "main.py")]
    assert shared.hydra_overrides == ["hydra/launcher=mlxp_slurm"]
    assert shared.environment == {"PYTHONPATH": f"{copy}:{code.copy.links}", "MLXP_MAIN": "3"}
    assert (shared.version.commit, shared.version.function_hash, shared.version.copy) == ("c" * 40, "hash", copy)
    assert set(shared.settings) == {"version", "launcher"}
    assert shared.settings["version"] == __version__
    kept = shared.settings["launcher"]
    assert (kept["setup"], kept["header"], kept["wait"], kept["python"]) == (["a"], "#SBATCH --x", True, "/py")
    assert kept["launch_dir"] == str(launch.folder)
    assert not {"pack", "array", "max_parallel", "scheduler", "command_timeout", "submit_timeout"} & set(kept)


def test_without_a_copy_there_are_no_links_and_perhaps_no_path(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: PYTHONPATH set to nothing, which is the current directory."""
    asked = []

    def python_path(map_path: Any, links: Path | None) -> list[str]:
        asked.append((map_path(Path("/x")), links))
        return []

    monkeypatch.setattr(_plan, "python_path", python_path)
    shared = _plan.SharedFields.of(launch.context, IN_PLACE)
    assert asked == [(Path("/x"), None)]
    assert shared.environment == {"MLXP_MAIN": "1"}
    assert shared.version == CodeVersion()


def test_jobs_run_where_the_launch_was_in_the_copy_or_else_there_itself(launch: Launch) -> None:
    """Bug: `cd: no such directory` in each job of a launch from a folder that git does not know."""
    launch.options["work_dir"] = "copy"
    copy = launch.folder / "copies" / "0"
    repo = launch.folder / "repo"
    launch.folder = repo / "runs"
    assert _plan.SharedFields.of(launch.context, frozen(copy, repo)).start.directory == repo / "runs"
    (copy / "runs").mkdir(parents=True)
    assert _plan.SharedFields.of(launch.context, frozen(copy, repo)).start.directory == copy / "runs"


def test_under_mlxpsub_jobs_are_told_of_the_launcher(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a job that composes another configuration, for nobody tells it of the launcher that mlxpsub has chosen."""
    asked = []
    mlxpsub = SimpleNamespace(launcher_override=lambda config: asked.append(config) or ["hydra/launcher=mlxp_oar"])
    monkeypatch.setattr(_mlxpsub_state, "_program", mlxpsub)
    launch.hydra_overrides = ["hydra.verbose=true"]
    shared = _plan.SharedFields.of(launch.context, IN_PLACE)
    assert shared.hydra_overrides == ["hydra.verbose=true", "hydra/launcher=mlxp_oar"]
    assert asked == [launch.context.config]


def test_a_run_is_written_with_its_own_place(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the id of another job, a variable of the launch that is not to be copied, a command without the folder."""
    monkeypatch.setenv("COPIED", "yes")
    monkeypatch.setenv("PYTHONPATH", "/of/the/shell")
    monkeypatch.delenv("NOT_THERE", raising=False)
    launch.options["python"] = "/py"
    shared = _plan.SharedFields.of(launch.context, JobCode(None, VERSION))
    job = Job("a=1", **{"job.env_copy": ["COPIED", "NOT_THERE", "MLXP_MAIN"], "job.name": "my job"})
    monkeypatch.setenv("MLXP_MAIN", "9")
    run, template = RunDir(launch.folder / "logs" / "7"), Template()
    spec = SubmitSpec("slurm", "n", "#!/bin/bash", (), "/")
    prepared = _plan.prepare_run(shared, job, run, template=template, spec=spec)
    assert job.late_values == {"job.num": 0, "job.id": "7", "sweep.subdir": "7", "runtime.output_dir": str(run.path)}
    command = ["/py", "/work/main.py", "hydra/launcher=mlxp_slurm", "a=1", str(run.path)]
    assert prepared.job.command == tuple(command)
    assert (prepared.job.run, prepared.job.name, prepared.job.work_dir) == (run, "my-job-7", str(launch.folder))
    assert prepared.job.environment == {**shared.environment, "COPIED": "yes"}
    assert prepared.job.environment["MLXP_MAIN"] == "1"
    assert (prepared.template, prepared.spec, prepared.settings) == (template, spec, shared.settings)
    assert (prepared.config, prepared.config_unresolved) == ({"a": 1}, {"a": "${b}", "lines": ["a=1"]})
    assert prepared.facts["command"] == command
    assert prepared.facts["work_dir"] == str(launch.folder)
    assert prepared.facts["hydra"] == {"job_name": "my job", "overrides": ["a=1"]}
    assert prepared.facts["version_manager"]["commit_hash"] == "c" * 40
