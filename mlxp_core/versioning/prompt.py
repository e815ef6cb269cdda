"""Ask at a terminal which code is to run, when the work tree has changes that are not committed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from mlxp_core.terminal import ask
from mlxp_core.versioning.git import FileChange, Repository, WorkTreeStatus
from mlxp_core.versioning.snapshot import Decision, OnChanges

_MOST = 40  # lines of changes shown

_Input = Callable[[str], str]


def prompt_for_decision(repository: Repository, status: WorkTreeStatus) -> Decision:
    """Ask which code is to run. No answer, Ctrl-C or the end of the input, is: stop."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True, highlight=False, markup=False)
    head = f"the last commit, {status.head[:10]}" if status.head else "no commit"
    console.print(f"\nThe work tree {repository.top} differs from {head}:")
    for number, change in enumerate(status.changes[:_MOST], start=1):
        console.print(f"  {number:>3}  {_WORDS.get(change.state.strip(), 'modified'):<10} {change.path}")
    if len(status.changes) > _MOST:
        console.print(f"       … and {len(status.changes) - _MOST} more (git status)")
    console.print("Which code should the jobs run?")
    console.print("  [r] the files as they are now; nothing is committed, git keeps them under refs/mlxp")
    console.print(f"  [c] add files, commit them to {status.branch or 'the detached HEAD'}, and run that commit")
    if status.head:
        console.print("  [i] the last commit, without the changes")
    console.print("  [s] stop")
    try:
        return _choice(partial(ask, console), status)
    except (EOFError, KeyboardInterrupt):
        return Decision(OnChanges.STOP)


def _choice(read: _Input, status: WorkTreeStatus) -> Decision:
    letters = {"r": OnChanges.CAPTURE, "c": OnChanges.COMMIT, "i": OnChanges.IGNORE, "s": OnChanges.STOP}
    if not status.head:
        del letters["i"]
    while (letter := read(f"[{'/'.join(letters)}] (r) ").strip().lower() or "r") not in letters:
        pass
    if letters[letter] is not OnChanges.COMMIT:
        return Decision(letters[letter])
    while (files := parse_selection(status.changes, read("Which of them? Numbers, as in 1,3-5 (all) "))) is None:
        pass
    while not (message := read("Commit message: ").strip()):
        pass
    return Decision(OnChanges.COMMIT, files, message)


def parse_selection(changes: Sequence[FileChange], text: str) -> tuple[str, ...] | None:
    """Paths of the changes named by number, from 1; all of them for no text or ``all``; None for what is no number."""
    text = text.strip()
    if text in {"", "all"}:
        return tuple(change.path for change in changes)
    paths: list[str] = []
    for part in text.replace(" ", ",").split(","):
        if not part:
            continue
        if not re.fullmatch(r"\d+(-\d+)?", part):
            return None
        numbers = [int(number) for number in part.split("-")]
        first, last = numbers[0], numbers[-1]
        if not 1 <= first <= last <= len(changes):
            return None
        paths += [change.path for change in changes[first - 1 : last]]
    return tuple(dict.fromkeys(paths)) or None


_WORDS = {
    "??": "untracked",
    "A": "added",
    "D": "deleted",
    "R": "renamed",
    "T": "type",
    "UU": "conflict",
}
