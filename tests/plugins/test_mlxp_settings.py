"""MLXP's settings in a project that was ported to @hydra.main: said, or refused, and never ignored in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from support import Project

from hydra_plugins.mlxp._mlxp_settings import check_settings
from hydra_plugins.mlxp._names import CALLBACK, LAUNCHER
from mlxp_core import migrate

# of MLXP 1.0.5's schemas and of those before 1.0: what a user may set, by its own name
OF_MLXP = {
    "logger": {"name", "parent_log_dir", "forced_log_id", "log_streams_to_file"},
    "version_manager": {"name", "parent_work_dir", "compute_requirements"},
    "scheduler": {"name", "shell_path", "shell_config_cmd", "env_cmd", "cleanup_cmd", "option_cmd"},
    "": {"use_version_manager", "use_scheduler", "use_logger", "interactive_mode", "resolve", "as_ConfigDict"},
}


def test_every_setting_of_mlxp_has_its_new_name() -> None:
    """Bug: a setting that the table leaves out, and that is ignored for that."""
    names = {f"{group}.{name}".lstrip(".") for group, names in OF_MLXP.items() for name in names}
    assert set(migrate.SETTINGS) == names
    assert all(name in migrate.table() for name in names)


class Composed:
    """A composed configuration of a project with the settings of MLXP's in its file, or on its command line."""

    def __init__(self, folder: Path, file: str | None, **nodes: Any) -> None:
        self.folder = folder
        sources = [{"path": str(folder), "schema": "file", "provider": "main"}, {"schema": "pkg", "provider": "hydra"}]
        hydra = {
            "run": {"dir": "{log_dir}/{id}"},
            "sweep": {"dir": "{log_dir}", "subdir": "{id}"},
            "runtime": {"cwd": str(folder), "config_sources": sources},
            "job": {"env_set": {}},
            "launcher": {"_target_": "basic"},
            "callbacks": {"mlxp": {"_target_": CALLBACK, "log_dir": "logs"}},
            "overrides": {"hydra": []},
        }
        sources[1]["path"] = "hydra.conf"
        if file is not None:
            (folder / "mlxp.yaml").write_text(file)
        config = OmegaConf.create({"seed": 1, "hydra": hydra})
        self.config: DictConfig = OmegaConf.merge(config, nodes)  # type: ignore[assignment]


@pytest.mark.parametrize("node", ["run", "sweep"])
@pytest.mark.parametrize(
    ("settings", "becomes"),
    [
        ({"logger": {"parent_log_dir": "./data/outputs"}}, "hydra.callbacks.mlxp.log_dir=./data/outputs"),
        ({"logger": {"forced_log_id": 7}}, "hydra.run.dir=logs/7"),
        ({"use_logger": False}, "hydra/callbacks=mlxp_off"),
        ({"use_scheduler": True, "scheduler": {"name": "OARScheduler"}}, "hydra/launcher=mlxp_oar"),
    ],
)
def test_what_would_be_elsewhere_is_refused_with_its_new_name(
    tmp_path: Path, settings: dict[str, Any], becomes: str, node: str
) -> None:
    """Bug: `+mlxp.logger.parent_log_dir=…` is ignored, and results lie where nobody looks for them."""
    in_file = Composed(tmp_path, OmegaConf.to_yaml(OmegaConf.create(settings)))
    for composed in (in_file, Composed(tmp_path / "other", None, mlxp=settings)):
        with pytest.raises(SystemExit, match=f"^ConfigurationError: (.|\n)* -> {becomes}\n"):
            check_settings(composed.config, node)


@pytest.mark.parametrize(
    ("settings", "nodes"),
    [
        ("logger:\n  parent_log_dir: ./logs\n  forced_log_id: -1\nuse_logger: true\n", {}),
        ("logger:\n  parent_log_dir: ./mine\n", {"hydra": {"callbacks": {"mlxp": {"log_dir": "mine"}}}}),
        ("logger:\n  parent_log_dir: ./mine\n", {"hydra": {"run": {"dir": "x/{id}"}, "sweep": {"dir": "x"}}}),
        (
            "logger:\n  parent_log_dir: ./mine\n",
            {
                "hydra": {
                    "callbacks": {"mlxp": {"log_dir": "x"}},
                    "overrides": {"hydra": ["hydra.callbacks.mlxp.log_dir=x"]},
                }
            },
        ),
        ("use_scheduler: true\n", {"hydra": {"launcher": {"_target_": LAUNCHER, "log_dir": "logs"}}}),
        ("logger:\n  forced_log_id: 7\n", {"hydra": {"job": {"env_set": {"MLXP_SETTINGS": "{}"}}}}),
        ("other: 1\nlogger: 2\n", {}),
        (None, {"mlxp": "a value of the user's own"}),
        (None, {"mlxp": {"depth": 3, "width": 7}}),
    ],
)
@pytest.mark.parametrize("node", ["run", "sweep"])
def test_what_happens_anyway_or_is_not_mlxps_is_no_reason_to_refuse(
    tmp_path: Path, settings: str | None, nodes: dict[str, Any], node: str
) -> None:
    """Bug: a program ends for a file that says nothing new, or for a model that is called mlxp."""
    check_settings(Composed(tmp_path, settings, **nodes).config, node)


@pytest.mark.parametrize("text", ["", "---\n\n# logger:\n#   parent_log_dir: ./mine\n", "- a\n", "a: [\n", "\0"])
def test_a_file_that_holds_no_settings_is_no_reason_to_refuse(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: Hydra warns of an error of ours, and the run lies in a folder that is called `{log_dir}`."""
    check_settings(Composed(tmp_path, text).config, "run")
    told = [message for message in caplog.messages if f"{tmp_path}/mlxp.yaml" in message]
    assert len(told) == (text[:3] not in {"", "---"})


def test_the_rest_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: a setting is ignored without a word; or a file of MLXP's defaults is a screen of warnings."""
    check_settings(Composed(tmp_path, "use_version_manager: false\nresolve: true\n").config, "run")
    assert caplog.messages == []
    check_settings(Composed(tmp_path, "interactive_mode: false\nresolve: true\n").config, "run")
    assert [message.splitlines()[1:] for message in caplog.messages] == [
        [f"  {tmp_path}/mlxp.yaml: mlxp.interactive_mode=False -> {migrate.SETTINGS['interactive_mode'].becomes}"]
    ]


def test_a_program_ends_before_it_makes_a_folder(project: Project) -> None:
    """Bug: the runs of the night are in ./logs, and the disk of ./data is empty."""
    for arguments in (["seed=1"], ["-m", "seed=1,2"], ["-m", "seed=1", "hydra/launcher=mlxp_local"]):
        done = project.run(*arguments, "hydra/callbacks=mlxp", "+mlxp.logger.parent_log_dir=./data", code=1)
        assert "mlxp.logger.parent_log_dir=./data -> hydra.callbacks.mlxp.log_dir=./data" in done.stderr
    assert not project.logs.exists()
