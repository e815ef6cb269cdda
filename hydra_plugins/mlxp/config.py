"""The options, and their registration with Hydra: a field a line, one comment each."""

# no `from __future__ import annotations`: with it a dataclass here kills every Hydra 1.3 program of the environment
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

import omegaconf
from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mlxp._names import CALLBACK, ID, LAUNCHER, LOG_DIR, SWEEPER
from mlxp_core.scheduler import SCHEDULERS


@dataclass
class LauncherConf:
    """The options of every ``mlxp_*`` launcher."""

    _target_: str = LAUNCHER
    # the scheduler to submit to
    scheduler: str = "local"
    # where the numbered run folders are made, relative to the launch directory; a hydra.sweep.dir of your own wins
    log_dir: str = "logs"
    # a native job script: its directives and set-up lines go into every job
    template: Optional[str] = None  # noqa: UP045  (Hydra 1.3's structured configs)
    # native directives as text, after those of the template if there is one; may interpolate the job's configuration
    header: Optional[str] = None  # noqa: UP045
    # shell lines that every job runs before the program, after those of the template
    setup: list[str] = field(default_factory=list)
    # how many runs of a batch run at once, by the scheduler's own throttle; null: its default (local: one a CPU)
    max_parallel: Optional[int] = None  # noqa: UP045
    # one array submission for a batch, or as few as the site's limit allows; false: a submission for each job
    array: bool = True
    # how many runs share one job, side by side in its allocation
    pack: int = 1
    # the code that jobs run: a copy of HEAD (commit), of the files as they are (worktree), none (as they are when a job
    # starts); auto: HEAD where nothing has changed, else what on_changes says
    snapshot: str = "auto"
    # about what is not committed: ask (without a terminal: capture), capture, commit, ignore, stop
    on_changes: str = "ask"
    # what `commit` adds and commits, paths from the repository's top; none named: all that has changed
    commit_files: list[str] = field(default_factory=list)
    # the message of that commit
    commit_message: Optional[str] = None  # noqa: UP045
    # where the copies of the code are made, relative to the launch directory; null: in the log directory
    code_dir: Optional[str] = None  # noqa: UP045
    # where jobs start: run, a folder of the run's own that has what the code has, and keeps what they write; copy, the
    # copy of the code, which is read-only; launch, the launch directory; auto: run, and launch with snapshot=none
    work_dir: str = "auto"
    # the Python of the jobs; null: the one that launches
    python: Optional[str] = None  # noqa: UP045
    # stay until the jobs have ended, and fail if one of them did; auto: for a sweeper that goes by what they return
    wait: Any = "auto"
    # what a launch without -m does: run, here; or submit, its one job
    single: str = "run"
    # seconds that one command of the scheduler may take
    command_timeout: float = 60.0
    # seconds of trying where the scheduler is away, gives no clear answer, or takes no more jobs for now
    submit_timeout: float = 300.0


@dataclass
class CallbackConf:
    """The options of the callback."""

    _target_: str = CALLBACK
    # as log_dir of the launchers, also for single runs; a hydra.run.dir or hydra.sweep.dir of your own wins
    log_dir: str = "logs"
    # which code a run is said to run: commit (HEAD), worktree (captured where it differs), auto (worktree, unless that
    # is very large), none (not recorded)
    snapshot: str = "auto"
    # what a run prints that no launcher has submitted is in log.stdout and log.stderr, as that of jobs is
    log_streams: bool = True
    # false: nothing is recorded, and current_run() gives a run that keeps nothing; hydra/callbacks=mlxp_off says it
    record: bool = True


@dataclass
class SweeperConf:
    """The options of the sweeper, in the order in which they are applied, but for the first."""

    _target_: str = SWEEPER
    # how many jobs are launched together; null: all
    max_batch_size: Optional[int] = None  # noqa: UP045
    # overrides that are swept as if they stood on the command line, which wins
    params: Optional[dict[str, str]] = None  # noqa: UP045
    # keys whose lists are walked together, such as [lr,wd]; or several such lists
    zip: Any = field(default_factory=list)
    # explicit sets of overrides: a list of mappings or of lists of overrides, or a .yaml or .csv file that holds it
    points: Any = None
    # queries, one or a list: the jobs for which all of them hold
    include: Any = None
    # queries, one or a list: not the jobs for which one of them holds
    exclude: Any = None
    # of jobs with the same configuration only the first
    dedupe: bool = False
    # so many of the jobs, at random
    sample: Optional[int] = None  # noqa: UP045
    # the same jobs for the same seed
    sample_seed: int = 0
    # how often each job is run, and by which key that counts from 0: {seed: 5}
    repeat: Optional[dict[str, int]] = None  # noqa: UP045
    # statuses, one or a list: no job whose configuration has such a run in the log directory, of the same code
    skip: Any = field(default_factory=list)
    # a run of other code, or of code that is not known, counts as well
    skip_any_code: bool = False
    # a run that failed, was cancelled or lost, or ran out of time, runs again in its own folder
    resume: bool = False


class _Unmade(ConfigNode):
    """Plain values, which become a configuration when Hydra first loads it: of eleven a program uses none or two."""

    def __init__(self, name: str, values: dict[str, Any], group: str, package: Optional[str]) -> None:  # noqa: UP045
        self.name, self.group, self.package, self.provider = name, group, package, "hydra-mlxp"
        self._values = values

    @cached_property
    def node(self) -> DictConfig:  # type: ignore[override]
        return OmegaConf.create(self._values)

    def __copy__(self) -> ConfigNode:  # what Hydra takes at each look, so that the configuration is made once
        return ConfigNode(self.name, self.node, self.group, self.package, self.provider)

    def __deepcopy__(self, _: Any) -> ConfigNode:  # each composition copies the whole store, and changes none in it
        return self


def register() -> None:
    """Make the groups known to Hydra, and the resolver that names run folders.

    Every Hydra program of the environment waits for this, so nothing is made of the groups that it does not choose.
    ``_global_``: a group may bring nodes other than its own (so on 1.3 and 1.4).
    """

    def store(group: str, name: str, values: dict[str, Any], package: Optional[str] = "_global_") -> None:  # noqa: UP045
        groups = ConfigStore.instance().repo
        for part in group.split("/"):
            groups = groups.setdefault(part, {})
        groups[f"{name}.yaml"] = _Unmade(f"{name}.yaml", values, group, package)

    # plain values and not the classes, which cost twice as much; types are checked at the launch
    folders = {"run": {"dir": f"{LOG_DIR}/{ID}"}, "sweep": {"dir": LOG_DIR, "subdir": ID}}
    store("hydra/callbacks", "mlxp", {"hydra": {"callbacks": {"mlxp": vars(CallbackConf())}, **folders}})
    store("hydra/callbacks", "mlxp_off", {"hydra": {"callbacks": {"mlxp": {**vars(CallbackConf()), "record": False}}}})
    shared = {key: value for key, value in vars(LauncherConf()).items() if key != "scheduler"}
    store("hydra/launcher", "_mlxp", {"defaults": ["/hydra/callbacks/mlxp", "_self_"], "hydra": {"launcher": shared}})
    store("hydra/sweeper", "mlxp", vars(SweeperConf()), package=None)
    for name in SCHEDULERS:
        # in the package of its group, which is hydra.launcher: the fewer nodes, the sooner a program starts
        store("hydra/launcher", f"mlxp_{name}", {"defaults": ["_mlxp"], "scheduler": name}, package=None)
    # OmegaConf 2.4 warns of register_new_resolver; its register_resolver is another one before
    is_new = [int(part) for part in omegaconf.__version__.split(".")[:2]] >= [2, 4]
    register_resolver: Any = OmegaConf.register_resolver if is_new else OmegaConf.register_new_resolver
    register_resolver("mlxp", resolve, replace=True)


def resolve(name: str, *, _root_: DictConfig) -> str:
    """Resolve ``${mlxp:run_id}``: the run's id, allocated the first time that a job of a multirun asks."""
    if name != "run_id":
        raise ValueError(f"${{mlxp:{name}}} means nothing: there is ${{mlxp:run_id}}")
    from ._run_dirs import run_id_of  # noqa: PLC0415

    return run_id_of(_root_)


register()
if "MLXP_SUB" in os.environ:  # set by mlxpsub
    from hydra_plugins.mlxp import _mlxpsub_hooks

    _mlxpsub_hooks.watch()
