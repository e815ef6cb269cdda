"""The index of a log directory: runs that do not change, cached on disk for the next process.

It lies in ``.mlxp`` of the log directory where that is the user's own, or else among the user's caches. It holds what
its writer may read, so nobody else reads or uses it. Format: a line with version, length of the JSON and checksum;
JSON; two Arrow IPC streams, the columns without rows and with them (Parquet takes five times as long for 1,000 runs).
Nothing in it is executed. One that is missing, torn or of another version is not used, and of an old one only the runs
whose signatures still hold: see run_cache.py. Several processes may write it at once: each replaces it as a whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import stat
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mlxp_core.atomic_files import write_atomic
from mlxp_core.reader.cache.run_columns import RunColumns, SharedTables
from mlxp_core.runs.layout import LogDir
from mlxp_core.user_dirs import cache_dir

_logger = logging.getLogger(__name__)

# with what the hashes of numbers depend on, which fingerprints are
_VERSION = f"hydra-mlxp reader index 5 {sys.implementation.name} {sys.hash_info.width}"


def load_index(log_dir: str) -> RunColumns | None:
    """Read the index of a log directory, if there is one that can be used."""
    for path in index_paths(log_dir):
        try:
            # a pipe would keep its reader waiting
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode):
                    return read_index(file.read())
        except (
            OSError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
            pl.exceptions.PolarsError,
        ) as error:
            _logger.debug("no index from %s: %s", path, error)
    return None


def save_index(log_dir: str, columns: RunColumns) -> None:
    """Write the index where that is possible."""
    content: bytes | None = None
    for path in index_paths(log_dir):
        try:
            # a log directory that has just been deleted must not come back
            path.parent.mkdir(parents=path.parent.parent != Path(log_dir), exist_ok=True)
            content = content or write_index(columns)
            write_atomic(path, content, private=True)
        except (OSError, UnicodeEncodeError) as error:
            _logger.debug("no index at %s: %s", path, error)
        else:
            return


def read_index(content: bytes) -> RunColumns:
    """Read what ``write_index`` made; fields are decoded when they are asked for. Raises ValueError and others."""
    head, _, body = content.partition(b"\n")
    version, length, checksum = head.decode("ascii").rsplit(" ", 2)
    if version != _VERSION or checksum != _checksum(body):
        raise ValueError("another version, or torn")
    schema_length, *tables = json.loads(body[: int(length)])
    end = int(length) + int(schema_length)
    schema, stream = body[int(length) : end], body[end:]

    def load_columns(names: Sequence[str]) -> pl.DataFrame:
        return pl.read_ipc_stream(io.BytesIO(stream), columns=list(names))

    dtypes = pl.read_ipc_stream(io.BytesIO(schema)).schema
    columns = RunColumns(dtypes, SharedTables.from_json(tables), load_columns)
    columns.validate()
    return columns


def write_index(columns: RunColumns) -> bytes:
    """Give the bytes of an index."""
    frame = columns.frame
    schema, stream = io.BytesIO(), io.BytesIO()
    frame.clear().write_ipc_stream(schema)  # by itself: to ask the stream for it would read all of it
    frame.write_ipc_stream(stream, compression="zstd")
    contents = [len(schema.getvalue()), *columns.tables.to_json()]
    head = json.dumps(contents, separators=(",", ":")).encode("utf-8", "surrogatepass")
    body = head + schema.getvalue() + stream.getvalue()
    return f"{_VERSION} {len(head)} {_checksum(body)}\n".encode() + body


def _checksum(content: bytes) -> str:
    # both: zlib's is the faster one, but 32 bits meet by chance among many damaged files
    return f"{zlib.crc32(content):08x}{len(content):x}"


def index_paths(log_dir: str) -> list[Path]:
    """List where an index may be: beside the runs, and among the user's caches."""
    paths = []
    beside = LogDir(Path(log_dir)).reader_index
    try:
        # a folder of somebody else's there would keep those who record runs from writing into it
        folder = beside.parent if beside.parent.exists() else Path(log_dir)
        if folder.stat().st_uid == os.geteuid():
            paths.append(beside)
    except OSError as error:
        _logger.debug("no index beside the runs: %s", error)
    cache = cache_dir()
    if cache is not None:
        paths.append(cache / "reader" / hashlib.sha256(os.fsencode(log_dir)).hexdigest()[:32])
    return paths
