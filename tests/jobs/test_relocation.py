"""What leads to the place that a log directory was moved from is changed where it is certain, else refused."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import Mlxp, Project, read_yaml

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs import write
from mlxp_core.jobs.relocation import Relocation, plan_relocation
from mlxp_core.jobs.run_script import RunScriptSpec
from mlxp_core.jobs.spec import SubmitSpec
from mlxp_core.jobs.template import Template
from mlxp_core.jobs.write import PreparedRun
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState

WAIT = ("-m", "hydra/launcher=mlxp_local", "hydra.launcher.wait=true")
NAMES = ["logs", "a b's 100% lögs", "x=$y;z"]
Make = Callable[..., RunDir]


def hydra_quoted(path: Path) -> str:
    """As Hydra's grammar has it."""
    return "'" + str(path).replace("'", "\\'") + "'"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make run 3 in a log directory, as a launch does, with a program that says what it was given."""

    def made(
        log_dir: Path, *, setup: tuple[str, ...] = (), config: dict[str, Any] | None = None, **facts: Any
    ) -> RunDir:
        run = RunDir(log_dir / "3")
        code = log_dir / ".mlxp" / "code" / ("c" * 40)
        code.mkdir(parents=True)
        run.path.mkdir()
        command = ("/bin/echo", f"{code}/main.py", f"hydra.run.dir={hydra_quoted(run.path)}", "lr=1", "$HOME")
        spec = SubmitSpec("slurm", "n", "#!/bin/bash", ("#SBATCH --time=1",), str(tmp_path))
        values = {"lr": 1, "place": f"{run.path}/x"} if config is None else config
        prepared = PreparedRun(
            job=RunScriptSpec(run, "n-3", command, str(code), {"PYTHONPATH": f"{code}/src:/usr/lib"}),
            template=Template(header=spec.header, setup=setup),
            spec=spec,
            config=values,
            config_unresolved={"lr": 1, "place": "${hydra:runtime.output_dir}/x"} if config is None else config,
            facts={"command": [*command], "work_dir": str(code), **facts},
            settings={"launcher": {"launch_dir": str(tmp_path)}},
        )
        write.write_runs([prepared])
        return run

    return made


def moved(run: RunDir, to: Path) -> RunState:
    """Move the log directory of a run; gives the run where it is then."""
    to.parent.mkdir(parents=True, exist_ok=True)
    run.path.parent.rename(to)
    return RunState.load(RunDir(to / run.path.name))


def planned(state: RunState) -> Relocation:
    relocation = plan_relocation(state)
    assert relocation is not None
    return relocation


@pytest.mark.parametrize("new", NAMES)
@pytest.mark.parametrize("old", NAMES)
def test_a_job_that_was_moved_runs_as_it_would_have_at_its_old_place(
    make: Make, tmp_path: Path, old: str, new: str
) -> None:
    """Bug: a quote or a blank in either path makes the script another one; a part of a longer name is changed."""
    setup = ('export OTHER="$HOME/logs"', f"export KEPT={shlex.quote(str(tmp_path / old))}2/x")
    run = make(tmp_path / old, setup=setup)
    state = moved(run, tmp_path / "there" / new)
    relocation = planned(state)
    relocation.apply(state)
    here = state.run.path
    done = subprocess.run(["bash", str(state.run.script)], capture_output=True, text=True, check=True)
    code = here.parent / ".mlxp" / "code" / ("c" * 40)
    assert done.stdout == f"{code}/main.py hydra.run.dir={hydra_quoted(here)} lr=1 $HOME\n"
    assert (state.run.exit_code.read_text().split()[0], run.path.exists()) == ("0", False)
    script = state.run.script.read_text()
    assert f"export KEPT={shlex.quote(str(tmp_path / old))}2/x\n" in script
    output = str(state.run.stdout).replace("%", "%%")
    assert f'#SBATCH --output="{output}"\n' in script
    info = read_yaml(state.run.info)
    assert (info["work_dir"], info["logger"], info["command"][1]) == (
        str(code),
        {"log_id": 3, "log_dir": str(here)},
        f"{code}/main.py",
    )
    assert read_yaml(state.run.config) == {"lr": 1, "place": f"{here}/x"}
    assert read_yaml(state.run.config_unresolved)["place"] == "${hydra:runtime.output_dir}/x"
    assert plan_relocation(RunState.load(state.run)) is None


def test_a_directory_that_was_moved_into_itself_is_changed_once(make: Make, tmp_path: Path) -> None:
    """Bug: logs/old/old/3, of a path that begins as the old one did."""
    run = make(tmp_path / "logs")
    (tmp_path / "aside").mkdir()
    (tmp_path / "logs").rename(tmp_path / "aside" / "old")
    (tmp_path / "aside").rename(tmp_path / "logs")
    state = RunState.load(RunDir(tmp_path / "logs" / "old" / "3"))
    planned(state).apply(state)
    script = state.run.script.read_text()
    assert str(tmp_path / "logs" / "old" / "3") in script
    assert "old/old" not in script
    assert run.path != state.run.path


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a line of the user's": ({"setup": ("cp x OLD/out; ls",)}, r"line \d+ of .* still leads to OLD: cp x OLD/out; ls"),
    "a value of the user's": ({"config": {"model": {"weights": "OLD/1/w.pt"}}}, r"says model.weights=OLD/1/w.pt"),
    "a value in a list": ({"config": {"data": ["a", "OLD/1/w.pt"]}}, r"says data.1=OLD/1/w.pt"),
    "a Python that is not there": ({"command": ["/gone/bin/python", "x"]}, "its Python /gone/bin/python is not there"),
}


@pytest.mark.parametrize(("change", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_certain_is_refused_and_stays(
    make: Make, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    """Bug: another configuration is trained, or a job writes into the old place, because a path was guessed."""
    old = tmp_path / "logs"
    change = yaml.safe_load(
        yaml.safe_dump({key: list(v) if key == "setup" else v for key, v in change.items()}).replace("OLD", str(old))
    )
    state = moved(make(old, **change), tmp_path / "new")
    before = {
        path: path.read_bytes() for path in (state.run.script, state.run.info, state.run.config, state.run.settings)
    }
    with pytest.raises(ConfigurationError, match=reason.replace("OLD", str(old))):
        plan_relocation(state)
    assert {path: path.read_bytes() for path in before} == before


def test_a_pickled_task_that_leads_to_the_old_place_is_refused(make: Make, tmp_path: Path) -> None:
    """Bug: the function of a notebook writes where its pickle says."""
    state = moved(make(tmp_path / "logs"), tmp_path / "new")
    state.run.payload.write_bytes(b"\x80\x05" + bytes(tmp_path / "logs"))
    with pytest.raises(ConfigurationError, match="was sent as a pickle that leads there"):
        plan_relocation(state)


def test_a_new_run_at_the_old_place_is_another_one_and_a_copy_is_a_copy(make: Make, tmp_path: Path) -> None:
    """Bug: `mv logs old; python main.py -m …`, and no run of old/ can be submitted again; two jobs in one folder."""
    state = moved(make(tmp_path / "logs"), tmp_path / "old")
    make(tmp_path / "logs")
    assert planned(state).origin == tmp_path / "logs" / "3"
    (tmp_path / "logs" / "3" / "metadata" / "info.yaml").write_bytes(state.run.info.read_bytes())
    with pytest.raises(ConfigurationError, match="so this is a copy"):
        plan_relocation(state)


def test_what_lay_around_it_is_where_it_is_now_if_it_is_there(make: Make, tmp_path: Path) -> None:
    """Bug: the interpreter, the repository and the directory of a project that was renamed; or a guess at these."""
    project = tmp_path / "project"
    python = project / ".venv" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho ran\n")
    python.chmod(0o755)
    version = {"repo_path": str(project), "commit_hash": "c" * 40}
    command = [str(python), str(project / "gone.py"), f"data={project}/.venv", f"--config-dir={project}/.venv"]
    run = make(project / "logs", version_manager=version, command=command)
    run.settings.write_text(run.settings.read_text().replace(str(tmp_path), str(project)))
    project.rename(tmp_path / "renamed")
    renamed = tmp_path / "renamed"
    relocation = planned(RunState.load(RunDir(renamed / "logs" / "3")))
    assert relocation.info["command"] == [
        str(renamed / ".venv" / "python"),
        str(project / "gone.py"),
        f"data={project}/.venv",  # with another value it would be another configuration
        f"--config-dir={renamed}/.venv",
    ]
    assert relocation.info["version_manager"]["repo_path"] == str(renamed)
    assert relocation.settings["launcher"]["launch_dir"] == str(renamed)
    assert relocation.settings["order"]["directory"] == str(renamed)


def test_runs_of_a_log_directory_that_was_moved_run_again_there(mlxp: Mlxp, project: Project) -> None:
    """Bug: "it was moved here from …" for ever; or the job writes into the old place, and its code is not there."""
    project.run(*WAIT, "seed=1,2", "do=exit3", code=1)
    old, new = project.logs, project.dir / "a new's 100% place"
    old.rename(new)
    folder = ("--log-dir", str(new))
    dry = mlxp("rerun", "1-2", "--dry-run", *folder)
    assert f"moved here from {old}: run 1-2: script.sh, mlxp.yaml and info.yaml would lead here" in dry.stdout
    assert str(old) in (new / "1" / "script.sh").read_text() or "prôject/logs" in (new / "1" / "script.sh").read_text()
    done = mlxp("rerun", "1-2", "--wait", *folder, code=1)  # they fail again, as they did
    assert f"moved here from {old}: run 1-2: script.sh, mlxp.yaml and info.yaml lead here now" in done.stdout
    assert not old.exists()
    info = read_yaml(new / "2" / "metadata" / "info.yaml")
    assert (info["attempt"], info["status"], info["logger"]["log_dir"]) == (2, "FAILED", str(new / "2"))
    assert len((new / "2" / "metrics" / "train.json").read_text().splitlines()) == 3
    assert "moved here" not in mlxp("rerun", "1-2", "--dry-run", *folder).stdout
