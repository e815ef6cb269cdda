"""Read the metadata of one run: its digest where that still holds, or else its YAML and its folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mlxp_core import atomic_files, yaml_io
from mlxp_core.reader.load import attempts, metrics
from mlxp_core.reader.load.digest import load_digest
from mlxp_core.reader.load.fast_yaml import read_plain
from mlxp_core.reader.load.fields import read_fields, valid_text
from mlxp_core.reader.load.file_cache import FileCache
from mlxp_core.reader.load.info_fields import SUBMISSION_KEYS, read_info
from mlxp_core.reader.load.problem import Problem
from mlxp_core.reader.load.record import SCALARS, Document, Joins, Logs, RunRecord, Signature, interned
from mlxp_core.runs import process
from mlxp_core.runs.artifact_listing import artifact_files
from mlxp_core.runs.digest import joined_kind
from mlxp_core.runs.layout import RunDir, is_run_id
from mlxp_core.runs.status import ENDED, ExitCode, Status, derive_status, exit_code_of

# names of the layout, relative to a run, as text: see load/metrics.py
INFO = os.fspath(RunDir(Path()).info)
_CONFIG = os.fspath(RunDir(Path()).config)
_SUBMISSION = os.fspath(RunDir(Path()).submission)
_EXIT_CODE = os.fspath(RunDir(Path()).exit_code)
_ARTIFACTS = os.fspath(RunDir(Path()).artifacts)

STATUS = "info.status"
_ENDED = frozenset(map(str, ENDED))
_STATUSES = frozenset({*map(str, Status), "STARTING"})  # STARTING is MLXP's
_CACHEABLE = frozenset(map(str, (ENDED - {Status.LOST}) | {Status.PENDING}))
_HIDDEN = "status"  # of info.yaml: the column holds the derived one
# what derive_status and process.is_alive read
_STATUS_KEYS = ("status", "attempt", "hostname", "process_id", "process_start", "state")
_EMPTY = Document()


class _DigestParts(NamedTuple):
    """Parts of a run's metadata that its digest gives; None for those that it does not."""

    info: Document | None = None
    config: Document | None = None
    submission: Document | None = None
    logs: Logs | None = None
    artifacts: tuple[str, ...] | None = None
    unscripted: bool = False


_NO_PARTS = _DigestParts()


def read_run(path: str, name: str, signature: Signature, folder: int) -> RunRecord | None:
    """Read the run ``name`` at ``path``, in the log directory that is open as ``folder``; None if it is none.

    ``signature`` is the run folder's. What cannot be read becomes a problem of the record.
    """
    parts = _load_parts(path, name, signature, folder)
    info = parts.info or _document(_info_files, f"{path}/{INFO}")
    if info is None:
        return None
    config = parts.config or _document(_config_files, f"{path}/{_CONFIG}") or _absent(f"{path}/{_CONFIG}")
    submission, exit_code = _EMPTY, None
    if not parts.unscripted:
        submission = parts.submission or _document(_submission_files, f"{path}/{_SUBMISSION}") or _EMPTY
        exit_code = _exit_code(name, folder)
    status = _status(info.raw, exit_code, submission.raw) if info.readable else None
    info_fields, reasons = read_info(info.fields, submission.raw)
    problems = [*info.problems, *config.problems, *submission.problems]
    problems += (Problem(valid_text(f"{path}/{INFO}"), valid_text(reason)) for reason in reasons)
    in_reach = not (info.out_of_reach or config.out_of_reach or submission.out_of_reach)
    artifacts, artifact_problems = _artifacts(path) if parts.artifacts is None else (parts.artifacts, [])
    logs, log_problems, all_read = _logs(path) if parts.logs is None else (parts.logs, [], True)
    joins: Joins = ()
    attempt = info.raw.get("attempt")
    if isinstance(attempt, int) and attempt > 1:
        logs, joins, join_problems, all_joined = _with_earlier(path, logs, attempt)
        log_problems += join_problems
        all_read = all_read and all_joined
    problems += [*artifact_problems, *log_problems]
    in_reach = in_reach and not artifact_problems and all_read
    # by its own word, which is the last that a job writes; of what only the scheduler or the process table says, the
    # job may still come back
    cacheable = in_reach and info.raw.get("status") in _CACHEABLE and status == info.raw.get("status")
    if cacheable:
        _forget_files(path)
    return RunRecord(
        path=path,
        name=name,
        id=int(name) if is_run_id(name) and int(name) < 2**63 else None,
        status=status,
        config=config.fields,
        info=info_fields,
        problems=tuple(problems),
        artifacts=interned(artifacts),
        logs=interned(logs),
        joins=joins,
        cacheable=cacheable,
    )


def _load_parts(path: str, name: str, signature: Signature, folder: int) -> _DigestParts:
    """Give what the digest of a run says that still holds."""
    digest = load_digest(path, name, folder)
    if digest is None:
        return _NO_PARTS
    info = digest.document("info", signature[0:3], _STATUS_KEYS, _HIDDEN)
    config = digest.document("config", signature[3:6])
    if info is None:  # the digest may be that of an earlier attempt
        return _DigestParts(config=config)
    return _DigestParts(
        info,
        config,
        None if digest.unscripted else digest.submission(),
        digest.logs(signature[9:12]),
        digest.artifacts(signature[12:15]),
        digest.unscripted,
    )


def _forget_files(path: str) -> None:
    """Free what is kept of a run's files: the run cache keeps the run."""
    _info_files.forget(f"{path}/{INFO}")
    _config_files.forget(f"{path}/{_CONFIG}")
    _submission_files.forget(f"{path}/{_SUBMISSION}")


def _artifacts(path: str) -> tuple[tuple[str, ...], list[Problem]]:
    files = artifact_files(path)
    return files.names, [Problem(valid_text(f"{path}/{folder}"), reason) for folder, reason in files.problems]


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
    """Derive the status; cached, as thousands of runs have ended in the same way."""
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
    """Give name and keys of each metric file, problems with what cannot be read, and True if all was read."""
    logs = []
    problems = []
    in_reach = True
    try:
        names, others = metrics.list_logs(path)
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
            path_of = metrics.metric_path if keys.from_lines else metrics.keys_path
            problems.append(Problem(valid_text(path_of(path, log_name)), keys.problem))
            in_reach = in_reach and not keys.from_lines  # which no folder shows to have been repaired
        logs.append((log_name, keys.kinds))
    problems += (Problem(valid_text(metrics.metric_path(path, name)), "is no regular file") for name in others)
    return tuple(logs), problems, in_reach


def _with_earlier(path: str, logs: Logs, attempt: int) -> tuple[Logs, Joins, list[Problem], bool]:
    """Add the keys of earlier attempts that the logs go on from; give as well how they do, and as _logs does."""
    try:
        resumption = attempts.load_resumption(path, attempt)
        earlier = [
            (log_name, metrics.load_keys(attempts.attempt_path(path, number), log_name).kinds)
            for log_name, parts in resumption.joins
            for number in dict.fromkeys(part[0] for part in parts)
        ]
    except OSError as error:
        return logs, (), [Problem(valid_text(path), f"its earlier attempts cannot be read: {error}")], False
    problems = [
        Problem(valid_text(metrics.metric_path(path, log_name)), reason) for log_name, reason in resumption.problems
    ]
    if earlier:
        joined: dict[str, dict[str, str]] = {}
        for log_name, keys in (*earlier, *logs):
            kinds = joined.setdefault(log_name, {})
            kinds.update((key, joined_kind(kinds.get(key), kind)) for key, kind in keys)
        logs = tuple((log_name, tuple(kinds.items())) for log_name, kinds in sorted(joined.items()))
    return logs, resumption.joins, problems, True


def artifact_path(file: str) -> str:
    """Give the path, in the run folder, of an artifact that is given as ``<type>/<name>``."""
    return f"{_ARTIFACTS}/{file}"


def _document(cache: FileCache[Document], path: str) -> Document | None:
    try:
        return cache.get(path)
    except OSError as error:
        return _unreadable(path, error)._replace(out_of_reach=True)


def _absent(path: str) -> Document:
    """Give the document of a file that is not there; a link to one is a problem."""
    return _unreadable(path, OSError("it is a link to what is not there")) if Path(path).is_symlink() else _EMPTY


def _unreadable(path: str, error: Exception) -> Document:
    reason = str(error) or type(error).__name__
    return Document(problems=(Problem(valid_text(path), f"cannot be read: {reason}"),), readable=False)


def _load_yaml(path: str) -> tuple[dict[str, Any], list[str]]:
    """Read a YAML file; give its content and the keys in it that are given twice."""
    text = atomic_files.load_bytes(path).decode("utf-8")
    content = read_plain(text)
    if content is not None:
        return content, []
    return yaml_io.read_yaml(text, Path(path)), yaml_io.duplicate_keys(text)


def _load(path: str, prefix: str) -> Document:
    """Read one file. Raises FileNotFoundError; whatever else is wrong with it becomes a problem."""
    try:
        content, duplicates = _load_yaml(path)
        keys = (*_STATUS_KEYS, *SUBMISSION_KEYS) if prefix == "submission" else _STATUS_KEYS
        raw = {name: content[name] for name in keys if isinstance(content.get(name), SCALARS)}
        if prefix == "submission":  # of which read_info makes columns
            return Document(raw=raw)
        if prefix == "info":
            content.pop(_HIDDEN, None)
        fields, claimed_twice = read_fields(prefix, content)
        document = Document.of(path, fields, raw, claimed_twice)
        reasons = [f"{key} is given twice; the last one counts" for key in duplicates]
        if prefix == "info" and raw.get("status") not in _STATUSES:
            reasons.append(f"the status {raw.get('status')!r} is none of {', '.join(sorted(_STATUSES))}")
        problems = (Problem(valid_text(path), valid_text(reason)) for reason in reasons)
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
