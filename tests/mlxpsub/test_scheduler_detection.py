"""Whose directives a job script has."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import pytest

from mlxp_core.errors import CommandError, ConfigurationError
from mlxp_core.mlxpsub.scheduler_detection import detect_scheduler
from mlxp_core.scheduler import SCHEDULERS, client, load_scheduler


def machine(monkeypatch: pytest.MonkeyPatch, commands: Iterable[str] = (), version: str | None = None) -> None:
    """A machine with these submit commands, and a qstat that says this of itself."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in commands else None)

    def run_command(command: tuple[str, ...], *, limit: float) -> client.CommandResult:
        if version is None:
            raise CommandError("qstat is not on this machine's PATH")
        return client.CommandResult(command, 0, "", version, limit)

    monkeypatch.setattr(client, "run_command", run_command)


@pytest.mark.parametrize(
    ("lines", "scheduler"),
    [
        ("#SBATCH --time=1", "slurm"),
        ("#SBATCH\t-n 1", "slurm"),
        ("#$ -l h_rt=3", "sge"),
        ("#OAR -l nodes=1", "oar"),
        ("#BSUB -J x", "lsf"),
        ("#LOCAL --job-name=x", "local"),
        ("# flux: -N 1", "flux"),
        ("#FLUX: -N 1", "flux"),
        ("#MSUB -l x", "mwm"),
        ("#MSUB -l x\n#PBS -l y", "mwm"),  # which obeys both
        ("#PBS -l y\n#MSUB -l x", "mwm"),
        ("##SBATCH -n 1\n#$ -cwd", "sge"),  # a comment
        ("#SBATCHX -n 1\n#$ -cwd", "sge"),
        ("#SBATCH n\n#$ -cwd", "sge"),  # no option
        ("# $ -cwd\n#SBATCH -n 1", "slurm"),
        (" #$ -cwd\n#SBATCH -n 1", "slurm"),
        ("echo a\n#OAR -n x", "oar"),
        ("#PBS -l walltime=1", "torque"),
    ],
)
def test_a_script_is_its_directives_schedulers(monkeypatch: pytest.MonkeyPatch, lines: str, scheduler: str) -> None:
    """Bug: a comment that looks like a directive decides; or a scheduler that obeys another's is not told from it."""
    machine(monkeypatch)
    assert detect_scheduler(f"#!/bin/bash\n{lines}\n", "job.sh") == scheduler


@pytest.mark.parametrize(
    ("version", "scheduler"),
    [("pbs_version = 23.06", "pbs"), ("Version: 6.1.3", "torque"), ("qstat: slurm 22.05", "torque"), (None, "torque")],
)
def test_of_two_with_the_same_directives_the_one_that_answers(
    monkeypatch: pytest.MonkeyPatch, version: str | None, scheduler: str
) -> None:
    """Bug: PBS Pro taken for TORQUE, which has other arrays; or neither, since nobody answers here."""
    machine(monkeypatch, ["qsub"], version)
    assert detect_scheduler("#!/bin/bash\n#PBS -l walltime=1\n", "job.sh") == scheduler


@pytest.mark.parametrize(
    ("commands", "found"),
    [
        ({"sbatch"}, "slurm"),
        ({"qsub"}, "sge"),
        ({"sbatch", "qsub"}, None),
        (set(), None),
    ],
)
def test_a_script_for_several_sites_is_for_the_one_that_is_here(
    monkeypatch: pytest.MonkeyPatch, commands: set[str], found: str | None
) -> None:
    """Bug: the first of the list, whose commands are not there; or one of two that are."""
    machine(monkeypatch, commands)
    text = "#!/bin/bash\n#$ -cwd\n#SBATCH -n 1\n"
    if found is not None:
        assert detect_scheduler(text, "job.sh") == found
        return
    with pytest.raises(ConfigurationError, match=r"job\.sh has directives of slurm, sge: say which with --scheduler"):
        detect_scheduler(text, "job.sh")


@pytest.mark.parametrize("lines", ["", "echo a\n", "#SBATCH\n", "##SBATCH -n 1\n"])
def test_a_script_without_directives_does_not_tell(monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    """Bug: any script is for the local queue."""
    machine(monkeypatch, [load_scheduler(name).submit[0] for name in SCHEDULERS])
    with pytest.raises(ConfigurationError, match="has no directives of a scheduler"):
        detect_scheduler(f"#!/bin/bash\n{lines}", "job.sh")
