"""The job's lines in script.sh, between what the pack adds: template in, text out, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.run_script import RunScriptSpec, render_job
from mlxp_core.jobs.template import Template, add_setup, read_template
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler import load_scheduler

SLURM = load_scheduler("slurm")
JOB = RunScriptSpec(RunDir(Path("/l/7")), "n-7", ("python", "main.py", "a b"), "/the copy", {"A": "x y", "B": ""})
BEGINS = 'for mlxp_turn in watch job; do if [ "$mlxp_turn" = job ]; then (mlxp_outlive; (mlxp_begin\n\n'
ENDS = "\n\n# ---- from here on, what hydra-mlxp adds"

VARIABLES = ["export A='x y'", "export B=''"]
CD = "cd '/the copy' || exit"
PROGRAM = "python main.py 'a b'"
RETURNS = 'mlxp_return "$mlxp_cwd" && :  # $? is the exit code of the program'
STARTS = "mlxp_yield; (mlxp_receive"


def started(prefix: str, word: str, variables: str = "") -> list[str]:
    """A prefix whose first word may be a function, or the shell's own."""
    return [
        STARTS,
        f"case $(command -v {word}) in",
        f"  /*) {variables}exec {prefix}{PROGRAM} ;;",
        f"  *) mlxp_outlive; {variables}{prefix}{PROGRAM} ;;",
        "esac",
        ")",
    ]


def job_lines(template: Template) -> list[str]:
    text = render_job(JOB, template, SLURM)
    return text.partition(BEGINS)[2].partition(ENDS)[0].split("\n")


@pytest.mark.parametrize(
    ("template", "lines"),
    [
        (Template(), [*VARIABLES, CD, f"exec {PROGRAM}"]),
        (Template(setup=("module load x", "")), ["module load x", "", *VARIABLES, CD, f"exec {PROGRAM}"]),
        (Template(prefix="srun "), [*VARIABLES, CD, *started("srun ", "srun")]),
        (Template(prefix="C=1 D='a b' "), [*VARIABLES, CD, STARTS, f"C=1 D='a b' exec {PROGRAM}", ")"]),
        (
            Template(prefix='C="$X" srun -n 2 env E=1 '),
            [*VARIABLES, CD, *started("srun -n 2 env E=1 ", "srun", 'C="$X" ')],
        ),
        (Template(prefix="'my tool' -x "), [*VARIABLES, CD, *started("'my tool' -x ", "'my tool'")]),
        (
            Template(prefix="C=$(date +%F) "),  # what a substitution holds is not understood
            [*VARIABLES, CD, STARTS, "mlxp_outlive", f"C=$(date +%F) {PROGRAM}", ")"],
        ),
        (Template(prefix="C=`date` "), [*VARIABLES, CD, STARTS, "mlxp_outlive", f"C=`date` {PROGRAM}", ")"]),
        (
            Template(after=("echo $?", "cp a b")),
            [
                *VARIABLES,
                "mlxp_cwd=$PWD",
                CD,
                STARTS,
                f"exec {PROGRAM}",
                ")",
                RETURNS,
                "echo $?",
                "cp a b",
                'exit "$mlxp_code"',
            ],
        ),
        (
            Template(setup=("set -e", "trap 'rm -rf \"$T\"' EXIT", "T=$(mktemp -d)")),  # its shell has to stay
            [
                "set -e",
                "trap 'rm -rf \"$T\"' EXIT",
                "T=$(mktemp -d)",
                *VARIABLES,
                "mlxp_cwd=$PWD",
                CD,
                STARTS,
                f"exec {PROGRAM}",
                ")",
                RETURNS,
                'exit "$mlxp_code"',
            ],
        ),
        (
            Template(setup=("f() {", "  trap - TERM", "}", "# untrapped"), prefix="srun ", after=("f",)),
            [
                "f() {",
                "  trap - TERM",
                "}",
                "# untrapped",
                *VARIABLES,
                "mlxp_cwd=$PWD",
                CD,
                *started("srun ", "srun"),
                RETURNS,
                "f",
                'exit "$mlxp_code"',
            ],
        ),
        (Template(setup=("strapped=1",)), ["strapped=1", *VARIABLES, CD, f"exec {PROGRAM}"]),
        (
            Template(setup=("cat <<'END' >a", "trap", "\tx\\", "END")),  # text, which may look like one
            [
                "cat <<'END' >a",
                "trap",
                "\tx\\",
                "END",
                *VARIABLES,
                "mlxp_cwd=$PWD",
                CD,
                STARTS,
                f"exec {PROGRAM}",
                ")",
                RETURNS,
                'exit "$mlxp_code"',
            ],
        ),
    ],
)
def test_the_jobs_lines_are_these(template: Template, lines: list[str]) -> None:
    """Bug: a trap that never runs, for its shell was replaced; a prefix's variables that are lost; lines reordered."""
    assert job_lines(template) == lines


def test_arguments_directories_and_variables_are_quoted() -> None:
    """Bug: an override with a quote or a line end in it ends the command."""
    job = replace(JOB, command=("/a b/python", "it's", "a\nb", "", "~", "*"), work_dir="/it's", environment={"A": "'"})
    text = render_job(job, Template(), SLURM)
    assert text.partition(BEGINS)[2].partition(ENDS)[0].split("\n") == [
        "export A=''\"'\"''",
        "cd '/it'\"'\"'s' || exit",
        "exec '/a b/python' 'it'\"'\"'s' 'a",
        "b' '' '~' '*'",
    ]


def test_a_jobs_name_is_as_long_as_its_scheduler_takes() -> None:
    """Bug: qsub of TORQUE refuses sixteen characters; a name of Slurm's that is cut as well."""
    job = replace(JOB, name="a" * 70)
    assert "#PBS -N " + "a" * 15 + "\n" in render_job(job, Template(), load_scheduler("torque"))
    assert "#SBATCH --job-name=" + "a" * 60 + "\n" in render_job(job, Template(), SLURM)


def test_what_a_job_cannot_name_it_does_not_write() -> None:
    """Bug: `-o None` for a run in a folder with a blank."""
    job = replace(JOB, run=RunDir(Path("/a b/7")))
    header = [line for line in render_job(job, Template(), load_scheduler("sge")).splitlines() if line.startswith("#$")]
    assert header == ["#$ -N n-7", "#$ -S /bin/bash", "#$ -o /dev/null", "#$ -e /dev/null"]


def test_a_line_end_in_a_path_ends_no_comment() -> None:
    """Bug: a folder whose name has a line end is a command of the script."""
    text = render_job(replace(JOB, run=RunDir(Path("/a\nreboot/7"))), Template(), SLURM)
    assert "# run 7 of /a?reboot; `bash script.sh` runs it again\n" in text
    assert "\nreboot/7" in text  # quoted, in the directives and in the path of the metadata
    assert "mlxp_metadata='/a\nreboot/7/metadata' " in text


SCRIPT = "#!/bin/bash -l\n#SBATCH --time=5\n"


@pytest.mark.parametrize(
    ("lines", "setup", "prefix", "after"),
    [
        ("python main.py\n", (), "", ()),
        ("\n\na\n\npython main.py\n\nb\n\n", ("a",), "", ("b",)),
        (
            "f() {\n  python other.py\n}\nf\nsrun python main.py\nf",
            ("f() {", "  python other.py", "}", "f"),
            "srun ",
            ("f",),
        ),
        ("for i in 1 2; do\n  echo $i\ndone\npython main.py\n", ("for i in 1 2; do", "  echo $i", "done"), "", ()),
        ("srun \\\n  --label \\\n  python main.py \\\n  a=1\necho x", (), "srun     --label     ", ("echo x",)),
        ("echo a \\\n  b\npython main.py\n", ("echo a \\", "  b"), "", ()),
        (
            "set -euo pipefail\ntrap 'echo bye' EXIT\npython main.py\n",
            ("set -euo pipefail", "trap 'echo bye' EXIT"),
            "",
            (),
        ),
        ("(cd /x && make)\npython main.py\n", ("(cd /x && make)",), "", ()),
        ("ls | wc -l # main.py\npython main.py # the program\n", ("ls | wc -l # main.py",), "", ()),
        ("# python main.py\npython main.py\n# python main.py\n", ("# python main.py",), "", ("# python main.py",)),
        ("echo \"python main\"\npython 'main.py'\n", ('echo "python main"',), "", ()),
        ("cat main.py\n[ -e main.py ] || exit\npython main.py\n", ("cat main.py", "[ -e main.py ] || exit"), "", ()),
        ("cat <<E\npython main.py\nE\nA=1 python main.py\n", ("cat <<E", "python main.py", "E"), "A=1 ", ()),
        ("#SBATCH --mem=1G\nmodule x\npython main.py\n", ("module x",), "", ()),
        ("echo no program\n", ("echo no program",), "", ()),
        # a backslash that continues nothing, so that the next line is the program's
        ("echo a # \\\npython main.py\n", ("echo a # \\",), "", ()),
        ("echo a\\\\\npython main.py\n", ("echo a\\\\",), "", ()),
        ("echo a#\\\n  b\npython main.py\n", ("echo a#\\", "  b"), "", ()),
        ("echo '# ' \\\n  b\npython main.py\n", ("echo '# ' \\", "  b"), "", ()),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_template_is_taken_apart_line_by_line(
    lines: str, setup: tuple[str, ...], prefix: str, after: tuple[str, ...], line_end: str
) -> None:
    """Bug: a line that is lost, or is in both parts; the program's own line among the set-up lines."""
    template = read_template((SCRIPT + lines).replace("\n", line_end), SLURM, "main.py")
    assert (template.setup, template.prefix, template.after) == (setup, prefix, after)
    assert template.shebang == "#!/bin/bash -l"
    assert add_setup(template, ["export Z=1"]).setup == (*setup, "export Z=1")


@pytest.mark.parametrize(
    "lines",
    [
        "if true; then\n  python main.py && echo\nfi",
        "(python main.py)",
        "time -p python main.py | cat",
        "python main.py; echo",
        "{ python main.py; }",
        "x=$(python main.py)",
        'eval "python main.py"',
        "python main.py \\\n  >out",
        "python -m main main.py main.py",
    ],
)
def test_a_program_with_something_around_it_is_refused(lines: str) -> None:
    """Bug: half of a line is replaced, and the other half is run."""
    with pytest.raises(ConfigurationError, match="the launcher can replace"):
        read_template(f"{SCRIPT}{lines}\n", SLURM, "main.py")
