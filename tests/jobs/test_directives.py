"""Directives: the user's, and those that the pack adds."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import job

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs import directives, run_script
from mlxp_core.jobs.template import Template, read_template
from mlxp_core.scheduler import load_scheduler

SLURM = load_scheduler("slurm")


@pytest.mark.parametrize("own", ["-o x.out", "--output=x.out", "--output x.out", "-ox.out", "-n 1 -o x.out"])
def test_what_the_pack_sets_yields_to_the_users_own_line(tmp_path: Path, own: str) -> None:
    """Bug: the user's --output is overridden, or stderr leaves it for another file."""
    template = read_template(f"#!/bin/bash\n#SBATCH {own}\n", SLURM, "main.py")
    text = run_script.render_job(job(tmp_path / "1", "true"), template, SLURM)
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert directives == ["#SBATCH --job-name=name", "#SBATCH --open-mode=append", f"#SBATCH {own}"]


def test_an_option_that_only_starts_alike_is_another_one(tmp_path: Path) -> None:
    """Bug: --output-something, or --overcommit, taken for --output."""
    template = read_template("#!/bin/bash\n#SBATCH --overcommit --error-x=1\n", SLURM, "main.py")
    text = run_script.render_job(job(tmp_path / "1", "true"), template, SLURM)
    assert f'#SBATCH --output="{tmp_path}/1/log.stdout"' in text
    assert f'#SBATCH --error="{tmp_path}/1/log.stderr"' in text


def test_a_path_with_what_slurm_takes_for_a_pattern_is_escaped(tmp_path: Path) -> None:
    """Bug: output of a folder called 100%a goes to 100<task id>."""
    run = tmp_path / '100%a "x"' / "1"
    text = run_script.render_job(job(run, "true"), Template(), SLURM)
    assert f'--output="{tmp_path}/100%%a \\"x\\"/1/log.stdout"' in text


def test_a_header_with_an_array_of_its_own_is_refused() -> None:
    """Bug: two --array lines, the last wins: jobs that nobody asked for, or runs without one."""
    with pytest.raises(ConfigurationError, match=r"--array or -a.*max_parallel"):
        directives.check_array(("#SBATCH -a 1-10",), SLURM)


@pytest.mark.parametrize(
    ("name", "legal"), [("main", "main"), ("a/b c", "a-b-c"), ("1x", "j1x"), ("é", "j"), ("-x-", "x"), ("", "j")]
)
def test_job_names_are_legal_everywhere(name: str, legal: str) -> None:
    """Bug: Grid Engine refuses a slash, PBS a leading digit."""
    assert directives.sanitize_job_name(name) == legal


@pytest.mark.parametrize(
    ("scheduler", "header", "found"),
    [
        ("slurm", "#SBATCH --job-name=mine", True),  # squeue shows the script
        ("sge", "#$ -l h_rt=3", True),
        ("sge", "#$ -N mine", False),
        ("mwm", "#MSUB -N mine", False),
        ("lsf", "#BSUB -J mine", True),  # by its description
        ("lsf", "#BSUB -Jd mine", False),
    ],
)
def test_a_submission_is_found_by_its_script_or_by_a_name_of_ours(scheduler: str, header: str, found: bool) -> None:
    """Bug: qstat shows the user's own name, so a job that is there is not found, and submitted twice."""
    assert directives.is_identifiable((header,), load_scheduler(scheduler)) is found
