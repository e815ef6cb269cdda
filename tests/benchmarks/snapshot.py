"""What a copy of the code costs, beside `git archive | tar x` and a local clone, in one run.

    python tests/benchmarks/snapshot.py [files] [MiB of history] [rounds]

A repository of 1,708 files and some hundred MiB of history by default. Shown: the median of wall seconds and of CPU
seconds (with those of git), the median of the paired ratios to `git archive | tar x`, and what lies on the disk after.
Beyond interpreter and imports, which all of them have done before. `again`: a version that is there already.
`worktree`: ten files changed and ten new. `status`: one `git status`, which every launch needs.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import LogDir
from mlxp_core.versioning.export import remove_tree
from mlxp_core.versioning.snapshot import SnapshotOptions, freeze_code

WHO = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")


def git(*words: str, cwd: Path, **more: object) -> None:
    """Run git."""
    subprocess.run(["git", *WHO, *words], cwd=cwd, check=True, **more)  # type: ignore[call-overload]


def make(top: Path, files: int, megabytes: int) -> None:
    """A repository with so many files now, and so much of what was there once, packed."""
    git("init", "--quiet", cwd=top)
    stream = []
    for number in range(megabytes):
        blob = os.urandom(1 << 20)
        stream.append(f"commit refs/heads/main\ncommitter T <t@example.org> {1_600_000_000 + number} +0000\n".encode())
        stream.append(b"data 3\nold\nM 100644 inline old.bin\n" + f"data {len(blob)}\n".encode() + blob + b"\n")
    git("fast-import", "--quiet", cwd=top, input=b"".join(stream))
    git("reset", "--quiet", "--hard", "main", cwd=top) if megabytes else None
    (top / "old.bin").unlink(missing_ok=True)
    for number in range(files - 1):
        path = top / f"package{number % 40}" / f"module{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(3000).hex().encode() + b"\n")
    (top / "main.py").write_text("print('hello')\n")
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "now", cwd=top)
    git("gc", "--quiet", cwd=top)


def size(folder: Path) -> float:
    """MiB in a folder; files that another name has as well count."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / (1 << 20)


def measured(what: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of a call, with those of the processes that it ran."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    start = time.perf_counter()
    what()
    wall = time.perf_counter() - start
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(new.ru_utime + new.ru_stime - old.ru_utime - old.ru_stime for old, new in zip(before, after, strict=True))
    return wall, cpu


class Ways:
    """What is compared, over one repository."""

    def __init__(self, folder: Path, files: int, megabytes: int) -> None:
        self.top, self.out, self.logs = folder / "repo", folder / "out", LogDir(folder / "logs")
        self.top.mkdir()
        make(self.top, files, megabytes)
        self.changed = [self.top / "package0" / f"module{number * 40}.py" for number in range(10)]

    def archive(self) -> None:
        self.out.mkdir()
        subprocess.run("git archive HEAD | tar x -C ../out", shell=True, cwd=self.top, check=True)

    def clone(self) -> None:
        git("clone", "--quiet", str(self.top), str(self.out), cwd=self.top)

    def status(self) -> None:
        git("status", "--porcelain", cwd=self.top, stdout=subprocess.DEVNULL)

    def commit(self) -> None:
        freeze_code(self.top / "main.py", self.logs, SnapshotOptions(SnapshotMode.COMMIT))

    def worktree(self) -> None:
        freeze_code(self.top / "main.py", self.logs, SnapshotOptions(SnapshotMode.WORKTREE))

    def change(self) -> None:
        for path in self.changed:
            path.write_bytes(os.urandom(3000).hex().encode())
            path.with_suffix(".new").write_bytes(os.urandom(3000).hex().encode())

    def clean(self) -> None:
        git("checkout", "--quiet", ".", cwd=self.top)
        git("clean", "--quiet", "--force", cwd=self.top)

    def turn(self) -> Iterator[tuple[str, tuple[float, float], float]]:
        """Each way once: its name, its times, and MiB on the disk after it."""
        for name, call in (
            ("git archive | tar x", self.archive),
            ("git clone", self.clone),
            ("git status", self.status),
        ):
            times = measured(call)
            yield name, times, size(self.out)
            shutil.rmtree(self.out, ignore_errors=True)
        for name, call in (("commit", self.commit), ("worktree", self.worktree)):
            if name == "worktree":
                self.change()
            yield name, measured(call), size(self.logs.code)
            yield f"{name} again", measured(call), size(self.logs.code)
            remove_tree(self.logs.path)
        self.clean()


def main() -> None:
    """Measure and print."""
    files, megabytes, rounds = (int(word) for word in (*sys.argv[1:], *("1708", "388", "15")[len(sys.argv) - 1 :]))
    seen: dict[str, list[tuple[float, float]]] = {}
    sizes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        ways = Ways(Path(name), files, megabytes)
        for turn in range(rounds + 1):
            for way, times, mebibytes in ways.turn():
                if turn:  # the first fills caches, and imports
                    seen.setdefault(way, []).append(times)
                sizes[way] = mebibytes
        print(f"{files} files, {size(ways.top / '.git'):.0f} MiB in .git, {rounds} rounds")
    floor = seen["git archive | tar x"]
    print(f"{'':22}{'wall s':>9}{'CPU s':>9}{'ratio':>8}{'CPU ratio':>11}{'MiB':>8}")
    for way, times in seen.items():
        wall, cpu = (statistics.median(one[at] for one in times) for at in (0, 1))
        ratios = [statistics.median(one[at] / two[at] for one, two in zip(times, floor, strict=True)) for at in (0, 1)]
        print(f"{way:22}{wall:9.3f}{cpu:9.3f}{ratios[0]:8.2f}{ratios[1]:11.2f}{sizes[way]:8.1f}")


if __name__ == "__main__":
    main()
