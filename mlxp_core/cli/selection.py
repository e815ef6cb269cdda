"""Select the runs of a command by ids and ranges, names or a query; and the options for that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TextIO

import typer

from mlxp_core.errors import StoreError
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import explain_no_runs, format_runs, list_runs

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN", help="Ids and ranges: 4, 3-9, 3,5,7-9; or names of run folders."),
]
Query = Annotated[
    str | None,
    typer.Option(
        "--query",
        "-q",
        help="The runs for which this holds, in the language of the reader: \"info.status == 'FAILED'\".",
    ),
]
Folder = Annotated[Path, typer.Option("--log-dir", help="The folder of the runs.", envvar="MLXP_LOG_DIR")]
LOGS = Path("logs")


def open_log_dir(folder: Path) -> LogDir:
    """The log directory that is meant."""
    return LogDir(folder.absolute())


def choose(log_dir: LogDir, names: Sequence[str] | None) -> list[RunDir]:
    """The runs of these names, each once, in the order of the directory; all where none is named.

    Raises StoreError for one that is not there, with what there is.
    """
    runs = list_runs(log_dir)
    if not names:
        if not runs and (reason := explain_no_runs(log_dir.path)):
            raise StoreError(reason)
        return runs
    wanted = {run for name in names for run in _named(log_dir, runs, name)}
    return [*(run for run in runs if run in wanted), *(wanted - set(runs))]


def select(folder: Folder, names: Sequence[str] | None, query: str | None, verb: str) -> tuple[LogDir, list[RunDir]]:
    """The log directory, and the runs of it that a command changes; a query is about their state now."""
    from mlxp_core.jobs.refresh import refresh_runs  # noqa: PLC0415

    insist(names, query, verb)
    log_dir = open_log_dir(folder)
    runs = choose(log_dir, names)
    if query is not None:
        refresh_runs(runs)
        runs = matching(log_dir, runs, query)
    return log_dir, runs


def print_reasons(what: str, runs: Mapping[RunDir, str], file: TextIO) -> None:
    """Print what has become of runs, a line for each reason."""
    by_reason: dict[str, list[RunDir]] = {}
    for run, why in runs.items():
        by_reason.setdefault(why, []).append(run)
    for why, group in by_reason.items():
        print(f"{what}: {format_runs(group)}: {why}", file=file)


def insist(names: Sequence[str] | None, query: str | None, verb: str) -> None:
    """End with a usage error where nothing is chosen."""
    if not names and query is None:
        raise typer.BadParameter(
            f"say which runs to {verb}: ids, as in `mlxp {verb} 3-9`, or -q \"info.status == 'FAILED'\""
        )


def matching(log_dir: LogDir, runs: Sequence[RunDir], query: str | None) -> list[RunDir]:
    """Those of the runs for which a query holds, as their folders are now. Raises QueryError."""
    if query is None:
        return list(runs)
    from mlxp_core.reader import Reader  # noqa: PLC0415  (Polars)
    from mlxp_core.reader.load.fields import valid_text  # noqa: PLC0415

    paths = set(Reader(log_dir.path).filter(query).lazy().select("path").collect()["path"])
    return [run for run in runs if valid_text(str(run.path)) in paths]


def _named(log_dir: LogDir, runs: Sequence[RunDir], name: str) -> Iterator[RunDir]:
    by_name = RunDir(log_dir.path / name)
    if by_name in runs or (by_name.path != log_dir.path and by_name.info.exists()):
        yield by_name
        return
    for part in name.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not found:
            raise StoreError(f"there is no run {part!r} in {log_dir.path}; there is {format_runs(runs)}")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise typer.BadParameter(f"{part}: a range goes from the smaller id to the larger")
        chosen = [run for run in runs if run.id is not None and first <= run.id <= last]
        if not chosen:
            raise StoreError(f"there is no run {part.strip()} in {log_dir.path}; there is {format_runs(runs)}")
        yield from chosen
