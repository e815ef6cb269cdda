"""Environment variables of the schedulers: every scheduler's table, and what is looked up across all of them."""

from __future__ import annotations

import re

import pytest

from mlxp_core.recording.environment import describe_environment, may_hold_a_job_id
from mlxp_core.scheduler import SCHEDULERS, load_scheduler, variables
from mlxp_core.scheduler.base import Kind

KINDS = {
    ("slurm", "SLURM_JOB_ID"): Kind.ID,
    ("slurm", "SLURM_ARRAY_TASK_ID"): Kind.ID,
    ("slurm", "SLURM_TASK_PID"): Kind.NUMBER,
    ("slurm", "SLURM_PROCID"): Kind.RANK,
    ("slurm", "SLURM_GTIDS"): Kind.RANK,
    ("slurm", "SLURM_CPUS_PER_TASK"): Kind.COUNT,
    ("slurm", "SLURM_OVERCOMMIT"): Kind.COUNT,
    ("slurm", "SLURM_TMPDIR"): Kind.DIRECTORY,
    ("slurm", "TMPDIR"): Kind.DIRECTORY,  # of a site's prolog
    # once taken for a count, for a count, and for a file
    ("slurm", "SLURM_JOB_ACCOUNT"): Kind.TEXT,
    ("slurm", "SLURM_JOB_GPUS"): Kind.TEXT,
    ("slurm", "SLURM_PROFILE"): Kind.TEXT,
    ("slurm", "SBATCH_MEM_BIND"): Kind.TEXT,
    # of no manual: by their looks
    ("slurm", "SLURM_SITE_ACCOUNT"): Kind.TEXT,
    ("slurm", "SLURM_SITE_PROFILE"): Kind.TEXT,
    ("slurm", "SLURM_SITE_SCRATCH"): Kind.DIRECTORY,
    ("slurm", "SLURM_SITE_COUNT"): Kind.COUNT,
    ("slurm", "PBS_NODEFILE"): Kind.HOSTFILE,  # of another scheduler, and nobody else's
    ("slurm", "QUEUE"): None,  # the user's own
    ("slurm", "TMP"): None,
    ("slurm", "JOB_NAME"): None,
    ("sge", "QUEUE"): Kind.TEXT,
    ("sge", "PE"): Kind.TEXT,
    ("sge", "ARC"): Kind.TEXT,
    ("sge", "REQUEST"): Kind.TEXT,
    ("sge", "JOB_NAME"): Kind.TEXT,
    ("sge", "NHOSTS"): Kind.COUNT,
    ("sge", "NQUEUES"): Kind.COUNT,
    ("sge", "RESTARTED"): Kind.COUNT,
    ("sge", "TMP"): Kind.DIRECTORY,
    ("sge", "TMPDIR"): Kind.DIRECTORY,
    ("sge", "PE_HOSTFILE"): Kind.HOSTFILE,
    ("sge", "SGE_STDOUT_PATH"): Kind.FILE,
    ("torque", "PBS_VNODENUM"): Kind.RANK,
    ("torque", "PBS_NUM_PPN"): Kind.COUNT,
    ("torque", "TMPDIR"): Kind.DIRECTORY,
    ("torque", "OMP_NUM_THREADS"): None,
    ("pbs", "OMP_NUM_THREADS"): Kind.COUNT,
    ("pbs", "NCPUS"): Kind.COUNT,
    ("pbs", "PBS_JOBDIR"): Kind.DIRECTORY,
    ("pbs", "PBS_ACCOUNT"): Kind.TEXT,
    ("mwm", "MOAB_JOBARRAYRANGE"): Kind.COUNT,
    ("mwm", "MOAB_ACCOUNT"): Kind.TEXT,
    ("mwm", "PBS_NODEFILE"): Kind.HOSTFILE,
    ("mwm", "TMPDIR"): Kind.DIRECTORY,
    ("lsf", "LSB_DJOB_HB_INTERVAL"): Kind.COUNT,
    ("lsf", "LSB_JOBINDEX_END"): Kind.COUNT,
    ("lsf", "LSB_OUTPUTFILE"): Kind.FILE,
    ("lsf", "LS_JOBPID"): Kind.NUMBER,
    ("oar", "OAR_JOB_WALLTIME"): Kind.COUNT,
    ("oar", "OAR_NODE_FILE"): Kind.HOSTFILE,
    ("oar", "OAR_STDOUT"): Kind.FILE,
    ("local", "MLXP_LOCAL_TASK_ID"): Kind.ID,
    ("flux", "FLUX_ENCLOSING_ID"): Kind.ID,
    ("flux", "FLUX_JOB_TMPDIR"): Kind.DIRECTORY,
    ("flux", "PMI_RANK"): Kind.RANK,
    ("slurm", "PMI_RANK"): None,
    ("flux", "FLUX_URI"): None,
    ("flux", "FLUX_F58_FORCE_ASCII"): None,
    # clients', also where they look like a job's
    ("lsf", "LSB_DEFAULTQUEUE"): None,
    ("sge", "SGE_QMASTER_PORT"): None,
    ("sge", "SGE_BINARY_PATH"): None,
    ("pbs", "PBS_CONF_FILE"): None,
    ("pbs", "PBS_PRIMARY"): None,
    ("oar", "OAR_JOB_KEY_FILE"): None,
    ("local", "MLXP_LOCAL_SPOOL"): None,
    # known where the script is submitted
    ("mwm", "MOAB_SUBMITDIR"): None,
    ("torque", "PBS_O_INITDIR"): None,
    ("sge", "SGE_CWD_PATH"): None,
    ("slurm", "SLURM_SUBMIT_HOST"): None,
    ("slurm", "HOME"): None,
    ("sge", "PATH"): None,
}


@pytest.mark.parametrize(("scheduler", "name"), KINDS)
def test_a_variable_holds_this(scheduler: str, name: str) -> None:
    """Bug: an account taken for a count, and so for nothing; the user's own QUEUE for that of a job."""
    assert variables.job_variable_kind(name, scheduler) is KINDS[scheduler, name]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_tables_of_a_scheduler_agree(name: str) -> None:
    """Bug: one name in two of them, one of which is never asked; a job that environment.yaml does not recognise."""
    scheduler = load_scheduler(name)
    listed = [variable for names in scheduler.job_variables.values() for variable in names]
    assert len(listed) == len(set(listed))
    submission = {*scheduler.submit_dir_variables, *scheduler.submitter_variables, *scheduler.client_variables}
    assert submission.isdisjoint(listed)
    assert submission.isdisjoint({"HOME", "PATH", "USER", "TMPDIR"})
    assert variables.job_variable_kind(scheduler.job_variable, name) is Kind.ID
    assert may_hold_a_job_id(scheduler.job_variable)
    assert scheduler.job_variable in scheduler.placement_variables
    for known in scheduler.submit_dir_variables + tuple(scheduler.submitter_variables):
        assert not variables.is_of_a_job(known)
    assert re.fullmatch(scheduler.job_variable_pattern, scheduler.job_variable)
    # by its array's words a script has its index before anything else
    used = set(re.findall(r"[A-Z]\w+", scheduler.array_index))
    assert used <= set(listed) | {"PBS_ARRAY_INDEX"}  # what jobs of another's qsub have


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_run_records_where_it_was_placed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: environment.yaml that knows the placement of Slurm alone."""
    scheduler = load_scheduler(name)
    for variable in scheduler.placement_variables:
        monkeypatch.setenv(variable, f"of {variable}")
    told = describe_environment()["scheduler"]
    assert told.items() >= {variable: f"of {variable}" for variable in scheduler.placement_variables}.items()


def test_a_run_in_no_job_has_no_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the user's own QUEUE recorded as a scheduler's."""
    for name in [name for scheduler in map(load_scheduler, SCHEDULERS) for name in scheduler.placement_variables]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QUEUE", "mine")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    assert describe_environment()["scheduler"] == {}


@pytest.mark.parametrize(
    ("scheduler", "good", "bad"),
    [
        ("slurm", ["12"], ["12[]", "12.0", "", "-1", "f2oLkTLb", "1\n"]),
        ("pbs", ["12", "12[]"], ["12[3]", "12.server", "12; reboot"]),
        ("torque", ["12", "12[]"], ["[]"]),
        ("oar", ["12"], ["1) or (1=1"]),
        ("flux", ["f2oLkTLb"], ["ƒ2oLkTLb", "f", "f0", "12", "f2oLkTLbf2oLkTLb", "-f2"]),
    ],
)
def test_an_id_is_one_of_its_scheduler(scheduler: str, good: list[str], bad: list[str]) -> None:
    """Bug: another's text in a command."""
    assert [text for text in (*good, *bad) if load_scheduler(scheduler).is_job_id(text)] == good


@pytest.mark.parametrize(
    ("scheduler", "told", "job_id"),
    [
        ("slurm", "12", "12"),
        ("slurm", "12.server", None),
        ("pbs", "12[3].server", "12[]"),
        ("torque", "12.server", "12"),
        ("mwm", "12[3].server", "12"),  # whose own ids have no brackets
        ("lsf", "12", "12"),
        ("flux", "ƒ2oLkTLb", "f2oLkTLb"),
        ("flux", "1234", "fNH"),
        ("flux", "$(reboot)", None),
    ],
)
def test_the_id_in_what_a_job_has_told(scheduler: str, told: str, job_id: str | None) -> None:
    """Bug: a started run whose job is not found, or another's job."""
    assert load_scheduler(scheduler).find_job_id(told) == job_id
