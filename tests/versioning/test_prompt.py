"""The question which code is to run: answers in, decision out. At a terminal: test_version_of_every_run.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlxp_core.versioning.git import FileChange, Repository, WorkTreeStatus
from mlxp_core.versioning.prompt import _choice, parse_selection, prompt_for_decision
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
        (" all ", ("main.py", "new.txt", "old.txt")),
        ("1, 3", ("main.py", "old.txt")),
        ("0-3", None),
        ("1-2-3", None),
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


REPOSITORY = Repository(Path("/home/me/a project"), lambda *_: b"")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Decision, str]]:
    """Ask, and answer: the decision, and what was shown."""

    def ask(status: WorkTreeStatus, *answers: str | type[BaseException]) -> tuple[Decision, str]:
        left = iter(answers)

        def read(_: str = "") -> str:
            answer = next(left)
            if isinstance(answer, str):
                return answer
            raise answer

        for name, value in (("COLUMNS", "200"), ("FORCE_COLOR", "1"), ("TERM", "xterm-256color")):
            monkeypatch.setenv(name, value)  # so that a part in colour would be seen
        monkeypatch.setattr("builtins.input", read)
        decision = prompt_for_decision(REPOSITORY, status)
        out, err = capsys.readouterr()
        assert out == ""  # which may be read by a program
        return decision, err

    return ask


def test_all_changes_are_shown_by_number_and_what_can_be_run(shown: Callable[..., tuple[Decision, str]]) -> None:
    """Bug: [r] taken for the mark of a colour; a number that names the neighbour of its file."""
    states = ("??", " M", "MM", "A ", " D", "R ", " T", "UU", "C ")
    changes = tuple(FileChange(state, f"a [b] {number}") for number, state in enumerate(states, start=1))
    assert shown(WorkTreeStatus("0123456789abcdef" * 2, "main", changes, ()), "i") == (
        Decision(OnChanges.IGNORE),
        """
The work tree /home/me/a project differs from the last commit, 0123456789:
    1  untracked  a [b] 1
    2  modified   a [b] 2
    3  modified   a [b] 3
    4  added      a [b] 4
    5  deleted    a [b] 5
    6  renamed    a [b] 6
    7  type       a [b] 7
    8  conflict   a [b] 8
    9  modified   a [b] 9
Which code should the jobs run?
  [r] the files as they are now; nothing is committed, git keeps them under refs/mlxp
  [c] add files, commit them to main, and run that commit
  [i] the last commit, without the changes
  [s] stop
[r/c/i/s] (r) """,
    )


def test_before_the_first_commit_and_without_a_branch_it_is_said_so(shown: Callable[..., tuple[Decision, str]]) -> None:
    """Bug: "commit them to None"; a last commit where there is none."""
    decision, text = shown(WorkTreeStatus(None, None, CHANGES, ()), "")
    assert decision == Decision(OnChanges.CAPTURE)
    assert "/home/me/a project differs from no commit:" in text
    assert "commit them to the detached HEAD, and" in text
    assert "[i]" not in text


@pytest.mark.parametrize(("count", "more"), [(40, ""), (41, "       … and 1 more (git status)"), (50, "… and 10 more")])
def test_a_long_list_is_cut(shown: Callable[..., tuple[Decision, str]], count: int, more: str) -> None:
    """Bug: the question scrolls out of sight; "and 0 more"."""
    changes = tuple(FileChange("??", f"f{number}") for number in range(1, count + 1))
    _, text = shown(WorkTreeStatus("f" * 40, "main", changes, ()), "s")
    assert "   40  untracked  f40\n" in text
    assert "   41  " not in text
    assert more in text
    assert ("more (git status)" in text) is bool(more)


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_no_answer_is_stop(shown: Callable[..., tuple[Decision, str]], end: type[BaseException]) -> None:
    """Bug: Ctrl-C at the question submits a sweep, or shows a stack trace."""
    status = WorkTreeStatus("f" * 40, "main", CHANGES, ())
    assert shown(status, end)[0] == Decision(OnChanges.STOP)
    assert shown(status, "c", "1", end)[0] == Decision(OnChanges.STOP)
