"""A small honest training: a network with one hidden layer learns two interleaved half-moons, in plain Python.

Nothing here is about hydra-mlxp but the lines with `run`: metrics for each epoch, a checkpoint to resume from, the
weights as an artifact. Started again after it was stopped, a job goes on from its last checkpoint.
"""

import math
import random

import hydra
from omegaconf import DictConfig

from mlxp_core import current_run


def half_moons(number: int, noise: float, rng: random.Random) -> list[tuple[float, float, int]]:
    points = []
    for index in range(number):
        angle, label = math.pi * rng.random(), index % 2
        x, y = (math.cos(angle), math.sin(angle)) if label else (1 - math.cos(angle), 0.5 - math.sin(angle))
        points.append((x + rng.gauss(0, noise), y + rng.gauss(0, noise), label))
    return points


class Network:
    """tanh(points @ W + b) @ v + c, by stochastic gradient descent on the logistic loss."""

    def __init__(self, hidden: int, rng: random.Random) -> None:
        self.units = [[rng.gauss(0, 1), rng.gauss(0, 1), 0.0, rng.gauss(0, 0.1)] for _ in range(hidden)]
        self.bias = 0.0

    def logit(self, x: float, y: float) -> tuple[float, list[float]]:
        active = [math.tanh(wx * x + wy * y + b) for wx, wy, b, _ in self.units]
        return sum(a * unit[3] for a, unit in zip(active, self.units, strict=True)) + self.bias, active

    def step(self, x: float, y: float, label: int, lr: float) -> None:
        logit, active = self.logit(x, y)
        slope = lr * (1 / (1 + math.exp(-max(-500.0, min(500.0, logit)))) - label)
        for a, unit in zip(active, self.units, strict=True):
            inner = slope * unit[3] * (1 - a * a)
            unit[0] -= inner * x
            unit[1] -= inner * y
            unit[2] -= inner
            unit[3] -= slope * a
        self.bias -= slope

    def evaluate(self, points: list[tuple[float, float, int]]) -> dict[str, float]:
        logits = [(self.logit(x, y)[0], label) for x, y, label in points]
        # log(1 + exp(-z)), which for a large -z is -z
        losses = [max(-z, 0) + math.log1p(math.exp(-abs(z))) for z in (z if label else -z for z, label in logits)]
        right = sum((z > 0) == bool(label) for z, label in logits)
        return {"loss": sum(losses) / len(points), "accuracy": right / len(points)}


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    run = current_run()
    rng = random.Random(cfg.seed)
    train = half_moons(cfg.data.train, cfg.data.noise, random.Random(1))
    test = half_moons(cfg.data.test, cfg.data.noise, random.Random(2))
    try:
        network, epoch, state = run.load_checkpoint()
        rng.setstate(state)
        print(f"going on after epoch {epoch}")
    except FileNotFoundError:
        network, epoch = Network(cfg.model.hidden, rng), 0
    while epoch < cfg.epochs:
        for x, y, label in rng.sample(train, len(train)):
            network.step(x, y, label, cfg.optimizer.lr)
        epoch += 1
        run.log_metrics({"epoch": epoch, **network.evaluate(train)}, log_name="train")
        run.log_metrics({"epoch": epoch, **network.evaluate(test)}, log_name="test")
        run.log_checkpoint((network, epoch, rng.getstate()))
        if run.stop_requested:  # a time limit is near: the next attempt goes on from here
            return math.nan
    run.log_artifacts({"units": network.units, "bias": network.bias}, "weights.json", "json")
    return network.evaluate(test)["loss"]


if __name__ == "__main__":
    main()
