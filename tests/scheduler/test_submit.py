"""Submitting to a scheduler that has its troubles. And the local queue, which is a program of ours."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, until

from mlxp_core.errors import CommandError, SubmissionRefusedError, SubmissionUnclearError
from mlxp_core.runs.process import current_user
from mlxp_core.scheduler import client as _run
from mlxp_core.scheduler import load_scheduler
from mlxp_core.scheduler.submit import SubmitCall, submit_once

SLURM = load_scheduler("slurm")


def client(folder: Path, name: str, script: str) -> None:
    """Put a stand-in for a scheduler's client on the path."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "bin"


def test_a_refusal_is_shown_whole(clients: Path) -> None:
    """Bug: CalledProcessError without what sbatch said."""
    client(clients, "sbatch", "echo 'sbatch: error: Invalid --time specification' >&2; exit 255")
    with pytest.raises(SubmissionRefusedError) as caught:
        _run.submit(SLURM, Path("/x/array.sh"), limit=10)
    text = str(caught.value)
    assert "command: sbatch --parsable /x/array.sh" in text
    assert "exit code 255" in text
    assert "stderr: sbatch: error: Invalid --time specification" in text


def test_an_interrupt_while_a_client_is_being_started_waits_for_its_answer(
    clients: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: sbatch runs before Popen has returned; a Ctrl-C in between, and nobody hears which job it took."""
    client(clients, "sbatch", "echo 77")

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    own = signal.getsignal(signal.SIGINT)
    with pytest.raises(_run.InterruptedSubmission) as caught:
        _run.submit(SLURM, Path("/x/array.sh"), limit=10)
    assert caught.value.job_id == "77"
    assert signal.getsignal(signal.SIGINT) is own


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, None])
def test_a_handler_that_is_not_pythons_stays_in_charge(
    clients: Path, monkeypatch: pytest.MonkeyPatch, handler: signal.Handlers | None
) -> None:
    """Bug: `nohup` in vain; TypeError where a program in C has a handler of its own, which Python cannot put back."""
    client(clients, "sbatch", "echo 77")
    changed: list[object] = []
    monkeypatch.setattr(signal, "getsignal", lambda _: handler)
    monkeypatch.setattr(signal, "signal", lambda *arguments: changed.append(arguments))
    assert _run.submit(SLURM, Path("/x/array.sh"), limit=10) == "77"
    assert changed == []


TIMED_OUT = "echo 'Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"


def call(script: str = "/x/array.sh", name: str = "n-abc", limit: float = 10, patience: float = 1.0) -> SubmitCall:
    quick = replace(SLURM, min_query_interval=0.1)
    return SubmitCall(quick, Path(script), (), Path("/"), "ada", name, lambda: None, limit, patience)


def test_a_failed_answer_for_a_job_that_was_accepted_is_no_refusal(clients: Path) -> None:
    """Bug: submitting again after `Socket timed out`: the job ran twice (seen on Slurm)."""
    client(clients, "sbatch", TIMED_OUT)
    client(clients, "squeue", "echo '7|1|PENDING|None|/x/array.sh'; echo '6|1|PENDING|None|/y/array.sh'")
    assert submit_once(call()) == "7"


def test_what_is_unclear_is_submitted_again_only_when_the_queue_has_twice_not_had_it(
    clients: Path, tmp_path: Path
) -> None:
    """Bug: a job that a busy controller shows a little late, and that is there twice."""
    client(clients, "sbatch", f"echo x >>{tmp_path}/sbatch; [ -e {tmp_path}/two ] && echo 8 && exit\n{TIMED_OUT}")
    client(clients, "squeue", f"[ ! -e {tmp_path}/one ] || touch {tmp_path}/two; touch {tmp_path}/one")
    assert submit_once(call()) == "8"
    assert (tmp_path / "sbatch").read_text() == "x\nx\n"


def test_without_a_clear_answer_nothing_is_claimed(clients: Path) -> None:
    """Bug: `refused`, or a second submission, for a job that may still appear."""
    client(clients, "sbatch", TIMED_OUT)
    client(clients, "squeue", "echo down >&2; exit 1")
    with pytest.raises(SubmissionUnclearError, match=r"(?s)could not be asked.*down"):
        submit_once(call())
    client(clients, "squeue", "echo what is this")
    with pytest.raises(SubmissionUnclearError, match=r"(?s)could not be asked.*what is this"):
        submit_once(call())


def test_a_client_that_hangs_is_given_up_and_the_queue_is_asked(clients: Path) -> None:
    """Bug: a launcher that waits for ever for a frozen controller."""
    client(clients, "sbatch", "exec sleep 60")
    client(clients, "squeue", "echo '9|N/A|RUNNING|None|/x/array.sh'")
    assert submit_once(call(limit=0.5)) == "9"


LIMIT = """\
echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2
echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, ...)' >&2
exit 1"""


def test_a_refusal_that_passes_is_tried_again_with_growing_pauses(
    clients: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a sweep that ends at the site's submit limit, or that hammers the controller."""
    client(clients, "sbatch", f"[ -e {tmp_path}/full ] || {{ echo 5; exit; }}; rm {tmp_path}/full\n{LIMIT}")
    (tmp_path / "full").touch()
    assert submit_once(call(patience=10)) == "5"
    assert "AssocMaxSubmitJobLimit" in caplog.text
    assert "next try in 1 s" in caplog.text
    client(clients, "sbatch", LIMIT)
    with pytest.raises(SubmissionRefusedError, match=r"submit_timeout=0\.5 seconds"):
        submit_once(call(patience=0.5))


def test_a_client_that_may_not_be_run_is_an_error_of_ours(clients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: PermissionError with a stack trace, and runs that stay PENDING."""
    client(clients, "sbatch", "")
    (clients / "sbatch").chmod(0o644)
    monkeypatch.setenv("PATH", str(clients))
    with pytest.raises(CommandError, match=r"sbatch --parsable /x\.sh cannot be run"):
        _run.submit(SLURM, Path("/x.sh"), limit=10)


def test_an_absent_client_is_named_with_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Bug: FileNotFoundError: [Errno 2] 'sbatch'."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="sbatch is not on this machine's PATH"):
        _run.submit(SLURM, Path("/x.sh"), limit=10)


def test_sbatch_is_told_to_leave_the_directives_of_others_alone(clients: Path) -> None:
    """Bug: sbatch obeys #PBS lines anywhere in a script, before #SBATCH (seen on 22.05)."""
    client(clients, "sbatch", 'test "$SBATCH_IGNORE_PBS" = 1 && echo 3')
    assert _run.submit(SLURM, Path("/x.sh"), limit=10) == "3"


QUEUE = [sys.executable, str(ROOT / "mlxp_core" / "scheduler" / "local_queue.py")]


class LocalQueue:
    """The local queue's program, by its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "MLXP_LOCAL_SPOOL": str(folder / "spool")}

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*QUEUE, *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=20
        )

    def submit(self, text: str) -> str:
        path = self.folder / "job.sh"
        path.write_text(text)
        done = self.call("submit", str(path))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def states(self) -> list[tuple[str, str, str]]:
        jobs = load_scheduler("local").status.read(self.call("status").stdout)
        return [(job.job_id, str(job.index), job.state) for job in jobs]

    def ended(self) -> bool:
        return all(state not in {"PENDING", "RUNNING"} for *_, state in self.states())


@pytest.fixture
def queue(tmp_path: Path) -> LocalQueue:
    return LocalQueue(tmp_path)


def test_the_local_queue_runs_an_array_in_order_so_many_at_once(queue: LocalQueue) -> None:
    """Bug: all tasks at once; an index from 0; output of one task in another's file."""
    out = queue.folder / "100% %a.txt"
    pattern = str(out).replace("%", "%%").replace("%%a", "%a")
    text = f"""#!/bin/bash
#LOCAL --array=1-4%2
#LOCAL --output="{pattern}"
mkdir "{queue.folder}/running.$MLXP_LOCAL_TASK_ID"
set -- "{queue.folder}"/running.*
echo $#
sleep 0.2
rmdir "{queue.folder}/running.$MLXP_LOCAL_TASK_ID"
exit $((MLXP_LOCAL_TASK_ID % 2))
"""
    assert queue.submit(text) == "1"
    until(queue.ended)
    assert queue.states() == [
        ("1", "1", "FAILED"),
        ("1", "2", "COMPLETED"),
        ("1", "3", "FAILED"),
        ("1", "4", "COMPLETED"),
    ]
    at_once = [int((queue.folder / f"100% {index}.txt").read_text()) for index in range(1, 5)]
    assert max(at_once) <= 2


def test_the_local_queue_outlives_the_shell_that_submitted(queue: LocalQueue) -> None:
    """Bug: closing the terminal (SIGHUP to its processes) ends the sweep."""
    (queue.folder / "job.sh").write_text(
        f"#!/bin/bash\nwhile [ ! -e {queue.folder}/go ]; do sleep 0.05; done; echo done >{queue.folder}/out\n"
    )
    shell = subprocess.Popen(
        ["bash", "-c", f"{shlex.join(QUEUE)} submit {queue.folder}/job.sh; kill -HUP 0"],
        env=queue.environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert shell.wait(20) == -signal.SIGHUP
    assert queue.states() == [("1", "None", "RUNNING")]
    (queue.folder / "go").touch()
    until(queue.ended)
    assert (queue.folder / "out").read_text() == "done\n"


def test_the_local_queue_runs_what_lies_in_a_path_with_blanks(path_with_space: Path) -> None:
    """Bug: the script, the spool or the output is looked for at the path's first word, or with one blank of two."""
    queue = LocalQueue(path_with_space)
    queue.submit(f'#!/bin/bash\n#LOCAL --output="{path_with_space}/out 1.txt"\necho "$0"\n')
    until(queue.ended)
    assert queue.states() == [("1", "None", "COMPLETED")]
    assert (path_with_space / "out 1.txt").read_text() == f"{path_with_space / 'job.sh'}\n"


def test_a_local_queue_that_was_killed_says_lost_and_not_pending(queue: LocalQueue) -> None:
    """Bug: a job that waits for ever in a queue that nobody runs."""
    queue.submit("#!/bin/bash\n#LOCAL --array=1-2%1\nexec sleep 60\n")
    until(lambda: ("1", "1", "RUNNING") in queue.states())
    pid = int((queue.folder / "spool" / "1" / "pid").read_text())
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(pid, signal.SIGKILL)
    until(lambda: queue.states() == [("1", "1", "LOST"), ("1", "2", "LOST")])
    for child in children:
        os.killpg(int(child), signal.SIGKILL)


def test_cancelling_in_the_local_queue_ends_what_runs_and_starts_nothing_more(queue: LocalQueue) -> None:
    """Bug: only the shell of a task is ended, its program runs on; or the next task starts."""
    queue.submit(
        f"#!/bin/bash\n#LOCAL --array=1-3%1\nsleep 61 &\necho $! >{queue.folder}/pid.$MLXP_LOCAL_TASK_ID; wait\n"
    )
    sleeper = queue.folder / "pid.1"
    until(lambda: sleeper.exists() and sleeper.read_text().strip())
    assert queue.call("cancel", "1").returncode == 0
    until(queue.ended)
    assert queue.states() == [("1", str(index), "CANCELLED") for index in (1, 2, 3)]
    assert not (queue.folder / "pid.2").exists()
    until(lambda: not Path(f"/proc/{int(sleeper.read_text())}").exists(), what="the program has ended")
    assert queue.call("cancel", "99").returncode == 1


def test_a_task_that_cannot_start_fails_alone(queue: LocalQueue) -> None:
    """Bug: an output that cannot be made ends the queue, and every other task with it."""
    (queue.folder / "2.txt").mkdir()
    queue.submit(f"#!/bin/bash\n#LOCAL --array=1-3%1 --output={queue.folder}/%a.txt\necho $MLXP_LOCAL_TASK_ID\n")
    until(queue.ended)
    assert queue.states() == [("1", "1", "COMPLETED"), ("1", "2", "FAILED"), ("1", "3", "COMPLETED")]


def test_the_local_queue_refuses_what_it_does_not_know(queue: LocalQueue) -> None:
    """Bug: a misspelt directive that is ignored."""
    path = queue.folder / "job.sh"
    for text, message in [
        ("#!/bin/sh\n#LOCAL --foo=1\n", "unrecognized arguments: --foo=1"),
        ("#!/bin/sh\n#LOCAL --array=0-3\n", "invalid --array=0-3"),
        ("true\n", "no script"),
        ("#!/no/such/shell\n", "there is no /no/such/shell here"),
    ]:
        path.write_text(text)
        done = queue.call("submit", str(path))
        assert done.returncode != 0
        assert message in done.stderr
        assert done.stdout == ""
    assert queue.call("submit", "/no/such/file").returncode != 0
    assert queue.states() == []


def test_the_user_has_a_name_even_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: KeyError: 'getpwuid(): uid not found' in a container."""
    monkeypatch.setattr("os.getuid", lambda: 987654321)
    assert current_user() == "987654321"
