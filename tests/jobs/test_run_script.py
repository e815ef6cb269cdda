"""script.sh: what a shell makes of the job's lines, of signals and of the ways to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scripts import job, shellcheck
from support import PATIENCE, ROOT, until

from mlxp_core.atomic_files import write_atomic
from mlxp_core.jobs import run_script
from mlxp_core.jobs.run_script import RunScriptSpec
from mlxp_core.jobs.template import Template
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.versioning.work_folder import WorkFolderTemplate

SLURM = load_scheduler("slurm")

LOCAL = load_scheduler("local")

PLAIN = Template()


def execute(job: RunScriptSpec, template: Template = PLAIN, shell: str = "bash") -> subprocess.CompletedProcess[str]:
    path = job.run.script
    path.write_text(run_script.render_job(job, template, LOCAL))
    return subprocess.run([shell, str(path)], capture_output=True, text=True, cwd="/", check=False)


USUAL = Template(
    header=("#SBATCH --time=10", "#SBATCH --requeue"),
    setup=("module load python/3.10", 'export DATA="$HOME/data"'),
    prefix="srun ",
    after=("echo done",),
)


@pytest.mark.parametrize(("name", "template"), [("alone", Template()), ("between lines", USUAL)])
def test_a_person_reads_what_the_job_is_above_what_the_pack_adds(name: str, template: Template) -> None:
    """Bug: a user who looks for their own lines finds them in the middle of traps and subshells."""
    run = RunDir(Path("/logs/12"))
    spec = RunScriptSpec(run, "main-12", ("python", "main.py", "lr=1"), "/copy", {"PYTHONPATH": "/copy"})
    recorded = ROOT / "tests" / "recorded" / "scripts" / f"{name}.sh"
    assert run_script.render_job(spec, template, SLURM) == recorded.read_text()


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/dash", "/bin/sh -e"])
def test_shellcheck_has_nothing_against_a_script(tmp_path: Path, name: str, shell: str) -> None:
    """Bug: an unquoted path, or a word that only bash knows."""
    scheduler = load_scheduler(name)
    # what stands around the program is the same for all of them
    for number, around in enumerate(AROUND.values() if name == "slurm" else [AROUND["both"]]):
        spec = job(tmp_path / "a 'b' $c" / str(number), "python", "main.py", *HOSTILE, environment={"A": "a 'b' $c"})
        folder = WorkFolderTemplate(tmp_path / "a 'b' $c", tmp_path / "it's", ("a b", "-c"))
        for one in (spec, replace(spec, work_folder=folder)):
            text = run_script.render_job(one, replace(around, shebang=f"#!{shell}"), scheduler)
            assert shellcheck(text) == ""


HOSTILE = [
    "a b",
    "it's",
    'say "hi"',
    "$HOME ${HOME} `id` $(id)",
    "back\\slash\\",
    "two\nlines",
    "tab\there",
    "ünï ☃ 雪",
    "",
    "*",
    "~",
    "a;b|c&d>e<f",
    "!x",
    "#no comment",
    "-m",
    "%s%d",
    "\u0001",
]


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_arguments_reach_the_program_unharmed(tmp_path: Path, shell: str) -> None:
    """Bug: overrides joined unquoted."""
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    done = execute(job(tmp_path / "a 'b' $c" / "1", sys.executable, "-c", show, *HOSTILE), shell=shell)
    assert json.loads(done.stdout) == HOSTILE, done.stderr


def test_a_folder_whose_name_is_no_utf8_is_reached(tmp_path: Path) -> None:
    r"""Bug: a script that goes to `caf\udce9`, spelt out, and not to the folder."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    one = job(tmp_path / "1", "touch", "here", work_dir=str(folder))
    write_atomic(one.run.script, run_script.render_job(one, PLAIN, LOCAL))
    subprocess.run(["bash", str(one.run.script)], check=True)
    assert os.listdir(os.fsencode(folder)) == [b"here"]


def test_variables_and_the_working_directory_reach_the_program_unharmed(tmp_path: Path) -> None:
    """Bug: export X=$VALUE, cd without quotes."""
    folder = tmp_path / "it's $x"
    folder.mkdir()
    show = "import json, os; print(json.dumps([os.getcwd(), os.environ['X']]))"
    one = job(tmp_path / "1", sys.executable, "-c", show, work_dir=str(folder), environment={"X": "a\n'b' $c"})
    assert json.loads(execute(one).stdout) == [str(folder), "a\n'b' $c"]


@pytest.mark.parametrize(
    ("template", "command", "code"),
    [
        (Template(), ("sh", "-c", "exit 0"), 0),
        (Template(), ("sh", "-c", "exit 3"), 3),
        (Template(), ("sh", "-c", "kill -KILL $$"), 137),
        (Template(), ("/no/such/program",), 127),
        (Template(setup=("set -euo pipefail", "false")), ("true",), 1),
        (Template(setup=("set -euo pipefail",)), ("sh", "-c", "exit 4"), 4),
        (Template(setup=("exit 5",)), ("true",), 5),
        (Template(setup=("trap 'echo bye' EXIT",)), ("sh", "-c", "exit 6"), 6),
        (Template(setup=("cat <<END", "exit 9", ")", "END")), ("sh", "-c", "exit 7"), 7),
        (Template(after=("echo after",)), ("sh", "-c", "exit 8"), 8),
        (Template(prefix="FOO=1 env "), ("sh", "-c", "exit $FOO"), 1),
        (Template(setup=("set -eC",), prefix="env ", after=("echo after",)), ("true",), 0),
    ],
)
def test_the_exit_code_is_kept_however_the_command_or_the_set_up_ends(
    tmp_path: Path, template: Template, command: tuple[str, ...], code: int
) -> None:
    """Bug: a run that is RUNNING for ever since `set -e` or `exit` left the script before it noted anything.

    Or one whose program never starts, since `set -C` keeps us from writing its process id twice.
    """
    one = job(tmp_path / "1", *command)
    assert execute(one, template).returncode == code
    assert one.run.exit_code.read_text() == f"{code} 1\n"


@pytest.mark.parametrize("code", [0, 6])
def test_set_up_lines_and_those_after_the_program_see_its_end(tmp_path: Path, code: int) -> None:
    """Bug: a trap that is lost with its shell, so that nothing is cleaned up; $? of a line of ours."""
    command = ("sh", "-c", f"echo ran; exit {code}")
    for prefix in ("", "FOO=1 "):
        trapped = Template(setup=("trap 'echo bye $?' EXIT",), prefix=prefix)
        assert execute(job(tmp_path / f"trap{prefix}", *command), trapped).stdout == f"ran\nbye {code}\n"
    after = Template(after=("status=$?", "echo saw $status", "exit $status"))
    done = execute(job(tmp_path / "after", *command), after)
    assert (done.stdout, done.returncode) == (f"ran\nsaw {code}\n", code)


def test_the_exit_code_of_an_earlier_attempt_is_gone_while_the_next_runs(tmp_path: Path) -> None:
    """Bug: a requeued job that runs is FAILED, by the exit code of the attempt before."""
    one = job(tmp_path / "1", "sh", "-c", f"test ! -e {tmp_path}/1/metadata/exit_code")
    one.run.exit_code.write_text("143\n")
    assert execute(one).returncode == 0


def test_sigterm_to_the_whole_job_still_records_an_exit_code(tmp_path: Path) -> None:
    """Bug: scancel's SIGTERM ends the shell before it can note how the program ended."""
    show = f"import os, time; open({str(tmp_path / 'up')!r}, 'w'); time.sleep(60)"
    one = job(tmp_path / "1", sys.executable, "-c", show)
    one.run.script.write_text(run_script.render_job(one, Template(), LOCAL))
    with subprocess.Popen(["bash", str(one.run.script)], start_new_session=True) as process:
        until((tmp_path / "up").exists)
        os.killpg(process.pid, 15)
        process.wait(PATIENCE)
    assert one.run.exit_code.read_text() == "143 1\n"


PROGRAM = """
import os, signal, sys, time
for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda number, frame: print("got", number, flush=True))
try:
    open(sys.argv[1], "w").close()
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.02)
except KeyboardInterrupt:
    time.sleep(0.2)  # a second SIGINT would break into this
    sys.exit(5)
"""

AROUND = {
    "alone": Template(),
    "variables": Template(prefix="A='x y' B=\"$HOME\" "),
    "command": Template(prefix="A=1 env "),
    "after": Template(after=("echo after",)),
    "both": Template(setup=("set -u",), prefix="env ", after=("echo after",)),
    "set -e": Template(setup=("set -eu",), after=("echo after",)),
}


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize(
    ("number", "to_all", "code"),
    [
        (signal.SIGTERM, False, 143),  # to the script alone, as --signal=B: does
        (signal.SIGTERM, True, 143),  # to all processes, as scancel does
        (signal.SIGINT, True, 5),  # Ctrl-C
        (signal.SIGUSR1, False, 0),
        (signal.SIGUSR2, False, 0),
    ],
)
def test_a_signal_to_the_script_reaches_the_program_at_once(
    tmp_path: Path, shell: str, around: str, number: signal.Signals, to_all: bool, code: int
) -> None:
    """Bug: bash runs its trap when its child has ended: the warning comes when the time is over."""
    up, go = tmp_path / "up", tmp_path / "go"
    one = job(tmp_path / "1", sys.executable, "-c", PROGRAM, str(up), str(go))
    one.run.script.write_text(run_script.render_job(one, AROUND[around], LOCAL))
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([shell, str(one.run.script)], start_new_session=True, **streams) as process:
        until(up.exists)
        (os.killpg if to_all else os.kill)(process.pid, number)
        said = process.stdout.readline() if code == 0 else ""
        go.touch() if code == 0 else None
        said += process.communicate(timeout=PATIENCE)[0]
    if shell == "dash" and number == signal.SIGINT:
        code = 143  # a child in its background ignores Ctrl-C, so it is terminated
    assert one.run.exit_code.read_text() == f"{code} 1\n"
    assert process.returncode == code
    after = AROUND[around].after and (code == 0 or around != "set -e")
    assert said == ("" if code else f"got {int(number)}\n") + ("after\n" if after else "")
    assert sorted(os.listdir(one.run.metadata)) == ["exit_code", "starts"]


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("around", AROUND)
def test_the_program_reads_what_the_script_is_given_to_read(tmp_path: Path, shell: str, around: str) -> None:
    """Bug: a shell gives its background /dev/null: no debugger when the script is run by hand."""
    one = job(tmp_path / "1", "cat")
    one.run.script.write_text(run_script.render_job(one, AROUND[around], LOCAL))
    command = [shell, str(one.run.script)]
    done = subprocess.run(command, input="typed\n", capture_output=True, text=True, check=True)
    assert done.stdout.startswith("typed\n")
    subprocess.run(["sh", "-c", f'exec {shell} "{one.run.script}" <&-'], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_shell_function_may_stand_before_the_program(tmp_path: Path, shell: str) -> None:
    """Bug: `exec` of a function: not found."""
    template = Template(setup=('run() { echo run; "$@"; }',), prefix="run ")
    assert execute(job(tmp_path / "1", "echo", "here"), template, shell).stdout == "run\nhere\n"
    dated = Template(prefix="A=$(echo 'b  c' | tr b d) ")
    assert execute(job(tmp_path / "2", "sh", "-c", 'echo "$A"'), dated, shell).stdout == "d  c\n"


def test_attempts_are_counted_whether_their_program_comes_up_or_not(tmp_path: Path) -> None:
    """Bug: an attempt that fails in its set-up leaves its exit code to the one before."""
    one = job(tmp_path / "1", "sh", "-c", 'echo "$MLXP_ATTEMPT"')
    assert execute(one, Template(setup=("false",))).stdout == "1\n"
    assert execute(one, Template(setup=("exit 9",))).returncode == 9
    assert one.run.exit_code.read_text() == "9 2\n"
    assert execute(one).stdout == "3\n"
    lines = one.run.starts.read_text().splitlines()
    assert [line.split()[1] for line in lines] == [os.uname().nodename] * 3


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_script_that_its_shell_cannot_read_counts_as_an_attempt(tmp_path: Path, shell: str) -> None:
    """Bug: what a typo in the set-up lines has printed, and the next attempt has, in one file."""
    one = job(tmp_path / "1", "true")
    for starts in (1, 2):
        assert execute(one, Template(setup=("if true; then",)), shell).returncode != 0
        assert len(one.run.starts.read_text().splitlines()) == starts


def test_the_jobs_lines_are_no_functions(tmp_path: Path) -> None:
    """Bug: `declare -x PATH` that leaves the job without one, `return` or `local` that end it or are let pass."""
    lines = ("A=outer", "declare -x A", 'echo "$A"', "declare -a B=(1 2)", "return 4", "local C=1", 'echo "${B[*]}"')
    assert (
        execute(job(tmp_path / "1", "sh", "-c", 'echo "$A $#"'), Template(setup=lines)).stdout
        == "outer\n1 2\nouter 0\n"
    )


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("options", [(), ("-e",), ("-u",), ("-eu",)])
def test_the_jobs_lines_have_the_options_and_arguments_of_the_script(
    tmp_path: Path, shell: str, options: tuple[str, ...]
) -> None:
    """Bug: `#!/bin/bash -e` that holds for our lines and not for the user's, or for both."""
    one = job(tmp_path / "1", "echo", "up")
    template = Template(setup=('echo "$# $1"', "false", 'echo "${mlxp_nothing}on"'))
    one.run.script.write_text(run_script.render_job(one, template, LOCAL))
    command = [shell, *options, str(one.run.script), "a b", "c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    flags = "".join(options)
    assert done.stdout == "2 a b\n" + ("" if flags else "on\nup\n")
    assert (done.returncode == 0) is (not flags)
    assert one.run.exit_code.read_text() == f"{done.returncode} 1\n"


def preempted(tmp_path: Path, stop_signal: str, header: str, attempt: int = 1) -> tuple[RunScriptSpec, Template]:
    """A job whose program leaves as one that was asked to stop; the scheduler's command notes what it is given."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\n')
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    info = f"status: PREEMPTED\nattempt: {attempt}\nstop_signal: {stop_signal}\n"
    one = job(tmp_path / "1", "sh", "-c", f"printf '{info}' >{tmp_path}/1/metadata/info.yaml")
    return one, Template(header=(header,))


@pytest.mark.parametrize(
    ("stop_signal", "header", "attempt", "packed", "code", "asked", "recorded"),
    [
        ("SIGUSR1", "#SBATCH --requeue", 1, "", 75, "requeue 42\n", None),
        ("SIGUSR2", "#SBATCH --mem=1 --requeue", 1, "", 75, "requeue 42\n", None),
        ("SIGUSR1", "#SBATCH --no-requeue", 1, "", 75, None, "0 1\n"),
        ("SIGTERM", "#SBATCH --requeue", 1, "", 75, None, "0 1\n"),  # a cancelled job stays cancelled
        ("SIGUSR1", "#SBATCH --requeue", 1, "1", 99, None, None),
        ("SIGUSR1", "#SBATCH --requeue", 7, "", 0, None, "0 1\n"),  # another copy's word
    ],
)
def test_a_preempted_job_is_requeued_where_its_header_asks_for_it(
    tmp_path: Path,
    stop_signal: str,
    header: str,
    attempt: int,
    packed: str,
    code: int,
    asked: str | None,
    recorded: str | None,
) -> None:
    """Bug: scancel starts a job again; or a run that is half done lets those start that wait for it."""
    one, template = preempted(tmp_path, stop_signal, header, attempt)
    one.run.script.write_text(run_script.render_job(one, template, SLURM))
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLURM_JOB_ID": "42", "MLXP_PACKED": packed}
    assert subprocess.run(["bash", str(one.run.script)], env=environment, check=False).returncode == code
    said = tmp_path / "asked"
    assert (said.read_text() if said.exists() else None) == asked
    assert (one.run.exit_code.read_text() if one.run.exit_code.exists() else None) == recorded
    assert one.run.starts.read_text().split()[-1] == "42"
