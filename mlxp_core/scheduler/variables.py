"""Environment variables of the schedulers: those that only a job has, and those of clients and of the submitter."""

from __future__ import annotations

import re

WHERE_SUBMITTED = (
    *("SLURM_SUBMIT_DIR", "PBS_O_WORKDIR", "SGE_O_WORKDIR", "LS_SUBCWD"),
    *("OAR_O_WORKDIR", "OAR_WORKDIR", "OAR_WORKING_DIRECTORY"),
)
# by which the commands of a scheduler find it, in a job or not
_OF_CLIENTS = (
    *("SLURM_CONF", "SLURM_CLUSTERS", "SGE_ROOT", "SGE_CELL", "SGE_QMASTER_PORT", "SGE_EXECD_PORT"),
    *("SGE_CLUSTER_NAME", "PBS_SERVER", "PBS_DEFAULT", "PBS_CONF_FILE", "PBS_EXEC", "PBS_HOME", "OAR_API_URL"),
)
# what PBS and Grid Engine tell a job of the environment in which it was submitted: PBS_O_HOME is $HOME
OF_THE_SUBMITTER = r"(?:PBS|SGE)_O_(HOME|PATH|SHELL|LOGNAME|MAIL|LANG|TZ|HOST)"
OF_A_JOB = (
    rf"(?!(?:{'|'.join((*WHERE_SUBMITTED, *_OF_CLIENTS))}|{OF_THE_SUBMITTER.replace('(H', '(?:H')})\b)"
    r"(?:(?:SLURMD?|OAR|PBS|SGE|LSB|MOAB|MLXP_LOCAL)_\w+|JOB_ID|NSLOTS|PE_HOSTFILE)"
)


def is_of_a_job(name: str) -> bool:
    """Whether a variable is one that only a job has."""
    return re.fullmatch(OF_A_JOB, name) is not None
