"""The command ``mlxpsub``: runs job scripts here, and submits what the Hydra programs in them would run."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mlxp_core.cli import run_app
from mlxp_core.mlxpsub import run
from mlxp_core.mlxpsub.run import Event, Outcome, Script
from mlxp_core.mlxpsub.session import runs_from_json, stderr_file
from mlxp_core.runs.listing import format_runs, pluralize
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob


def sub(
    scripts: Annotated[list[Path], typer.Argument(help="Job scripts.", show_default=False)],
    *,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Which one, whatever the directives are: slurm, oar, …")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be submitted.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until the jobs have ended; fail if one did not complete.")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Forget what a call that did not come to its end has submitted.")
    ] = False,
) -> None:
    """Submit the jobs of job scripts: every combination of every Hydra program's overrides, a job each.

    A script runs here, under its own shell, and its Hydra programs submit instead of running. What is no Hydra
    program runs as it is. Jobs have the script's directives, and its lines before and after the program.
    """
    codes: list[int] = []
    submitted: list[QueuedJob] = []
    for script in [run.read_script(path, scheduler) for path in scripts]:
        outcome = run.run(script, dry_run=dry_run, anew=anew, report=_print_error)
        _print_outcome(script, outcome, dry_run=dry_run)
        codes.append(outcome.exit_code)
        submitted += outcome.runs
        if outcome.exit_code == run.INTERRUPTED:
            break
    if wait and submitted and run.INTERRUPTED not in codes:
        codes.append(_wait(submitted))
    raise typer.Exit(next(filter(None, codes), 0))


def _print_error(text: str) -> None:
    print(f"mlxpsub: {text}", file=sys.stderr)


def _print_outcome(script: Script, outcome: Outcome, *, dry_run: bool) -> None:
    if dry_run:
        _print_plan(script, outcome)
    else:
        _print_submitted(script, outcome)
    for program in outcome.unfinished:
        _print_unfinished(script, outcome, program)
    if outcome.shell_code:
        _print_error(f"{script.path} ended with exit code {outcome.shell_code}")
    failed = outcome.shell_code or outcome.unfinished
    if failed and outcome.submitted and not dry_run:
        _print_error("the same command again submits what is left; with --anew, everything")
    if outcome.is_empty and not failed:
        _print_error(f"no Hydra program in {script.path} has submitted anything")


def _print_submitted(script: Script, outcome: Outcome) -> None:
    """Print the table at the end."""
    if not outcome.submitted:
        return
    rows = [("line", "runs", "jobs", "where")]
    for event in outcome.submitted:
        runs = runs_from_json(event["runs"])
        jobs = ", ".join(dict.fromkeys(job.job_id for job in runs))
        where = ", ".join(dict.fromkeys(str(job.run.path.parent) for job in runs))
        names = format_runs([job.run for job in runs]) + (" (before)" if event["before"] else "")
        rows.append((str(script.parsed.line_number(event["number"])), names, f"{runs[0].scheduler} {jobs}", where))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print()
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]))
    new = sum(len(event["runs"]) for event in outcome.submitted if not event["before"])
    print(f"{script.path}: {pluralize(new, 'job')} submitted", flush=True)


def _print_unfinished(script: Script, outcome: Outcome, program: Event) -> None:
    """Print which program has not come to its end, and why, unless that stands above: its errors may be in a file."""
    waited = any(event["process"] == program["process"] for event in outcome.submitted)
    reason = (
        "it waited for a job that did not complete, or not all of its jobs are submitted. mlxp status tells; after an "
        "mlxp rerun of what has failed, the same command goes on from here"
        if waited
        else "not all of its jobs are submitted"
    )
    _print_error(
        f"line {script.parsed.line_number(program['number'])} of {script.path}: "
        f"{shlex.join(program['command'])} has not come to its end: {reason}"
    )
    for event in outcome.errors:
        if event["process"] == program["process"] and event["stderr"] != stderr_file():
            print(textwrap.indent(event["error"], "  "), file=sys.stderr)


def _print_plan(script: Script, outcome: Outcome) -> None:
    """Print the jobs that a dry run would submit, each as its script has it."""
    for event in outcome.planned:
        line, jobs = script.parsed.line_number(event["number"]), event["jobs"]
        count = pluralize(len(jobs), f"{event['scheduler']} job")
        print(f"\n# line {line} of {script.path}: {count}, in {event['directory']}")
        for text in (*event["header"], *event["setup"]):
            print(text)
        for job in jobs:
            print(event["prefix"] + shlex.join([*event["words"], *job]))
        for text in event["after"]:
            print(text)
    for event in outcome.local:
        line = script.parsed.line_number(event["number"])
        print(f"\n# line {line} of {script.path} would run here: {shlex.join(event['command'])}")
    total = sum(len(event["jobs"]) for event in outcome.planned)
    print(f"\n{script.path}: {pluralize(total, 'job')} would be submitted", flush=True)


def _wait(submitted: Sequence[QueuedJob]) -> int:
    from mlxp_core.jobs.live_table import wait_with_progress  # noqa: PLC0415

    print("waiting for them", flush=True)
    try:
        statuses = wait_with_progress(submitted, {}, lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        return run.INTERRUPTED
    return int(any(status is not Status.COMPLETE for status in statuses))


app = typer.Typer(
    name="mlxpsub",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(sub)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    run_app(app, "mlxpsub", arguments)
