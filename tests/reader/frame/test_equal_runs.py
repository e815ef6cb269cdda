"""Runs that are one measurement made several times: said where they are counted, and left out by latest()."""

from __future__ import annotations

import re

import polars as pl
import pytest

from mlxp_core.errors import StatisticsWarning
from mlxp_core.reader import AvgStd, Best, Last, Reader

COMMIT = {"version_manager": {"commit_hash": "a" * 40, "dirty": False}}


def write(logs, *runs):
    """Write runs, each given as (config, info)."""
    for number, (config, info) in enumerate(runs, 1):
        logs.run(number, config, info={"status": "COMPLETE", **info}, metrics={"t": [{"loss": number}]})
    return Reader(logs.path).filter()


def ids(runs):
    return [run["id"] for run in runs]


def test_the_same_program_run_twice_is_no_more_runs(logs):
    """Bug: n = 6 after a sweep of 3 seeds was submitted twice."""
    runs = write(logs, *[({"lr": 0.1, "seed": seed}, COMMIT) for _ in range(2) for seed in (1, 2, 3)])
    with pytest.warns(StatisticsWarning) as warned:
        groups = runs.group_by("config.lr")
    assert str(warned[0].message) == (
        "runs 1 and 4; runs 2 and 5; runs 3 and 6: equal in configuration, seed included, and in the code recorded, "
        "and yet counted as several in n, std and intervals. runs.latest() keeps the newest of equal ones"
    )
    assert warned[0].filename == __file__
    assert groups.aggregate(AvgStd("t.loss")).collect()["t.loss_n"].to_list() == [[6]]
    latest = runs.latest()
    assert ids(latest) == [4, 5, 6]
    assert latest.group_by("config.lr").aggregate(AvgStd("t.loss")).collect()["t.loss_n"].to_list() == [[3]]
    with pytest.warns(StatisticsWarning, match="runs 1 and 4"):
        runs.aggregate(AvgStd("t.loss"))


def version(commit="a", **more):
    return {"version_manager": {"commit_hash": commit * 40, "dirty": False, **more}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (({"seed": 1}, COMMIT), ({"seed": 2}, COMMIT)),
        (({"seed": 1}, COMMIT), ({"seed": 1, "more": None, "x": 0}, COMMIT)),
        (({"seed": 1}, version("a")), ({"seed": 1}, version("b"))),
        (({"seed": 1}, version(function_hash="f")), ({"seed": 1}, version(function_hash="g"))),
        (({"seed": 1}, COMMIT), ({"seed": 1}, {})),
        (({"seed": 1}, version(dirty=True)), ({"seed": 1}, version(dirty=True))),  # of what changes, nobody knows
        (({"seed": 1}, version(dirty=True)), ({"seed": 1}, version())),
        (({"seed": 1}, COMMIT | {"hydra": {"job_name": "a"}}), ({"seed": 1}, COMMIT | {"hydra": {"job_name": "b"}})),
        (({"seed": 1}, {"current_file_path": "/x/a.py"}), ({"seed": 1}, {"current_file_path": "/x/b.py"})),
        (({}, COMMIT), ({}, COMMIT)),
    ],
    ids=["seed", "key", "commit", "function", "unknown", "dirty", "clean", "program", "file", "no configuration"],
)
def test_runs_that_differ_in_anything_are_several(logs, one, other):
    """Bug: a warning of what is right, and a run that latest() leaves out."""
    runs = write(logs, one, other)
    assert ids(runs.latest()) == [1, 2]
    runs.group_by("info.status")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (({"x": float("nan"), "l": [1, 2], "n": None}, COMMIT), ({"x": float("nan"), "l": [1, 2], "n": None}, COMMIT)),
        (({"seed": 1}, {}), ({"seed": 1}, {})),
        (
            ({"seed": 1}, {"hydra": {"job_name": "a"}, "current_file_path": "/repo/a.py"}),
            ({"seed": 1}, {"hydra": {"job_name": "a"}, "current_file_path": "/logs/.mlxp/code/1/a.py"}),
        ),
        (({"seed": 1}, COMMIT | {"hostname": "a", "user": "u"}), ({"seed": 1}, COMMIT | {"hostname": "b"})),
    ],
    ids=["NaN and lists", "no code recorded", "a copy", "another host"],
)
def test_runs_that_differ_in_nothing_that_matters_are_one(logs, one, other):
    """Bug: NaN that is not equal to itself; a copy of the code taken for other code."""
    runs = write(logs, one, other)
    assert ids(runs.latest()) == [2]
    with pytest.warns(StatisticsWarning, match="^runs 1 and 2: "):
        runs.group_by("info.status")


def test_uncommitted_changes_are_compared(logs):
    """Bug: two days of edits under one commit taken for one program; the same edits for two."""
    runs = write(logs, *[({"seed": 1}, version(dirty=True)) for _ in range(4)])
    for number, changes in {1: "- a\n+ b", 2: "- a\n+ c", 3: "- a\n+ b"}.items():
        (logs.path / f"{number}/metadata/uncommitted.diff").write_text(changes)
    assert ids(runs.latest()) == [2, 3, 4]
    with pytest.warns(StatisticsWarning, match="^runs 1 and 3: "):
        runs.group_by("info.status")


def test_runs_of_other_groups_are_not_averaged_and_not_said(logs):
    """Bug: a warning where the group keeps equal runs apart; one for what no aggregate counts."""
    write(logs, ({"seed": 1}, {"hostname": "a"}), ({"seed": 1}, {"hostname": "b"}))
    runs = Reader(logs.path).filter()
    runs.group_by("info.hostname")
    runs.aggregate([Best("t.loss"), Last("t.loss")])


def test_the_newest_is_the_one_that_started_last_in_whichever_zone(logs):
    """Bug: times compared as text, a folder's name taken for its age; the order of the runs lost."""
    starts = ["2026-05-01T10:00:00+02:00", "2026-05-01T09:00:00+00:00", None, "2026-04-01T10:00:00+00:00"]
    write(logs, *[({"seed": 1}, {} if start is None else {"start_time": start}) for start in starts])
    logs.run("mine", {"seed": 2}, info={"status": "COMPLETE"})
    logs.run("yours", {"seed": 2}, info={"status": "COMPLETE"})
    runs = Reader(logs.path).filter()
    assert [re.sub(".*/", "", run["path"]) for run in runs.latest()] == ["2", "yours"]
    assert [re.sub(".*/", "", run["path"]) for run in runs.sort("path", descending=True).latest()] == ["yours", "2"]
    with pytest.warns(StatisticsWarning, match="^runs 1, 2, 3 and 4; runs mine and yours: "):
        runs.group_by("info.status")


def test_a_warning_names_the_first_of_many(logs):
    """Bug: a page of ids."""
    runs = write(logs, *[({"seed": seed}, COMMIT) for seed in (0, 1, 2, 3, 4, *[5] * 12) for _ in (1, 2)])
    with pytest.warns(StatisticsWarning) as warned:
        runs.group_by("info.status")
    assert str(warned[0].message).startswith("runs 1 and 2; runs 3 and 4; runs 5 and 6; 3 more such sets: equal")
    with pytest.warns(StatisticsWarning, match="^runs 11, 12, .*, 20 and 14 more: "):
        runs.where(pl.col("config.seed") == 5).group_by("info.status")


def test_no_metric_is_read_for_the_warning(logs):
    """Bug: all columns collected to compare a few."""
    runs = write(logs, ({"seed": 1}, {}), ({"seed": 2}, {}))
    with logs.metric_files_opened() as opened:
        runs.group_by("config.seed")
        runs.latest()
    assert opened == []


def test_runs_of_several_directories_are_told_apart(new_logs):
    """Bug: "run 1: equal in configuration", of two directories that both have a run 1."""
    several = [new_logs(), new_logs()]
    for logs in several:
        write(logs, ({"lr": 0.1, "seed": 1}, COMMIT))
    several[1].run("named", {"lr": 0.1, "seed": 1}, info={"status": "COMPLETE", **COMMIT})
    with pytest.warns(StatisticsWarning) as warned:
        Reader([logs.path for logs in several]).filter().group_by("config.lr")
    one, other = (logs.path / "1" for logs in several)
    assert str(warned[0].message).startswith(f"runs {one}, {other} and named: equal in configuration")
