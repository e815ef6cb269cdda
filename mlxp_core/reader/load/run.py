"""Read the metadata of one run: its digest where that still holds, or else its YAML and its folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlxp_core import atomic_files, yaml_io
from mlxp_core.reader.load import metrics
from mlxp_core.reader.load.digest import load_digest
from mlxp_core.reader.load.fast_yaml import read_plain
from mlxp_core.reader.load.fields import read_fields, valid_text
from mlxp_core.reader.load.file_cache import FileCache
from mlxp_core.reader.load.problem import Problem
from mlxp_core.reader.load.record import SCALARS, Document, Logs, RunRecord, Signature, interned
from mlxp_core.runs import process
from mlxp_core.runs.artifacts import artifact_files
from mlxp_core.runs.layout import RunDir, is_run_id
from mlxp_core.runs.status import ENDED, ExitCode, Status, derive_status, exit_code_of

# the layout's own names, as text relative to a run: see load/metrics.py
INFO = os.fspath(RunDir(Path()).info)
_CONFIG = os.fspath(RunDir(Path()).config)
_SUBMISSION = os.fspath(RunDir(Path()).submission)
_EXIT_CODE = os.fspath(RunDir(Path()).exit_code)
_ARTIFACTS = os.fspath(RunDir(Path()).artifacts)

STATUS = "info.status"
_ENDED = frozenset(map(str, ENDED))
_STATUSES = frozenset({*map(str, Status), "STARTING"})  # the first one of MLXP's
_SETTLED = frozenset(map(str, (ENDED - {Status.LOST}) | {Status.PENDING}))
# what derive_status and process.is_alive look at
_HIDDEN = "status"  # of info.yaml: the column holds the derived one
_STATUS_FACTS = ("status", "attempt", "hostname", "process_id", "process_start", "state")


_NOTHING = Document()


def read_run(path: str, name: str, signature: Signature, folder: int) -> RunRecord | None:
    """Read the run ``name`` at ``path``, in the log directory that is open as ``folder``; None if it is none.

    ``signature`` is the run folder's. What cannot be read becomes a problem of the record.
    """
    info = config = logs = artifacts = submission = None
    unscripted = False
    digest = load_digest(path, name, folder)
    if digest is not None:
        info = digest.document("info", signature[0:3], _STATUS_FACTS, _HIDDEN)
        config = digest.document("config", signature[3:6])
        if info is not None:  # it speaks of this attempt, not of an earlier one
            unscripted = digest.unscripted
            submission = None if unscripted else digest.submission()
            logs, artifacts = digest.logs(signature[9:12]), digest.artifacts(signature[12:15])
    info = info or _document(_info_files, f"{path}/{INFO}")
    if info is None:
        return None
    config = config or _document(_config_files, f"{path}/{_CONFIG}") or _absent(f"{path}/{_CONFIG}")
    exit_code = None
    if not unscripted:
        submission = submission or _document(_submission_files, f"{path}/{_SUBMISSION}")
        exit_code = _exit_code(name, folder)
    submission = submission or _NOTHING
    status = _status(info.facts, exit_code, submission.facts) if info.readable else None
    problems = [*info.problems, *config.problems, *submission.problems]
    in_reach = not (info.out_of_reach or config.out_of_reach or submission.out_of_reach)
    if artifacts is None:
        atomic_files = artifact_files(path)
        artifacts = atomic_files.names
        in_reach = in_reach and not atomic_files.problems
        problems += (Problem(valid_text(f"{path}/{folder}"), what) for folder, what in atomic_files.problems)
    if logs is None:
        logs, log_problems, all_read = _logs(path)
        in_reach = in_reach and all_read
        problems += log_problems
    # by its own word, which is the last that a job writes; of what only the scheduler or the process table says, the
    # job may still come back
    is_settled = in_reach and info.facts.get("status") in _SETTLED and status == info.facts.get("status")
    if is_settled:  # the run cache keeps it
        if digest is None:
            _info_files.forget(f"{path}/{INFO}")
            _config_files.forget(f"{path}/{_CONFIG}")
        if submission is not _NOTHING:
            _submission_files.forget(f"{path}/{_SUBMISSION}")
    return RunRecord(
        path=path,
        name=name,
        id=int(name) if is_run_id(name) and int(name) < 2**63 else None,
        status=status,
        config=config.fields,
        info=info.fields,
        problems=tuple(problems),
        artifacts=interned(artifacts),
        logs=interned(logs),
        settled=is_settled,
    )


def _exit_code(name: str, folder: int) -> ExitCode | None:
    try:
        return exit_code_of(atomic_files.load_bytes(f"{name}/{_EXIT_CODE}", folder=folder))
    except OSError:
        return None


def _status(info: Mapping[str, Any], exit_code: ExitCode | None, submission: Mapping[str, Any]) -> str:
    state, said_attempt = submission.get("state"), submission.get("attempt")
    state = state if isinstance(state, str) else None
    said_attempt = said_attempt if isinstance(said_attempt, int) else None
    recorded, attempt = info.get("status"), info.get("attempt")
    if isinstance(recorded, str) and recorded in _ENDED:
        attempt = attempt if isinstance(attempt, int) else None
        return _status_of_ended(recorded, attempt, exit_code, state, said_attempt)
    return str(
        derive_status(
            info,
            exit_code=exit_code,
            scheduler_state=state,
            process_alive=process.is_alive,
            said_attempt=said_attempt,
        )
    )


@lru_cache(maxsize=1000)
def _status_of_ended(
    status: str, attempt: int | None, exit_code: ExitCode | None, state: str | None, said_attempt: int | None
) -> str:
    """As derive_status says; thousands of runs have ended in the same way."""
    return str(
        derive_status(
            {"status": status, "attempt": attempt},
            exit_code=exit_code,
            scheduler_state=state,
            process_alive=lambda _: None,
            said_attempt=said_attempt,
        )
    )


def _logs(path: str) -> tuple[Logs, list[Problem], bool]:
    """Give name and keys of each metric file; what cannot be read becomes a problem. And whether all is known."""
    logs = []
    problems = []
    in_reach = True
    try:
        names, others = metrics.log_names(path)
    except OSError as error:
        return (), [Problem(valid_text(path), f"its metrics cannot be listed: {error}")], False
    for log_name in names:
        try:
            keys = metrics.load_keys(path, log_name)
        except OSError as error:
            problems.append(Problem(valid_text(metrics.metric_path(path, log_name)), f"cannot be read: {error}"))
            in_reach = False
            continue
        if keys.problem:
            place = metrics.metric_path if keys.of_lines else metrics.keys_path
            problems.append(Problem(valid_text(place(path, log_name)), keys.problem))
            in_reach = in_reach and not keys.of_lines  # which no folder shows to have been repaired
        logs.append((log_name, keys.numeric))
    problems += (Problem(valid_text(metrics.metric_path(path, name)), "is no regular file") for name in others)
    return tuple(logs), problems, in_reach


def artifact_path(file: str) -> str:
    """Path of an artifact that is given as ``<type>/<name>``, in the run folder."""
    return f"{_ARTIFACTS}/{file}"


def _document(cache: FileCache[Document], path: str) -> Document | None:
    try:
        return cache.get(path)
    except OSError as error:
        return _unreadable(path, error)._replace(out_of_reach=True)


def _absent(path: str) -> Document:
    """A file that is not there; a link to one is a problem."""
    return _unreadable(path, OSError("it is a link to what is not there")) if Path(path).is_symlink() else _NOTHING


def _unreadable(path: str, error: Exception) -> Document:
    what = str(error) or type(error).__name__
    return Document(problems=(Problem(valid_text(path), f"cannot be read: {what}"),), readable=False)


def _load_yaml(path: str) -> tuple[dict[str, Any], list[str]]:
    """Read a file; and the keys in it that are given twice."""
    text = atomic_files.load_bytes(path).decode("utf-8")
    content = read_plain(text)
    if content is not None:
        return content, []
    return yaml_io.read_yaml(text, Path(path)), yaml_io.duplicate_keys(text)


def _load(path: str, prefix: str) -> Document:
    """Read one file. Raises FileNotFoundError; whatever else is wrong with it becomes a problem."""
    try:
        content, twice = _load_yaml(path)
        facts = {name: content[name] for name in _STATUS_FACTS if isinstance(content.get(name), SCALARS)}
        if prefix == "submission":  # of which nothing becomes a column
            return Document(facts=facts)
        if prefix == "info":
            content.pop(_HIDDEN, None)
        fields, claimed_twice = read_fields(prefix, content)
        document = Document.of(path, fields, facts, claimed_twice)
        more = [f"{key} is given twice; the last one counts" for key in twice]
        if prefix == "info" and facts.get("status") not in _STATUSES:
            more.append(f"the status {facts.get('status')!r} is none of {', '.join(sorted(_STATUSES))}")
        problems = (Problem(valid_text(path), valid_text(what)) for what in more)
        return document._replace(problems=(*document.problems, *problems))
    except FileNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001
        # PyYAML's safe constructors let through what their conversions raise: KeyError for `!!bool x`, AttributeError
        # for `!!timestamp x`, IndexError for `!!int ''`. No file may take the other runs down with it.
        return _unreadable(path, error)


_info_files = FileCache(lambda path: _load(path, "info"))
_config_files = FileCache(lambda path: _load(path, "config"))
_submission_files = FileCache(lambda path: _load(path, "submission"))
