"""Fixtures that tests share."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import CONFIG, MAIN, Mlxp, Project, git, stop_local_queues

pytest_plugins = ["machines", "progress"]

# in a hook of git's, or in `git rebase --exec`, these lead every git of every test to the developer's own repository
for _name in subprocess.check_output(["git", "rev-parse", "--local-env-vars"], text=True).split():
    os.environ.pop(_name, None)
# nor do the developer's own signatures, templates, hooks and line ends count
os.environ.update(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1")

# a shell starts what is in its background with SIGINT ignored, nohup with SIGHUP; what is started here would be, too
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# the clusters are different programs, so their tests go side by side; those of one cluster share its slots
CLUSTERS = {"slurm": "slurm", "torque": "slurm", "sge": "sge", "oar": "oar"}


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tests of a cluster run one after the other, in one worker; mark those that start programs."""
    for item in items:
        if "project" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.program)
        for marker, cluster in CLUSTERS.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.xdist_group(cluster))


@pytest.fixture(autouse=True, scope="session")
def _known_plugins() -> None:
    """Hydra's plugins register their configurations at their first import: no test may take that back."""
    from hydra.core.plugins import Plugins

    Plugins.instance()


@pytest.fixture(autouse=True, scope="session")
def _no_version_of_the_tests() -> Iterator[None]:
    """Have start_run, in a test's own process, look for its program outside of this very repository: no ref in it."""
    from mlxp_core.recording import lifecycle

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "_calling_program", lambda: Path("/-"))
        yield


# by pytest, and by the import of Polars
SET_BY_OTHERS = {"PYTEST_CURRENT_TEST", "_RJEM_MALLOC_CONF"}


@pytest.fixture(autouse=True)
def _same_variables_and_directory() -> Iterator[None]:
    """Fail a test that leaves variables or another directory behind, which the next one's programs would have.

    The level of the log is put back: Hydra, in a test's own process, sets it for good.
    """
    before, directory, level = dict(os.environ), Path.cwd(), logging.getLogger().level
    yield
    now, moved = dict(os.environ), Path.cwd() != directory
    left = {name for name in {*now, *before} - SET_BY_OTHERS if now.get(name) != before.get(name)}
    for name in left:
        os.environ.pop(name, None)
    os.environ.update({name: before[name] for name in left if name in before})
    os.chdir(directory)
    logging.getLogger().setLevel(level)
    assert left == set(), "this test leaves variables changed"
    assert not moved, "this test leaves another working directory"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a user's shell, with a local queue of the test's own."""
    dropped = ("PYTHONPATH", "HYDRA_FULL_ERROR")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    # Hydra 1.4 warns of the version_base that a program for 1.3 must have; a job's stderr is compared here
    return {**kept, "MLXP_LOCAL_SPOOL": str(tmp_path / "spool"), "PYTHONWARNINGS": "ignore"}


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Iterator[Project]:
    """A committed project in a folder whose name has what shells, YAML and Slurm trip over."""
    made = Project(tmp_path / "a user's 100% prôject", environment)
    files = {"main.py": MAIN, "conf/config.yaml": CONFIG, "conf/optimizer/sgd.yaml": "lr: 0.1\n"}
    made.write(**files, **{"conf/optimizer/adam.yaml": "lr: 0.01\nbetas: [0.9, 0.99]\n", ".gitignore": "logs/\n"})
    git("init", "--quiet", cwd=made.dir)
    made.commit("first")
    yield made
    stop_local_queues(environment)


@pytest.fixture
def mlxp(project: Project, tmp_path: Path) -> Mlxp:
    """The command, with a cache of the test's own."""
    return Mlxp(project, tmp_path / "cache")
