"""The digest that jobs leave saves time and says nothing of its own: whatever becomes of it, the YAML's word counts."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import yaml
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.reader import Reader, scan_runs
from mlxp_core.reader.load import run as folders
from mlxp_core.recording.lifecycle import start_run
from mlxp_core.runs import digest
from mlxp_core.runs.layout import RunDir


def write(logs, config=None, info=None, *, ended=True, name=1):
    """A run as jobs write it."""
    run = RunDir(logs.path / str(name))
    run.metadata.mkdir(parents=True, exist_ok=True)
    written = digest.write_config(run, {"x": 1} if config is None else config)
    digest.write_info(run, {"status": "COMPLETE"} if info is None else info, config=written, ended=ended)
    return run


def row(logs):
    return scan_runs(logs.path).collect().to_dicts()[0]


def opened(logs):
    """The one row, and the files of metadata and metrics that were opened for it."""
    with logs.files_opened() as names:
        frame = scan_runs(logs.path).collect()
    return frame.to_dicts()[0], sorted({os.path.basename(name) for name in names if "/metadata/" in name})


def test_a_run_with_a_digest_is_read_without_its_yaml(logs, monkeypatch):
    """Bug: a digest that is written and not used, or whose values, artifacts or keys of metrics are others."""
    with start_run(logs.path, {"x": 1, "a": {"b": [1, 2.5], "none": None, "empty": {}}, "text": "é\n"}) as run:
        run.log_metrics({"loss": 1.5, "note": "n"}, log_name="train")
        run.log_artifacts({"w": 1}, "weights", "json")
    with logs.files_opened() as names, monkeypatch.context() as patch:
        patch.setattr(folders, "artifact_files", lambda path: pytest.fail(f"{path} was listed"))
        seen = scan_runs(logs.path).collect().to_dicts()[0]
    files = [name for name in names if name.startswith("1/")]
    assert {name for name in files if "metadata" in name} == {"1/metadata/digest.jsonl"}
    assert not [name for name in files if ".keys" in name]
    os.unlink(logs.path / "1/metadata/digest.jsonl")
    assert row(logs) == seen
    assert (seen["config.x"], seen["config.a.b"], seen["config.text"]) == (1, [1.0, 2.5], "é\n")
    assert (seen["info.status"], seen["train.loss"], seen["train.note"]) == ("COMPLETE", [1.5], ["n"])
    assert seen["artifact.json.weights"] == str(logs.path / "1/artifacts/json/weights")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
# of characters that YAML carries; the point is the types and the names
names = st.text("ab.1é", min_size=1, max_size=3)
configs = st.dictionaries(names, st.recursive(plain, lambda one: st.dictionaries(names, one, max_size=3)), max_size=4)


@examples(60)
@given(configs)
def test_what_a_digest_says_is_what_the_yaml_says(new_logs, config):
    """Bug: a type, a name that two values claim, a large number or an empty mapping that the two disagree about."""
    logs = new_logs()
    run = write(logs, config)
    frame, problems = scan_runs(logs.path).collect(), Reader(logs.path).problems
    run.digest.unlink()
    text = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    if text != config and text == text:  # YAML has not carried it: not what is tested  # noqa: PLR0124
        return
    again = scan_runs(logs.path).collect()
    assert again.schema == frame.schema
    assert again.equals(frame)
    assert Reader(logs.path).problems == problems


def in_place(path, text):
    path.write_text(text)


def by_rename(path, text):
    path.with_name("new").write_text(text)
    path.with_name("new").rename(path)


def with_time_put_back(path, text):
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [in_place, by_rename, with_time_put_back])
@pytest.mark.parametrize("text", ["x: 2\n", "x: 22\n"])
def test_a_yaml_that_was_edited_by_hand_wins(logs, change, text):
    """Bug: the digest's word over that of a file of the same length, or the same time, or under a new inode."""
    run = write(logs)
    assert row(logs)["config.x"] == 1
    change(run.config, text)
    assert row(logs)["config.x"] == int(text[3:])
    change(run.info, "status: FAILED\n")
    assert (row(logs)["info.status"], row(logs)["config.x"]) == ("FAILED", int(text[3:]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text[:-1],
        lambda text: text.replace('"version":1', '"version":2'),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace('"script":false', '"script":true').replace('"submission":null', '"submission":[1]'),
        lambda text: text.replace('"values":[1]', '"values":[1,2]'),
        lambda text: text.replace('"values":[1]', '"values":{"x":2}'),
        lambda text: text.replace('{"x":null}', "[]").replace('{"status":null}', "3"),
        lambda text: text.replace('{"x":null}', '{"x":5}'),
        lambda text: text.replace('"config":{', '"config":[{'),
        lambda text: "[]\n" * 5,
        lambda text: "{}\n" * 5,
        lambda text: '{"version":1}\n' * 5,
        lambda text: "[" * 100_000 + "\n" * 5,
        lambda text: "\x00" * 100,
    ],
)
def test_a_digest_that_is_torn_or_no_digest_is_not_used(logs, spoil):
    """Bug: a crash, or wrong answers, for a digest that a power cut, a full disk or another version left."""
    run = write(logs)
    before = row(logs)
    run.digest.write_text(spoil(run.digest.read_text()))
    assert row(logs) == before
    assert Reader(logs.path).problems == []


def test_an_end_takes_nothing_over_from_a_digest_of_another_version(logs):
    """Bug: what another version wrote under this one's number, after an upgrade between start and end."""
    run = write(logs)
    run.digest.write_text(run.digest.read_text().replace('"version":1', '"version":2'))
    digest.write_info(run, {"status": "COMPLETE"}, ended=True)
    assert json.loads(run.digest.read_text().splitlines()[0])["config"] is None
    assert row(logs)["config.x"] == 1


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo])
def test_a_digest_that_is_no_file_is_not_used(logs, make):
    """Bug: a pipe that is waited for."""
    run = write(logs)
    run.digest.unlink()
    make(run.digest)
    assert row(logs)["config.x"] == 1


def test_a_later_attempt_wins_over_the_digest_of_an_earlier_one(logs):
    """Bug: COMPLETE, or the metrics of before, for a run that runs again and whose begin leaves the digest as it is."""
    run = write(logs)
    logs.log(run.path, "train", [{"loss": 1}])
    digest.write_info(run, {"status": "COMPLETE", "attempt": 1}, ended=True)
    assert row(logs)["train.loss"] == [1.0]
    by_rename(run.info, "status: RUNNING\nattempt: 2\nhostname: elsewhere\n")
    run.metrics.rename(run.metadata / "aside")
    logs.log(run.path, "train", [{"acc": 2}])
    seen, files = opened(logs)
    assert seen["info.status"] == "RUNNING"
    assert seen["train.acc"] == [2.0]
    assert "train.loss" not in seen
    assert "config.yaml" not in files  # which the digest still knows


def test_status_is_derived_of_the_whole_folder_also_with_a_digest(logs):
    """Bug: the status in the digest for that of the run: a scheduler's word, an exit code of a later attempt."""
    run = RunDir(logs.path / "1")
    run.metadata.mkdir(parents=True)
    run.script.write_text("true\n")
    write(logs, info={"status": "CANCELLED", "attempt": 1})
    assert row(logs)["info.status"] == "CANCELLED"
    run.submission.write_text("state: TIMEOUT\nattempt: 1\n")
    assert row(logs)["info.status"] == "TIMEOUT"
    write(logs, info={"status": "CANCELLED", "attempt": 1})  # whose digest knows the scheduler's word
    seen, files = opened(logs)
    assert (seen["info.status"], files) == ("TIMEOUT", ["digest.jsonl"])
    run.submission.write_text("state: PREEMPTED\nattempt: 1\n")
    assert row(logs)["info.status"] == "PREEMPTED"
    run.exit_code.write_text("1 2\n")
    assert row(logs)["info.status"] == "FAILED"


def test_logs_keys_and_artifacts_that_come_later_are_seen(logs):
    """Bug: the digest's lists for ever, when an evaluation adds a metric file or an artifact afterwards."""
    run = write(logs)
    (run.artifacts / "json").mkdir(parents=True)
    run.artifact_file("json", "a").write_text("1")
    digest.write_info(run, {"status": "COMPLETE"}, ended=True)
    assert row(logs)["artifact.json.a"] is not None
    logs.log(run.path, "eval", [{"acc": 1}])
    run.artifact_file("json", "b").write_text("2")  # into a folder that was there
    seen = row(logs)
    assert seen["eval.acc"] == [1.0]
    assert seen["artifact.json.b"] == str(run.artifact_file("json", "b"))


def test_a_copy_is_read_by_its_digests_and_only_as_far_as_it_is_the_same(logs, tmp_path, monkeypatch):
    """Bug: the digest's word for a file that was edited on another disk; or YAML parsed in each copy."""
    write(logs)
    write(logs, {"x": 2}, name=2)
    shutil.copytree(logs.path, tmp_path / "copy")
    (tmp_path / "copy/2/metadata/config.yaml").write_text("x: 5\n")
    parsed = []
    load = folders._load
    monkeypatch.setattr(folders, "_load", lambda path, prefix: parsed.append(path) or load(path, prefix))
    frame = scan_runs(tmp_path / "copy").collect()
    assert set(parsed) == {str(tmp_path / "copy/2/metadata/config.yaml")}
    assert frame["config.x"].to_list() == [1, 5]
    assert frame["path"].to_list() == [str(tmp_path / "copy/1"), str(tmp_path / "copy/2")]


def test_what_json_has_no_words_for_is_left_to_the_yaml(logs):
    """Bug: {1: a, "1": b} with one of the two gone, since both are "1" in JSON."""
    run = write(logs, {"d": {1: "a", "1": "b"}})
    assert json.loads(run.digest.read_text().splitlines()[0])["config"] is None
    assert [problem.what for problem in Reader(logs.path).problems] == [
        "two values claim config.d.1; the deeper one counts"
    ]


def test_a_yaml_that_is_gone_is_gone(logs):
    """Bug: a run that lives on in its digest."""
    run = write(logs)
    run.config.unlink()
    assert "config.x" not in row(logs)
    run.info.unlink()
    assert scan_runs(logs.path).collect().height == 0


@pytest.mark.parametrize("facts", ['"facts":3', '"facts":[["job_id","8"]]', '"fact":{}', '"facts":null'])
def test_what_a_digest_says_of_the_submission_is_used_only_where_it_is_as_written(logs, facts):
    """Bug: AttributeError for all runs, as the digest of one says of its submission what we do not write."""
    run = write(logs)
    run.submission.write_text("{scheduler: slurm, job_id: '7', time: '2026-11-25T18:00:00+00:00'}")
    digest.write_info(run, {"status": "COMPLETE"}, ended=True)
    text = run.digest.read_text()
    before = row(logs)
    start = text.index('"facts":{')
    run.digest.write_text(text[:start] + facts + text[text.index("}", start) + 1 :])
    assert row(logs) == before
    assert Reader(logs.path).problems == []
