"""Where a script's variables come from: text in, names out."""

from __future__ import annotations

import pytest
from scripts import PLACEHOLDERS, parsed

from mlxp_core.mlxpsub.provenance import computed_from_job, derived_from_job, substitute, variable_names

LAST = "\npython main.py\n"


@pytest.mark.parametrize(
    ("lines", "derived", "computed"),
    [
        ("OUT=/scratch/$SLURM_JOB_ID", {"OUT": "/scratch/$SLURM_JOB_ID"}, set()),
        ("export A=1 OUT=/scratch/${SLURM_JOB_ID}", {"OUT": "/scratch/${SLURM_JOB_ID}"}, set()),
        ("OUT=x/$SLURM_JOB_ID\nSUB=$OUT/a", {"OUT": "x/$SLURM_JOB_ID", "SUB": "$OUT/a"}, set()),
        ("OUT=$(basename $SLURM_JOB_ID)", {"OUT": "$($SLURM_JOB_ID)"}, {"OUT"}),  # the last word of the substitution
        ("P=$((SLURM_JOB_ID % 9))\nQ=$P", {"P": "$(SLURM_JOB_ID)", "Q": "$P"}, {"P", "Q"}),
        ("N=$SLURM_NTASKS", {"N": "$SLURM_NTASKS"}, {"N"}),
        ('args=(seed=1\n  "msg=$SLURM_JOB_ID")', {"args": "msg=$SLURM_JOB_ID"}, set()),
        ("if true; then OUT=$SLURM_JOB_ID; fi", {"OUT": "$SLURM_JOB_ID"}, set()),
        ("A=1 \\\n  OUT=$SLURM_JOB_ID", {"OUT": "$SLURM_JOB_ID"}, set()),
        ("echo OUT=$SLURM_JOB_ID", {}, set()),
        ("OUT=$HOME", {}, set()),
        ("SLURM_JOB_ID=mine\nOUT=$SLURM_JOB_ID", {}, set()),
    ],
)
def test_a_variable_is_traced_to_what_only_a_job_has(lines: str, derived: dict[str, str], computed: set[str]) -> None:
    """Bug: /scratch/ for /scratch/4711 in every job, by way of a variable of the script's own."""
    script = parsed(f"#SBATCH --time=5\n{lines}{LAST}")
    last = len(script.parts) - 1
    assert derived_from_job(script, last, PLACEHOLDERS.values) == derived
    assert set(computed_from_job(script, last, PLACEHOLDERS)) == computed


def test_what_comes_after_a_command_says_nothing_of_it() -> None:
    """Bug: a program refused for what a later line makes of a job's variable."""
    script = parsed("#SBATCH --time=5\npython main.py $OUT\nOUT=$SLURM_JOB_ID\n")
    assert derived_from_job(script, 0, PLACEHOLDERS.values) == {}
    assert derived_from_job(script, 1, PLACEHOLDERS.values) == {"OUT": "$SLURM_JOB_ID"}


def test_names_and_values_of_a_word() -> None:
    """Bug: ${name[@]} of an array not known as name, or a default taken for a name."""
    assert variable_names("$a/${b}/${c[@]}/${d:-e}/$1") == ["a", "b", "c"]
    assert substitute("$a/${b}/${c[1]}", {"a": "1", "c": "3"}) == "1/${b}/3"
