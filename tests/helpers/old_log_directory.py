"""tests/recorded/log_directory_0_1 on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import pickletools
import pwd
import shlex
import socket
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from support import ROOT, git
from warm_python import warm_python

RECORDED = ROOT / "tests" / "recorded"
NAME, REPOSITORY = "log_directory_0_1", "log_directory_0_1.bundle"


def is_pickle(data: bytes) -> bool:
    """Whether bytes are a pickle of protocol 4 or 5."""
    return data[:2] in {b"\x80\x04", b"\x80\x05"} and data[-1:] == b"."


def in_pickle(data: bytes, places: Mapping[str, str]) -> bytes:
    """A pickle with other words in its strings, and in those of the pickles that it holds as bytes."""
    written, operations = b"", list(pickletools.genops(data))
    ends = [position for _, _, position in operations[1:]] + [len(data)]
    for (operation, value, start), end in zip(operations, ends, strict=True):
        if operation.name == "FRAME":  # a hint, of a length that changes
            continue
        if isinstance(value, str) and "UNICODE" in operation.name:
            text = value
            for known, place in places.items():
                text = text.replace(known, place)
            raw = text.encode("utf-8", "surrogatepass")
            written += pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw
        elif isinstance(value, bytes) and "BINBYTES" in operation.name and is_pickle(value):
            raw = in_pickle(value, places)
            written += pickle.BINBYTES + struct.pack("<I", len(raw)) + raw
        else:
            written += data[start:end]
    return written


def lay_out(root: Path) -> Path:
    """Put the project, with its log directory, where its files say that it is; give its folder.

    The copies of the code were made days ago: none of them is kept for a launch that might have just chosen it.
    """
    project, bundle = root / "a project", RECORDED / REPOSITORY
    root.mkdir(parents=True, exist_ok=True)
    git("clone", "--quiet", str(bundle), str(project), cwd=root)
    git("fetch", "--quiet", str(bundle), "refs/mlxp/*:refs/mlxp/*", cwd=project)
    (project / "data").mkdir()
    places = {
        "@ROOT@": str(root),
        "@PYTHON@": _interpreter(root),
        "@PREFIX@": sys.prefix,
        "@BASE@": sys.base_prefix,
        "@HOST@": socket.gethostname(),
        "@USER@": _user(),
    }
    for path in (RECORDED / NAME).rglob("*"):
        if path.is_file():
            laid = project / "logs" / path.relative_to(RECORDED / NAME)
            laid.parent.mkdir(parents=True, exist_ok=True)
            laid.write_bytes(_of_this_machine(path.read_bytes(), places))
            laid.chmod(0o755 if path.suffix == ".sh" else 0o644)
    for digest in project.glob("logs/*/metadata/digest.jsonl"):
        _know_files_again(digest)
    long_ago = time.time() - 2 * 24 * 3600
    for copy in project.glob("logs/.mlxp/code/*"):
        os.utime(copy, (long_ago, long_ago))
    return project


def _interpreter(root: Path) -> str:
    """This Python by a path that needs no quotes, for the recorded scripts have none around it."""
    python = warm_python().python
    if shlex.quote(python) == python:
        return python
    wrapper = root / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container
        return str(os.getuid())


def _of_this_machine(data: bytes, places: Mapping[str, str]) -> bytes:
    if is_pickle(data):
        return in_pickle(data, places)
    for placeholder, place in places.items():
        data = data.replace(placeholder.encode(), place.encode())
    return data


def _know_files_again(digest: Path) -> None:
    """Have a digest be of the YAML beside it, as it was before placeholders came into that: else nobody reads it."""
    first, *others = digest.read_bytes().splitlines(keepends=True)
    own = json.loads(first)
    for name in ("config", "info"):
        text = digest.with_name(f"{name}.yaml").read_bytes()
        own[name]["checksum"] = hashlib.blake2b(text, digest_size=16).hexdigest()
    digest.write_bytes(json.dumps(own).encode() + b"\n" + b"".join(others))
