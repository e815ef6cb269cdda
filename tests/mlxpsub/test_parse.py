"""A job script cut into its top-level commands: text in, plain values out."""

from __future__ import annotations

import pytest
from scripts import parsed

from mlxp_core.errors import ConfigurationError
from mlxp_core.mlxpsub.parse import parse_script
from mlxp_core.scheduler import load_scheduler

SCRIPT = """\
#!/bin/sh
#SBATCH --time=5

# what it is for
export A=1
for s in 1 2; do
  python main.py seed=$s
done
python main.py \\
  seed=3

cat <<END
python main.py
END
# the end
"""


def test_commands_are_whole_and_have_the_comments_before_them() -> None:
    """Bug: a loop cut in the middle, a here-document taken for commands, a comment with another's command."""
    script = parsed(SCRIPT)
    assert (script.shebang, script.header) == ("#!/bin/sh", ("#SBATCH --time=5",))
    assert [script.text(part, comments=False) for part in script.parts] == [
        ["export A=1"],
        ["for s in 1 2; do", "  python main.py seed=$s", "done"],
        ["python main.py \\", "  seed=3"],
        ["cat <<END", "python main.py", "END"],
    ]
    assert script.text(script.parts[0]) == ["", "# what it is for", "export A=1"]


def test_a_command_is_known_by_its_line_in_the_file() -> None:
    """Bug: a message that names the line before, since the shebang is not counted."""
    assert [parsed(SCRIPT).line_number(number) for number in range(4)] == [5, 6, 9, 12]
    assert parsed("#SBATCH --time=5\npython main.py\n").line_number(0) == 2


def test_what_asks_about_a_pipe_stays_with_it() -> None:
    """Bug: PIPESTATUS is that of what announces the next command."""
    script = parsed("false | true\necho ${PIPESTATUS[0]}\necho ${PIPESTATUS[0]}\n")
    assert [script.text(part) for part in script.parts] == [
        ["false | true", "echo ${PIPESTATUS[0]}", "echo ${PIPESTATUS[0]}"]
    ]
    assert len(parsed("true\necho ${PIPESTATUS[0]}\n").parts) == 2


def test_an_open_command_at_the_end_is_left_to_the_shell() -> None:
    """Bug: lines that vanish, and with them the shell's own words about them."""
    script = parse_script("#SBATCH --time=5\nif true; then\n", load_scheduler("slurm"), lambda _: False, source="x")
    assert [script.text(part) for part in script.parts] == [["if true; then", ""]]


def test_a_script_that_no_shell_runs_is_refused() -> None:
    """Bug: Perl, cut by what a shell says of it."""
    with pytest.raises(ConfigurationError, match="run by a shell"):
        parsed("#!/usr/bin/perl\n#SBATCH --time=5\nprint 1\n")
