"""Job scripts: what of a template reaches the job, and what a shell makes of the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import until

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs import array_script, directives, run_script
from mlxp_core.jobs.run_script import RunScriptSpec
from mlxp_core.jobs.template import Template, add_header, read_template
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler import load_scheduler

SLURM = load_scheduler("slurm")
LOCAL = load_scheduler("local")
PLAIN = Template()

NATIVE = """\
#!/bin/bash -l
#SBATCH --time=10
##SBATCH --partition=old
#SBATCH\t--mem=4G   # as text
# a comment

module load python/3.10
export DATA="/a b/$USER"
FOO=bar srun python -u src/main.py lr=1,2 \\
    seed=3
#SBATCH --ignored
echo done
"""


def test_a_native_script_is_taken_apart_byte_for_byte() -> None:
    """Bug: stripped lines, a comment taken for a directive, a directive after the first command taken for one."""
    template = read_template(NATIVE, SLURM, "main.py")
    assert template.shebang == "#!/bin/bash -l"
    assert template.header == ("#SBATCH --time=10", "#SBATCH\t--mem=4G   # as text")
    assert template.setup == (
        "##SBATCH --partition=old",
        "# a comment",
        "",
        "module load python/3.10",
        'export DATA="/a b/$USER"',
    )
    assert template.prefix == "FOO=bar srun "
    assert template.after == ("echo done",)
    assert template.ignored == ("#SBATCH --ignored",)


@pytest.mark.parametrize(
    ("line", "prefix"),
    [
        ("python main.py", ""),
        ("python3.11 -u -W error main.py -m a=1", ""),
        ('"$VENV/bin/python" "$HOME/project/main.py"', ""),
        ("./main.py a=1", ""),
        ("  srun -n 2 python main.py", "srun -n 2 "),
        ("echo python other.py", None),
        ("# python main.py", None),
        ("cp main.py /tmp", None),
        ("test -f main.py && echo 'python main.py is there' # python main.py", None),
        ("FOO='a b' BAR=$X srun -n 2 --label python main.py", "FOO='a b' BAR=$X srun -n 2 --label "),
        ("conda create -n x python=3.10", None),
        ("python main.pyc", None),
    ],
)
def test_the_program_line_is_known_by_the_program_and_not_by_the_word_python(line: str, prefix: str | None) -> None:
    """Bug of MLXP 1.0.5: any line with the word python is the command."""
    template = read_template(f"#!/bin/bash\n{line}\n", SLURM, "main.py")
    if prefix is None:
        assert template.setup == (line,)
    else:
        assert template.setup == ()
        assert template.prefix == prefix


@pytest.mark.parametrize(
    "line",
    [
        'bash -c "python main.py"',
        'apptainer exec img bash -c "cd /x && python main.py"',
        "torchrun --nproc-per-node 2 main.py",
        "uv run main.py",
        "python main.py | tee out.txt",
        "python main.py >out.txt",
        "python main.py &",
        "if [ -f main.py ]; then python main.py; fi",
        "for i in 1 2; do python main.py; done",
        "python main.py 'open quote",
        "python main.py\npython main.py",
    ],
)
def test_a_line_that_names_the_program_and_cannot_be_replaced_is_refused(line: str) -> None:
    """Bug: the program runs from the work tree beside the job, or half a line does: COMPLETE, and nothing was run."""
    with pytest.raises(ConfigurationError, match="not a line that the launcher can replace"):
        read_template(f"#!/bin/bash\n{line}\n", SLURM, "main.py")


def test_a_module_is_found_as_such() -> None:
    """Bug: `python -m pkg.main` of a template left beside the job's own command: the job runs twice."""
    template = read_template("#!/bin/sh\nsrun python -O -m pkg.main a=1\n", SLURM, "pkg.main")
    assert (template.setup, template.prefix) == ((), "srun ")


HERE = """\
#!/bin/bash
#SBATCH --time=1
cat >inner.sh <<'END' && echo $((1 << n)) <<<"<<X"
#SBATCH --time=9
python main.py
END
cat <<-A >a; cat <<B
\t$x it's "open
\tA
srun python main.py
B
python main.py
"""


def test_the_text_of_a_here_document_is_data() -> None:
    """Bug: a line of a script that the job writes is taken for the program, or for a directive that Slurm ignores."""
    template = read_template(HERE, SLURM, "main.py")
    assert template.header == ("#SBATCH --time=1",)
    assert template.setup == tuple(HERE.split("\n")[2:11])
    assert (template.prefix, template.after, template.ignored) == ("", (), ())


def test_a_template_with_dos_line_ends_is_read(tmp_path: Path) -> None:
    r"""Bug: `$'\r': command not found`, and a header that sbatch refuses."""
    template = read_template("#!/bin/bash\r\n#SBATCH --time=1\r\nset -e\r\n", SLURM, "main.py")
    assert (template.header, template.setup) == (("#SBATCH --time=1",), ("set -e",))


def test_another_schedulers_template_is_refused_with_its_launcher() -> None:
    """Bug: a job without any of the resources that the user asked for."""
    with pytest.raises(ConfigurationError, match=r"#PBS -l walltime=1.*\n.*mlxp_torque"):
        read_template("#!/bin/bash\n#PBS -l walltime=1\n", SLURM, "main.py")
    several = read_template("#!/bin/bash\n#PBS -l walltime=1\n#SBATCH --time=1\n", SLURM, "main.py")
    assert several.header == ("#SBATCH --time=1",)


def test_a_template_that_no_shell_runs_is_refused() -> None:
    """Bug: bash lines rendered into a Python or csh script."""
    with pytest.raises(ConfigurationError, match="python3"):
        read_template("#!/usr/bin/env python3\n", SLURM, "main.py")


def test_a_header_line_that_is_no_directive_is_refused() -> None:
    """Bug: `SBATCH --mem=1G` without its # is a shell command of every job."""
    with pytest.raises(ConfigurationError, match=r"SBATCH --mem=1G\n.*first column"):
        add_header(Template(), "#SBATCH --time=1\n SBATCH --mem=1G", SLURM)
    assert add_header(Template(), "#SBATCH --time=1\n\n", SLURM).header == ("#SBATCH --time=1",)


@pytest.mark.parametrize("own", ["-o x.out", "--output=x.out", "--output x.out", "-ox.out", "-n 1 -o x.out"])
def test_what_the_pack_sets_yields_to_the_users_own_line(tmp_path: Path, own: str) -> None:
    """Bug: the user's --output is overridden, or stderr leaves it for another file."""
    template = read_template(f"#!/bin/bash\n#SBATCH {own}\n", SLURM, "main.py")
    text = run_script.render_job(job(tmp_path / "1", "true"), template, SLURM)
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert directives == ["#SBATCH --job-name=name", "#SBATCH --open-mode=append", f"#SBATCH {own}"]


def test_an_option_that_only_starts_alike_is_another_one(tmp_path: Path) -> None:
    """Bug: --output-something, or --overcommit, taken for --output."""
    template = read_template("#!/bin/bash\n#SBATCH --overcommit --error-x=1\n", SLURM, "main.py")
    text = run_script.render_job(job(tmp_path / "1", "true"), template, SLURM)
    assert f'#SBATCH --output="{tmp_path}/1/log.stdout"' in text
    assert f'#SBATCH --error="{tmp_path}/1/log.stderr"' in text


def test_a_path_with_what_slurm_takes_for_a_pattern_is_escaped(tmp_path: Path) -> None:
    """Bug: output of a folder called 100%a goes to 100<task id>."""
    run = tmp_path / '100%a "x"' / "1"
    text = run_script.render_job(job(run, "true"), Template(), SLURM)
    assert f'--output="{tmp_path}/100%%a \\"x\\"/1/log.stdout"' in text


def job(run: Path, *command: str, work_dir: str = "/", environment: dict[str, str] | None = None) -> RunScriptSpec:
    (run / "metadata").mkdir(parents=True)
    return RunScriptSpec(RunDir(run), "name", command, work_dir, environment or {})


def execute(job: RunScriptSpec, template: Template = PLAIN, shell: str = "bash") -> subprocess.CompletedProcess[str]:
    path = job.run.script
    path.write_text(run_script.render_job(job, template, LOCAL))
    return subprocess.run([shell, str(path)], capture_output=True, text=True, cwd="/", check=False)


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
    ],
)
def test_the_exit_code_is_kept_however_the_command_or_the_set_up_ends(
    tmp_path: Path, template: Template, command: tuple[str, ...], code: int
) -> None:
    """Bug: a run that is RUNNING for ever since `set -e` or `exit` left the script before it noted anything."""
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
        process.wait(30)
    assert one.run.exit_code.read_text() == "143 1\n"


PROGRAM = """
import os, signal, sys, time
for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda number, frame: print("got", number, flush=True))
open(sys.argv[1], "w").close()
try:
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
        said += process.communicate(timeout=30)[0]
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


def several(tmp_path: Path, *numbers: int) -> list[RunDir]:
    """Runs that say their number on stdout and stderr."""
    runs = []
    for number in numbers:
        one = job(tmp_path / "l o'g" / str(number), "sh", "-c", f"echo out {number}; echo err {number} >&2")
        one.run.script.write_text(run_script.render_job(one, Template(), LOCAL))
        runs.append(one.run)
    return runs


def submission(
    folder: Path, tasks: list[list[RunDir]], header: tuple[str, ...] = (), throttle: int | None = None
) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "manifest").write_text(array_script.render_manifest(tasks))
    made = array_script.ArraySpec(tasks, "n", "#!/bin/bash", (), folder, throttle=throttle)
    return array_script.render_submission(made, LOCAL)


def run_task(text: str, index: int | None = None) -> int:
    environment = {**os.environ, **({} if index is None else {"MLXP_LOCAL_TASK_ID": str(index)})}
    return subprocess.run(["bash", "-c", text], env=environment, check=False).returncode


def test_an_array_task_becomes_its_own_run(tmp_path: Path) -> None:
    """Bug: indices off by one; logs of one task in another's folder; a set -e of the header lost."""
    runs = several(tmp_path, 3, 4, 12)
    text = submission(tmp_path / "it's", [[run] for run in runs], throttle=2)
    assert "#LOCAL --array=1-3%2\n" in text
    for index, run in enumerate(runs, start=1):
        assert run_task(text, index) == 0
        number = run.path.name
        assert (run.stdout.read_text(), run.stderr.read_text()) == (f"out {number}\n", f"err {number}\n")


def test_packed_runs_go_side_by_side_each_into_its_folder(tmp_path: Path) -> None:
    """Bug: the last job, which is not full, runs a run of another; a run waits for its neighbour to end."""
    runs = several(tmp_path, 1, 2, 3)
    for run, other in ((1, 2), (2, 1)):  # each goes on when the other has begun
        wait = f"touch {tmp_path}/{run}; while [ ! -e {tmp_path}/{other} ]; do sleep 0.02; done; exit {run + 2}"
        one = run_script.RunScriptSpec(runs[run - 1], "n", ("sh", "-c", wait), "/", {})
        one.run.script.write_text(run_script.render_job(one, Template(), LOCAL))
    text = submission(tmp_path / "s", [runs[:2], runs[2:]])
    assert "--array=1-2\n" in text
    assert run_task(text, 1) in {3, 4}
    assert not runs[2].stdout.exists()
    assert run_task(text, 2) == 0
    assert runs[2].stdout.read_text() == "out 3\n"
    codes = [int(run.exit_code.read_text().split()[0]) for run in runs]
    assert codes == [3, 4, 0]


def test_of_packed_runs_the_complete_ones_do_not_run_again(tmp_path: Path) -> None:
    """Bug: a run that was asked to stop, and left with 0, counts as complete and is never resumed; or all run again."""
    runs = several(tmp_path, 1, 2, 3)
    for run, status, code in zip(runs, ("COMPLETE", "PREEMPTED", "FAILED"), (0, 0, 1), strict=True):
        run.info.write_text(f"status: {status}\n")
        run.exit_code.write_text(f"{code} 1\n")
    assert run_task(submission(tmp_path / "s", [runs])) == 0
    assert [run.stdout.exists() for run in runs] == [False, True, True]


def test_a_packed_run_that_fails_does_not_end_its_neighbour(tmp_path: Path) -> None:
    """Bug: under `#!/bin/bash -e` the job ends with the first run that fails, and takes the others with it."""
    runs = several(tmp_path, 1, 2)
    for run, command in zip(runs, ("exit 3", "sleep 0.5; echo late"), strict=True):
        one = run_script.RunScriptSpec(run, "n", ("sh", "-c", command), "/", {})
        run.script.write_text(run_script.render_job(one, Template(), LOCAL))
    text = submission(tmp_path / "s", [runs])
    assert subprocess.run(["bash", "-e", "-c", text], check=False).returncode == 3
    assert runs[1].stdout.read_text() == "late\n"


def test_an_earlier_attempt_keeps_what_it_printed(tmp_path: Path) -> None:
    """Bug: the output of a requeued job is behind, or over, that of its first attempt."""
    (run,) = several(tmp_path, 1)
    text = submission(tmp_path / "s", [[run]])
    assert run_task(text) == 0
    run.starts.write_text("first\n")  # as script.sh notes it
    assert run_task(text) == 0
    assert run.stdout.read_text() == "out 1\n"
    assert run.attempt_dir(1).stdout.read_text() == "out 1\n"


def test_a_header_with_an_array_of_its_own_is_refused() -> None:
    """Bug: two --array lines, the last wins: jobs that nobody asked for, or runs without one."""
    with pytest.raises(ConfigurationError, match=r"--array or -a.*max_parallel"):
        directives.check_array(("#SBATCH -a 1-10",), SLURM)


@pytest.mark.parametrize(
    ("name", "legal"), [("main", "main"), ("a/b c", "a-b-c"), ("1x", "j1x"), ("é", "j"), ("-x-", "x"), ("", "j")]
)
def test_job_names_are_legal_everywhere(name: str, legal: str) -> None:
    """Bug: Grid Engine refuses a slash, PBS a leading digit."""
    assert directives.sanitize_job_name(name) == legal


@pytest.mark.parametrize(
    ("scheduler", "header", "found"),
    [
        ("slurm", "#SBATCH --job-name=mine", True),  # squeue shows the script
        ("sge", "#$ -l h_rt=3", True),
        ("sge", "#$ -N mine", False),
        ("mwm", "#MSUB -N mine", False),
        ("lsf", "#BSUB -J mine", True),  # by its description
        ("lsf", "#BSUB -Jd mine", False),
    ],
)
def test_a_submission_is_found_by_its_script_or_by_a_name_of_ours(scheduler: str, header: str, found: bool) -> None:
    """Bug: qstat shows the user's own name, so a job that is there is not found, and submitted twice."""
    assert directives.is_identifiable((header,), load_scheduler(scheduler)) is found
