"""What an attempt has written, moved away before the next one: all of it, once, however often that is interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import read_yaml

from mlxp_core.runs.attempts import archive
from mlxp_core.runs.layout import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "7")
    write(run, 1)
    return run


def write(run: RunDir, attempt: int) -> None:
    """What an attempt writes."""
    for path in (run.metrics / "train.json", run.artifacts / "pickle" / "x", run.config, run.exit_code):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"of {attempt}")
    run.info.write_text(f"attempt: {attempt}\n")


def written(run: RunDir) -> tuple[Path, ...]:
    return run.metrics, run.artifacts, run.return_value, run.config, run.exit_code


def found(folder: RunDir) -> list[str]:
    """The texts of these files, as far as they are there."""
    paths = (folder.metrics / "train.json", folder.artifacts / "pickle" / "x", folder.config, folder.exit_code)
    return [path.read_text() if path.exists() else "" for path in paths]


def test_each_attempt_keeps_what_it_has_written(run: RunDir) -> None:
    """Bug: the second attempt's metrics over those of the first; or info.yaml gone before the next is written."""
    archive(run, 1, written(run), info={"attempt": 1, "status": "FAILED"})
    write(run, 2)
    archive(run, 2, written(run))
    write(run, 3)
    assert [found(folder) for folder in (run.attempt_dir(1), run.attempt_dir(2), run)] == [
        ["of 1"] * 4,
        ["of 2"] * 4,
        ["of 3"] * 4,
    ]
    assert read_yaml(run.attempt_dir(1).info) == {"attempt": 1, "status": "FAILED"}
    assert not run.attempt_dir(2).info.exists()
    assert run.info.exists()


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_what_was_moved_before_an_interruption_stays(run: RunDir, monkeypatch: pytest.MonkeyPatch, moved: int) -> None:
    """Bug: killed between two files, and the next start puts its own in the place of what the attempt had written."""
    count = iter(range(9))
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if next(count) == moved:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            archive(run, 1, written(run))
    assert found(run.attempt_dir(1)) == ["of 1"] * moved + [""] * (4 - moved)
    write(run, 2)  # by a program that came up all the same
    archive(run, 1, written(run))
    assert found(run.attempt_dir(1))[:moved] == ["of 1"] * moved
    assert found(run)[:moved] == ["of 2"] * moved


def test_a_file_that_is_of_that_attempt_for_certain_takes_the_place(run: RunDir) -> None:
    """Bug: the exit code of an attempt that was requeued by its scheduler is the one of before."""
    archive(run, 1, [run.exit_code])
    run.exit_code.write_text("143 1")
    archive(run, 1, [run.exit_code])
    assert (run.exit_code.exists(), run.attempt_dir(1).exit_code.read_text()) == (True, "of 1")
    archive(run, 1, [run.exit_code], replace=True)
    assert (run.exit_code.exists(), run.attempt_dir(1).exit_code.read_text()) == (False, "143 1")
