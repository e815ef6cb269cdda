"""Job scripts as people write them, cut into commands and instrumented: text in, text out, by hand.

The shell is asked whether a text is whole, as in the product; each script is also run, plain and instrumented.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlxp_core.mlxpsub.instrument import instrument
from mlxp_core.mlxpsub.parse import JobScript, parse_script
from mlxp_core.mlxpsub.shell_process import is_complete
from mlxp_core.scheduler import load_scheduler

# a script, and its commands
SCRIPTS: dict[str, tuple[str, list[list[str]]]] = {
    "here-documents": (
        "cat <<'A' <<-B\nit's $x \"\nA\n\tif (\n\tB\necho after\n",
        [["cat <<'A' <<-B", "it's $x \"", "A", "\tif (", "\tB"], ["echo after"]],
    ),
    "a here-document in a pipe": (
        "cat <<END | sort\nb\ndone\na\nEND\necho $?\n",
        [["cat <<END | sort", "b", "done", "a", "END"], ["echo $?"]],
    ),
    "a here-document in a loop": (
        "for i in 1 2; do\n  cat <<END\n$i #\nEND\ndone\necho x\n",
        [["for i in 1 2; do", "  cat <<END", "$i #", "END", "done"], ["echo x"]],
    ),
    "a here-document with a directive and commands": (
        "cat >job.sh <<'END'\n#!/bin/sh\n#SBATCH --time=9\nsrun python main.py\nEND\ncat job.sh\n",
        [["cat >job.sh <<'END'", "#!/bin/sh", "#SBATCH --time=9", "srun python main.py", "END"], ["cat job.sh"]],
    ),
    "a here-document that seems to end": (
        "cat <<END\n END\n\tEND\nEND \nend\nEND\necho a\n",
        [["cat <<END", " END", "\tEND", "END ", "end", "END"], ["echo a"]],
    ),
    "what seems to be a here-document": (
        "# cat <<END\nA=2\necho $[1 << A]\necho '<<END' \"<<END\" $((1 << A)) # <<END\necho b\n",
        [["A=2"], ["echo $[1 << A]"], ["echo '<<END' \"<<END\" $((1 << A)) # <<END"], ["echo b"]],
    ),
    "a here-string": ("cat <<<'END'\necho END\n", [["cat <<<'END'"], ["echo END"]]),
    "functions": (
        "f() {\n  echo f $1\n}\nfunction g { echo g; }\nh()\n{\n  echo h\n}\nf 1; g\nh\n",
        [
            ["f() {", "  echo f $1", "}"],
            ["function g { echo g; }"],
            ["h()", "{", "  echo h", "}"],
            ["f 1; g"],
            ["h"],
        ],
    ),
    "a function that returns": (
        "f() {\n  return 3\n}\nf\necho $?\n",
        [["f() {", "  return 3", "}"], ["f"], ["echo $?"]],
    ),
    "loops": (
        "for i in 1 2\ndo\n  while [ $i = 1 ]; do i=2; done\n  echo $i\ndone\nuntil true; do :\ndone\n",
        [
            ["for i in 1 2", "do", "  while [ $i = 1 ]; do i=2; done", "  echo $i", "done"],
            ["until true; do :", "done"],
        ],
    ),
    "loops of bash": (
        "for ((i=0; i<2; i++)); do\necho $i; done\nwhile read -r line; do\n  echo $line\ndone <<<x\n",
        [["for ((i=0; i<2; i++)); do", "echo $i; done"], ["while read -r line; do", "  echo $line", "done <<<x"]],
    ),
    "conditions": (
        "if false\nthen\n  echo a\nelif [[ a == a &&\n  b == b ]]; then\n  echo b\nelse echo c\nfi\necho d\n",
        [
            ["if false", "then", "  echo a", "elif [[ a == a &&", "  b == b ]]; then", "  echo b", "else echo c", "fi"],
            ["echo d"],
        ],
    ),
    "cases": (
        "case x in\n  y|z) echo no ;;\n  x) echo yes\n  ;;\nesac\n[ -e /nowhere ] ||\n  echo none\n",
        [
            ["case x in", "  y|z) echo no ;;", "  x) echo yes", "  ;;", "esac"],
            ["[ -e /nowhere ] ||", "  echo none"],
        ],
    ),
    "errors": (
        "echo a\nno-such-command\necho $? $LINENO\ncd /nowhere\n",
        [["echo a"], ["no-such-command"], ["echo $? $LINENO"], ["cd /nowhere"]],
    ),
    "traps": (
        "trap 'echo bye' EXIT\ntrap '\n  echo err $?\n' ERR\nfalse\necho x\n",
        [["trap 'echo bye' EXIT"], ["trap '", "  echo err $?", "' ERR"], ["false"], ["echo x"]],
    ),
    "continued lines": (
        "echo a \\\n  b \\\n  c\necho d \\\n\necho e\\\\\necho f &&\n  echo g |\n  cat\n",
        [
            ["echo a \\", "  b \\", "  c"],
            ["echo d \\", ""],
            ["echo e\\\\"],
            ["echo f &&", "  echo g |", "  cat"],
        ],
    ),
    "subshells and groups": (
        "(\n  cd /\n  pwd\n)\n{ echo a\n  echo b; } 2>&1\nx=$(\n  echo c\n)\necho $x $(( 1 +\n  2 ))\n",
        [
            ["(", "  cd /", "  pwd", ")"],
            ["{ echo a", "  echo b; } 2>&1"],
            ["x=$(", "  echo c", ")"],
            ["echo $x $(( 1 +", "  2 ))"],
        ],
    ),
    "pipes": (
        "false | true\necho ${PIPESTATUS[*]}\ntrue |\n  false\necho ${PIPESTATUS[0]}\necho $?\n",
        [
            ["false | true", "echo ${PIPESTATUS[*]}"],
            ["true |", "  false", "echo ${PIPESTATUS[0]}"],
            ["echo $?"],
        ],
    ),
    "pipes of stderr": (
        "cd /nowhere |& cat >&2\nif [ ${PIPESTATUS[0]} = 1 ]; then\n  echo failed\nfi\necho PIPESTATUS\n",
        [
            ["cd /nowhere |& cat >&2", "if [ ${PIPESTATUS[0]} = 1 ]; then", "  echo failed", "fi", "echo PIPESTATUS"],
        ],
    ),
    "comments": (
        "# it's (\necho a # it's\n  # \"\nfor i in 1; do # {\n  # done\n  echo $i\ndone # x\necho '#' b\n# the end",
        [["echo a # it's"], ["for i in 1; do # {", "  # done", "  echo $i", "done # x"], ["echo '#' b"]],
    ),
    "a comment that ends in a backslash": (
        "# a \\\necho a # \\\necho b\nfor i in 1; do # \\\n  echo c \\# \\\n    d\ndone\n",
        [["echo a # \\"], ["echo b"], ["for i in 1; do # \\", "  echo c \\# \\", "    d", "done"]],
    ),
    "set -e": (
        "set -euo pipefail\n! true\nfalse || echo a\nif false; then :; fi\necho $?\nset +e\nfalse\necho $?\n",
        [
            ["set -euo pipefail"],
            ["! true"],
            ["false || echo a"],
            ["if false; then :; fi"],
            ["echo $?"],
            ["set +e"],
            ["false"],
            ["echo $?"],
        ],
    ),
    "set -e that ends it": ("set -e\necho a\nfalse\necho b\n", [["set -e"], ["echo a"], ["false"], ["echo b"]]),
    "quotes": (
        "echo 'a\nb # \"' \"c\n  $HOME'(\"  >/dev/null\necho $'it\\'s\n' \\\n  d\necho \\\" e \\'\n",
        [
            ["echo 'a", 'b # "\' "c', "  $HOME'(\"  >/dev/null"],
            ["echo $'it\\'s", "' \\", "  d"],
            ["echo \\\" e \\'"],
        ],
    ),
    "arrays": (
        "args=(a\n  # b\n  'c d')\nargs+=(\n)\nprintf '%s\\n' \"${args[@]}\"\n",
        [["args=(a", "  # b", "  'c d')"], ["args+=(", ")"], ["printf '%s\\n' \"${args[@]}\""]],
    ),
    "the background": (
        "sleep 0 &\nwait $!\necho $?\n(exit 3) &\nwait $! || echo $?\n",
        [["sleep 0 &"], ["wait $!"], ["echo $?"], ["(exit 3) &"], ["wait $! || echo $?"]],
    ),
    "blanks and indentation": (
        "\n\n  echo a\n\t\n\techo b;\n\n\n",
        [["  echo a"], ["\techo b;"]],
    ),
    "several in a line": (
        "A=1; export A; echo $A; if true\nthen echo b; fi; echo c\n",
        [["A=1; export A; echo $A; if true", "then echo b; fi; echo c"]],
    ),
    "directives among commands": (
        "#SBATCH --time=5\necho a\n#SBATCH --mem=1G\necho b\n",
        [["echo a"], ["echo b"]],
    ),
    "what an exit leaves out": ("echo a\nexit 4\necho b\n", [["echo a"], ["exit 4"], ["echo b"]]),
    "no line end": ("echo a\necho b", [["echo a"], ["echo b"]]),
}
SHEBANG = "#!/bin/bash"


def cut(text: str) -> JobScript:
    whole = f"{SHEBANG}\n{text}"
    return parse_script(whole, load_scheduler("slurm"), lambda part: is_complete(SHEBANG, part), source="job.sh")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_cut_into_whole_commands(name: str) -> None:
    """Bug: a command that is cut in its middle, two that are one, text taken for a command, a line that is lost."""
    text, commands = SCRIPTS[name]
    script = cut(text)
    assert [list(script.lines[part.first : part.end]) for part in script.parts] == commands


@pytest.mark.parametrize("name", ["here-documents", "continued lines", "quotes", "comments", "pipes"])
def test_line_ends_of_windows_are_none(name: str) -> None:
    r"""Bug: `$'\r': command not found`; a here-document whose end is not found."""
    text, commands = SCRIPTS[name]
    script = cut(text.replace("\n", "\r\n"))
    assert [list(script.lines[part.first : part.end]) for part in script.parts] == commands


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_command_is_announced_at_its_beginning_and_nothing_else_changes(name: str) -> None:
    """Bug: an announcement within a here-document or a string, or one that moves the numbers of lines."""
    text, commands = SCRIPTS[name]
    lines = text.split("\n")
    found = instrument(cut(text), "/usr/bin/env", {"TMPDIR": "/a b"}).split("\n")
    assert found.pop(0) == ""  # in the place of the first line
    position, expected = 0, list(lines)
    for number, command in enumerate(commands):
        position = next(at for at in range(position, len(lines)) if lines[at : at + len(command)] == command)
        expected[position] = f"mlxp_at {number} && :; {expected[position]}"
        position += len(command)
    first = next(index for index, line in enumerate(expected) if line.startswith("mlxp_at 0 "))
    prelude, announced, rest = found[first].partition("mlxp_at 0 && :; ")
    assert prelude.startswith("mlxp_env=/usr/bin/env; . ")
    assert prelude.endswith("; export TMPDIR='/a b'; ")
    assert "\n".join([*found[:first], announced + rest, *found[first + 1 :]]) == "\n".join(expected)


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_instrumented_script_does_what_it_did(tmp_path: Path, name: str) -> None:
    """Bug: another exit code, a word on stderr, a `$?` or a line number of ours."""
    text, commands = SCRIPTS[name]
    outcomes = []
    for number, shown in enumerate((f"\n{text}", instrument(cut(text), "/usr/bin/env", {}))):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = {"PATH": os.environ["PATH"], "HOME": "/", "MLXP_SUB": str(folder)}
        command = ["bash", "-c", shown, "job.sh"]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=20
        )
        outcomes.append((done.returncode, done.stdout, done.stderr))
    assert outcomes[1] == outcomes[0]
    announced = sorted(int(path.name.partition(".")[2]) for path in tmp_path.glob("1/variables.*"))
    reached = {"set -e that ends it": 3, "what an exit leaves out": 2}.get(name, len(commands))
    assert announced == list(range(reached))


def test_a_script_that_no_shell_takes_is_one_command_from_where_it_breaks() -> None:
    """Bug: what comes after an open quote is cut as if it were whole; or the error is not the shell's own."""
    script = cut("echo a\necho 'b\necho c\n")
    assert [list(script.lines[part.first : part.end]) for part in script.parts] == [
        ["echo a"],
        ["echo 'b", "echo c", ""],
    ]


@pytest.mark.parametrize(
    ("text", "whole"),
    [("echo a", True), ("if true", False), ("a |", False), ("echo 'a", False), ("cat <<E\nx\nE", True), ("", True)],
)
@pytest.mark.parametrize("shebang", ["#!/bin/bash", "#!/bin/sh -e", "#!/usr/bin/env bash", "#!/usr/bin/env dash -e"])
def test_the_scripts_own_shell_says_what_is_whole(shebang: str, text: str, whole: bool) -> None:
    """Bug: `env: 'bash -l': No such file`; options of the script that run a profile."""
    assert is_complete(shebang, text) is whole
