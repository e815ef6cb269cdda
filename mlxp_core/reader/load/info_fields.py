"""The columns ``info.*`` beyond what info.yaml says as it is: times, the run's folder, the scheduler's job.

A time stays text here, which ``times_of`` makes a column of: then a cached run and one that has just been read cannot
differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import polars as pl

from mlxp_core.reader.load.fields import NO_FIELDS, Fields, FieldSchema, Kind, kind_of, valid_text
from mlxp_core.runs.times import parse_time

TIME = pl.Datetime("us", "UTC")
START, END, SUBMIT, DURATION = "info.start_time", "info.end_time", "info.submit_time", "info.duration"
TIMES = (START, END, SUBMIT)
# MLXP's own: the day, 25/11/2026, stands apart from the time, 18:46:14, both of the clock of its machine
_DAYS = {START: "info.start_date", END: "info.end_date"}
_LOG_DIR, _LOG_ID, _ATTEMPT = "info.logger.log_dir", "info.logger.log_id", "info.attempt"
_OUR_FORMAT = "%Y-%m-%dT%H:%M:%S%.f%:z"

# columns of a run's scheduler, and the keys of submission.yaml that they are
_SCHEDULER_KEYS = {
    "info.scheduler.name": "scheduler",
    "info.scheduler.job_id": "job_id",
    "info.scheduler.array_index": "array_index",
    "info.scheduler.job_name": "name",
    "info.scheduler.hostname": "hostname",
}
SUBMISSION_KEYS = tuple(_SCHEDULER_KEYS.values())
_NUMBER = "info.scheduler.array_index"


def read_info(info: Fields, submission: Mapping[str, Any]) -> tuple[Fields, list[str]]:
    """Give the fields of a run's ``info``, and what is wrong with them.

    ``submission``: what submission.yaml says for SUBMISSION_KEYS. Times are text that ``times_of`` can read, or null;
    ``info.logger.log_dir`` is the run's folder.
    """
    fields, reasons = _with_own_values(info)
    return _joined(fields, _scheduler_fields(submission)), reasons


def times_of(texts: pl.Series) -> pl.Series:
    """Make a column of times, in UTC, of their text; one without a zone is of the zone of this machine."""
    times = texts.str.to_datetime(_OUR_FORMAT, time_unit="us", strict=False)
    if times.null_count() == texts.null_count():
        return times.cast(TIME)
    cells = [
        _parsed(text) if time is None and text is not None else time for text, time in zip(texts, times, strict=True)
    ]
    return pl.Series(texts.name, cells, dtype=TIME)


class _Places(NamedTuple):
    """Positions of fields among those of a schema; None for one that is not there."""

    times: tuple[tuple[str, int, int | None], ...]  # name; position of the time; of its day
    folder: tuple[int, int] | None  # of log_dir and log_id, in what this package writes


@lru_cache(maxsize=1000)
def _places(schema: FieldSchema) -> _Places:
    positions = schema.positions
    times = tuple((name, positions[name], positions.get(_DAYS.get(name, ""))) for name in TIMES if name in positions)
    ours = all(name in positions for name in (_LOG_DIR, _LOG_ID, _ATTEMPT))
    return _Places(times, (positions[_LOG_DIR], positions[_LOG_ID]) if ours else None)


def _with_own_values(fields: Fields) -> tuple[Fields, list[str]]:
    places = _places(fields.schema)
    changed: dict[int, Any] = {}
    reasons: list[str] = []
    moments: dict[str, datetime] = {}
    for name, position, day in places.times:
        value = fields.values[position]
        if value is None:
            continue
        try:
            text = value if day is None and type(value) is str and value else _time_text(value, fields, day)
            if text is not None:
                moments[name] = parse_time(text)
        except (ValueError, OverflowError):
            text = None
            reasons.append(f"{name.removeprefix('info.')} {value!r} is no time, as 2026-11-30T09:00:00+01:00 is: null")
        if text is not value:
            changed[position] = text
    if END in moments and START in moments and moments[END] < moments[START]:
        reasons.append("end_time is before start_time, so that there is no duration: was a clock set back?")
    if places.folder is not None:
        log_dir, log_id = (fields.values[position] for position in places.folder)
        # earlier versions wrote the folder that the run's lies in
        if isinstance(log_dir, str) and not log_dir.endswith(f"/{log_id}"):
            changed[places.folder[0]] = f"{log_dir.rstrip('/')}/{log_id}"
    return (_replaced(fields, changed) if changed else fields), reasons


def _time_text(value: Any, fields: Fields, day_position: int | None) -> str | None:
    """Give the time that info.yaml has, with MLXP's day. Raises ValueError where it is none."""
    if value == "":  # MLXP's, for one that is not known yet
        return None
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004  (what the file says, not what the caller gives)
    day = None if day_position is None else fields.values[day_position]
    if isinstance(day, str) and day and len(value) <= len("18:46:14"):
        return datetime.strptime(f"{day} {value}", "%d/%m/%Y %H:%M:%S").isoformat()  # noqa: DTZ007  (it has no zone)
    return value


def _parsed(text: str) -> datetime | None:
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        return None


def _replaced(fields: Fields, changed: Mapping[int, Any]) -> Fields:
    items: list[tuple[str, Kind]] = list(fields.schema.items)
    values = list(fields.values)
    for position, value in changed.items():
        items[position] = (items[position][0], kind_of(value))
        values[position] = value
    return Fields(FieldSchema.of(tuple(items)), tuple(values))


def _scheduler_fields(submission: Mapping[str, Any]) -> Fields:
    if submission.get("scheduler") is None:
        return NO_FIELDS
    values = tuple(_scheduler_value(name, submission.get(key)) for name, key in _SCHEDULER_KEYS.items())
    return Fields(_scheduler_schema(tuple(map(kind_of, values))), values)


def _scheduler_value(name: str, value: Any) -> Any:
    if name == _NUMBER:
        return value if type(value) is int and kind_of(value) == "int" else None
    return valid_text(str(value)) if isinstance(value, (str, int)) and value != "" else None


@lru_cache(maxsize=100)
def _scheduler_schema(kinds: tuple[Kind, ...]) -> FieldSchema:
    return FieldSchema.of(tuple(zip(_SCHEDULER_KEYS, kinds, strict=True)))


def _joined(info: Fields, scheduler: Fields) -> Fields:
    if scheduler is NO_FIELDS:
        return info
    schema, positions = _joined_schema(info.schema, scheduler.schema)
    return Fields(schema, info.values + tuple(scheduler.values[position] for position in positions))


@lru_cache(maxsize=1000)
def _joined_schema(info: FieldSchema, scheduler: FieldSchema) -> tuple[FieldSchema, tuple[int, ...]]:
    """Give the fields of both, and which of the second these are: info.yaml's own come first."""
    added = [(position, item) for position, item in enumerate(scheduler.items) if item[0] not in info.positions]
    return FieldSchema.of((*info.items, *(item for _, item in added))), tuple(position for position, _ in added)
