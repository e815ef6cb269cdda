"""Whether the code that is frozen composes what was composed here, in process: what is compared, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from omegaconf import OmegaConf

from hydra_plugins.mlxp import _code_version, _sweep
from hydra_plugins.mlxp._command_line import Program
from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core.errors import ConfigurationError
from mlxp_core.runs.code_version import CodeVersion, SnapshotMode
from mlxp_core.runs.layout import LogDir
from mlxp_core.versioning.git import FileChange
from mlxp_core.versioning.snapshot import FrozenCode, WorkTreeVersion

REPO, COPY = Path("/project"), Path("/copy/0123456789abcdef")


class Composed:
    """What Composer is replaced by: composes in the copy what the test says, and knows where it looked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there: Callable[[list[str]], Any] = lambda _: {"x": 1}
        self.places: list[str] = []
        monkeypatch.setattr(_code_version, "ConfigLoaderImpl", self.loader)
        monkeypatch.setattr(_code_version, "Composer", lambda *_: SimpleNamespace(compose=self.compose))

    def loader(self, config_search_path: Any) -> None:
        self.places = [element.path for element in config_search_path.get_path()]

    def compose(self, overrides: list[str]) -> Any:
        return SimpleNamespace(unresolved=self.there(overrides))


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> Composed:
    return Composed(monkeypatch)


def check(
    *jobs: tuple[list[str], dict[str, Any]],
    changes: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
    snapshot: SnapshotMode = SnapshotMode.COMMIT,
    places: tuple[str, ...] = ("pkg://hydra.conf", "file:///project/conf", "pkg://app.conf"),
) -> None:
    search_path = ConfigSearchPathImpl()
    for place in places:
        search_path.append("x", place)
    loader = SimpleNamespace(get_search_path=lambda: search_path)
    context: Any = SimpleNamespace(hydra_context=SimpleNamespace(config_loader=loader), config=OmegaConf.create())
    version = WorkTreeVersion(
        REPO,
        "0" * 40,
        snapshot,
        "0" * 40,
        "main",
        tuple(FileChange(" M", path) for path in changes),
        tuple(FileChange("!!", path) for path in ignored),
    )
    all_jobs: Any = [SimpleNamespace(overrides=overrides, unresolved=here) for overrides, here in jobs]
    _code_version._check_configuration(context, all_jobs, FrozenCode(version, COPY))
    assert [element.path for element in search_path.get_path()] == list(places)  # Hydra's own stays as it was


@pytest.mark.parametrize(
    ("changes", "ignored", "snapshot", "is_compared"),
    [
        (("conf/a.yaml",), (), SnapshotMode.COMMIT, True),
        (("main.py", "conf/db/b.yaml", "data/x"), (), SnapshotMode.COMMIT, True),
        (("conf/",), (), SnapshotMode.COMMIT, True),  # all of a new folder
        (("main.py", "conf2/a.yaml", "data/"), (), SnapshotMode.COMMIT, False),
        (("conf/a.yaml",), (), SnapshotMode.WORKTREE, False),  # which has the change
        ((), ("conf/a.yaml",), SnapshotMode.WORKTREE, True),  # which no version has
        ((), ("conf/a.yml", "x.pyc"), SnapshotMode.COMMIT, True),
        ((), ("conf/a.bak", "conf/__pycache__/"), SnapshotMode.COMMIT, False),
        ((), ("logs/1/.hydra/config.yaml",), SnapshotMode.COMMIT, False),
        ((), (), SnapshotMode.COMMIT, False),
    ],
)
def test_jobs_are_composed_again_where_their_configuration_may_differ(
    composed: Composed, changes: tuple[str, ...], ignored: tuple[str, ...], snapshot: SnapshotMode, is_compared: bool
) -> None:
    """Bug: jobs that fail hours later, as a file of theirs is not in the version; or each launch composes twice."""
    composed.there = lambda _: {"x": 2}
    if is_compared:
        with pytest.raises(ConfigurationError, match=r"version 0123456789, .*\n.*\n  x: 1 -> 2$"):
            check(([], {"x": 1}), changes=changes, ignored=ignored, snapshot=snapshot)
        assert composed.places == ["pkg://hydra.conf", f"file://{COPY}/conf", "pkg://app.conf"]
    else:
        check(([], {"x": 1}), changes=changes, ignored=ignored, snapshot=snapshot)
        assert composed.places == []


def test_every_job_is_compared_and_the_first_that_differs_is_named(composed: Composed) -> None:
    """Bug: only the first job is looked at, or what one composes is compared with another."""
    composed.there = lambda overrides: {"x": len(overrides)}
    check(([], {"x": 0}), (["a=1"], {"x": 1}), changes=("conf/a.yaml",))
    with pytest.raises(ConfigurationError, match="is not the one that a=1 b=2 has here"):
        check(([], {"x": 0}), (["a=1", "b=2"], {"x": 1}), (["c=3"], {"x": 9}), changes=("conf/a.yaml",))
    with pytest.raises(ConfigurationError, match="is not the one that the job has here"):
        check(([], {"x": 7}), changes=("conf/a.yaml",))


def test_what_does_not_compose_there_is_said(composed: Composed) -> None:
    """Bug: Hydra's stack trace of a group that the version does not have, as if the launch were wrong."""

    def missing(_: list[str]) -> None:
        raise LookupError("Could not find 'model/new'")

    composed.there = missing
    with pytest.raises(ConfigurationError, match=r"here -> in the version\n  Could not find 'model/new'$"):
        check(([], {"x": 1}), changes=("conf/model/new.yaml",))


@pytest.mark.parametrize(
    ("asked", "recorded", "commit"),
    [
        (None, SnapshotMode.COMMIT, "c0ffee"),
        ("worktree", SnapshotMode.WORKTREE, "c0ffee"),
        ("none", SnapshotMode.NONE, None),  # files that may change until a job reads them
        ("commit", None, None),
    ],
)
def test_without_our_launcher_runs_have_the_version_that_the_callback_records(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, recorded: SnapshotMode | None, commit: str | None
) -> None:
    """Bug: `skip` leaves out jobs whose code may be another one, for the callback's own `snapshot` is not looked at."""
    seen: list[Any] = []

    def version_here(*given: Any) -> Any:
        seen.append(given)
        return CodeVersion(commit="c0ffee", snapshot=recorded) if recorded else CodeVersion()

    monkeypatch.setattr("hydra_plugins.mlxp._callbacks.version_here", version_here)
    callback = {} if asked is None else {"callbacks": {"mlxp": {"snapshot": asked}}}
    config = OmegaConf.create({"hydra": {"runtime": {"cwd": "/here"}, **callback}})
    parts: Any = SimpleNamespace(config=config, launcher=object(), task_function=check)
    assert _sweep._version(parts, [], LogDir(Path("/logs"))).commit == commit
    assert seen == [(check, Path("/here"), Path("/logs"), asked or "auto")]


@pytest.mark.parametrize(
    ("can_answer", "snapshot", "warned"),
    [
        (False, SnapshotMode.AUTO, True),
        (True, SnapshotMode.AUTO, False),  # who has been asked knows
        (False, SnapshotMode.WORKTREE, False),  # nor who has said so
    ],
)
def test_changes_that_run_are_told_where_nobody_was_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, can_answer: bool, snapshot: Any, warned: bool
) -> None:
    """Bug: the question is answered, and the same is told again; or a cron job runs changes without a word."""
    version = WorkTreeVersion(
        REPO, "0" * 40, SnapshotMode.WORKTREE, "0" * 40, "main", (FileChange(" M", "main.py"),), ()
    )
    asked: list[Any] = []
    monkeypatch.setattr(
        _code_version, "freeze_code", lambda *_, ask, **__: asked.append(ask) or FrozenCode(version, COPY)
    )
    monkeypatch.setattr(_code_version.terminal, "can_answer", lambda: can_answer)
    monkeypatch.setattr(_code_version, "_check_configuration", lambda *_: None)
    options = LauncherConf(snapshot=snapshot.value)
    context: Any = SimpleNamespace(
        options=options, program=Program((), Path("/project/main.py"), None, ()), launch_dir=REPO
    )
    _code_version.freeze(context, [], LogDir(Path("/logs")))
    assert [ask is not None for ask in asked] == [can_answer]
    assert ("as it is now" in caplog.text) == warned
