"""Where an artifact is made, and how it takes its place: whole or not at all, be it a file or a folder.

A saver gets a path with the artifact's own name, in a folder beside the place: many choose the format by the ending of
the name, add one, or make a folder. An artifact that is a folder is marked below ``artifacts/.folders``, for a reader
to tell it from the folder of artifacts whose names have a slash.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlxp_core.errors import ArtifactError
from mlxp_core.runs.artifact_listing import EARLIER
from mlxp_core.runs.layout import RunDir

_MAKING = ".saving."  # and host, process and a number: a folder in which an artifact is being made
_IN_THE_WAY = {errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}  # what rename says of a folder that is there


@contextmanager
def artifact_place(run: RunDir, kind: str, name: str) -> Iterator[Path]:
    """Give a path to make a file or a folder at, which then becomes the artifact; the disk has it by then.

    Nothing is left of it if the block raises, and what it raises is raised. Raises ArtifactError where nothing was
    made, or more than one thing, or where an artifact of another name is in the way.
    """
    run = RunDir(run.path.absolute())  # the saver may change the directory
    path = run.artifact_file(kind, name)
    _check_name(run, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _put_back(path)
    _remove_leftovers(path.parent, run)
    making = path.parent / f"{_MAKING}{socket.gethostname()}.{os.getpid()}.{os.urandom(4).hex()}"
    making.mkdir()
    try:
        yield making / path.name
        made = _made(making, path)
        _mend_links(made, path)
        _sync(made)
        _publish(made, path, run)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # that of a full disk; of words alone it would lose them
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(making, ignore_errors=True)  # an error of this would hide that of the block


def shown(path: str | os.PathLike[str]) -> Path:
    """Give what an error calls a path: where the artifact is to be, for that at which it is made."""
    made = Path(path)
    return made.parent.parent / made.name if made.parent.name.startswith(_MAKING) else made


def stored_at(path: Path) -> Path:
    """Give where an artifact lies: at its path, unless a process was killed while it replaced it."""
    earlier = path.parent / EARLIER / path.name
    return path if os.path.lexists(path) or not os.path.lexists(earlier) else earlier


def _mark(run: RunDir, path: Path) -> Path:
    return run.artifact_folders / path.relative_to(run.artifacts)


def _check_name(run: RunDir, path: Path) -> None:
    """Raise ArtifactError where the path leads through another artifact, or into what readers pass over."""
    parts = path.relative_to(run.artifacts).parts
    if any(part.startswith(".") for part in parts):
        raise ArtifactError(
            f"{path}: names that begin with a dot are those of files being written, which no reader lists; "
            "give it a name without"
        )
    for parent in [run.artifacts.joinpath(*parts[:count]) for count in range(2, len(parts))]:
        if parent.is_dir() and not _mark(run, parent).is_file():
            continue
        if os.path.lexists(parent):
            raise ArtifactError(f"{path} would lie in {parent}, which is an artifact itself: choose another name")
        _mark(run, parent).unlink(missing_ok=True)  # of one that is gone


def _made(making: Path, path: Path) -> Path:
    """Give the one thing that was made; np.save and others add an ending to the name that they are given."""
    names = [entry for entry in os.listdir(making) if entry == path.name or not entry.startswith(".")]  # noqa: PTH208
    if len(names) == 1:
        return making / names[0]
    raise ArtifactError(
        f"{path} cannot be saved: its saver has made {' and '.join(sorted(names)) or 'nothing'}, not {path.name}; "
        "have it make one file or one folder, at the path that it gets: in a folder there is room for more"
    )


def _mend_links(made: Path, path: Path) -> None:
    """Have links that lead into what was made, or beside it, lead there still once it has moved."""
    links = [made] if made.is_symlink() else []
    for folder, folders, files in os.walk(made) if not links else ():
        links += [Path(folder, name) for name in (*folders, *files) if Path(folder, name).is_symlink()]
    for link in links:
        target = link.readlink()
        absolute = os.path.normpath(link.parent / target)
        is_inside = Path(absolute).is_relative_to(made)
        if target.is_absolute() is not is_inside or not (is_inside or os.path.lexists(absolute)):
            continue  # relative and inside, absolute and outside, or to be right in the end only
        start = link.parent if is_inside else (path / link.relative_to(made)).parent
        link.unlink()
        link.symlink_to(os.path.relpath(absolute, start))


def _sync(made: Path) -> None:
    """Wait until the disk has it: a rename may outlive a power cut that the content does not."""
    for folder, _, files in os.walk(made, topdown=False) if not made.is_symlink() else ():
        for name in files:
            _sync_one(os.path.join(folder, name))  # noqa: PTH118
        _sync_one(folder)
    _sync_one(os.fspath(made))


def _sync_one(path: str) -> None:
    mode = os.lstat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return  # a link, or a pipe
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(made: Path, path: Path, run: RunDir) -> None:
    mark = _mark(run, path)
    if path.is_dir() and not path.is_symlink() and not mark.is_file():
        others = sorted(name for name in os.listdir(path) if not name.startswith("."))  # noqa: PTH208
        if others:
            raise ArtifactError(
                f"{path} holds {', '.join(others[:5])}{', …' if others[5:] else ''}, which are artifacts themselves: "
                "choose another name, or remove that folder"
            )
    if made.is_dir():
        if mark.is_dir():  # of artifacts below this name, which are gone
            shutil.rmtree(mark)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()  # before it is there, so that no reader takes its files for artifacts
        _replace(made, path)
    else:
        _replace(made, path)
        _remove(mark)
    _sync_one(os.fspath(path.parent))  # a rename is an entry of the folder


def _replace(made: Path, path: Path) -> None:
    try:
        made.rename(path)
    except OSError as error:
        if error.errno not in _IN_THE_WAY:
            raise
    else:
        return
    if _swap(made, path):
        return
    earlier = path.parent / EARLIER / path.name
    earlier.parent.mkdir(exist_ok=True)
    _remove(earlier)
    path.rename(earlier)
    try:
        made.rename(path)
    except BaseException:
        earlier.rename(path)
        raise
    finally:
        _remove(earlier)
        with suppress(OSError):  # another artifact's is in it
            earlier.parent.rmdir()


def _swap(made: Path, path: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system (NFS, Lustre) has no such step."""
    import ctypes  # noqa: PLC0415  (few artifacts are folders)

    current_directory, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: rename(2)
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    done: int = rename(
        current_directory, os.fsencode(made), current_directory, os.fsencode(path), ctypes.c_uint(exchange)
    )
    return done == 0


def _put_back(path: Path) -> None:
    """Put back what a process had moved aside that was killed before it had put the newer one there."""
    if (earlier := stored_at(path)) != path:
        earlier.rename(path)
        with suppress(OSError):
            earlier.parent.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_leftovers(folder: Path, run: RunDir) -> None:
    """Remove what killed processes had begun to save here: those of this host, and those of earlier attempts."""
    try:  # written at the start of the attempt, and dated by the same file server
        start = run.environment.stat().st_mtime
    except OSError:
        start = 0.0
    for leftover in folder.glob(f"{_MAKING}*"):
        with suppress(OSError, ValueError):
            host, pid, _ = leftover.name.removeprefix(_MAKING).rsplit(".", 2)
            if leftover.stat().st_mtime < start or (host == socket.gethostname() and _is_gone(int(pid))):
                shutil.rmtree(leftover)


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
