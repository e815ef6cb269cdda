"""Times of runs that were written in several zones, by several programs; and the scheduler's words beside them."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone

import polars as pl
import pytest
import yaml
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.reader import Reader, scan_runs
from mlxp_core.reader.cache import run_cache
from mlxp_core.reader.load import file_cache
from mlxp_core.reader.load import run as folders
from mlxp_core.reader.load.info_fields import times_of
from mlxp_core.runs import digest
from mlxp_core.runs.layout import RunDir

UTC = timezone.utc
TIME = pl.Datetime("us", "UTC")
SUBMISSION = {
    "scheduler": "slurm",
    "job_id": "4711",
    "array_index": 3,
    "name": "lr-sweep",
    "hostname": "login1",
    "time": "2026-11-30T00:00:00+00:00",
}


@pytest.fixture
def zone(monkeypatch):
    """Put this machine into a time zone."""

    def change(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


def forget():
    """Empty the caches of the process."""
    run_cache._caches.clear()
    for cache in (folders._info_files, folders._config_files, folders._submission_files):
        cache._values.clear()


def moment(day, hour, minute=0, second=0, microsecond=0):
    return datetime(2026, 11, day, hour, minute, second, microsecond, tzinfo=UTC)


def test_times_of_several_zones_sort_and_compare_as_moments(logs):
    """Bug: text with the writer's offset: the Tokyo run of 01:30 on the 30th is after the UTC run of 23:00."""
    logs.run(1, info={"status": "COMPLETE", "start_time": "2026-11-30T01:30:00.5+09:00"})
    logs.run(2, info={"status": "COMPLETE", "start_time": "2026-11-29T23:00:00+00:00"})
    logs.run(3, info={"status": "COMPLETE", "start_time": "2026-11-29T10:00:00-05:00"})
    logs.run(4)
    frame = scan_runs(logs.path).collect()
    assert frame.schema["info.start_time"] == TIME
    # 01:30 in Tokyo is 16:30 in UTC of the day before, 10:00 in New York 15:00
    expected = [moment(29, 16, 30, 0, 500_000), moment(29, 23), moment(29, 15), None]
    assert frame["info.start_time"].to_list() == expected
    runs = Reader(logs.path).filter()
    assert [run["id"] for run in runs.sort("info.start_time")] == [3, 1, 2, 4]
    assert runs[0]["info.start_time"] == expected[0]
    newest = pl.col("info.start_time") > moment(29, 16)
    assert runs.where(newest).collect()["id"].to_list() == [1, 2]


def test_a_duration_is_in_seconds_from_start_to_end(logs):
    """Bug: hours apart for two zones; no column before the first run has ended; a made-up end of a run under way."""
    logs.run(1, info={"status": "RUNNING", "hostname": "elsewhere", "start_time": "2026-11-30T01:00:00+00:00"})
    frame = scan_runs(logs.path).collect()
    assert frame.select("info.start_time", "info.end_time", "info.duration").row(0) == (moment(30, 1), None, None)
    assert (frame.schema["info.end_time"], frame.schema["info.duration"]) == (TIME, pl.Float64)
    ends = {"start_time": "2026-11-30T01:00:00+01:00", "end_time": "2026-11-30T00:01:30.250000+00:00"}
    logs.run(2, info={"status": "COMPLETE", **ends})
    reader = Reader(logs.path)
    assert [run["info.duration"] for run in reader.filter()] == [None, 90.25]
    assert [run["id"] for run in reader.filter("info.duration > 90")] == [2]
    assert reader.filter("id == 2").lazy().select("info.duration").collect().item() == 90.25
    held = {name: (type_, holds, runs) for name, type_, holds, runs in reader.fields.rows()}
    assert held["info.duration"] == ("Float64", "float", 1)
    assert held["info.start_time"][1:] == ("time", 2)


@pytest.mark.parametrize(
    "text",
    ["yesterday", "18:46:14", "2026-13-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-12:00", 5],
)
def test_what_is_no_time_is_null_and_named(logs, text):
    """Bug: one bad value makes text of all times, or ends the whole table in an OverflowError."""
    logs.run(1, info={"status": "COMPLETE", "start_time": text})
    logs.run(2, info={"status": "COMPLETE", "start_time": "2026-11-30T01:00:00+00:00"})
    reader = Reader(logs.path)
    assert [run["info.start_time"] for run in reader.filter()] == [None, moment(30, 1)]
    (problem,) = reader.problems
    assert problem.path == str(logs.path / "1/metadata/info.yaml")
    assert problem.what == f"start_time {text!r} is no time, as 2026-11-30T09:00:00+01:00 is: null"


def test_an_end_before_the_start_is_no_duration_and_named(logs):
    """Bug: -3599 seconds for a clock that was set back, in a mean over the runs."""
    times = {"start_time": "2026-11-30T01:00:00+00:00", "end_time": "2026-11-30T00:00:01+00:00"}
    logs.run(1, info={"status": "COMPLETE", **times})
    reader = Reader(logs.path)
    assert reader.filter()[0]["info.duration"] is None
    assert [problem.what for problem in reader.problems] == [
        "end_time is before start_time, so that there is no duration: was a clock set back?"
    ]


def test_a_time_without_a_zone_is_of_this_machine_also_from_the_index(logs, zone, monkeypatch, tmp_path):
    """Bug: MLXP's times taken for UTC; or kept in the index as the zone of its writer made them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_cache, "RACY_NS", 0)
    for number in range(1, 41):
        info = {"status": "COMPLETE", "start_time": "2026-11-30T09:00:00", "submit_time": "2026-11-30T09:00:00+09:00"}
        if number > 20:  # as MLXP 1.0 writes it
            info |= {"start_date": "30/11/2026", "start_time": "09:00:00", "end_date": "", "end_time": ""}
        logs.run(number, info=info)
    zone("Asia/Tokyo")
    frame = scan_runs(logs.path).select("info.start_time", "info.submit_time").collect()
    assert frame.unique().rows() == [(moment(30, 0), moment(30, 0))]
    assert (logs.path / ".mlxp/reader-index").exists()
    zone("America/New_York")
    for change in (lambda: None, (logs.path / ".mlxp/reader-index").unlink):
        change()
        forget()
        frame = scan_runs(logs.path).select("info.start_time", "info.submit_time").collect()
        assert frame.unique().rows() == [(moment(30, 14), moment(30, 0))]
    assert Reader(logs.path).problems == []


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(
    st.lists(
        st.none()
        | st.tuples(
            st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=OFFSETS),  # noqa: DTZ001  (Hypothesis)
            st.sampled_from(["microseconds", "milliseconds", "seconds", "minutes"]),
            st.sampled_from([str, lambda text: text.replace("T", " ")]),
        ),
        max_size=5,
    )
)
@examples(200)
def test_a_column_of_times_is_what_python_makes_of_each(times):
    """Bug: the fast way through Polars and the slow one for what it refuses disagree."""
    texts = [None if entry is None else entry[2](entry[0].isoformat(timespec=entry[1])) for entry in times]
    column = times_of(pl.Series("t", texts, dtype=pl.String))
    assert column.dtype == TIME
    assert column.to_list() == [None if text is None else datetime.fromisoformat(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-30T09:00:00Z", moment(30, 9)),
        ("2026-11-30 09:00:00.25 UTC", moment(30, 9, 0, 0, 250_000)),
        ("2026-11-30T09:00:00,123456789+0100", moment(30, 8, 0, 0, 123_456)),
        ("2026-11-30T09:00+01", moment(30, 8)),
    ],
)
def test_times_of_other_programs_are_understood_by_every_python(text, expected):
    """Bug: `Z`, which JavaScript and Go write, refused by Python 3.10."""
    assert times_of(pl.Series([text])).to_list() == [expected]


def test_the_schedulers_job_is_in_columns(logs):
    """Bug: which job, task or queue a run was, only in submission.yaml, which no query reaches."""
    run = logs.run(1, info={"status": "COMPLETE"})
    (run / "metadata/submission.yaml").write_text(yaml.safe_dump(SUBMISSION))
    other = logs.run(2, info={"status": "PENDING"})
    (other / "metadata/submission.yaml").write_text(yaml.safe_dump(SUBMISSION | {"job_id": 12, "array_index": None}))
    logs.run(3)
    columns = [f"info.scheduler.{name}" for name in ("name", "job_id", "array_index", "job_name", "hostname")]
    frame = scan_runs(logs.path).select(columns).collect()
    assert frame.dtypes == [pl.String, pl.String, pl.Int64, pl.String, pl.String]
    assert frame.rows() == [
        ("slurm", "4711", 3, "lr-sweep", "login1"),
        ("slurm", "12", None, "lr-sweep", "login1"),
        (None,) * 5,
    ]
    assert len(Reader(logs.path).filter("info.scheduler.job_id == '4711' & info.scheduler.array_index == 3")) == 1


@pytest.mark.parametrize("facts", [None, {"state": None, "attempt": 1}])
def test_the_schedulers_job_is_known_by_the_digest_too_and_where_an_older_one_lacks_it(logs, facts):
    """Bug: other columns, or none, for a run that is read from its digest."""
    run = RunDir(logs.path / "1")
    run.metadata.mkdir(parents=True)
    run.script.write_text("true\n")
    run.submission.write_text(yaml.safe_dump(SUBMISSION))
    digest.write_info(run, {"status": "COMPLETE"}, config=digest.write_config(run, {"x": 1}), ended=True)
    if facts is not None:
        first, rest = run.digest.read_text().split("\n", 1)
        entries = yaml.safe_load(first)
        entries["submission"]["facts"] = facts
        run.digest.write_text(f"{digest._encode(entries)}\n{rest}")
    with logs.files_opened() as names:
        row = scan_runs(logs.path).collect().row(0, named=True)
    assert (row["info.scheduler.name"], row["info.scheduler.job_id"]) == ("slurm", "4711")
    assert ("1/metadata/submission.yaml" in names) is (facts is not None)
    assert "1/metadata/info.yaml" not in names


def test_what_an_attacker_puts_into_submission_yaml_is_text_or_null(logs):
    """Bug: a list or a huge number in a record of somebody else's takes the table down."""
    run = logs.run(1, info={"status": "COMPLETE", "scheduler": {"name": "by hand"}})
    odd = {"scheduler": "x", "job_id": [1], "array_index": 10**30, "name": {"a": 1}, "hostname": 4}
    (run / "metadata/submission.yaml").write_text(yaml.safe_dump(odd))
    frame = scan_runs(logs.path).collect()
    assert frame["info.scheduler.name"].to_list() == ["by hand"]
    assert frame["info.scheduler.hostname"].to_list() == ["4"]
    assert frame["info.scheduler.array_index"].to_list() == frame["info.scheduler.job_id"].to_list() == [None]


def test_the_log_dir_of_a_run_is_its_folder_as_in_mlxp_whoever_wrote_it(logs):
    """Bug: the parent, by which `info.logger.log_dir + '/metrics'` of a script for MLXP leads nowhere."""
    logs.run(1, info={"status": "COMPLETE", "attempt": 1, "logger": {"log_id": 1, "log_dir": "/data/logs"}})
    logs.run("named", info={"status": "COMPLETE", "attempt": 1, "logger": {"log_id": "named", "log_dir": "/data"}})
    logs.run(2, info={"status": "COMPLETE", "attempt": 1, "logger": {"log_id": 2, "log_dir": "/data/logs/2"}})
    logs.run(3, info={"status": "COMPLETE", "logger": {"log_id": 3, "log_dir": "/mlxp/logs/3"}})
    assert logs.column("info.logger.log_dir") == ["/data/logs/1", "/data/logs/2", "/mlxp/logs/3", "/data/named"]


@pytest.mark.skipif(not os.path.exists("/usr/share/zoneinfo"), reason="no zones on this machine")
def test_a_time_of_this_machine_knows_summer(zone):
    """Bug: today's offset for a time of July."""
    zone("Europe/Paris")
    column = times_of(pl.Series(["2026-07-01T12:00:00", "2026-12-01T12:00:00"]))
    assert [value.hour for value in column] == [10, 11]
