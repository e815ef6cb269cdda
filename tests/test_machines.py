"""The fixtures of helpers/machines.py: each holds what it says."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import machines
import pytest
from machines import FourRanks, Host, SmallDisk, User, in_child, missing
from support import PATIENCE, ROOT, Project, git, until


def refused(path: Path) -> int:
    """Error number of making a file there; 0 where it could be made."""
    try:
        path.touch()
    except OSError as error:
        return error.errno or -1
    path.unlink()
    return 0


def ids() -> tuple[int, int, list[int], str, str]:
    return os.geteuid(), os.getegid(), os.getgroups(), os.environ["HOME"], os.getcwd()


def fail(message: str) -> None:
    raise ValueError(message)


def test_every_machine_stands_in_the_table_of_contributing() -> None:
    """Bug: a fixture that nobody knows of, and the same is built once more in each test."""
    text = Path(machines.__file__).read_text(encoding="utf-8")
    fixtures = re.findall(r"^@pytest\.fixture\ndef (\w+)", text, re.MULTILINE)
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(fixtures) == sorted(table)


def test_what_a_child_process_raises_is_raised_here() -> None:
    """Bug: a test passes although what it asserts as another user, or on another host, is not so."""
    assert in_child(lambda: None, max, 3, 7) == 7
    with pytest.raises(ValueError, match="no luck"):
        in_child(lambda: None, fail, "no luck")
    with pytest.raises(ZeroDivisionError):
        in_child(lambda: 1 // 0, max, 3, 7)
    with pytest.raises(AssertionError, match="exit code is 5"):
        in_child(lambda: None, os._exit, 5)


def test_ci_as_root_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: tests that are skipped for ever, everywhere, and CI is green."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "exists", lambda self: self == Path("/etc/debian_version"))
    monkeypatch.setattr("machines.may_mount", lambda: True)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no test may be left out: needs root"):
        missing("needs root")
    monkeypatch.setattr("machines.may_mount", lambda: False)
    with pytest.raises(pytest.skip.Exception, match="needs root"):
        missing("needs root")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="needs root"):
        missing("needs root")


def test_as_root_gives_files_away_and_goes_anywhere(as_root: None, tmp_path: Path) -> None:
    """Bug: a test that means root runs as somebody else, and passes for another reason."""
    file = tmp_path / "file"
    file.touch(mode=0o000)
    os.chown(file, 65534, 65534)
    assert file.stat().st_uid == 65534
    assert file.read_text() == ""


def test_another_user_has_a_home_and_nothing_of_ours(another_user: User, tmp_path: Path, open_folder: Path) -> None:
    """Bug: the other user is root after all, keeps root's groups, or writes into root's home."""
    ours = tmp_path / "ours"
    ours.touch()
    assert another_user.uid != os.geteuid()
    assert another_user.call(ids) == (another_user.uid, another_user.gid, [], *[str(another_user.home)] * 2)
    assert another_user.call(refused, another_user.home / "file") == 0
    assert another_user.call(refused, open_folder / "file") == errno.EACCES
    assert another_user.call(refused, tmp_path / "file") == errno.EACCES
    assert os.geteuid() == 0


def test_programs_run_as_another_user(another_user: User) -> None:
    """Bug: a program that is root's although the functions are not; one that keeps root's home."""
    ran = another_user.run(["sh", "-c", 'echo $(id -u) $(id -G) "$HOME" "$PWD"'])
    assert ran.stdout.split() == [str(another_user.uid), str(another_user.gid), *[str(another_user.home)] * 2]
    program = "import sys; print(os.geteuid(), os.getgroups(), yaml.__name__, sys.argv[1])"
    ran = another_user.python("import os, yaml", program, "x")
    assert ran.stdout.split() == [str(another_user.uid), "[]", "yaml", "x"], ran.stderr


def test_an_ordinary_user_is_held_back_by_modes(ordinary_user: User, open_folder: Path) -> None:
    """Bug: a test of what may not be written passes for users and not for root, or the other way round."""
    folder = open_folder / "read-only"
    folder.mkdir()
    ordinary_user.owns(folder)
    folder.chmod(0o555)
    assert ordinary_user.call(refused, folder / "file") == errno.EACCES
    assert ordinary_user.call(refused, ordinary_user.home / "file") == 0
    folder.chmod(0o755)


def test_a_project_without_gitignore_shows_what_runs_leave(no_gitignore: Project) -> None:
    """Bug: a test of untracked files in a repository that hides them."""
    no_gitignore.write(**{"logs/1/x": "x", "outputs/x": "x"})
    assert git("status", "--porcelain", cwd=no_gitignore.dir) == "?? logs/\n?? outputs/"


def test_nothing_can_be_made_in_an_unwritable_home(unwritable_home: Path, environment: dict[str, str]) -> None:
    """Bug: root writes into it all the same; a program goes by XDG_CACHE_HOME and never looks at it."""
    assert refused(unwritable_home / "file") in {errno.EACCES, errno.EROFS}
    assert Path("~").expanduser() == unwritable_home
    assert environment["HOME"] == str(unwritable_home)
    assert [name for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME") if name in {*os.environ, *environment}] == []


def test_a_path_with_space_falls_apart_without_quotes(path_with_space: Path) -> None:
    """Bug: a shell that splits the path finds it all the same."""
    assert len(str(path_with_space).split()) > 1
    assert path_with_space.name != " ".join(path_with_space.name.split())  # `echo $path` changes it
    assert refused(path_with_space / "file") == 0


def test_a_small_disk_takes_no_more_than_it_has(small_disk: SmallDisk) -> None:
    """Bug: "full" that is not; a full disk on which there is no room again."""
    path = small_disk.path / "file"
    small_disk.fill(left=1)
    path.write_bytes(b"x" * 4096)
    with pytest.raises(OSError, match="No space left on device"):
        path.write_bytes(b"x" * 4097)
    small_disk.fill()
    with pytest.raises(OSError, match="No space left on device"):
        (small_disk.path / "other").write_bytes(b"x")
    small_disk.empty()
    (small_disk.path / "other").write_bytes(b"x" * 500_000)


def test_a_mounted_disk_goes_with_the_process_that_asked_for_it(small_disk: SmallDisk, tmp_path: Path) -> None:
    """Bug: a killed run of the tests leaves file systems behind, which nothing can remove."""
    disk = tmp_path / "another disk"
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests" / "helpers")!r})
from machines import mounted
with mounted(Path({str(disk)!r}), "size=1m"):
    print(os.path.ismount({str(disk)!r}), flush=True)
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("True\n", -9), done.stderr
    until(lambda: not os.path.ismount(disk))


def on_host() -> tuple[str, str]:
    return socket.gethostname(), os.uname().nodename


def test_two_hosts_have_their_names_and_share_their_files(two_hosts: tuple[Host, Host], tmp_path: Path) -> None:
    """Bug: both are this host; or this host has their name ever after."""
    here = socket.gethostname()
    assert [host.call(on_host) for host in two_hosts] == [("node1.example",) * 2, ("node2.example",) * 2]
    program = "import os, socket; open('where', 'w').write(socket.gethostname()); print(os.geteuid())"
    said, errors = two_hosts[1].start([sys.executable, "-c", program], cwd=tmp_path).communicate(timeout=PATIENCE)
    assert (tmp_path / "where").read_text() == "node2.example", errors
    assert said == f"{os.geteuid()}\n"
    assert socket.gethostname() == here


@pytest.mark.parametrize(
    ("starter", "names", "values"),
    [
        ("srun", ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID", "RANK"], "{rank} 4 0 None"),
        ("torchrun", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID"], "{rank} 4 {rank} None"),
        ("mpirun", ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "RANK", "SLURM_PROCID"], "{rank} 4 None None"),
    ],
)
def test_four_ranks_know_their_number(four_ranks: FourRanks, starter: str, names: list[str], values: str) -> None:
    """Bug: all take themselves for the first; or for those of another starter, too."""
    program = "import os, sys; print(*map(os.environ.get, sys.argv[1:])); sys.exit(int(os.environ[sys.argv[1]]))"
    ranks = four_ranks.run([sys.executable, "-S", "-c", program, *names], starter)
    assert [rank.stdout.strip() for rank in ranks] == [values.format(rank=number) for number in range(4)]
    assert [rank.returncode for rank in ranks] == [0, 1, 2, 3]


def test_four_ranks_are_there_at_the_same_time(four_ranks: FourRanks, tmp_path: Path) -> None:
    """Bug: one after the other, so that nothing between them is ever tested."""
    # each ends when all four have come; -S: without site-packages, which take most of a start
    program = """
import os, pathlib, time
pathlib.Path(f"here-{os.environ['SLURM_PROCID']}").touch()
end = time.monotonic() + 60
while len([name for name in os.listdir() if name.startswith("here-")]) < 4 and time.monotonic() < end:
    time.sleep(0.01)
print(len(os.listdir()), os.environ["SLURM_TASK_PID"] == str(os.getpid()))
"""
    ranks = four_ranks.run([sys.executable, "-S", "-c", program], cwd=tmp_path)
    assert [rank.stdout for rank in ranks] == ["4 True\n"] * 4


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_INDEX_FILE", "GIT_CONFIG_GLOBAL"])
def test_tests_in_a_hook_of_git_leave_the_developers_repository_alone(tmp_path: Path, variable: str) -> None:
    """Bug: `git rebase --exec` with the tests commits theirs to the project's own branch, and makes it a bare one."""
    developers = tmp_path / "developers"
    developers.mkdir()
    git("init", "--quiet", cwd=developers)
    config = tmp_path / "gitconfig"
    config.write_text(f"[commit]\n\tgpgSign = true\n[core]\n\thooksPath = {developers}/.git\n")
    values = {
        "GIT_DIR": developers / ".git",
        "GIT_INDEX_FILE": developers / ".git" / "index",
        "GIT_CONFIG_GLOBAL": config,
    }

    def files() -> dict[str, bytes]:
        found = (path for path in developers.rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in found}

    before = files()
    test = "tests/versioning/test_git.py::test_a_repository_without_gitignore_is_clean_after_a_run"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 't'}", test],
        cwd=ROOT,
        env={**os.environ, variable: str(values[variable])},
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert files() == before
