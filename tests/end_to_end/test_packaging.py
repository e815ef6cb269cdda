"""The package as it is installed: from a wheel, from a source archive, editable. In environments of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from support import CONFIG, MAIN, ROOT, git, read_yaml

import mlxp_core

pytestmark = pytest.mark.thorough


def call(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of what git would track, so that no build touches the work tree."""
    folder = tmp_path_factory.mktemp("source") / "hydra-mlxp"
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The source archive, and the wheel made from it."""
    out = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--outdir", out, source, cwd=out)
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return {"wheel": wheel, "archive": archive}


class Environment:
    """A virtual environment with the package, and the dependencies of the environment of the tests."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        self.scripts = folder / "bin"
        site = Path(
            call(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
        )
        # links to what is installed already, but for the package itself: no index is asked, nothing is built
        installed = Path(sysconfig.get_path("purelib"))
        for entry in installed.iterdir():
            if (
                "mlxp" not in entry.name.lower()
                and entry.name != "hydra_plugins"
                and not entry.name.startswith("__editable__")
            ):
                (site / entry.name).symlink_to(entry)

    def install(self, *arguments: str | Path) -> None:
        options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check", "--no-index"]
        call(self.python, "-m", "pip", "install", *options, *arguments, cwd=self.scripts)


@pytest.fixture(params=["wheel", "archive", "editable"])
def installed(request: pytest.FixtureRequest, built: dict[str, Path], source: Path, tmp_path: Path) -> Environment:
    environment = Environment(tmp_path / "environment")
    if request.param == "editable":
        environment.install("--editable", source)
    else:
        environment.install(built[request.param])
    return environment


def test_an_installed_package_is_found_by_hydra_and_runs(installed: Environment, tmp_path: Path) -> None:
    """Bug: the namespace package of an editable install hides from Hydra's scan; a file missing from the wheel."""
    assert call(installed.scripts / "mlxp", "--version", cwd=tmp_path) == f"hydra-mlxp {mlxp_core.__version__}\n"
    listing = call(installed.python, "-c", PLUGINS, cwd=tmp_path)
    launchers = [f"mlxp_{name}" for name in ("flux", "local", "lsf", "mwm", "oar", "pbs", "sge", "slurm", "torque")]
    assert listing.split() == ["MlxpLauncher", "mlxp", *sorted((*launchers, "mlxp_off"))]
    project = tmp_path / "project"
    for name, text in {"main.py": MAIN, "conf/config.yaml": CONFIG, "conf/optimizer/sgd.yaml": "lr: 1\n"}.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    arguments = [
        "-m",
        "hydra/launcher=mlxp_local",
        "hydra.launcher.wait=true",
        "hydra.launcher.snapshot=none",
        "seed=1,2",
    ]
    spool = {"MLXP_LOCAL_SPOOL": str(tmp_path / "spool"), "PYTHONWARNINGS": "ignore"}
    call(installed.python, "main.py", *arguments, cwd=project, **spool)
    assert [read_yaml(project / "logs" / name / "metadata" / "info.yaml")["status"] for name in "12"] == [
        "COMPLETE"
    ] * 2
    query = "from mlxp_core.reader import Reader; print(len(Reader('logs').filter(\"config.seed == 2\")))"
    assert call(installed.python, "-c", query, cwd=project) == "1\n"


PLUGINS = """
import warnings
warnings.simplefilter("ignore")
from hydra.core.plugins import Plugins
from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher
launchers = Plugins.instance().discover(Launcher)
print(*[launcher.__name__ for launcher in launchers if launcher.__module__.startswith("hydra_plugins.mlxp")])
groups = ConfigStore.instance().repo["hydra"]
print(*[name[:-5] for name in sorted({**groups["callbacks"], **groups["launcher"]}) if name.startswith("mlxp")])
"""


def test_wheel_and_archive_hold_what_they_should_and_no_more(built: dict[str, Path]) -> None:
    """Bug: tests installed into site-packages, or a grammar, a shell program, a marker of types, a licence left out."""
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"mlxp_core", "hydra_plugins"}
    shell = {str(path.relative_to(ROOT)) for path in (ROOT / "mlxp_core").rglob("*.sh")}
    assert shell and shell <= names
    assert {"mlxp_core/py.typed", "mlxp_core/reader/query/query.lark", "hydra_plugins/mlxp/config.py"} <= names
    assert "hydra_plugins/__init__.py" not in names
    assert any(name.endswith("LICENSE") for name in names)
    with tarfile.open(built["archive"]) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.cfg", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "tests/run.sh"} <= files
    assert {"CONTRIBUTING.md", "mlxp_core/ARCHITECTURE.md"} <= files  # tests read them
    assert {"example_app/main.py", "example_app/run.sh", "example_app/conf/config.yaml"} <= files


def test_an_installed_package_brings_its_types(built: dict[str, Path], tmp_path: Path) -> None:
    """Bug: no py.typed in the wheel, and everything is Any to the mypy of whoever installs it."""
    environment = Environment(tmp_path / "environment")
    environment.install(built["wheel"])
    program = tmp_path / "program.py"
    shutil.copy(ROOT / "tests" / "typing" / "api.py", program)
    options = ["--strict", "--config-file", os.devnull, "--cache-dir", tmp_path / "cache"]
    said = call(environment.python, "-m", "mypy", *options, program, cwd=tmp_path)
    assert said == "Success: no issues found in 1 source file\n"
