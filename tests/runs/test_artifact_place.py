"""How an artifact is made and takes its place. Their types: tests/recording/test_artifacts.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxp_core.errors import ArtifactError
from mlxp_core.runs import artifact_place as module
from mlxp_core.runs.artifact_listing import artifact_files
from mlxp_core.runs.artifact_place import artifact_place, stored_at
from mlxp_core.runs.layout import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "1")


def write_file(path: Path, text: str) -> None:
    path.write_text(text)


def write_folder(path: Path, text: str) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "weights").write_text(text)


def content(path: Path) -> str:
    return path.read_text() if path.is_file() else (path / "deep" / "weights").read_text()


def save(run: RunDir, name: str, text: str, write: Callable[[Path, str], None] = write_file) -> Path:
    with artifact_place(run, "model", name) as path:
        write(path, text)
    return run.artifact_file("model", name)


def everything(run: RunDir) -> list[str]:
    """Every file and folder below artifacts/model, hidden ones too."""
    home = run.artifacts / "model"
    return sorted(os.fspath(path.relative_to(home)) for path in home.rglob("*"))


@pytest.mark.parametrize("name", ["loss", "v1.2", "epoch=3.ckpt", "a b", "x.tar.gz", "x" * 255, "in/deep/net.h5"])
def test_a_saver_is_given_the_artifacts_own_name(run: RunDir, name: str) -> None:
    """Bug: a number of ours as the ending, by which the saver chooses the format; a name that is too long with it."""
    with artifact_place(run, "model", name) as path:
        assert path.name == name.rpartition("/")[2]
        path.write_text("x")
    assert run.artifact_file("model", name).read_text() == "x"
    assert artifact_files(str(run.path)).names == (f"model/{name}",)


@pytest.mark.parametrize("made", ["loss.npy", "loss.ckpt", "other"])
def test_a_file_whose_saver_has_added_an_ending_is_found_by_its_name(run: RunDir, made: str) -> None:
    """Bug: np.save, savefig and make_archive add an ending, and the file that they have made is not there."""
    with artifact_place(run, "model", "loss") as path:
        path.with_name(made).write_text("x")
    assert everything(run) == ["loss"]


@pytest.mark.parametrize("made", [[], ["net.data", "net.index"], ["net", "net.json"]])
def test_a_saver_that_makes_nothing_or_several_things_is_named(run: RunDir, made: list[str]) -> None:
    """Bug: FileNotFoundError of a name that no one knows; or the second file is lost without a word."""

    def write(path: Path, _: str) -> None:
        for name in made:
            path.with_name(name).touch()

    what = " and ".join(made) or "nothing"
    with pytest.raises(ArtifactError, match=f"model/net cannot be saved: its saver has made {what}, not net;"):
        save(run, "net", "", write)
    assert everything(run) == []


def fail_at_once(path: Path) -> None:
    raise RuntimeError("a saver's own")


def fail_in_a_file(path: Path) -> None:
    path.write_text("half")
    raise RuntimeError("a saver's own")


def fail_in_a_folder(path: Path) -> None:
    write_folder(path, "half")
    raise RuntimeError("a saver's own")


@pytest.mark.parametrize("fail", [fail_at_once, fail_in_a_file, fail_in_a_folder])
@pytest.mark.parametrize("before", [None, write_file, write_folder])
def test_an_error_of_a_saver_is_raised_as_it_is_and_leaves_what_was_there(
    run: RunDir, before: Callable[[Path, str], None] | None, fail: Callable[[Path], None]
) -> None:
    """Bug: IsADirectoryError of our own cleaning up in its place, and half a folder for ever."""
    if before:
        save(run, "net", "old", before)
    listed = everything(run) if before else []
    with pytest.raises(RuntimeError, match=r"^a saver's own$"), artifact_place(run, "model", "net") as path:
        fail(path)
    assert everything(run) == listed
    assert not before or content(run.artifact_file("model", "net")) == "old"


KINDS = [write_file, write_folder]


@pytest.mark.parametrize("can_swap", [True, False])
@pytest.mark.parametrize("older", KINDS)
@pytest.mark.parametrize("newer", KINDS)
def test_files_and_folders_replace_one_another(
    run: RunDir,
    monkeypatch: pytest.MonkeyPatch,
    older: Callable[[Path, str], None],
    newer: Callable[[Path, str], None],
    can_swap: bool,
) -> None:
    """Bug: a folder is saved once, and then OSError: Directory not empty; NFS has no exchange of names."""
    if not can_swap:
        monkeypatch.setattr(module, "_swap", lambda made, path: False)
    for number, write in enumerate([older, newer, newer, older]):
        path = save(run, "net", str(number), write)
        assert content(path) == str(number)
        assert everything(run) == (["net"] if write is write_file else ["net", "net/deep", "net/deep/weights"])
        assert artifact_files(str(run.path)).names == ("model/net",)


def test_a_folder_that_can_be_swapped_is_there_at_every_moment(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: removed first, and then the other put there; a kill in between leaves nothing."""
    probe = run.path / "a", run.path / "b"
    for folder in probe:
        folder.mkdir(parents=True)
        (folder / folder.name).touch()
    if not module._swap(*probe):
        pytest.skip("this file system swaps no names")
    assert (os.listdir(probe[0]), os.listdir(probe[1])) == (["b"], ["a"])
    save(run, "net", "old", write_folder)
    seen: list[bool] = []
    rename = Path.rename

    def watched(path: Path, target: Path) -> Path:
        try:
            return rename(path, target)
        finally:
            seen.append(content(run.artifact_file("model", "net")) == "old")

    monkeypatch.setattr(Path, "rename", watched)
    save(run, "net", "new", write_folder)
    assert seen == [True]


@pytest.mark.parametrize("write", KINDS)
def test_a_place_that_cannot_be_written_is_the_error_and_nothing_is_moved(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], None]
) -> None:
    """Bug: what is there is moved aside where nobody may rename; or it is said to be saved."""
    save(run, "net", "old", write_folder)

    def refused(source: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(target))

    with monkeypatch.context() as patched:
        patched.setattr(module, "_swap", None)
        patched.setattr(Path, "rename", refused)
        with pytest.raises(PermissionError, match="model/net"):
            save(run, "net", "new", write)
    assert everything(run) == ["net", "net/deep", "net/deep/weights"]


@pytest.mark.parametrize("write", KINDS)
def test_what_cannot_be_put_in_its_place_leaves_the_earlier(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], None]
) -> None:
    """Bug: moved aside for the newer one, whose rename fails, and never moved back."""
    path = save(run, "net", "old", write_folder)
    rename = Path.rename
    calls: list[Path] = []

    def failing(source: Path, target: Path) -> Path:
        calls.append(source)
        if len(calls) == 3:  # not in one step, then aside, then this
            raise OSError(5, "Input/output error")
        return rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_swap", lambda made, path: False)
        patched.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="Input/output error"):
            save(run, "net", "new", write)
    assert content(path) == "old"
    assert everything(run) == ["net", "net/deep", "net/deep/weights"]


def test_after_a_kill_between_two_renames_the_earlier_is_found_listed_and_put_back(run: RunDir) -> None:
    """Bug: on NFS there is a moment without either; whoever is killed then has lost a whole artifact."""
    path = save(run, "net", "old", write_folder)
    save(run, "other", "other")
    aside = path.parent / ".earlier" / "net"
    aside.parent.mkdir()
    path.rename(aside)
    assert content(stored_at(path)) == "old"
    assert artifact_files(str(run.path)).names == ("model/net", "model/other")
    with pytest.raises(RuntimeError), artifact_place(run, "model", "net"):
        raise RuntimeError
    assert content(path) == "old"
    assert everything(run) == ["net", "net/deep", "net/deep/weights", "other"]


def test_a_killed_save_leaves_the_earlier_and_the_next_removes_what_it_had_begun(run: RunDir) -> None:
    """Bug: each save that a time limit has cut short leaves gigabytes, for ever."""
    path = save(run, "net", "old", write_folder)
    child = os.fork()
    if child == 0:
        with artifact_place(run, "model", "net") as temporary:
            write_folder(temporary, "half")
            os._exit(0)
    os.waitpid(child, 0)
    assert content(path) == "old"
    assert artifact_files(str(run.path)).names == ("model/net",)
    assert len(everything(run)) > 3
    save(run, "other", "x")
    assert everything(run) == ["net", "net/deep", "net/deep/weights", "other"]


def test_what_an_earlier_attempt_left_on_another_host_is_removed_and_a_save_that_goes_on_is_not(run: RunDir) -> None:
    """Bug: a requeued job starts on another node, where no process tells; or another rank's save is taken away."""
    folder = run.artifacts / "model"
    run.metadata.mkdir(parents=True)
    run.environment.touch()
    start = run.environment.stat().st_mtime
    for name, age in (("earlier", -60), ("now", 60)):
        write_folder(folder / f".saving.node-7.cluster.{os.getpid()}.{name}", "half")
        os.utime(folder / f".saving.node-7.cluster.{os.getpid()}.{name}", (start + age, start + age))
    (folder / ".saving.me").mkdir()  # of nobody's that is known
    save(run, "net", "x")
    assert sorted(name for name in os.listdir(folder) if name != "net") == [
        ".saving.me",
        f".saving.node-7.cluster.{os.getpid()}.now",
    ]


def test_links_in_a_folder_lead_where_they_led(run: RunDir, tmp_path: Path) -> None:
    """Bug: `latest` leads to the place where the folder was made, which is gone; or up one level too few."""
    data = tmp_path / "data"
    data.write_text("data")
    with artifact_place(run, "model", "net") as path:
        write_folder(path, "w")
        (path / "latest").symlink_to(path / "deep", target_is_directory=True)
        (path / "deep" / "relative").symlink_to("weights")
        (path / "deep" / "absolute").symlink_to(data)
        (path / "deep" / "beside").symlink_to(os.path.relpath(data, path / "deep"))
        (path / "nowhere").symlink_to("../nowhere")
    net = run.artifact_file("model", "net")
    assert (net / "latest" / "weights").read_text() == "w"
    assert (net / "deep" / "relative").read_text() == "w"
    assert [(net / "deep" / name).read_text() for name in ("absolute", "beside")] == ["data", "data"]
    assert os.readlink(net / "nowhere") == "../nowhere"
    moved = tmp_path / "moved"
    shutil.move(net, moved)
    assert (moved / "latest" / "weights").read_text() == "w"


@pytest.mark.parametrize("write", KINDS)
def test_a_link_that_is_replaced_keeps_what_it_leads_to(
    run: RunDir, tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    """Bug: the user's data, to which the artifact was a link, are overwritten or removed."""
    target = tmp_path / "data"
    write_folder(target, "data")
    with artifact_place(run, "model", "net") as path:
        path.symlink_to(target, target_is_directory=True)
    assert artifact_files(str(run.path)).names == ("model/net",)
    path = save(run, "net", "new", write)
    assert not path.is_symlink()
    assert (content(path), content(target)) == ("new", "data")


def test_a_folder_of_artifacts_and_an_artifact_that_is_a_folder_are_told_apart(run: RunDir) -> None:
    """Bug: the files of a model are a column each; or a name with a slash makes its neighbours disappear."""
    save(run, "runs/one", "1")
    save(run, "runs/two", "2", write_folder)
    save(run, "net", "3", write_folder)
    names = ("model/net", "model/runs/one", "model/runs/two")
    assert artifact_files(str(run.path)).names == names
    for name, write, why in (
        ("runs", write_folder, "holds one, two, which are artifacts themselves"),
        ("runs", write_file, "holds one, two, which are artifacts themselves"),
        ("net/deep/x", write_file, "would lie in .*model/net, which is an artifact itself"),
        ("runs/one/x", write_file, "would lie in .*model/runs/one, which is an artifact itself"),
        (".net", write_file, "begin with a dot"),
        ("runs/.net", write_file, "begin with a dot"),
    ):
        with pytest.raises(ArtifactError, match=why):
            save(run, name, "x", write)
    assert artifact_files(str(run.path)).names == names
    shutil.rmtree(run.artifact_file("model", "net"))
    save(run, "net/x", "4")
    assert artifact_files(str(run.path)).names == ("model/net/x", *names[1:])


@pytest.mark.parametrize("write", KINDS)
def test_what_the_user_has_removed_leaves_no_trace(run: RunDir, write: Callable[[Path, str], None]) -> None:
    """Bug: IsADirectoryError, or a folder that is not listed, for what once stood below that name."""
    save(run, "runs/two", "2", write_folder)
    shutil.rmtree(run.artifact_file("model", "runs"))
    path = save(run, "runs", "3", write)
    assert content(path) == "3"
    assert artifact_files(str(run.path)).names == ("model/runs",)
