"""Which keys of a log count its steps."""

from __future__ import annotations

import pytest

from mlxp_core.runs.steps import step_keys


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["loss", "step"], ["step"]),
        (["epoch", "loss", "step"], ["step", "epoch"]),  # the finest first
        (["trainer/global_step", "epoch"], ["trainer/global_step", "epoch"]),
        (["_step", "_runtime"], ["_step"]),
        (["Epoch"], ["Epoch"]),
        (["time/iterations", "time/total_timesteps"], ["time/total_timesteps", "time/iterations"]),
        (["batch_idx", "epoch", "current_epoch"], ["epoch", "current_epoch", "batch_idx"]),
        (["env_steps", "Round", "num_iters", "global_step"], ["global_step", "env_steps", "num_iters", "Round"]),
        (
            ["loss", "steps_to_solve", "stepwise", "epochs", "train_loss_step", "loss_epoch", "step/loss", "step_time"],
            [],
        ),
        ([], []),
    ],
)
def test_step_keys_are_found_as_loggers_spell_them(keys: list[str], expected: list[str]) -> None:
    """Bug: curves aligned by epoch where there are steps; or a metric whose name begins with `step` taken for one."""
    assert step_keys(keys) == expected
