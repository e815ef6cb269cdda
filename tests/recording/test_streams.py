"""What a program prints is copied into files, and stays visible: whoever prints, and however the program ends."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

START = """
import os, signal, subprocess, sys
from pathlib import Path
from mlxp_core.recording.streams import StreamCopies
copies = StreamCopies({1: Path("out"), 2: Path("err")})
"""
PRINTERS = {
    "python": "print('one'); print('two', file=sys.stderr)",
    "descriptor": "os.write(1, b'one\\n'); os.write(2, b'two\\n')",
    "C": "import ctypes; c = ctypes.CDLL(None); c.puts(b'one'); c.write(2, b'two\\n', 4)",
    "subprocess": "subprocess.run('echo one; echo two >&2', shell=True)",
    "fork": "pid = os.fork()\nif not pid: print('one'); print('two', file=sys.stderr); sys.exit()\nos.waitpid(pid, 0)",
    "pool": (
        "from multiprocessing import get_context\n"
        "with get_context('fork').Pool(1) as pool: pool.apply(os.system, ['echo one; echo two >&2'])"
    ),
}
ENDS = {
    "return": "",
    "close": "copies.close()",
    "exit": "sys.exit(3)",
    "os._exit": "os._exit(0)",
    "crash": "os.kill(os.getpid(), signal.SIGSEGV)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "kill all": "os.killpg(0, signal.SIGKILL)",
    "terminate all": "os.killpg(0, signal.SIGTERM)",
}


def run(program: str, folder: Path, before: str = "", **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", before + START + program]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=folder, start_new_session=True, **more
    )


def files(folder: Path) -> tuple[str, str]:
    return (folder / "out").read_bytes().decode(), (folder / "err").read_bytes().decode()


@pytest.mark.parametrize("printer", PRINTERS)
def test_whatever_prints_is_seen_and_kept_once(tmp_path: Path, printer: str) -> None:
    """Bug: what C code or a subprocess prints is not in the log, or there twice, or no longer to be seen."""
    done = run(PRINTERS[printer], tmp_path)
    assert (done.stdout, done.stderr) == ("one\n", "two\n")
    assert files(tmp_path) == ("one\n", "two\n")


@pytest.mark.parametrize("end", ENDS)
def test_however_a_program_ends_nothing_is_lost(tmp_path: Path, end: str) -> None:
    """Bug: the last lines before a crash, which one looks for, are not in the log."""
    text = "x" * 99
    done = run(f"for _ in range(5000): print('{text}')\nprint('two', file=sys.stderr)\n{ENDS[end]}", tmp_path)
    assert done.stdout == 5000 * f"{text}\n"  # read to its end: the copies are made then
    assert files(tmp_path)[0] == done.stdout
    assert files(tmp_path)[1] == done.stderr == "two\n"


def test_several_in_one_process_have_each_their_own(tmp_path: Path) -> None:
    """Bug: what one job of a multirun prints is in the log of another; descriptors are left open."""
    program = """
copies.close()
before = sorted(os.listdir("/dev/fd"))
for number in range(3):
    print("between")
    copies = StreamCopies({1: Path(f"out{number}"), 2: Path(f"err{number}")})
    print("run", number)
    copies.close({2: "last words\\n"})
print(sorted(os.listdir("/dev/fd")) == before)
"""
    done = run(program, tmp_path)
    assert done.stdout == "between\nrun 0\nbetween\nrun 1\nbetween\nrun 2\nTrue\n"
    assert [(tmp_path / f"out{number}").read_text() for number in range(3)] == ["run 0\n", "run 1\n", "run 2\n"]
    assert [(tmp_path / f"err{number}").read_text() for number in range(3)] == ["last words\n"] * 3
    assert done.stderr == ""


def test_what_leads_into_the_file_already_is_not_doubled(tmp_path: Path) -> None:
    """Bug: each line twice in the log of a job whose script redirects it there."""
    with (tmp_path / "out").open("w") as out:
        command = [sys.executable, "-c", START + "print('one')"]
        subprocess.run(command, stdout=out, check=True, cwd=tmp_path)
    assert (tmp_path / "out").read_text() == "one\n"


def test_a_program_without_a_stream_goes_on(tmp_path: Path) -> None:
    """Bug: a daemon, whose stdout is closed, dies of the copy of what it cannot print."""
    command = [sys.executable, "-c", START + "print('two', file=sys.stderr)"]
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "two\n")
    assert (tmp_path / "err").read_text() == "two\n"


def test_a_program_that_waits_for_all_its_children_does_not_wait_for_ours(tmp_path: Path) -> None:
    """Bug: `os.wait()` until there is no child any more never ends."""
    program = "subprocess.Popen(['true'])\ntry:\n    while True: os.wait()\nexcept ChildProcessError: print('one')"
    assert run(program, tmp_path, timeout=60).stdout == "one\n"


def test_a_child_that_lives_on_does_not_hold_the_program_up(tmp_path: Path) -> None:
    """Bug: the end of a run waits for a server that it has started; or what that prints later is lost."""
    program = "child = subprocess.Popen(['sh', '-c', 'read x; echo later'], stdin=subprocess.PIPE)\ncopies.close()\n"
    done = run(program + "print('after'); child.communicate(b'x\\n')", tmp_path, timeout=60)
    assert sorted(done.stdout.split()) == ["after", "later"]
    assert files(tmp_path)[0] == "later\n"


def test_at_a_terminal_the_program_has_one(tmp_path: Path) -> None:
    """Bug: no progress bars and no colours, lines of 80 columns, or `\\r\\n` in the log."""
    program = START + (
        "print(sys.stdout.isatty(), os.isatty(1), os.isatty(2), *os.get_terminal_size(1))\n"
        "sys.stderr.write('\\r 50%\\r100%\\n')\ncopies.close()\nprint('after')\n"
    )
    size = "import fcntl, struct, termios; fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 77, 0, 0))\n"
    shown = at_terminal([sys.executable, "-c", size + program], tmp_path)
    assert sorted(shown.split("\r\n")) == sorted(["True True True 77 33", "\r 50%\r100%", "after", ""])
    assert files(tmp_path) == ("True True True 77 33\n", "\r 50%\r100%\n")


DOINGS = {  # what it does during its run, and where what it prints afterwards is shown
    "leads it elsewhere": ("os.dup2(os.open('../own', os.O_WRONLY | os.O_CREAT), 1)", ""),
    "closes those it does not know": ("os.closerange(3, 999)", "after\n"),
    "removes its folder": ("os.unlink('out'); os.unlink('err'); os.rmdir(os.getcwd())", "after\n"),
}
MANY = "import os, resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)); [os.dup(0) for _ in range(1500)]"


@pytest.mark.parametrize("doing", DOINGS)
def test_what_a_program_does_to_its_descriptors_stays(tmp_path: Path, doing: str) -> None:
    """Bug: what a program prints into a file of its own goes to the terminal; or the end of its run is an error."""
    (tmp_path / "run").mkdir()
    does, shown = DOINGS[doing]
    done = run(f"{does}\ncopies.close({{2: 'last words'}})\nos.write(1, b'after\\n')", tmp_path / "run")
    assert (done.returncode, done.stdout) == (0, shown)
    assert ("what ended the run is not kept" if "rmdir" in does else "") in done.stderr
    assert "Traceback" not in done.stderr
    if not shown:
        assert (tmp_path / "own").read_text() == "after\n"


def test_a_program_runs_where_there_is_no_tee(tmp_path: Path) -> None:
    """Bug: it dies of the first line that it prints, and not even that is to be seen."""
    done = run("print('one')", tmp_path, env={**os.environ, "PATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "one\n")
    assert "what is printed is not kept: tee cannot be started" in done.stderr


def test_a_program_that_ignores_the_ends_of_children_has_its_log(tmp_path: Path) -> None:
    """Bug: nothing is kept, as tee could not be started, which it was."""
    done = run("print('one')", tmp_path, before="import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
    assert (done.stdout, done.stderr) == ("one\n", "")
    assert files(tmp_path) == ("one\n", "")


def test_a_program_with_many_open_files_has_its_log(tmp_path: Path) -> None:
    """Bug: with 1024 files open the end of the run is an error, and Hydra goes on to the next with this one's log."""
    done = run("copies.close()\nprint('after')", tmp_path, before=MANY)
    assert (done.stdout, done.stderr) == ("after\n", "")


def test_a_thread_that_reads_the_keyboard_does_not_hold_the_end_up(tmp_path: Path) -> None:
    """Bug: a program that stops at a key, which nobody has pressed, never ends: the C library's stdin is locked."""
    program = (
        "import ctypes, threading\n"
        "libc = ctypes.CDLL(None)\n"
        "stdin = ctypes.c_void_p.in_dll(libc, 'stdin')\n"
        "libc.flockfile(stdin)  # as fgets() does, by which input() reads at a terminal\n"
        "closing = threading.Thread(target=copies.close, daemon=True)\n"
        "closing.start(); closing.join(30)\n"
        "libc.funlockfile(stdin)\n"
        "print(closing.is_alive())\n"
    )
    assert run(program, tmp_path).stdout == "False\n"


def at_terminal(command: list[str], folder: Path) -> str:
    """What a terminal shows of a command."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(command[0], command)
    shown = b""
    try:
        while text := os.read(terminal, 65536):
            shown += text
    except OSError:  # Linux: all of its other sides are closed
        pass
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0, shown
    return shown.decode()
