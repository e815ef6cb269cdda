"""The template that a program's jobs get of its script: plain values in and out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripts import PLACEHOLDERS, parsed

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.template import Template
from mlxp_core.mlxpsub.job_template import _may_become, build_template
from mlxp_core.mlxpsub.parse import ProgramStart

START = ProgramStart(0, ("python", "main.py"), ("seed=1",), "/here", {}, (), (), {})


def template(text: str, number: int, **reached: object) -> Template:
    script = parsed(f"#!/bin/bash\n#SBATCH --time=5\n{text}")
    return build_template(script, replace(START, number=number, **reached), "/here", PLACEHOLDERS, "name")


@pytest.mark.parametrize(
    ("line", "prefix"),
    [
        ("python main.py seed=1", ""),
        ("srun -n $SLURM_NTASKS python main.py seed=1", "srun -n $SLURM_NTASKS "),
        ("A='x y' srun \\\n  /usr/bin/python main.py seed=1", "A='x y' srun"),
        ('"$PYTHON" main.py $ARGS', ""),
        ("time python main.py seed=1", "time "),
        ("uv run python main.py seed=1", ""),
    ],
)
def test_what_precedes_the_interpreter_stays_as_it_is_written(line: str, prefix: str) -> None:
    """Bug: a job without its srun, or with a variable's value here in the place of the variable."""
    assert template(f"{line}\n", 0).prefix.split() == prefix.split()


@pytest.mark.parametrize(
    ("words", "arguments", "may"),
    [
        ("", "", True),
        ("", "a", False),
        ("a", "", False),
        ("a b", "a b", True),
        ("a b", "b a", False),
        ("a $X", "a", True),
        ("a $X", "a 1 2", True),
        ("a $X", "b 1", False),
        ("$X b", "1 2 b", True),
        ("$X b", "1 2", False),
        ("*.yaml ~ {1,2} c", "c", True),
    ],
)
def test_of_a_word_that_is_expanded_any_number_of_arguments_may_come(words: str, arguments: str, *, may: bool) -> None:
    """Bug: a program that a loop started is taken for the one on the line, and its jobs get the line's arguments."""
    assert _may_become(words.split(), arguments.split()) is may


@pytest.mark.parametrize(
    "lines",
    [
        "for s in 1; do\n  python main.py seed=$s\ndone",
        "python main.py seed=1 | tee log",
        "python main.py seed=1; echo done",
        "train seed=1",
        "xargs python main.py",
    ],
)
def test_any_other_command_is_left_behind_with_what_it_has_set(lines: str) -> None:
    """Bug: a whole loop in each of its jobs; one that does not know what the loop has exported."""
    changes = {"A": (None, "a b"), "PATH": ("/bin", "/x:/bin"), "GONE": ("1", None), "MORE": ("a", "a:b")}
    made = template(f"{lines}\n", 0, changes=changes, starters=("srun", "-n", "1 2"))
    assert made.prefix == "srun -n '1 2' "
    assert made.setup == (
        "export A='a b'",
        'export PATH=/x:"${PATH-}"',
        "unset GONE",
        'export MORE="${MORE-}":b',
    )


def test_lines_around_the_program_know_that_they_are_a_jobs() -> None:
    """Bug: a program in these lines that submits again; lines that run elsewhere, or do not see how it ended."""
    made = template("# set-up\nmodule load x\npython main.py seed=1\necho $?\n", 1)
    assert made.setup == ("cd /here || exit", "export MLXP_SUB=in-a-job", "# set-up", "module load x", "unset MLXP_SUB")
    assert made.after == ('mlxp_status=$?; export MLXP_SUB=in-a-job; (exit "$mlxp_status") && :', "echo $?")
    assert made.header == ("#SBATCH --time=5",)


def test_the_command_of_another_program_leaves_what_it_has_set() -> None:
    """Bug: the other program's job within this one's; a variable that is lost with it, or a `$!`."""
    made = template("A=1 python other.py &\nwait $!\npython main.py seed=1\n", 2, others={0: {"A": (None, "1")}})
    assert made.setup[2:-1] == ("export A=1", ": &", "wait $!")


def test_a_later_command_looks_whether_it_is_another_programs() -> None:
    """Bug: `python other.py && touch ready` in the job of the program before it, which does nothing there."""
    made = template("python main.py seed=1\npython other.py && touch ready\nlast\n", 0)
    assert made.after[1:] == (
        'mlxp_status=$?; if ! grep -qsx 1 "$mlxp_metadata/../../.mlxp/scripts/name"; then (exit "$mlxp_status") && :',
        "python other.py && touch ready",
        "fi",
        "last",
    )
    # the same program once more, whose jobs are its own; but not a function, which later lines call
    again = template("python main.py seed=1\npython main.py seed=2 && touch ready\nlast\n", 0)
    assert again.after[1:] == ("last",)
    defined = template("python main.py seed=1\ntrain() { python main.py; }\n", 0)
    assert defined.after[1:] == ("train() { python main.py; }",)


def test_where_the_script_was_submitted_is_where_mlxpsub_was_called() -> None:
    """Bug: `cd $PBS_O_WORKDIR` that goes to where the program was started."""
    made = template("cd $SLURM_SUBMIT_DIR\npython main.py seed=1\n", 1)
    assert "export SLURM_SUBMIT_DIR=/here" in made.setup


@pytest.mark.parametrize(
    ("lines", "arguments", "name"),
    [
        ("python main.py msg=/x/$SLURM_JOB_ID", ["msg=/x/794000000001"], "SLURM_JOB_ID"),
        ("python main.py msg=run-${SLURM_JOB_ID: -4}", ["msg=run-0001"], "SLURM_JOB_ID"),
        ("python main.py seed=$(($SLURM_JOB_ID + 7))", ["seed=794000000008"], "SLURM_JOB_ID"),
        ("python main.py n=$SLURM_NTASKS", ["n="], "SLURM_NTASKS"),
        ("OUT=/x/$SLURM_JOB_ID\npython main.py msg=$OUT", ["msg=/x/794000000001"], "OUT"),
        ('OUT=$SLURM_JOB_ID\nsub=$OUT/a\npython main.py "msg=${sub}/b"', ["msg=794000000001/a/b"], "sub"),
        ('args=(seed=1\n  "msg=$SLURM_JOB_ID")\npython main.py "${args[@]}"', ["seed=1", "msg=794000000001"], "args"),
        ("OUT=$(basename $SLURM_JOB_ID)\npython main.py msg=x$OUT", ["msg=x794000000001"], "OUT"),
        ("OUT=${SLURM_JOB_ID:-4}\npython main.py msg=$OUT", ["msg=794000000001"], "OUT"),
        ("P=$((10000 + SLURM_JOB_ID % 20000))\nQ=$P\npython main.py msg=$Q", ["msg=10001"], "Q"),
        ("for s in 1; do python main.py msg=$(echo $SLURM_JOB_ID); done", ["msg=794000000001"], "SLURM_JOB_ID"),
        ("for s in 1; do OMP_NUM_THREADS=$SLURM_NTASKS python main.py; done", [], "SLURM_NTASKS"),
        ("N=$SLURM_NTASKS\nfor s in 1 2; do OMP_NUM_THREADS=$N python main.py seed=$s; done", ["seed=1"], "N"),
        ("OUT=$SLURM_JOB_ID\nOUT=4\npython main.py msg=$OUT", ["msg=4"], None),
        ("OUT='$SLURM_JOB_ID'\npython main.py \"msg='$OUT'\"", ["msg='$SLURM_JOB_ID'"], None),
        ("SLURM_NTASKS=${SLURM_NTASKS:-4}\nN=$SLURM_NTASKS\npython main.py msg=$N", ["msg=4"], None),
        ("python main.py 'msg=${oc.env:SLURM_JOB_ID,}'", ["msg=${oc.env:SLURM_JOB_ID,}"], None),
    ],
)
def test_what_only_a_job_has_is_no_argument(lines: str, arguments: list[str], name: str | None) -> None:
    """Bug: /scratch/ for /scratch/4711 in every job."""
    number = len(parsed(f"#SBATCH --time=5\n{lines}\n").parts) - 1
    if name is None:
        assert template(f"{lines}\n", number, arguments=tuple(arguments)).prefix == ""
        return
    with pytest.raises(ConfigurationError) as error:
        template(f"{lines}\n", number, arguments=tuple(arguments))
    assert f"${name}, which " in str(error.value)


def test_processes_of_one_parallel_program_are_refused() -> None:
    """Bug: four processes of torchrun, and four times the sweep."""
    with pytest.raises(ConfigurationError, match=r"line 3 of the script .*\$LOCAL_RANK is set"):
        template("torchrun main.py seed=1\n", 0, changes={"LOCAL_RANK": (None, "0")})


@pytest.mark.parametrize(
    ("reached", "said"),
    [
        ({"directory": "/s/SLURM_TMPDIR/x"}, r"is started in \$SLURM_TMPDIR/x, and that has \$SLURM_TMPDIR"),
        ({"head": ("python", "/s/SLURM_TMPDIR/main.py")}, r"is \$SLURM_TMPDIR/main.py, and that has"),
    ],
)
def test_a_program_where_only_a_job_can_be_is_refused(reached: dict[str, object], said: str) -> None:
    """Bug: a job that changes into a folder which was removed with mlxpsub's session."""
    with pytest.raises(ConfigurationError, match=said):
        template("python main.py seed=1\n", 0, **reached)


@pytest.mark.parametrize(
    ("line", "is_its_own"),
    [
        ("python -u main.py seed=1", True),
        ("$PYTHON -u main.py seed=1", True),
        ("python $FLAG main.py seed=1", True),
        ("python -X main.py seed=1", False),  # with one option of another: something else has started it
        ("python -u other.py seed=1", False),
        ("$PYTHON $FLAG $FILE seed=1", False),  # of which no word tells
        ("perl -u main.py seed=1", False),
    ],
)
def test_a_line_is_the_programs_by_all_of_its_words(line: str, is_its_own: bool) -> None:
    """Bug: the line of a wrapper that starts the program with other options stays in front of it, and starts two."""
    made = template(f"{line}\n", 0, head=("python", "-u", "main.py"), changes={"A": (None, "1")})
    assert made.setup == (() if is_its_own else ("export A=1",))
