"""References to artifacts: columns of them, and loading on request only."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import polars as pl
import pytest

import mlxp_core
from mlxp_core.artifacts import register_artifact_type
from mlxp_core.errors import ArtifactError, ArtifactNotFoundError
from mlxp_core.reader import Artifact, Reader, scan_runs


def artifact(run, kind, name, content):
    path = run / "artifacts" / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def test_artifacts_are_columns_of_references(logs):
    """Bug: an artifact that a reader does not know of; a file being written, or a folder, taken for one."""
    one = logs.run(1)
    json_path = artifact(one, "json", "weights", b"[1]")
    deep_path = artifact(one, "pickle", "a/b.pkl", pickle.dumps(5))
    artifact(one, "json", ".weights.123", b"[")
    (one / "artifacts/notes.txt").write_text("no type")
    logs.run(2)
    frame = scan_runs(logs.path).collect()
    assert frame.schema["artifact.json.weights"] == pl.String
    assert frame["artifact.json.weights"].to_list() == [json_path, None]
    assert frame["artifact.pickle.a/b.pkl"].to_list() == [deep_path, None]
    assert [name for name in frame.columns if name.startswith("artifact")] == [
        "artifact.json.weights",
        "artifact.pickle.a/b.pkl",
    ]
    runs = Reader(logs.path).filter("artifact.json.weights is not null")
    assert [run["id"] for run in runs] == [1]
    assert json_path.rpartition("/")[2] in repr(runs)
    assert runs[0]["artifact.json.weights"] == Artifact("json", "weights", json_path)
    assert runs[0]["artifact.json.weights"].load() == [1]
    assert runs[0]["artifact.pickle.a/b.pkl"].load() == 5
    assert Reader(logs.path).filter("id == 2")[0]["artifact.json.weights"] is None


def test_no_artifact_is_opened_before_it_is_loaded(logs, tmp_path):
    """Bug: a pickle in a log directory run by looking at it."""
    mark = tmp_path / "owned"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (mark,))

    artifact(logs.run(1), "pickle", "bomb", pickle.dumps(Bomb()))
    runs = Reader(logs.path).filter()
    assert "bomb" in repr(runs)
    assert isinstance(runs[0]["artifact.pickle.bomb"], Artifact)
    runs.collect()
    assert dict(runs[0])
    assert not mark.exists()


def test_an_artifact_of_a_type_of_the_users_own_loads_once_it_is_registered(logs):
    """Bug: a way of loading that comes from the log directory."""
    path = artifact(logs.run(1), "upper", "x", b"abc")
    reference = Reader(logs.path).filter()[0]["artifact.upper.x"]
    with pytest.raises(ArtifactError, match="there is no artifact type 'upper'"):
        reference.load()
    register_artifact_type("upper", lambda value, file: None, lambda file: Path(file).read_text().upper())
    assert reference.load() == "ABC"
    Path(path).unlink()
    with pytest.raises(ArtifactNotFoundError, match="any more"):
        reference.load()


def test_an_artifacts_folder_that_leads_in_a_circle_ends(logs):
    """Bug: a link followed for ever."""
    run = logs.run(1)
    artifact(run, "json", "x", json.dumps(1).encode())
    (run / "artifacts/json/round").symlink_to(run / "artifacts", target_is_directory=True)
    assert Reader(logs.path).filter()[0]["artifact.json.x"].load() == 1


def test_an_artifact_that_is_a_folder_is_one_artifact(tmp_path):
    """Bug: a column for each file of a model, or none at all; an error of the loader that is called "not there"."""

    def save(value, path):
        Path(path, "deep").mkdir(parents=True)
        Path(path, "deep", "weights").write_text(value)

    def load(path, suffix=""):
        return Path(path, "deep", "weights").read_text() + suffix

    register_artifact_type("model", save, load)
    with mlxp_core.start_run(tmp_path / "logs", {}) as run:
        path = run.log_artifacts("w", "net", "model")
        run.log_artifacts("v", "all/net", "model")
        run.log_artifacts([1], "all/scores", "json")
    frame = scan_runs(tmp_path / "logs").collect()
    assert [name for name in frame.columns if name.startswith("artifact")] == [
        "artifact.json.all/scores",
        "artifact.model.all/net",
        "artifact.model.net",
    ]
    found = Reader(tmp_path / "logs").filter()[0]["artifact.model.net"]
    assert found == Artifact("model", "net", str(path))
    assert (found.load(), found.load(suffix="!")) == ("w", "w!")
    (path / "deep" / "weights").unlink()
    with pytest.raises(FileNotFoundError, match="weights") as error:
        found.load()
    assert not isinstance(error.value, ArtifactNotFoundError)
    shutil.rmtree(path)
    with pytest.raises(ArtifactNotFoundError, match="any more"):
        found.load()
