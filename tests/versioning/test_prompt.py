"""The question which code is to run: answers in, decision out. At a terminal: test_version_of_every_run.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mlxp_core.versioning.git import FileChange, WorkTreeStatus
from mlxp_core.versioning.prompt import _choice, parse_selection
from mlxp_core.versioning.snapshot import Decision, OnChanges

CHANGES = (FileChange(" M", "main.py"), FileChange("??", "new.txt"), FileChange(" D", "old.txt"))


def typed(*answers: str) -> tuple[Callable[[str], str], list[str]]:
    """What somebody types, one line after the other, and the questions that were asked."""
    asked: list[str] = []
    left: Iterator[str] = iter(answers)

    def read(question: str) -> str:
        asked.append(question)
        return next(left)

    return read, asked


@pytest.mark.parametrize(
    ("answers", "decision"),
    [
        ([""], Decision(OnChanges.CAPTURE)),
        (["r"], Decision(OnChanges.CAPTURE)),
        (["x", "ri", "I "], Decision(OnChanges.IGNORE)),
        (["s"], Decision(OnChanges.STOP)),
        (["c", "", "all of it"], Decision(OnChanges.COMMIT, ("main.py", "new.txt", "old.txt"), "all of it")),
        (["c", "4", "0", "3,1", "", " ", " two\n"], Decision(OnChanges.COMMIT, ("old.txt", "main.py"), "two")),
    ],
)
def test_an_answer_that_is_none_is_asked_for_again(answers: list[str], decision: Decision) -> None:
    """Bug: a slip of the finger commits, or runs, what was not meant; a commit without a message."""
    read, asked = typed(*answers)
    assert _choice(read, WorkTreeStatus("f" * 40, "main", CHANGES, ())) == decision
    assert asked[0] == "[r/c/i/s] (r) "
    assert len(asked) == len(answers)


def test_before_the_first_commit_there_is_none_to_run() -> None:
    """Bug: a choice that can only fail."""
    read, asked = typed("i", "r")
    assert _choice(read, WorkTreeStatus(None, "main", CHANGES, ())) == Decision(OnChanges.CAPTURE)
    assert asked == ["[r/c/s] (r) "] * 2


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("all", ("main.py", "new.txt", "old.txt")),
        ("2", ("new.txt",)),
        ("1-3", ("main.py", "new.txt", "old.txt")),
        ("2-3 1, 2", ("new.txt", "old.txt", "main.py")),
        ("0", None),
        ("4", None),
        ("2-4", None),
        ("3-2", None),
        ("1,x", None),
        (",", None),
    ],
)
def test_numbers_name_changes(text: str, paths: tuple[str, ...] | None) -> None:
    """Bug: the neighbour of the file that was meant is committed."""
    assert parse_selection(CHANGES, text) == paths
