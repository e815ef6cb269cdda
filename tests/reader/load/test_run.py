"""Reading one run: its status, and files that are corrupt, no files, or of any bytes."""

from __future__ import annotations

import json
import os
import socket

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.reader import Reader, scan_runs


@pytest.mark.parametrize(
    "garbage",
    [
        b"a: [1",
        b"\xff\xfe\x00",
        b"",
        b"just text",
        b"- 1\n",
        b"a: !!python/object/apply:os.system ['touch /tmp/owned']",
        b"a: !!bool x",
        b"a: !!timestamp x",
        b"a: !!int ''",
        b"a: 2024-99-99",
        b"a: &x [*x]",
        b"a: &x {b: *x}",
        (
            b"a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
            b"c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
            b"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e]"
        ),
    ],
)
@pytest.mark.parametrize("file", ["config", "info"])
def test_a_corrupt_yaml_leaves_the_row_and_is_reported(logs, file, garbage):
    """Catches: one bad file that takes the table down, a run that vanishes without a word, code that is executed."""
    logs.run(1, {"x": 1})
    bad = logs.run(2, {"x": 2}, {"status": "COMPLETE", "hostname": "n2"}) / f"metadata/{file}.yaml"
    bad.write_bytes(garbage)
    frame = scan_runs(logs.path).collect()
    assert frame["id"].to_list() == [1, 2]
    assert frame["config.x"].to_list() == ([1, None] if file == "config" else [1, 2])
    assert frame["info.status"].to_list() == (["COMPLETE", None] if file == "info" else ["COMPLETE", "COMPLETE"])
    (problem,) = Reader(logs.path).problems
    assert problem.path == str(bad)
    assert problem.what.startswith("cannot be read: ")


def test_a_pipe_in_place_of_a_file_does_not_hang_the_reader(logs):
    """Catches: opening whatever has the name."""
    run = logs.run(1)
    (run / "metadata/config.yaml").unlink()
    os.mkfifo(run / "metadata/config.yaml")
    assert logs.column("id") == [1]


def test_status_is_what_the_whole_folder_says(logs):
    """Catches: the raw field of info.yaml shown as the status, so that a killed run says RUNNING for ever."""
    for name in range(1, 6):
        logs.run(name, info={"status": "RUNNING", "hostname": "elsewhere"})
    (logs.path / "1/metadata/exit_code").write_text("0\n")
    (logs.path / "2/metadata/exit_code").write_text("137\n")
    (logs.path / "3/metadata/submission.yaml").write_text("state: TIMEOUT\n")
    (logs.path / "4/metadata/exit_code").write_text("")
    (logs.path / "5/metadata/submission.yaml").write_text("state: [odd]\n")
    # a process that was started before this one has this pid, so the run's own is gone
    logs.run(
        6, info={"status": "RUNNING", "hostname": socket.gethostname(), "process_id": os.getpid(), "process_start": 1}
    )
    logs.run(7, info={"status": ["odd"]})
    expected = ["COMPLETE", "FAILED", "TIMEOUT", "RUNNING", "RUNNING", "LOST", "PENDING"]
    assert logs.column("info.status") == expected


@pytest.mark.parametrize("status", [7, ["odd"], {"a": 1}, "UNHEARD OF", None])
def test_a_status_that_is_none_is_pending_and_leaves_no_column_of_its_own(logs, status):
    """Catches: the raw field deciding the type of the column, or making others beside it."""
    logs.run(1, info={"status": status})
    frame = scan_runs(logs.path).collect()
    assert frame.columns == ["id", "path", "info.status"]
    assert frame["info.status"].to_list() == ["PENDING"]


@pytest.mark.parametrize("odd", ["x", [1], {"a": 1}, None])
@pytest.mark.parametrize("recorded", ["COMPLETE", "RUNNING"])
def test_a_number_of_an_attempt_that_is_none_counts_as_the_first(logs, odd, recorded):
    """Catches: TypeError of every query, for what one run's files say."""
    run = logs.run(1, info={"status": recorded, "attempt": odd, "hostname": "elsewhere"})
    (run / "metadata/submission.yaml").write_text(json.dumps({"state": "TIMEOUT", "attempt": odd}))
    assert logs.column("info.status") == ["COMPLETE" if recorded == "COMPLETE" else "TIMEOUT"]


@given(
    config=st.binary(max_size=60),
    info=st.binary(max_size=60) | st.sampled_from([b"status: COMPLETE", b"status: [a]", b"process_id: x"]),
    others=st.lists(st.binary(max_size=40), min_size=4, max_size=4),
)
@examples(150)
@pytest.mark.filterwarnings("ignore")  # what libyaml says of odd text is not the matter here
def test_no_bytes_in_any_file_stop_the_reader(new_logs, config, info, others):
    """Catches: an exception that a parser may raise and nobody thought of."""
    logs = new_logs()
    run = logs.run(1, metrics={"train": []})
    good = logs.run(2, {"x": 1})
    (run / "metadata/config.yaml").write_bytes(config)
    (run / "metadata/info.yaml").write_bytes(info)
    names = ["metrics/train.json", "metrics/.keys/train.json", "metadata/exit_code", "metadata/submission.yaml"]
    for name, content in zip(names, others, strict=True):
        (run / name).write_bytes(content)
    reader = Reader(logs.path)
    frame = reader.filter().collect()
    assert frame["path"].to_list() == [str(run), str(good)]
    assert frame["config.x"].to_list()[1] is not None
    assert isinstance(reader.problems, list)
