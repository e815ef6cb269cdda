"""The runs that jobs of a sweep have already: found by configuration and code, skipped or resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.status import Status
from mlxp_core.sweeps.existing_runs import SkipPolicy, SweepPlan, plan_sweep
from mlxp_core.yaml_io import dump_yaml

COMMIT, OTHER = "a" * 40, "b" * 40


def make_run(log_dir: LogDir, number: int, status: str, config: str = "lr: 1\nseed: 2\n", **info: Any) -> RunDir:
    run = log_dir.run(number)
    run.metadata.mkdir(parents=True)
    run.config_unresolved.write_text(config)
    version = {"commit_hash": info.pop("commit", COMMIT), **info.pop("version", {})}
    facts = {"status": status, "attempt": 1, "version_manager": version, "hydra": {"job_name": "main"}, **info}
    run.info.write_text(dump_yaml(facts))
    return run


def plan(log_dir: LogDir, configs: Sequence[dict[str, Any]], **policy: Any) -> SweepPlan:
    usual = {"skip": [Status.COMPLETE], "any_code": False, "resume": True, "commit": COMMIT, "program": "main"}
    return plan_sweep(log_dir, configs, SkipPolicy(**{"function_hash": None, **usual, **policy}), configs.__getitem__)


CONFIG = {"lr": 1, "seed": 2}


def test_every_status_has_its_consequence(tmp_path: Path) -> None:
    """Bug: a status that nobody thought of; a log directory that is not there yet."""
    assert plan(LogDir(tmp_path / "none"), [CONFIG]).new == [0]
    for number, status in enumerate(Status):
        log_dir = LogDir(tmp_path / str(number))
        run = make_run(log_dir, 1, status.value)
        result = plan(log_dir, [CONFIG])
        if status in {Status.COMPLETE, Status.RUNNING}:
            assert result.skipped[0].run == run
        else:  # PENDING is here one that was never submitted
            assert result.resumed == {0: run}
        assert plan(log_dir, [CONFIG], skip=[status], resume=False).new == []
        assert plan(log_dir, [CONFIG], skip=[], resume=False).new == [0]


def test_a_configuration_is_the_same_in_another_order_and_another_one_is_not(tmp_path: Path) -> None:
    """Bug: `+a=1 +b=2` and `+b=2 +a=1` taken for two; the same lines under other keys taken for one."""
    log_dir = LogDir(tmp_path)
    make_run(log_dir, 1, "COMPLETE", "a:\n  x: 1\nb:\n  y: 2\n")
    configs = [{"b": {"y": 2}, "a": {"x": 1}}, {"b": {"x": 1}, "a": {"y": 2}}, {"a": {"x": 1}}]
    result = plan(log_dir, configs)
    assert (list(result.skipped), result.new) == ([0], [1, 2])


def test_a_run_whose_text_an_earlier_version_put_in_no_quotes_is_found(tmp_path: Path) -> None:
    """Bug: after an upgrade all of a sweep runs again, where a name looks like a number."""
    log_dir = LogDir(tmp_path)
    make_run(log_dir, 1, "COMPLETE", "name: 1e-3\nit's: 008\n")
    result = plan(log_dir, [{"name": "1e-3", "it's": "008"}, {"name": 1e-3, "it's": "008"}])
    assert (list(result.skipped), result.new) == ([0], [1])


def test_types_are_a_part_of_a_configuration(tmp_path: Path) -> None:
    """Bug: 1 and true swapped between two nodes taken for the same, as Python does; NaN never the same."""
    log_dir = LogDir(tmp_path)
    make_run(log_dir, 1, "COMPLETE", "p:\n  a: 1\nq:\n  a: true\nr: .nan\n")
    nan = float("nan")
    configs = [{"p": {"a": True}, "q": {"a": 1}, "r": nan}, {"r": nan, "q": {"a": True}, "p": {"a": 1}}]
    assert plan(log_dir, configs).new == [0]


def test_what_the_environment_puts_into_a_configuration_is_a_part_of_it(tmp_path: Path) -> None:
    """Bug: results for DATA=/d1 taken for those of DATA=/d2; a run anew because it is another time, or another job."""
    log_dir = LogDir(tmp_path)
    text = "data: ${oc.env:DATA,/d1}\nat: ${now:%S}\nid: ${oc.env:SLURM_JOB_ID,none}\n"
    run = make_run(log_dir, 1, "COMPLETE", text)
    run.config.write_text("data: /d1\nat: '01'\nid: '4711'\n")
    config = {"data": "${oc.env:DATA,/d1}", "at": "${now:%S}", "id": "${oc.env:SLURM_JOB_ID,none}"}
    policy = SkipPolicy([Status.COMPLETE], False, False, COMMIT, None, "main")
    here = {"data": "/d1", "at": "59", "id": "none"}
    assert plan_sweep(log_dir, [config], policy, lambda _: here).new == []
    result = plan_sweep(log_dir, [config], policy, lambda _: {**here, "data": "/d2"})
    assert (result.new, result.other_values) == ([0], {run: ["data"]})


def test_other_code_other_programs_and_unknown_code_do_not_count(tmp_path: Path) -> None:
    """Bug: results of old code taken for those of the new; train.py skipped because eval.py is complete."""
    log_dir = LogDir(tmp_path)
    old = make_run(log_dir, 1, "COMPLETE", commit=OTHER)
    make_run(log_dir, 2, "COMPLETE", hydra={"job_name": "eval"})
    result = plan(log_dir, [CONFIG])
    assert (result.new, [state.run for state in result.other_code]) == ([0], [old])
    assert plan(log_dir, [CONFIG], commit=None).new == [0]
    assert plan(log_dir, [CONFIG], any_code=True).skipped[0].run == old
    failed = make_run(log_dir, 3, "FAILED", commit=OTHER)
    result = plan(log_dir, [CONFIG], skip=[], any_code=True)
    assert (result.resumed, [state.run for state in result.not_resumed]) == ({}, [failed])
    assert plan(log_dir, [CONFIG], skip=[], commit=OTHER).resumed == {0: failed}


def test_a_task_function_that_was_sent_is_a_part_of_the_code(tmp_path: Path) -> None:
    """Bug: a notebook's function is changed, and `skip` keeps the results of the old one: the commit is the same."""
    log_dir = LogDir(tmp_path)
    failed = make_run(log_dir, 1, "FAILED", version={"function_hash": "c1"})
    old = make_run(log_dir, 2, "COMPLETE", version={"function_hash": "d2"})
    assert plan(log_dir, [CONFIG], function_hash="d2").skipped[0].run == old
    assert plan(log_dir, [CONFIG], function_hash="c1").resumed == {0: failed}
    for changed in ("e3", None):
        result = plan(log_dir, [CONFIG], function_hash=changed)
        assert (result.new, [state.run for state in result.other_code]) == ([0], [old])
    assert plan(log_dir, [CONFIG], function_hash="e3", any_code=True).skipped[0].run == old


def test_equal_jobs_take_different_runs(tmp_path: Path) -> None:
    """Bug: one failed run taken up twice."""
    log_dir = LogDir(tmp_path)
    first, second = make_run(log_dir, 1, "FAILED"), make_run(log_dir, 2, "LOST")
    result = plan(log_dir, [CONFIG] * 3)
    assert set(result.resumed.values()) == {first, second}
    assert result.new == [2]


ENVIRONMENT = {"data": "${oc.env:DATA,/d1}"}
BY_CODE = SkipPolicy([Status.COMPLETE], False, False, COMMIT, None, "main")


def with_data(log_dir: LogDir, number: int, data: str | None, **info: Any) -> RunDir:
    """A complete run into whose configuration the environment has put something; None: it has no config.yaml."""
    run = make_run(log_dir, number, "COMPLETE", "data: ${oc.env:DATA,/d1}\n", **info)
    if data is not None:
        run.config.write_text(data)
    return run


def test_a_run_whose_values_are_not_known_counts_and_hides_no_other(tmp_path: Path) -> None:
    """Bug: a run without config.yaml ends the look at the runs after it, or is run anew at each sweep."""
    log_dir = LogDir(tmp_path)
    runs = [with_data(log_dir, number, data) for number, data in enumerate((None, "{", "data: /d2\n", "[]"), start=1)]
    result = plan_sweep(log_dir, [ENVIRONMENT], BY_CODE, lambda _: {"data": "/d1"})
    assert (result.new, result.other_values) == ([], {runs[2]: ["data"]})
    assert result.skipped[0].run == runs[3]
    only = LogDir(tmp_path / "only")
    runs = [with_data(only, 1, None), with_data(only, 2, "data: /d2\n"), with_data(only, 3, "data: /d3\n")]
    result = plan_sweep(only, [ENVIRONMENT], BY_CODE, lambda _: {"data": "/d1"})
    assert result.skipped[0].run == runs[0]
    assert result.other_values == {runs[1]: ["data"], runs[2]: ["data"]}


def test_only_runs_of_this_program_are_said_to_have_other_values(tmp_path: Path) -> None:
    """Bug: a warning about a run of eval.py at each sweep of main.py."""
    log_dir = LogDir(tmp_path)
    with_data(log_dir, 1, "data: /d2\n", hydra={"job_name": "eval"})
    ours = with_data(log_dir, 2, "data: /d2\n")
    result = plan_sweep(log_dir, [ENVIRONMENT], BY_CODE, lambda _: {"data": "/d1"})
    assert (result.new, result.other_values) == ([0], {ours: ["data"]})


def test_a_run_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    """Bug: one folder of a thousand without its configuration, and the sweep begins anew."""
    log_dir = LogDir(tmp_path)
    make_run(log_dir, 1, "COMPLETE").config_unresolved.unlink()
    make_run(log_dir, 2, "COMPLETE").config_unresolved.write_bytes(b"\xff")
    make_run(log_dir, 3, "COMPLETE", "- 1\nb: 2\na:\n")  # its lines in an order in which they are no YAML
    run = make_run(log_dir, 4, "COMPLETE", "b: 2\na:\n- 1\n")
    assert plan(log_dir, [{"a": [1], "b": 2}]).skipped[0].run == run


def test_of_several_runs_the_latest_stands_for_a_job(tmp_path: Path) -> None:
    """Bug: the first of two complete ones; one that failed is resumed although another of the same is under way."""
    for number, (statuses, skipped, resumed) in enumerate(
        [
            (("COMPLETE", "COMPLETE", "FAILED"), 2, None),
            (("FAILED", "COMPLETE"), 2, None),
            (("FAILED", "RUNNING", "RUNNING", "LOST"), 3, None),
            (("FAILED", "TIMEOUT"), None, 2),
            (("FAILED", "PENDING"), None, 2),  # one that was never submitted
        ],
        start=1,
    ):
        log_dir = LogDir(tmp_path / str(number))
        runs = [make_run(log_dir, index, status) for index, status in enumerate(statuses, start=1)]
        result = plan(log_dir, [CONFIG])
        assert {state.run for state in result.skipped.values()} == ({runs[skipped - 1]} if skipped else set()), statuses
        assert result.resumed == ({0: runs[resumed - 1]} if resumed else {}), statuses


def test_each_job_has_the_runs_of_its_own_configuration(tmp_path: Path) -> None:
    """Bug: the second job is skipped for a run of the first; two equal jobs of which only one finds its run."""
    log_dir = LogDir(tmp_path)
    one = make_run(log_dir, 1, "COMPLETE", "lr: 1\nseed: 2\n")
    two = make_run(log_dir, 2, "FAILED", "lr: 2\nseed: 2\n")
    make_run(log_dir, 3, "COMPLETE", "lr: 3\nseed: 2\n")
    configs = [{"lr": 2, "seed": 2}, CONFIG, {"lr": 4, "seed": 2}, CONFIG, {"lr": 2, "seed": 2}]
    result = plan(log_dir, configs)
    assert {index: state.run for index, state in result.skipped.items()} == {1: one, 3: one}
    assert (result.resumed, result.new) == ({0: two}, [2, 4])
