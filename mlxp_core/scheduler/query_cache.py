"""Ask each scheduler at most once in its ``min_query_interval`` from one host, however many want to know.

The answer is kept in the user's cache, one for each cluster, for the others and for the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import CommandError
from mlxp_core.scheduler import client
from mlxp_core.scheduler.base import NativeJob, QueueQuery, Scheduler, Task
from mlxp_core.user_dirs import writable_cache_dir

QUERY_TIMEOUT = 6.0  # seconds that a question may take: who asks where things stand is to be told within ten


@dataclass(frozen=True)
class QueueAnswer:
    """An answer, by a scheduler or from the cache."""

    time: float
    ids: frozenset[str]  # the jobs that it was asked for, and whose absence tells something
    jobs: tuple[NativeJob, ...] = ()
    error: str | None = None
    answered: float | None = None  # when it last did
    asked: float = 0.0  # it may be as things stood at any moment from then on: a busy machine takes its time


def ask_queue(scheduler: Scheduler, tasks: Collection[Task], since: datetime | None, *, user: str) -> QueueAnswer:
    """Ask for jobs and tasks of arrays, none of them submitted before ``since``, unless this host has just done so."""
    from filelock import FileLock, Timeout  # noqa: PLC0415  (not every launch gets here)

    path = _cache_file(scheduler)
    began = time.monotonic()
    try:
        with FileLock(path.with_suffix(".lock"), timeout=QUERY_TIMEOUT):
            cached = _load(path)
            if cached and 0 <= time.time() - cached.time < scheduler.min_query_interval:
                return cached
            answer = _ask_now(scheduler, tasks, QueueQuery(user, since=since), began)
            if answer.error is not None and answer.answered is None and cached is not None:
                answer = replace(answer, answered=cached.answered)
            write_atomic(path, json.dumps({**asdict(answer), "ids": sorted(answer.ids)}))
            return answer
    except Timeout:
        cached = _load(path)
        why = f"{scheduler.name} is being asked by another process, and has not answered within {QUERY_TIMEOUT:g} s"
        return QueueAnswer(time.time(), frozenset(), error=why, answered=cached.answered if cached else None)


def _ask_now(scheduler: Scheduler, tasks: Collection[Task], query: QueueQuery, began: float) -> QueueAnswer:
    def remaining() -> float:
        return max(1.0, QUERY_TIMEOUT - (time.monotonic() - began))

    asked = time.time()
    ids = frozenset(job_id for job_id, _ in tasks)
    query = replace(query, ids=tuple(sorted(ids)))
    try:
        jobs = client.query(scheduler, scheduler.status, query, limit=remaining())
    except CommandError as error:
        return QueueAnswer(time.time(), frozenset(), error=str(error))
    now = time.time()
    shown = {(job.job_id, job.index) for job in jobs}
    # of an array, tasks may have ended while others are in the queue
    gone = {job_id for job_id, index in tasks if not {(job_id, index), (job_id, None)} & shown}
    if gone and scheduler.history is not None:
        past = replace(query, ids=tuple(sorted(gone)))
        try:
            jobs = [*client.query(scheduler, scheduler.history, past, limit=remaining()), *jobs]
        except CommandError as error:  # what the queue shows is known all the same
            return QueueAnswer(now, ids - gone, tuple(jobs), error=str(error), answered=now, asked=asked)
    return QueueAnswer(now, ids, tuple(jobs), answered=now, asked=asked)


def _cache_file(scheduler: Scheduler) -> Path:
    """The file for the answers of one cluster's scheduler, for this user on this host."""
    command = scheduler.status.command(QueueQuery(""))[0]
    ours = sorted(name for name in os.environ if name.startswith("MLXP_") and name != "MLXP_LOG_DIR")
    cluster = [f"{name}={os.environ.get(name)}" for name in (*scheduler.client_variables, *ours)]
    parts = "\0".join([shutil.which(command) or command, *cluster])
    key = hashlib.sha256(parts.encode(errors="surrogateescape")).hexdigest()[:16]
    inside = ("queues", socket.gethostname())
    folder = writable_cache_dir(*inside)
    if folder is None:
        folder = Path(tempfile.gettempdir(), f"hydra-mlxp-{os.getuid()}", *inside)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"{scheduler.name}-{key}.json"


def _load(path: Path) -> QueueAnswer | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        jobs = tuple(NativeJob(**job) for job in content.pop("jobs"))
        return QueueAnswer(**{**content, "ids": frozenset(content["ids"]), "jobs": jobs})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # nothing yet, or of another version
