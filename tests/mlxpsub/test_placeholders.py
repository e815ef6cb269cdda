"""Harmless values for the variables of a job: in a script that mlxpsub runs where there is no job, or another one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from warm_python import warm_python

from mlxp_core.mlxpsub.placeholders import Placeholders
from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.scheduler.base import Kind

MLXPSUB = warm_python().bin / "mlxpsub"
RM = '#!/bin/sh\nprintf "%s\\n" "$@" >>"$REMOVED"\n'  # what would be removed


def named(scheduler: str, *kinds: Kind) -> list[str]:
    listed = load_scheduler(scheduler).job_variables
    return [name for kind in kinds for name in listed.get(kind, ())]


@pytest.mark.parametrize(
    ("scheduler", "known", "start"),
    [
        *((scheduler, known, "") for scheduler in SCHEDULERS for known in ("nothing set", "all set")),
        ("sge", "all set", "-l"),
        ("slurm", "all set", "-l"),
        ("sge", "a TMPDIR with a blank", ""),
    ],
)
def test_a_script_removes_nothing_but_what_a_job_would_own(
    tmp_path: Path, scheduler: str, known: str, start: str
) -> None:
    """Bug: `rm -rf $TMPDIR/scratch` is `rm -rf /scratch` under `mlxpsub --dry-run`; or it removes what is the user's.

    The variables are set in a login shell, or in the job in which mlxpsub itself runs; a profile may set them anew.
    """
    for folder in ("tools", "mine"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tools" / "rm").write_text(RM)
    (tmp_path / "tools" / "rm").chmod(0o755)
    directories = sorted({"TMPDIR", *named(scheduler, Kind.DIRECTORY)})
    files, ids = named(scheduler, Kind.HOSTFILE, Kind.FILE), named(scheduler, Kind.ID)
    lines = [f'rm -rf "${name}/scratch" ${{{name}}}/* || exit' for name in directories]
    lines += [f'rm -rf "$(dirname "${name}")"/x "${name}"' for name in files]
    lines += [f'rm -rf "/scratch/${name}"' for name in ids]
    # without a mention in the script
    (tmp_path / "tidy.sh").write_text('rm -rf "$TMPDIR/tidied"\n')
    lines += [f'[ -d "${name}" ] || exit 9' for name in directories]
    script = tmp_path / "job.sh"
    script.write_text("\n".join([f"#!/bin/bash {start}".strip(), *lines, "bash ./tidy.sh", ""]))
    environment = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    environment |= {"PATH": f"{tmp_path}/tools:{environment['PATH']}", "REMOVED": str(tmp_path / "removed")}
    environment |= {"PYTHONWARNINGS": "ignore", "XDG_STATE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path)}
    if known == "a TMPDIR with a blank":
        environment["TMPDIR"] = str(tmp_path / "my files")
        (tmp_path / "my files").mkdir()
    if known == "all set":
        environment |= dict.fromkeys([*directories, *files, *ids], str(tmp_path / "mine"))
    (tmp_path / ".bash_profile").write_text(f'PATH="{tmp_path}/tools:$PATH"; export TMPDIR="{tmp_path}/mine"\n')
    command = [MLXPSUB, "--dry-run", "--scheduler", scheduler, script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "no Hydra program" in done.stderr, done.stderr  # it came to its end
    removed = [line for line in (tmp_path / "removed").read_text().splitlines() if line != "-rf"]
    assert len(removed) == 2 * (len(directories) + len(files)) + len(ids) + 1
    assert [line for line in removed if "/mlxpsub-" not in line and not line.startswith("/scratch/794")] == []


def test_what_is_set_here_stays_where_it_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a script in an interactive job that finds one CPU; the user's own QUEUE replaced in a script of Slurm."""
    here = {"SLURM_JOB_ID": "12", "SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_NODELIST": "n[1-2]", "QUEUE": "mine"}
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    lines = [f"echo ${name}" for name in here]
    values = Placeholders.for_script(lines, "slurm", tmp_path).values
    assert {"SLURM_CPUS_PER_TASK", "SLURM_JOB_NODELIST", "QUEUE"}.isdisjoint(values)
    assert values["SLURM_JOB_ID"] != "12"  # by which a script removes what is that job's
    # what the scheduler overwrites says nothing of the job, wherever it is set
    assert Placeholders.for_script(lines, "sge", tmp_path).values["QUEUE"] == "of_a_job_QUEUE"


def test_a_program_finds_its_own_values_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: jobs that get a TMPDIR which is gone by then, from a scheduler that passes the environment on."""
    monkeypatch.setenv("TMPDIR", "/tmp/ada")
    variables = Placeholders.for_script([], "slurm", tmp_path)
    assert variables.restore({"TMPDIR": variables.values["TMPDIR"]}) == {"TMPDIR": "/tmp/ada"}
    assert variables.restore({"TMPDIR": "/what/the/script/says"}) == {}


def test_files_and_directories_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `cat $PE_HOSTFILE` of nothing waits for the keyboard; removing one thing takes the others away."""
    monkeypatch.delenv("TMPDIR", raising=False)
    variables = Placeholders.for_script(["cat $SGE_STDOUT_PATH $PE_HOSTFILE"], "sge", tmp_path / "job")
    variables.make()
    assert Path(variables.values["TMPDIR"]).is_dir()
    assert Path(variables.values["PE_HOSTFILE"]).read_text()
    assert Path(variables.values["SGE_STDOUT_PATH"]).read_text() == ""
    parents = [Path(variables.values[name]).parent for name in ("PE_HOSTFILE", "SGE_STDOUT_PATH")]
    assert all(len(list(parent.iterdir())) == 1 for parent in parents)
    assert len(set(variables.values.values())) == len(variables.values)


def test_names_are_found_in_whatever_form(tmp_path: Path) -> None:
    """Bug: $TMPDIR in an argument of a job of SGE that is not seen to be the job's."""
    sge, slurm = (Placeholders.for_script([], name, tmp_path) for name in ("sge", "slurm"))
    assert sge.job_variables("x$((NHOSTS * 2))${QUEUE:-a}") == ["NHOSTS", "QUEUE"]
    assert slurm.job_variables("x$((NHOSTS * 2))${QUEUE:-a}") == []
    assert (sge.first_plain("$HOME/${TMP}/$SGE_TASK_ID"), slurm.first_plain("$HOME/${TMP}")) == ("TMP", "")
    assert sge.expand("$HOME/${JOB_ID}$NHOSTS") == f"$HOME/{sge.values['JOB_ID']}"


def test_what_is_left_of_exported_variables_is_the_users() -> None:
    """Bug: jobs without /usr/bin on their PATH, for one entry of it is made of a job's id; or with that entry."""
    placeholders = Placeholders({"SLURM_JOB_ID": "794000000001", "SLURM_NTASKS": ""}, "slurm", {})
    variables = {
        "PATH": "/session/bin:/scratch/794000000001/bin:/usr/bin:/bin",
        "SLURM_JOB_ID": "794000000001",
        "SLURM_NTASKS": "",
        "NAME": "run-794000000001",
        "HOME": "/home/ada",
        "MANPATH": "/session/bin:",
    }
    left = {"PATH": "/usr/bin:/bin", "HOME": "/home/ada", "MANPATH": "/session/bin:"}
    assert placeholders.strip_from(variables, "/session/bin") == left
