"""Directives: the user's, and those that the pack adds."""

from __future__ import annotations

import os
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


OUT, ERR = ' >>"$1/log.stdout"', ' 2>>"$1/log.stderr"'


@pytest.mark.parametrize(
    ("scheduler", "header", "redirects"),
    [
        ("slurm", (), OUT + ERR),
        ("slurm", ("--error=x",), OUT),
        ("slurm", ("-e x", "-n 1"), OUT),
        ("slurm", ("--output=x",), ""),  # without an --error of its own stderr goes there as well
        ("slurm", ("-o x", "-e y"), ""),
        ("slurm", ("--output-x=1", "--error-x=1"), OUT + ERR),
        ("local", ("--error=x",), OUT),
        ("local", ("--output=x",), ""),
        ("sge", ("-e x",), OUT),
        ("sge", ("-o x",), ERR),
        ("sge", ("-j y",), f"{OUT} 2>&1"),
        ("sge", ("-l h_rt=3 -j yes", "-e x"), f"{OUT} 2>&1"),
        ("sge", ("-j y", "-o x"), " 2>&1"),
        ("sge", ("-j n",), OUT + ERR),
        ("torque", ("-joe",), f"{OUT} 2>&1"),
        ("torque", ("-e x",), OUT),
        ("pbs", ("-o x",), ERR),
        ("oar", ("--stderr=x",), OUT),
        ("oar", ("-O x",), ERR),
        ("lsf", ("-eo x",), OUT),
        ("lsf", ("-oo x",), ""),
        ("flux", ("--error=x",), OUT),
        ("flux", ("--output=x",), ""),
        ("mwm", ("-e x",), OUT),
    ],
)
def test_what_a_job_prints_goes_into_its_run_but_for_what_the_user_sends_elsewhere(
    scheduler: str, header: tuple[str, ...], redirects: str
) -> None:
    """Bug: with `--error` alone in the header stdout is nowhere, or stderr in two files."""
    prefix = load_scheduler(scheduler).directive
    lines = tuple(f"{prefix} {line}" for line in header)
    assert directives.output_redirects(lines, load_scheduler(scheduler)) == redirects


@pytest.mark.parametrize(
    ("scheduler", "header", "found"),
    [
        ("slurm", ("#SBATCH -n 1", "#SBATCH -o x", "#SBATCH --mem=1G", "#SBATCH --error=y"), (1, 3)),
        ("slurm", ("#SBATCH -n 1", "#SBATCH --open-mode=append"), ()),
        ("sge", ("#$ -e x", "#$ -N n", "#$ -o y"), (0, 2)),
        ("lsf", ("#BSUB -J n", "#BSUB -oo x"), (1,)),
    ],
)
def test_directives_that_send_output_elsewhere_are_told_from_others(
    scheduler: str, header: tuple[str, ...], found: tuple[int, ...]
) -> None:
    """Bug: none is named where each line has one of both, or all of the header."""
    expected = [header[index] for index in found]
    assert directives.redirecting_directives(header, load_scheduler(scheduler)) == expected


VALUES = {"name": "n-1", "shell": "/bin/bash", "stdout": "/o", "stderr": "/e"}


@pytest.mark.parametrize(
    ("scheduler", "header", "added"),
    [
        ("slurm", ("#SBATCH -J mine", "#SBATCH -n 1"), ["--output=/o", "--error=/e", "--open-mode=append"]),
        ("slurm", ("#SBATCH -n 1", "#SBATCH --error x"), ["--job-name=n-1", "--output=/o", "--open-mode=append"]),
        ("sge", (), ["-N n-1", "-S /bin/bash", "-o /o", "-e /e"]),
        ("sge", ("#$ -S /bin/zsh", "#$ -o x"), ["-N n-1", "-e /e"]),
        ("sge", ("#$ -Nmine",), ["-N n-1", "-S /bin/bash", "-o /o", "-e /e"]),  # which is another option there
        ("lsf", ("#BSUB -o x",), ['-J "n-1"', '-Jd "n-1"']),
        ("mwm", ("#MSUB -v A",), ["-N n-1", "-S /bin/bash", "-o /o", "-e /e"]),
        ("flux", ("# flux: -N 2",), ["--job-name=n-1", "--output=/o", "--error=/e"]),
    ],
)
def test_of_the_packs_own_directives_those_are_added_that_the_user_has_not(
    scheduler: str, header: tuple[str, ...], added: list[str]
) -> None:
    """Bug: the user's own is overridden by a second one; or one is left out for another that begins alike."""
    known = load_scheduler(scheduler)
    prefix = "# flux:" if scheduler == "flux" else known.directive  # as the user spells it
    assert directives.added_directives(header, known, VALUES) == [f"{prefix} {line}" for line in added]


@pytest.mark.parametrize(
    ("scheduler", "throttle", "directive"),
    [
        ("slurm", None, "--array=1-3"),
        ("slurm", 2, "--array=1-3%2"),
        ("sge", 2, "-t 1-3 -tc 2"),
        ("torque", 2, "-t 1-3%2"),
        ("pbs", None, "-J 1-3"),
        ("mwm", None, "-t n[1-3]"),
        ("lsf", 2, '-J "n[1-3]%2"'),
        ("oar", None, "--array 3"),
        ("oar", 2, "--array 3"),
    ],
)
def test_an_array_is_written_as_its_scheduler_has_it(scheduler: str, throttle: int | None, directive: str) -> None:
    """Bug: an index from 0; a throttle that is not there, or is `None`."""
    known = load_scheduler(scheduler)
    assert directives.array_directive(known, "n", 3, throttle) == directive
    words = ("-J", directive[4:-1]) if scheduler == "lsf" else ()  # of LSF the header cannot make one
    assert directives.array_arguments(known, "n", (), 3, throttle) == words


def test_a_scheduler_without_arrays_says_so() -> None:
    """Bug: AttributeError: 'NoneType' object has no attribute 'text'."""
    with pytest.raises(ConfigurationError, match=r"flux has no arrays: use hydra\.launcher\.array=false"):
        directives.array_directive(load_scheduler("flux"), "n", 3, None)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (("#BSUB -J mine",), "mine"),
        (('#BSUB -n 1 -J "mine"', "#BSUB -J other"), "mine"),
        (("#BSUB -Jd mine",), "n"),
        (("#BSUB -W 10", "#BSUB -J=mine"), "mine"),
    ],
)
def test_an_array_keeps_the_name_that_the_user_gave_its_job(header: tuple[str, ...], name: str) -> None:
    """Bug: a name on the command line wins over the user's own."""
    arguments = directives.array_arguments(load_scheduler("lsf"), "n", header, 2, None)
    assert arguments == ("-J", f"{name}[1-2]")


def test_a_shell_is_found_by_the_scripts_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `-S /usr/bin/env`, which Grid Engine starts without a word."""
    (tmp_path / "zsh").write_text("#!/bin/sh\n")
    (tmp_path / "zsh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin")
    lines = ("#!/bin/bash", "#!/bin/bash -l", "#! /opt/bin/ksh -e", "#!/usr/bin/env zsh", "#!/usr/bin/env -S zsh -e")
    assert [directives.shell_path(line) for line in lines] == [
        "/bin/bash",
        "/bin/bash",
        "/opt/bin/ksh",
        f"{tmp_path}/zsh",
        f"{tmp_path}/zsh",
    ]
    assert directives.shell_path("#!/usr/bin/env no-such-shell") == "/bin/no-such-shell"


@pytest.mark.parametrize(
    ("scheduler", "header", "asks"),
    [
        ("slurm", ("#SBATCH --time=1", "#SBATCH --requeue"), True),
        ("slurm", ("#SBATCH --no-requeue",), False),
        ("slurm", ("#SBATCH --comment=--requeue-me",), False),
        ("slurm", (), False),
        ("sge", ("#$ -l h_rt=3 -r y",), True),
        ("sge", ("#$ -r no",), False),
        ("sge", ("#$ -r yes",), True),
        ("oar", ("#OAR -t idempotent",), True),
        ("oar", ("#OAR --type=besteffort",), False),
        ("local", ("#LOCAL --requeue",), False),
    ],
)
def test_a_job_starts_again_where_its_header_asks_for_that(scheduler: str, header: tuple[str, ...], asks: bool) -> None:
    """Bug: a preempted job is requeued although its user said not to; or it is not, as the directive is the second."""
    known = load_scheduler(scheduler)
    assert directives.requeue_command(header, known) == (known.requeue if asks else "")
    assert not asks or known.requeue
