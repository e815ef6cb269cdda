"""@mlxp.launch: a program that was written for MLXP, with its import line changed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support import Project, read_yaml

from mlxp_core.mlxp.data_structures.config_dict import ConfigDict

PROGRAM = """\
import json
import os
import random

import mlxp_core.mlxp as mlxp


@mlxp.launch(config_path="./configs", seeding_function=random.seed)
def train(ctx: mlxp.Context) -> None:
    config, logger = ctx.config, ctx.logger
    try:
        start = logger.load_checkpoint(log_name="last")["epoch"] + 1
    except Exception:
        start = 0
    if logger is not None:
        for epoch in range(start, config.num_epoch):
            logger.log_metrics({"loss": random.random() * config.optimizer.lr, "epoch": epoch}, log_name="train")
            logger.log_checkpoint({"epoch": epoch, "logger": logger, "config": config}, log_name="last")
    said = {"type": type(config).__name__, "cwd": os.getcwd(), "logger": logger is not None}
    if logger is not None:
        said |= {"id": logger.log_id, "dir": logger.log_dir, "info": ctx.info.info.status, "status": ctx.info["status"]}
    print(json.dumps({**said, "interactive": ctx.mlxp.mlxp.interactive_mode, "config": str(config)}))


if __name__ == "__main__":
    train()
"""
CONFIG = "seed: 0\nnum_epoch: 2\noptimizer:\n  lr: 10.\n"


@pytest.fixture
def program(project: Project) -> Project:
    project.write(**{"code/train.py": PROGRAM, "code/configs/config.yaml": CONFIG, ".gitignore": "logs/\nmine/\n"})
    project.commit()
    project.command[1:] = ["code/train.py"]
    return project


def logs(project: Project) -> Path:
    return project.dir / "code" / "logs"


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics/train.json").read_text().splitlines()]


def expected(seed: int, rate: float) -> list[float]:
    generator = random.Random(seed)
    return [generator.random() * rate for _ in range(2)]


def said(done: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_program_runs_as_it_did_and_its_runs_lie_where_mlxps_lay(program: Project) -> None:
    """Bug: another folder, another seed, a job at the time, or the configuration of no job."""
    done = program.run("seed=1,2", "optimizer.lr=10.,1.", "+mlxp.interactive_mode=False")
    assert [losses(logs(program) / str(number)) for number in (1, 2, 3, 4)] == [
        expected(1, 10.0), expected(1, 1.0), expected(2, 10.0), expected(2, 1.0)
    ]  # fmt: skip
    first = said(done)[0]
    assert (first["type"], first["cwd"], first["id"]) == ("ConfigDict", str(program.dir), 1)
    assert first["dir"] == str(logs(program) / "1")
    assert (first["info"], first["status"], first["interactive"]) == ("RUNNING", "RUNNING", False)
    config = read_yaml(logs(program) / "1" / "metadata" / "config.yaml")
    assert config == {"seed": 1, "num_epoch": 2, "optimizer": {"lr": 10.0}}
    info = read_yaml(logs(program) / "4" / "metadata" / "info.yaml")
    assert (info["status"], info["hydra"]["overrides"]) == ("COMPLETE", ["seed=2", "optimizer.lr=1.0"])
    assert done.stderr == ""


def test_settings_of_mlxp_are_heeded(program: Project) -> None:
    """Bug: results land elsewhere in silence, for they were said in MLXP's words."""
    program.write(**{"code/configs/mlxp.yaml": "logger:\n  parent_log_dir: ./mine\nas_ConfigDict: false\n"})
    (first,) = said(program.run())
    assert (first["dir"], first["type"]) == (str(program.dir / "code/mine/1"), "DictConfig")
    (second,) = said(program.run("+mlxp.logger.parent_log_dir=./other", "++mlxp.as_ConfigDict=true"))
    assert (second["dir"], second["type"]) == (str(program.dir / "code/other/1"), "ConfigDict")
    (third,) = said(program.run("+mlxp.logger.forced_log_id=7"))
    assert third["dir"] == str(program.dir / "code/mine/7")
    before = sorted(program.dir.rglob("*"))
    (fourth,) = said(program.run("+mlxp.use_logger=False"))
    assert fourth["logger"] is False
    assert sorted(program.dir.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+mlxp.loger.parent_log_dir=x"], "MLXP has no setting loger.parent_log_dir"),
        (["+mlxp.use_scheduler=True", "+mlxp.scheduler.name=OARScheduler"], "hydra/launcher=mlxp_oar"),
        (["+mlxp.logger.parent_log_dir=a,b"], "give one value"),
        (["~seed"], "no `seed`"),
        (["+mlxp.logger.name=json.JSONEncoder"], "derive it from mlxp.DefaultLogger"),
    ],
)
def test_what_has_no_meaning_is_refused(program: Project, arguments: list[str], message: str) -> None:
    """Bug: it is ignored, and jobs run here that were to be submitted."""
    assert message in program.run(*arguments, code=1).stderr


def test_a_checkpoint_holds_the_logger_and_the_next_attempt_goes_on(program: Project) -> None:
    """Bug of MLXP 1.0.5: a checkpoint is saved in one place and looked for in another."""
    program.run("+mlxp.logger.forced_log_id=7", "num_epoch=1")
    program.run("+mlxp.logger.forced_log_id=7")
    lines = (logs(program) / "7" / "metrics" / "train.json").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]


def test_jobs_of_a_launcher_are_the_same_program(program: Project) -> None:
    """Bug: MLXP's settings, or its habits, are lost on the way to the node."""
    program.run("seed=1,2", "+mlxp.as_ConfigDict=false", "hydra/launcher=mlxp_local", "hydra.launcher.wait=true")
    assert [losses(logs(program) / str(number)) for number in (1, 2)] == [expected(1, 10.0), expected(2, 10.0)]
    script = (logs(program) / "1" / "script.sh").read_text()
    assert "train.py" in script
    assert json.loads((logs(program) / "1" / "log.stdout").read_text())["type"] == "DictConfig"


def test_a_configuration_is_a_dict_with_attributes() -> None:
    """Bug: a nested mapping that is none, or one that cannot be changed, copied or saved."""
    config = ConfigDict({"a": 1})
    config.update({"b": {"c": [{"d": 2}]}})
    config.b.c[0].d += 1
    config.e = 4
    assert config.to_dict() == {"a": 1, "b": {"c": [{"d": 3}]}, "e": 4}
    assert (config["b"].c[0].d, getattr(config, "nope", None)) == (3, None)
    assert repr(config) == "a: 1\nb:\n  c:\n  - d: 3\ne: 4\n"
