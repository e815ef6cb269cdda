"""The callback ``hydra/callbacks=mlxp``: a door. Hydra's calls come in, the recording is done elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig


class MlxpCallback(Callback):
    """Gives every run a numbered folder, and records how it starts and ends."""

    # of one that an earlier version has pickled, for a job that waits
    snapshot, log_streams, record = "auto", True, True

    def __init__(
        self,
        log_dir: str,
        snapshot: str = "auto",
        log_streams: bool = True,  # noqa: FBT001, FBT002  (Hydra gives keywords)
        record: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        """``log_dir`` is what ``{log_dir}`` stands for in ``hydra.run.dir`` and ``hydra.sweep.dir``."""
        from ._callbacks import watch  # noqa: PLC0415

        self.log_dir, self.snapshot = log_dir, snapshot
        self.log_streams, self.record = log_streams, record
        watch()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a worker of a launcher such as joblib's, the callback arrives as a pickle."""
        from ._callbacks import watch  # noqa: PLC0415

        self.__dict__.update(state)
        watch()

    def on_run_start(self, config: DictConfig, **given: Any) -> None:
        """Choose the run's folder, before Hydra makes it."""
        from ._callbacks import on_run_start  # noqa: PLC0415

        on_run_start(config, given.get("config_name"), record=self.record)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Choose the log directory, before the sweeper and the launcher look for it."""
        from ._callbacks import on_multirun_start  # noqa: PLC0415

        on_multirun_start(config, record=self.record)

    def on_job_start(self, config: DictConfig, **given: Any) -> None:
        """Open the run: RUNNING."""
        from ._callbacks import on_job_start  # noqa: PLC0415

        on_job_start(
            config, given.get("task_function"), self.snapshot, record=self.record, log_streams=self.log_streams
        )

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:  # noqa: ARG002
        """Close the run: COMPLETE or FAILED."""
        from ._callbacks import on_job_end  # noqa: PLC0415

        on_job_end(job_return)
