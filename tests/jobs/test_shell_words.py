"""Shell text cut into words and commands: text in, values out."""

from __future__ import annotations

import pytest

from mlxp_core.jobs.shell_words import join_continued, shebang_shell, simple_commands, trim


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("", []),
        ("   ", []),
        ("# a comment", []),
        ("python main.py lr=1", [((0, 7, 15), ("python", "main.py", "lr=1"))]),
        ("  a  b # c", [((2, 5), ("a", "b"))]),
        ("a#b", [((0,), ("a#b",))]),
        ("a && b", [((0,), ("a",)), ((2,), ("&&",)), ((5,), ("b",))]),
        ("a;b &", [((0,), ("a",)), ((1,), (";",)), ((2,), ("b",)), ((4,), ("&",))]),
        (r"""'a b'c "d\"\n" \e""", [((0, 7, 15), ("a bc", r'd"\n', "e"))]),
        ("echo a; echo 'b", [((0, 5), ("echo", "a")), ((6,), (";",)), ((12,), (" 'b",)), ((8,), ("echo",))]),
    ],
)
def test_a_line_is_cut_at_its_operators(line: str, commands: list[tuple[tuple[int, ...], tuple[str, ...]]]) -> None:
    """Bug: a place that is not the word's, so that a launcher is cut in two; one command's text taken for another's."""
    assert [(command.starts, command.words) for command in simple_commands(line)] == commands


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("srun python -u main.py", 5),
        ("python3.11 python main.py", 11),  # the one nearest to the file
        ("./main.py a", 0),
        ("srun ./main.py", None),
        ("echo python main.py", None),
        ("python main.py main.py", None),
        ("python other.py", None),
    ],
)
def test_the_interpreter_is_what_runs_the_file(line: str, place: int | None) -> None:
    """Bug: a line that only names the file is replaced by the job's command."""
    (command,) = simple_commands(line)
    assert command.interpreter("main.py") == place


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("x main.py", True),
        ("sh -c 'python main.py a'", True),
        ("x /a/main.py", True),
        ("x domain.py", False),
        ("x main.pyc", False),
    ],
)
def test_a_program_is_named_as_a_word_or_within_one(line: str, *, named: bool) -> None:
    """Bug: domain.py taken for main.py."""
    (command,) = simple_commands(line)
    assert command.names("main.py") is named


def test_blank_lines_go_at_both_ends_alone() -> None:
    """Bug: the last line of the set-up cut off, or what it says moved."""
    assert trim(["", " ", "a", "", "b", ""]) == ("a", "", "b")
    assert trim(["a"]) == ("a",)
    assert trim(["", "\t"]) == ()


def test_continued_lines_are_one_of_the_same_length() -> None:
    """Bug: places that are another line's."""
    assert join_continued("a \\\nb\\\\n") == "a   b\\\\n"


def test_a_comment_ends_with_its_line_whatever_stands_at_its_end() -> None:
    """Bug: the program of a loop whose first line has a comment is not seen, and an earlier job runs the loop."""
    for comment in ("# each seed", "# each \\"):
        loop = join_continued(f"for s in 1 2; do {comment}\n  python main.py seed=$s\ndone")
        assert simple_commands(loop)[-1].words == ("do", "python", "main.py", "seed=$s", "done")
    assert join_continued("a # \\\nb\\\\\nc\\\nd\\") == "a # \\\nb\\\\\nc  d\\"


@pytest.mark.parametrize(
    ("shebang", "shell"),
    [
        ("#!/bin/sh", "/bin/sh"),
        ("#! /opt/bin/bash -l", "/opt/bin/bash"),
        ("#!/usr/bin/env bash", "bash"),
        ("#!/usr/bin/env -S bash -e", "bash"),
        ("#!/usr/bin/env -Sbash -e", "bash"),
        ("#!/usr/bin/env -iS /bin/bash -eu", "/bin/bash"),
        ("#!/usr/bin/env --split-string=zsh -f", "zsh"),
        ("#!/usr/bin/env -S -u HOME LANG=C dash", "dash"),
        ("#!/usr/bin/env", "/usr/bin/env"),
        ("#!/usr/bin/env -S -i", "/usr/bin/env"),
        ("#!", ""),
    ],
)
def test_the_shell_of_a_script_is_the_one_that_env_finds(shebang: str, shell: str) -> None:
    """Bug: an option of `env`, or of the shell, is taken for the shell, and the script is refused."""
    assert shebang_shell(shebang) == shell
