"""The version of a run's code in its info.yaml: read, written, and left as it is where it is not understood."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import read_yaml

from mlxp_core.runs.code_version import CodeVersion, SnapshotMode
from mlxp_core.runs.info import with_requirements
from mlxp_core.yaml_io import write_yaml

FRESH = CodeVersion.of_work_tree(
    Path("/a repo"),
    commit="c" * 40,
    snapshot=SnapshotMode.WORKTREE,
    head="d" * 40,
    branch=None,
    uncommitted=(" M main.py",),
)


def test_the_keys_on_disk_are_those_of_every_version_of_the_package(tmp_path: Path) -> None:
    """Bug: a renamed field renames its key; a null key goes missing; an enum that YAML refuses or writes as a tag."""
    version = replace(FRESH, copy=Path("/copy"), function_hash="f1", requirements=("numpy==2.0",))
    write_yaml(tmp_path / "info.yaml", {"status": "COMPLETE", **version.as_info})
    recorded = read_yaml(tmp_path / "info.yaml")["version_manager"]
    assert list(recorded.items()) == [
        ("repo_path", "/a repo"),
        ("commit_hash", "c" * 40),
        ("snapshot", "worktree"),
        ("head", "d" * 40),
        ("branch", None),
        ("dirty", True),
        ("uncommitted", [" M main.py"]),
        ("copy", "/copy"),
        ("function_hash", "f1"),
        ("requirements", ["numpy==2.0"]),
    ]
    read = CodeVersion.from_info(read_yaml(tmp_path / "info.yaml"))
    assert read.as_info == version.as_info
    assert (read.snapshot, read.copy, read.uncommitted) == (SnapshotMode.WORKTREE, Path("/copy"), (" M main.py",))
    assert CodeVersion().as_info == {"version_manager": {}}


@pytest.mark.parametrize(
    "recorded",
    [
        {"repo_path": "/r", "commit_hash": "c" * 40, "uncommitted": []},
        {"snapshot": "of tomorrow", "submodules": {"a": "b"}, "branch": None},
        {"repo_path": 3, "commit_hash": ["x"], "snapshot": {"a": 1}, "copy": "", "uncommitted": "x", "head": False},
        {"dirty": None, "function_hash": 5, "requirements": None, 7: "a number for a key"},
    ],
)
def test_what_is_not_understood_survives_a_rewrite(recorded: dict[Any, Any]) -> None:
    """Bug: a run of a newer version, or one edited by hand, loses what this version does not know when it starts."""
    info = {"status": "PENDING", "version_manager": recorded}
    assert CodeVersion.from_info(info).as_info == {"version_manager": recorded}
    rewritten = with_requirements(info, ["numpy==2.0"])
    assert rewritten == {**info, "version_manager": {**recorded, "requirements": ["numpy==2.0"]}}


@pytest.mark.parametrize("recorded", [None, [], "text", 3, {"copy": 3, "repo_path": [], "commit_hash": 7}])
def test_values_of_other_types_count_as_not_recorded(recorded: Any) -> None:
    """Bug: TypeError in `mlxp snapshots prune`, for one info.yaml of a thousand that was edited by hand."""
    version = CodeVersion.from_info({"version_manager": recorded})
    assert (version.copy, version.repo_path, version.commit) == (None, None, None)
    assert version.locations == []
    assert with_requirements({"version_manager": recorded}, [])["version_manager"]["requirements"] == []


@pytest.mark.parametrize(
    ("recorded", "lost"),
    [
        ({"snapshot": "none", "dirty": True, "uncommitted": [" M a"]}, (" M a",)),
        ({"dirty": True}, ("changes that are not listed",)),
        ({"snapshot": "none", "dirty": True, "uncommitted": []}, ("changes that are not listed",)),
        ({"snapshot": "none", "dirty": False, "uncommitted": []}, ()),
        ({"snapshot": "worktree", "dirty": True, "uncommitted": [" M a"]}, ()),
        ({"snapshot": "commit", "dirty": True, "uncommitted": [" M a"]}, ()),
        ({"dirty": True, "copy": "/copy"}, ()),
    ],
)
def test_changes_are_lost_only_where_the_files_ran_in_place(recorded: dict[str, Any], lost: tuple[str, ...]) -> None:
    """Bug: a checkout that passes the bare commit off as what ran, or refuses one that has everything."""
    assert CodeVersion.from_info({"version_manager": recorded}).lost_changes == lost
