"""What a digest says of a run's metrics and artifacts. That it is what the reader takes: reader/load/test_digest.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxp_core.runs import digest
from mlxp_core.runs.layout import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with two logs, and files among them that are none."""
    made = RunDir(tmp_path)
    made.metadata.mkdir()
    made.metric_keys.mkdir(parents=True)
    for name, keys in (("val", [["acc", "number"]]), ("a b", [["x", "number"], ["y", "other"], ["x", "other"]])):
        made.metric_file(name).touch()
        made.metric_keys_file(name).write_text("".join(json.dumps(key) + "\n" for key in keys))
    for name in ("notes.txt", ".hidden.json", "train.json.swp", ".continued"):
        (made.metrics / name).touch()
    (made.artifacts / "json").mkdir(parents=True)
    (made.artifacts / "json" / "a.json").touch()
    return made


def test_keys_are_listed_of_logs_alone_and_a_number_once_other_is_mixed(run: RunDir) -> None:
    """Bug: a user's notes beside the metrics, and the digest says nothing of them any more."""
    assert digest._keys(run) == [("a b", [("x", "mixed"), ("y", "other")]), ("val", [("acc", "number")])]


def lines(run: RunDir) -> list[object]:
    """The digest's own line, forms of config.yaml and info.yaml, logs, artifacts."""
    return [json.loads(line) for line in run.digest.read_text().splitlines()]


@pytest.mark.parametrize("ended", [False, True])
def test_metrics_and_artifacts_are_listed_once_the_run_has_ended(run: RunDir, *, ended: bool) -> None:
    """Bug: what a run logs while it goes on is in no column; or every reader lists the folders of a thousand runs."""
    config = digest.write_config(run, {"lr": 0.1})
    digest.write_info(run, {"status": "COMPLETE"}, config=config, ended=ended)
    own, _, _, logs, artifacts = lines(run)
    assert isinstance(own, dict)
    assert [own[part] is not None for part in ("metrics", "artifacts")] == [ended, ended]
    listed = [["a b", [["x", "mixed"], ["y", "other"]]], ["val", [["acc", "number"]]]]
    assert logs == (listed if ended else None)
    assert artifacts == (["json/a.json"] if ended else None)
    assert (own["config"]["values"], own["info"]["values"], own["script"]) == ([0.1], ["COMPLETE"], False)


def test_what_was_said_of_the_configuration_stays(run: RunDir) -> None:
    """Bug: at a job's end the digest forgets the configuration, or says that of another version."""
    digest.write_info(run, {"status": "PENDING"}, config=digest.write_config(run, {"lr": 0.1}))
    digest.write_info(run, {"status": "COMPLETE"}, ended=True)
    own, config_form, info_form, *_ = lines(run)
    assert isinstance(own, dict)
    assert (own["config"]["values"], config_form, info_form) == ([0.1], {"lr": None}, {"status": None})


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{",
        "[]\n{}\n",
        "3\n{}\n",
        '{"config": 1}\n{}\n',
        '{"version": "0", "config": {"values": [2]}}\n{"lr": null}\n',
        f'{{"version": {json.dumps(digest.VERSION)}, "config": 1}}\n',
        f'{{"version": {json.dumps(digest.VERSION)}, "config": 1}}\n{{\n',
        f'{{"version": {json.dumps(digest.VERSION)}}}\n{{}}\n',
        "[" * 100_000 + "\n{}\n",
    ],
)
def test_a_digest_that_cannot_be_used_is_written_anew_without_the_configuration(
    run: RunDir, content: str | None
) -> None:
    """Bug: a job that ends with an error, as a file that only saves time was cut short; or a part of it is kept."""
    if content is not None:
        run.digest.write_text(content)
    digest.write_info(run, {"status": "COMPLETE"}, ended=True)
    own, config_form, info_form, *_ = lines(run)
    assert isinstance(own, dict)
    assert (own["config"], config_form, info_form) == (None, None, {"status": None})


@pytest.mark.parametrize("line", ["3", '{"a": 1}', '[["a"], "number"]', '["a"]', "null", "[" * 100_000, "\x00"])
def test_whatever_a_list_of_keys_holds_the_end_is_recorded(run: RunDir, line: str) -> None:
    """Bug: a training that ends with TypeError, for a disk was full when its keys were written."""
    run.metric_keys_file("val").write_text(f"{line}\n")
    digest.write_info(run, {"status": "COMPLETE"}, ended=True)
    assert run.info.read_text() == "status: COMPLETE\n"
    assert not run.digest.exists() or lines(run)[3] is None
