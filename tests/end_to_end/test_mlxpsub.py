"""mlxpsub: hostile job scripts, and the submissions that each must give; what jobs run; interrupted calls."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import MAIN, PATIENCE, Mlxp, Project, read_yaml, until
from warm_python import warm_python

BIN = Path(sys.executable).parent
MLXPSUB = BIN / "mlxpsub"
WARM = warm_python().bin

# takes everything, and runs nothing
SBATCH = """\
#!/bin/sh
echo . >>"$SUBMISSIONS"
[ "$(wc -l <"$SUBMISSIONS" | tr -d " ")" != "${REFUSE:-}" ] || { echo refused >&2; exit 1; }
[ -z "${REFUSE_AFTER:-}" ] || [ "$(wc -l <"$SUBMISSIONS")" -le "$REFUSE_AFTER" ] || { echo refused >&2; exit 1; }
wc -l <"$SUBMISSIONS" | tr -d " "
"""

# fail, so that a script that comes to one of them has not got the stand-in
REFUSING = "#!/bin/sh\necho 'would allocate' >&2\nexit 9\n"

# enough of uv and poetry for `uv run python …`: another environment's variables, then the command
RUNNER = '#!/bin/sh\nshift\nVIRTUAL_ENV=/its/env exec "$@"\n'

OTHER = """\
import sys
from hydra import compose, initialize
with initialize(version_base=None, config_path="conf"):
    print("composed", compose("config", sys.argv[1:]).seed)
"""


@dataclass
class Sub:
    """The command, in a project, with a Slurm that only takes submissions."""

    project: Project
    environment: dict[str, str]

    def start(
        self, *arguments: str, cwd: Path | None = None, program: Path = MLXPSUB, **environment: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [program, *arguments],
            cwd=cwd or self.project.dir,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # pytest's workers ignore it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def __call__(
        self, *arguments: str, code: int = 0, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, cwd=cwd, program=WARM / "mlxpsub", **environment)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, f"exit code {process.returncode}\n{stdout}\n{stderr}"
        assert "Traceback" not in stderr, stderr
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def submitted(self) -> list[str]:
        """The overrides of each run, in order; those of a program in a folder are in a log directory there."""
        found = sorted(self.project.dir.glob("**/logs/*/metadata/info.yaml"), key=lambda path: (len(str(path)), path))
        times = [(read_yaml(path)["submit_time"], read_yaml(path)["hydra"]["overrides"]) for path in reversed(found)]
        return [" ".join(overrides) for _, overrides in sorted(times, key=lambda one: one[0])]

    def script(self, run: int, folder: str = ".") -> str:
        return (self.project.dir / folder / "logs" / str(run) / "script.sh").read_text()


@pytest.fixture
def sub(project: Project, tmp_path: Path) -> Sub:
    tools = tmp_path / "tools"
    tools.mkdir()
    stubs = {"sbatch": SBATCH, "uv": RUNNER, "poetry": RUNNER, "srun": REFUSING, "mpirun": REFUSING}
    for name, text in stubs.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = {
        **project.environment,
        "PATH": f"{tools}:{WARM}:{BIN}:{os.environ['PATH']}",
        "SUBMISSIONS": str(tmp_path / "submissions"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HOME": str(tmp_path),
        "TOOLS": str(tools),
        "TMPDIR": str(tmp_path),
    }
    (tmp_path / ".profile").write_text(f'PATH="{tools}:{WARM}:{BIN}:$PATH"\n')  # after /etc/profile, which sets it anew
    project.write(
        **{
            "other.py": OTHER,
            "plain.py": "import sys\nprint('plain', *sys.argv[1:])\n",
            "pkg/__init__.py": "",
            "pkg/app.py": (project.dir / "main.py").read_text().replace('"conf"', '"../conf"'),
            "twice.py": (project.dir / "main.py").read_text() + "    main()\n",
            "sub/keep": "",
            "env/bin/activate": f'PATH="{BIN}:$PATH"; VIRTUAL_ENV={BIN.parent}; export PATH VIRTUAL_ENV\n',
            "lib.sh": "python main.py seed=1,2\n",
        }
    )
    project.commit()
    return Sub(project, environment)


SCRIPTS = {
    "one line": (
        "python main.py optimizer.lr=1,2 seed=3,4",
        ["optimizer.lr=1 seed=3", "optimizer.lr=1 seed=4", "optimizer.lr=2 seed=3", "optimizer.lr=2 seed=4"],
    ),
    "two lines": ("python main.py seed=1,2\npython main.py optimizer.lr=5", ["seed=1", "seed=2", "optimizer.lr=5"]),
    "the same line twice": ("python main.py seed=1\npython main.py seed=1", ["seed=1", "seed=1"]),
    "no override": ("python main.py", [""]),
    "loop": (
        "for lr in 1 2; do\n  python main.py optimizer.lr=$lr seed=1,2\ndone",
        ["optimizer.lr=1 seed=1", "optimizer.lr=1 seed=2", "optimizer.lr=2 seed=1", "optimizer.lr=2 seed=2"],
    ),
    "loop on one line": ("for s in 1 2; do python main.py seed=$s; done", ["seed=1", "seed=2"]),
    "loop over an array": (
        'seeds=(4 5)\nfor s in "${seeds[@]}"; do python main.py "seed=$s"; done',
        ["seed=4", "seed=5"],
    ),
    "loop over a here-document": (
        "while read -r s; do\n  python main.py seed=$s </dev/null\ndone <<EOF\n1\n2\nEOF",
        ["seed=1", "seed=2"],
    ),
    "if": ("if [ -d conf ]; then\n  python main.py seed=1\nelse\n  python main.py seed=2\nfi", ["seed=1"]),
    "not reached": (
        "if false; then\n  python main.py seed=1\nfi\nfalse && python main.py seed=2\npython main.py seed=3",
        ["seed=3"],
    ),
    "case": ("case a in\n  a) python main.py seed=1 ;;\n  *) python main.py seed=2 ;;\nesac", ["seed=1"]),
    "as a condition": ("if python main.py seed=1; then python main.py seed=2; fi", ["seed=1", "seed=2"]),
    "variables": ("A=1,2\nS=seed\npython main.py $S=$A", ["seed=1", "seed=2"]),
    "options in one variable": (
        'ARGS="seed=1,2 optimizer.lr=3"\npython main.py $ARGS',
        ["seed=1 optimizer.lr=3", "seed=2 optimizer.lr=3"],
    ),
    "a substitution": ("S=$(python -c 'print(7)')\npython main.py seed=$S", ["seed=7"]),
    "continued": ("python main.py \\\n  seed=1,2 \\\n\n# end", ["seed=1", "seed=2"]),
    "continued at the end of the file": ("python main.py \\\n  seed=1\\\n", ["seed=1"]),
    "cd": ("cd sub\npython ../main.py seed=1,2", ["seed=1", "seed=2"]),
    "cd in a list": ("cd sub && python ../main.py seed=1", ["seed=1"]),
    "subshell": ("(cd sub; python ../main.py seed=1)\npython main.py seed=2", ["seed=1", "seed=2"]),
    "here-document": (
        "cat >/dev/null <<'EOF'\npython main.py seed=8\nfor x in\nEOF\npython main.py seed=1",
        ["seed=1"],
    ),
    "comments": ("# python main.py seed=8\npython main.py seed=1 # seed=2", ["seed=1"]),
    "pipe": ("python main.py seed=1,2 2>&1 | cat", ["seed=1", "seed=2"]),
    "redirection": ("python main.py seed=1 >/dev/null 2>&1", ["seed=1"]),
    "and": ("true && python main.py seed=1 && python main.py seed=2", ["seed=1", "seed=2"]),
    "semicolons": ("echo a; python main.py seed=1; echo b", ["seed=1"]),
    "function": (
        'train() {\n  python main.py optimizer.lr=1 "$@"\n}\ntrain seed=1,2\ntrain seed=3',
        ["optimizer.lr=1 seed=1", "optimizer.lr=1 seed=2", "optimizer.lr=1 seed=3"],
    ),
    "eval": ('eval "python main.py seed=1,2"', ["seed=1", "seed=2"]),
    "xargs": ("printf '1\\n2\\n' | xargs -I{} python main.py seed={}", ["seed=1", "seed=2"]),
    "sourced": (". ./lib.sh", ["seed=1", "seed=2"]),
    "exec": ("exec python main.py seed=1,2", ["seed=1", "seed=2"]),
    "exec in a subshell": ("(exec python main.py seed=1)\npython main.py seed=2", ["seed=1", "seed=2"]),
    "strict": ("set -euo pipefail\nexport N=$SLURM_CPUS_PER_TASK\npython main.py seed=1", ["seed=1"]),
    "the parts of a pipe": (
        """\
false | true
if [ ${PIPESTATUS[0]} -eq 1 ]; then python main.py seed=1; fi
true | cat

[ ${PIPESTATUS[1]} -eq 0 ] || exit 1
python main.py seed=2""",
        ["seed=1", "seed=2"],
    ),
    "traced": ("set -x\npython main.py seed=1", ["seed=1"]),
    "trap": ("trap 'echo end' EXIT\npython main.py seed=1", ["seed=1"]),
    "values": ('python main.py \'msg="a,b  $HOME"\' "optimizer.lr=1"', ['msg="a,b  $HOME" optimizer.lr=1']),
    "a list as a value": ("python main.py 'msg=[1,2],[3]'", ["msg=[1,2]", "msg=[3]"]),
    "variables before": ("A=1 B='x y' python main.py seed=1", ["seed=1"]),
    "time": ("time python main.py seed=1", ["seed=1"]),
    "nohup": ("nohup nice python main.py seed=1", ["seed=1"]),
    "negated": ("! python main.py seed=1 || true", ["seed=1"]),
    "module": ("python -m pkg.app seed=1,2", ["seed=1", "seed=2"]),
    "options of the interpreter": (
        f"python{sys.version_info[0]}.{sys.version_info[1]} -u -W ignore main.py seed=1",
        ["seed=1"],
    ),
    "srun": ("srun --ntasks=1 python main.py seed=1,2", ["seed=1", "seed=2"]),
    "srun with values": ("srun -n 1 -J test python main.py seed=1", ["seed=1"]),
    "srun with long options": (
        """\
srun --job-name test --comment 'echo hi' --exclusive python main.py seed=1
mpirun --bind-to sleep -np 2 python main.py seed=2""",
        ["seed=1", "seed=2"],
    ),
    "srun with a variable of the job": ("srun -n $SLURM_NTASKS python main.py seed=1", ["seed=1"]),
    "srun where PATH is set": ('PATH="$TOOLS:$PATH"\nsrun python main.py seed=1', ["seed=1"]),
    "mpirun in a loop": ("for s in 1 2; do mpirun -np 4 python main.py seed=$s; done", ["seed=1", "seed=2"]),
    "uv": ("uv run python main.py seed=1", ["seed=1"]),
    "poetry": ("poetry run python -u main.py seed=1", ["seed=1"]),
    "a virtual environment": ("source env/bin/activate\ncd sub\npython ../main.py seed=1", ["seed=1"]),
    "two in one process": ("python twice.py seed=1,2", ["seed=1", "seed=2", "seed=1", "seed=2"]),
    "a multirun already": ("python main.py -m seed=1,2", ["seed=1", "seed=2"]),
    "no Hydra": ("python plain.py a\npython main.py seed=1", ["seed=1"]),
    "compose": ("python other.py seed=4\npython main.py seed=1", ["seed=1"]),
    "shows its configuration": ("python main.py --cfg job\npython main.py seed=1", ["seed=1"]),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_hostile_script_submits_what_it_would_run(sub: Sub, name: str) -> None:
    """Bug: a line that is guessed at, submitted twice, or not at all; a job that is run here."""
    text, expected = SCRIPTS[name]
    sub.project.write(**{"job one.sh": f"#!/bin/bash\n#SBATCH --time=5\n\n{text}\n"})
    done = sub("job one.sh")
    assert sub.submitted() == expected
    assert not list(sub.project.dir.rglob("log.stdout"))
    assert f"job one.sh: {len(expected)} job" in done.stdout
    scripts = [path.read_text() for path in sub.project.dir.rglob("script.sh")]
    assert len(scripts) == len(expected)
    assert all("\n#SBATCH --time=5\n" in script for script in scripts)


@pytest.mark.parametrize("name", ["loop", "function", "srun", "module", "pipe", "background"])
def test_a_dry_run_says_the_same_and_writes_nothing(sub: Sub, name: str) -> None:
    """Bug: `--dry-run` that makes a log directory, a run or a submission."""
    background = "python main.py seed=1 &\npython main.py seed=2 &\nwait"
    text, expected = SCRIPTS.get(name, (background, ["seed=1", "seed=2"]))
    sub.project.write(**{"job.sh": f"#!/bin/bash\n#SBATCH --time=5\n{text}\n"})
    before = sorted(sub.project.dir.rglob("*"))
    done = sub("--dry-run", "job.sh")
    kept = [path for path in sorted(sub.project.dir.rglob("*")) if "__pycache__" not in path.parts]
    assert kept == before
    assert not Path(sub.environment["SUBMISSIONS"]).exists()
    assert all(any(line.endswith(job) for line in done.stdout.splitlines()) for job in expected)
    assert f"{len(expected)} jobs would be submitted" in done.stdout
    sub("job.sh")
    assert sorted(sub.submitted()) == sorted(expected)


@pytest.mark.parametrize(
    "start", ["", "#!/bin/sh\n", "#!/bin/sh -e\n", "#!/usr/bin/env bash\n", "#!/bin/bash -l\n", "#! /bin/dash\n"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_script_runs_under_its_own_shell(sub: Sub, start: str, end: str) -> None:
    """Bug: bash for all; a carriage return in an override."""
    text = f"{start}#SBATCH --time=5\nfor s in 1 2; do\n  python main.py seed=$s\ndone\necho $0 done\n"
    (sub.project.dir / "job.sh").write_bytes(text.replace("\n", end).encode())
    done = sub("job.sh")
    assert sub.submitted() == ["seed=1", "seed=2"]
    assert "job.sh done" in done.stdout
    assert sub.script(1).startswith(start.strip() or "#!/bin/bash")


def test_two_programs_in_the_background_are_submitted_once_each(sub: Sub) -> None:
    """Bug: two programs at once that take each other's lines, or lose a submission."""
    sub.project.write(**{"job.sh": "#SBATCH --time=5\npython main.py seed=1,2 &\npython main.py seed=3 &\nwait\n"})
    sub("job.sh")
    assert sorted(sub.submitted()) == ["seed=1", "seed=2", "seed=3"]


def test_a_program_that_is_left_in_the_background_is_waited_for(sub: Sub) -> None:
    """Bug: a submission that depends on whether Python has started when the script ends, and an exit code of 0."""
    sub.project.write(**{"job.sh": "#SBATCH --time=5\npython main.py seed=1\n(sleep 2; python main.py seed=2) &\n"})
    assert "2 jobs submitted" in sub("job.sh").stdout
    assert sub.submitted() == ["seed=1", "seed=2"]


def test_several_scripts_at_once_are_submitted_each_with_its_own_directives(sub: Sub) -> None:
    """Bug: the first script's header for all; one that fails keeps the next from being submitted."""
    scripts = {f"{name}.sh": f"#SBATCH --mem={name}\npython main.py seed={name}\n" for name in ("1", "2")}
    sub.project.write(**scripts, **{"bad.sh": "#SBATCH --mem=3\nexit 4\n"})
    sub("1.sh", "bad.sh", "2.sh", code=4)
    assert sub.submitted() == ["seed=1", "seed=2"]
    assert ["#SBATCH --mem=2" in sub.script(run) for run in (1, 2)] == [False, True]


def test_what_surrounds_a_program_goes_into_its_jobs(sub: Sub) -> None:
    """Bug: a set-up line lost, in another order, or with another program's line; a stand-in or a variable in a job."""
    text = """\
    #!/bin/bash
    #SBATCH --time=5
    # the environment
    source env/bin/activate
    export A='a b'
    cd sub
    python ../main.py seed=1
    echo between
    B=$SLURM_JOB_ID srun -n 1 python -u ../main.py seed=2 "msg='\\$x, y'"
    for lr in 1; do
      export C="c  d"
      python ../main.py optimizer.lr=$lr
    done
    echo after
    """.replace("    ", "")
    sub.project.write(**{"job.sh": text})
    sub("job.sh")
    here, python = sub.project.dir, BIN / "python"
    first, second, third = (sub.script(run, "sub").splitlines() for run in (1, 2, 3))

    def between(lines: list[str], start: str, end: str) -> list[str]:
        return lines[lines.index(start) + 1 : lines.index(end)]

    setup = ["export MLXP_SUB=in-a-job", "# the environment", "source env/bin/activate", "export A='a b'", "cd sub"]
    cd = next(line for line in first if line.startswith("cd ") and line.endswith("prôject' || exit"))
    assert between(first, cd, "unset MLXP_SUB") == setup
    assert between(second, cd, "unset MLXP_SUB") == [*setup, "echo between"]
    assert between(third, cd, "unset MLXP_SUB") == [*setup, "echo between"]
    # its variable is the job's, and the value has the quotes of Hydra's grammar
    assert f"B=$SLURM_JOB_ID srun -n 1 {shlex.quote(str(python))} -u " in sub.script(2, "sub")
    assert read_yaml(here / "sub/logs/2/metadata/config.yaml")["msg"] == "$x, y"
    assert "export C='c  d'" in third
    assert next(line for line in third if "optimizer.lr=1" in line).startswith(f"exec {shlex.quote(str(python))} ")
    assert between(third, "export MLXP_SUB=in-a-job", "unset MLXP_SUB") == [*setup[1:], "echo between"]
    tail = third[third.index("echo after") - 1 :]
    assert "export MLXP_SUB=in-a-job;" in tail[0]
    assert str(here / "sub") not in first  # its work directory is the copy's
    assert "mlxpsub-" not in "".join(sub.script(run, "sub") for run in (1, 2, 3))


def test_jobs_run_what_the_script_says_and_know_nothing_of_mlxpsub(sub: Sub) -> None:
    """Bug: a job that becomes a multirun again, or whose directory, variables or lines are not those of the script."""
    program = (sub.project.dir / "main.py").read_text()
    seen = (
        '"seen": sorted(k for k in os.environ if k.startswith("MLXP_SUB")) + [os.environ.get("A"), os.environ.get("C")]'
    )
    sub.project.write(
        **{
            "main.py": program.replace('"code": "A"', f'"code": "A", {seen}'),
            "job.sh": "#!/bin/sh -e\n#LOCAL --job-name=x\nexport A='a b'\nunset B\ncd sub\n"
            "for lr in 1 2; do C=c$lr python ../main.py optimizer.lr=$lr; done\n"
            'D="$A" python ../main.py seed=4\ntest -d . && echo after >&2\n',
        }
    )
    sub.project.commit()
    done = sub("--wait", "job.sh")
    logs = [sub.project.dir / "sub" / "logs" / str(run) for run in (1, 2, 3)]
    said = [json.loads((run / "log.stdout").read_text().splitlines()[-1]) for run in logs]
    assert [one["seen"] for one in said] == [["a b", "c1"], ["a b", "c2"], ["a b", None]]
    assert all(one["cwd"].endswith("/sub") for one in said)
    assert (logs[0] / "log.stderr").read_text() == "after\n"
    assert "run 3: COMPLETE" in done.stdout


def test_a_program_that_only_a_job_comes_to_is_no_second_run_of_it(sub: Sub) -> None:
    """Bug: a set-up line with a condition that holds in jobs alone, whose program would run within every other."""
    lines = 'if [ -n "$MLXP_ATTEMPT" ]; then python main.py seed=8 hydra.run.dir=there; fi\npython main.py seed=1\n'
    sub.project.write(**{"job.sh": f"#LOCAL --job-name=x\n{lines}"})
    sub("--wait", "job.sh")
    assert sub.submitted() == ["seed=1"]
    assert not list(sub.project.dir.rglob("there"))


@pytest.mark.parametrize("explicit", ["hydra.mode=RUN", "hydra/launcher=basic", "--run"])
def test_what_is_said_explicitly_wins(sub: Sub, explicit: str) -> None:
    """Bug: a program that is to run here, submitted; with nothing submitted, an exit code of 0."""
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\npython main.py seed=1 hydra/callbacks=mlxp {explicit}\n"})
    sub("--dry-run", "job.sh", code=1)
    assert sub.submitted() == []
    done = sub("job.sh", code=1)
    assert sub.project.status(1) == "COMPLETE"
    assert "no Hydra program in job.sh has submitted anything" in done.stderr
    assert not Path(sub.environment["SUBMISSIONS"]).exists()


def test_an_explicit_launcher_of_another_scheduler_wins_over_the_directives(sub: Sub) -> None:
    """Bug: #SBATCH lines read as those of another scheduler."""
    sub.project.write(**{"job.sh": "#SBATCH --time=5\npython main.py seed=1 hydra/launcher=mlxp_local\n"})
    sub("--wait", "job.sh")
    assert sub.project.submission(1)["scheduler"] == "local"
    assert sub.project.status(1) == "COMPLETE"


def test_a_script_that_fails_midway_is_submitted_to_its_end_by_the_same_command(sub: Sub) -> None:
    """Bug: what was submitted before the failure is submitted again."""
    lines = "set -e\npython main.py seed=1,2\npython main.py seed=1,2\ntest -e flag\npython main.py seed=3\n"
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{lines}"})
    done = sub("job.sh", code=1)
    assert sub.submitted() == ["seed=1", "seed=2", "seed=1", "seed=2"]
    assert "the same command again submits what is left" in done.stderr
    sub.project.write(flag="")
    again = sub("--dry-run", "job.sh")
    assert "1 job would be submitted" in again.stdout
    sub("job.sh")
    assert sub.submitted() == ["seed=1", "seed=2", "seed=1", "seed=2", "seed=3"]
    sub("job.sh")  # a new sweep, for the one before came to its end
    assert len(sub.submitted()) == 10


def test_what_was_submitted_is_known_to_the_third_call_too(sub: Sub) -> None:
    """Bug: a second call that fails early, and forgets what the first has submitted after that line."""
    lines = (
        "set -e\npython main.py seed=1\ntest ! -e early\npython main.py seed=2\ntest -e late\npython main.py seed=3\n"
    )
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{lines}"})
    sub("job.sh", code=1)
    sub.project.write(early="")
    sub("job.sh", code=1)
    (sub.project.dir / "early").unlink()
    sub.project.write(late="")
    sub("job.sh")
    assert sub.submitted() == ["seed=1", "seed=2", "seed=3"]


def test_with_anew_an_interrupted_call_is_forgotten(sub: Sub) -> None:
    """Bug: a script that always ends with an error, and cannot be submitted a second time."""
    sub.project.write(**{"job.sh": "#SBATCH --time=5\npython main.py seed=1\nexit 3\n"})
    sub("job.sh", code=3)
    assert "1 (before)" in sub("job.sh", code=3).stdout
    assert sub.submitted() == ["seed=1"]
    sub("--anew", "job.sh", code=3)
    assert sub.submitted() == ["seed=1", "seed=1"]


def test_a_refused_submission_is_said_and_made_by_the_same_command(sub: Sub) -> None:
    """Bug: an exit code of 0 from a script whose last line succeeded."""
    lines = "python main.py seed=1\npython main.py seed=2\necho fine\n"
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{lines}"})
    done = sub("job.sh", code=1, REFUSE_AFTER="1")
    assert "line 3 of job.sh" in done.stderr
    assert done.stderr.count("stderr: refused") == 1
    sub("job.sh")
    assert [sub.project.job_id(run) for run in (1, 2)] == ["1", "3"]
    assert sub.submitted() == ["seed=1", "seed=2"]


def test_of_programs_that_differ_in_their_environment_alone_the_refused_one_is_submitted_again(sub: Sub) -> None:
    """Bug: the second of them taken for the first, which never runs, and then submitted once more."""
    sub.project.write(
        **{
            "conf/config.yaml": (sub.project.dir / "conf/config.yaml").read_text() + "data: ${oc.env:DATA,none}\n",
            "job.sh": "#SBATCH --time=5\nfor d in a b; do DATA=/$d python main.py seed=1; done\n",
        }
    )
    sub("job.sh", code=1, REFUSE="1")
    sub("job.sh")
    configs = {int(path.parts[-3]): read_yaml(path)["data"] for path in sub.project.logs.glob("*/*/config.yaml")}
    assert {data: sub.project.job_id(run) for run, data in configs.items()} == {"/a": "3", "/b": "2"}


def test_why_a_program_failed_is_said_where_its_own_words_went_into_a_file(sub: Sub) -> None:
    """Bug: an exit code and a line number are all that the user sees of a refusal, or of a wrong override."""
    lines = "python main.py seed=1 2>file\npython main.py nosuch=1 >file 2>&1\n"
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{lines}"})
    said = sub("job.sh", code=1, REFUSE_AFTER="0").stderr
    first, second = said.index("line 2 of job.sh"), said.index("line 3 of job.sh")
    assert first < said.index("stderr: refused") < second < said.index("Could not override 'nosuch'")
    assert "has not come to its end: not all of its jobs are submitted\n" in said
    assert "Could not override" in (sub.project.dir / "file").read_text()


def test_a_script_whose_program_waited_for_a_job_that_failed_goes_on_once_that_is_repeated(
    project: Project, tmp_path: Path
) -> None:
    """Bug: jobs submitted anew, or the result of the first attempt for ever."""
    flag = tmp_path / "flag"
    lines = "set -e\npython main.py do=twice hydra.launcher.wait=true\npython main.py seed=2\n"
    text = MAIN.replace('== "raise":', f'== "twice" and not os.path.exists("{flag}"):')
    project.write(**{"job.sh": f"#LOCAL --job-name=x\n{lines}", "main.py": text})
    project.commit()
    sub = Sub(project, {**project.environment, "XDG_STATE_HOME": str(tmp_path / "state")})
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}"}
    for _ in range(2):
        said = sub("job.sh", code=1, **environment).stderr
        assert "after an mlxp rerun of what has failed, the same command goes on from here" in said
        assert said.count(f"run {project.logs / '1'} is FAILED (ValueError: no luck)") == 1
    flag.touch()
    project.popen_and_end([str(BIN / "mlxp"), "rerun", "1"])
    done = sub("job.sh", **environment)
    assert "job.sh: 1 job submitted" in done.stdout
    project.wait_for_end(2)
    assert project.runs() == ["1", "2"]
    assert [project.info(run)["attempt"] for run in (1, 2)] == [2, 1]


def test_ctrl_c_stops_the_script_and_the_same_command_submits_the_rest(sub: Sub, tmp_path: Path) -> None:
    """Bug: a loop that goes on with the next program after Ctrl-C; a submission made twice."""
    lines = "for s in 1 2; do\n  python main.py seed=$s\n  touch flag$s\n  until [ -e go ]; do sleep 0.1; done\ndone\n"
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\ntrap : INT\n{lines}"})
    process = sub.start("job.sh")
    until((sub.project.dir / "flag1").exists)
    os.killpg(process.pid, signal.SIGINT)
    until(lambda: list(tmp_path.glob("mlxpsub-*/stopped")))
    sub.project.write(go="")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert sub.submitted() == ["seed=1"]
    assert not list(tmp_path.glob("mlxpsub-*"))
    sub("job.sh")
    assert sub.submitted() == ["seed=1", "seed=2"]


def test_killed_between_two_programs_it_submits_the_rest_when_called_again(sub: Sub) -> None:
    """Bug: a record that is written at the end alone."""
    lines = "python main.py seed=1\ntouch flag\n[ -e go ] || sleep 60\npython main.py seed=2\n"
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{lines}"})
    process = sub.start("job.sh")
    until((sub.project.dir / "flag").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    sub.project.write(go="")
    sub("job.sh")
    assert sub.submitted() == ["seed=1", "seed=2"]


def test_a_program_that_outlives_mlxpsub_submits_nothing(sub: Sub) -> None:
    """Bug: mlxpsub is killed, its script goes on, and the same command again submits all of it beside it."""
    lines = "python main.py seed=1\ntouch flag\nuntil [ -e go ]; do sleep 0.1; done\npython main.py seed=2\n"
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{lines}echo $? >code\n"})
    process = sub.start("job.sh")
    until((sub.project.dir / "flag").exists)
    process.kill()
    process.wait()
    sub.project.write(go="")
    until((sub.project.dir / "code").exists)
    assert "has ended" in process.communicate(timeout=PATIENCE)[1]
    assert sub.submitted() == ["seed=1"]
    sub("job.sh")
    assert sub.submitted() == ["seed=1", "seed=2"]


def test_a_second_mlxpsub_of_the_same_script_waits_for_nobody_and_says_so(sub: Sub) -> None:
    """Bug: a second Enter that submits everything twice."""
    lines = "touch flag\nwhile [ ! -e go ]; do sleep 0.05; done\npython main.py seed=1\n"
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{lines}"})
    process = sub.start("job.sh")
    until((sub.project.dir / "flag").exists)
    assert "another mlxpsub is at job.sh" in sub("job.sh", code=1).stderr
    sub.project.write(go="")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert sub.submitted() == ["seed=1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("python main.py", "has no directives of a scheduler"),
        ("#SBATCH --time=5\n", "has no commands"),
        ("#!/usr/bin/perl\n#SBATCH --time=5\nprint 1\n", "run by a shell"),
        ("#SBATCH --time=5\n#BSUB -W 5\npython main.py", None),
    ],
)
def test_a_script_that_cannot_be_submitted_is_refused_before_it_runs(sub: Sub, text: str, said: str | None) -> None:
    """Bug: a traceback; a script for two sites that is refused where only one of its schedulers is."""
    sub.project.write(**{"job.sh": text})
    if said is None:
        sub("job.sh")
        assert sub.project.submission(1)["scheduler"] == "slurm"
    else:
        assert said in sub("job.sh", code=1).stderr
        assert sub.submitted() == []


def test_a_command_that_takes_variables_of_a_job_is_refused_where_they_would_be_lost(sub: Sub) -> None:
    """Bug: an empty SLURM_NTASKS frozen into every job of a loop."""
    sub.project.write(
        **{"job.sh": "#SBATCH --time=5\nfor s in 1; do OMP_NUM_THREADS=$SLURM_NTASKS python main.py; done\n"}
    )
    done = sub("job.sh", code=1)
    assert "$SLURM_NTASKS, which only a job has" in done.stderr
    sub.project.write(**{"job.sh": "#SBATCH --time=5\npython main.py msg=/scratch/${SLURM_JOB_ID}\n"})
    done = sub("job.sh", code=1)
    assert "$SLURM_JOB_ID, which only a job has" in done.stderr
    assert "'${oc.env:SLURM_JOB_ID}'" in done.stderr
    assert sub.submitted() == []
    sub.project.write(
        **{"job.sh": "#SBATCH --time=5\npython main.py 'msg=${oc.env:SLURM_JOB_ID,}' '+a=\"$SLURM_JOB_ID\"'\n"}
    )
    sub("job.sh")
    assert len(sub.submitted()) == 1
    sub.project.write(**{"job.sh": "#SBATCH --time=5\nJOB_ID=mine\npython main.py msg=$JOB_ID\n"})
    sub("job.sh")
    assert sub.submitted()[1:] == ["msg=mine"]


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ('args=(seed=1\n  "msg=$SLURM_JOB_ID")\npython main.py "${args[@]}"', "args"),
        ("PORT=$(expr 10000 + $SLURM_JOB_ID % 100)\nexport PORT\npython main.py 'msg=${oc.env:PORT,}'", None),
        ("export URL=tcp://node:$SLURM_JOB_ID\npython main.py 'msg=${oc.env:URL,}'", None),
        ("python main.py seed=$((SLURM_ARRAY_TASK_ID % 5))", "SLURM_ARRAY_TASK_ID"),
        ("for s in 1; do python main.py seed=$(($SLURM_ARRAY_TASK_ID % 5)); done", "SLURM_ARRAY_TASK_ID"),
        ('for s in 1; do python main.py msg=$(basename "$SLURM_TMPDIR"); done', "SLURM_TMPDIR"),
        ("X=$(($OAR_JOB_WALLTIME_SECONDS - 60)) Y=$(($PBS_QUEUE + 1))\npython main.py", None),
        ('cd "$SLURM_TMPDIR"\npython "$OLDPWD/main.py"', "SLURM_TMPDIR"),
        ('cp -r main.py conf "$SLURM_TMPDIR"\npython "$SLURM_TMPDIR/main.py"', "SLURM_TMPDIR"),
        ("for s in 1; do export OUT=$(echo $SLURM_JOB_ID); python main.py; done", "SLURM_JOB_ID"),
        ("for s in 1; do export OUT=/x/$SLURM_JOB_ID; python main.py; done", "OUT"),
        ("for s in 1; do echo $SLURM_JOB_ID; OUT=$SLURM_JOB_ID; python main.py; echo $OUT; done", None),
        ("export N=$SLURM_NTASKS\nOMP_NUM_THREADS=$N python main.py 'msg=${oc.env:N,}'", None),
        ('ID=$SLURM_JOB_ID\nargs=(seed=1 msg=a)\nOUT=$(basename a)\npython main.py "${args[@]}" seed=2', None),
    ],
)
def test_what_a_script_makes_of_a_jobs_variables_is_no_argument(sub: Sub, lines: str, name: str | None) -> None:
    """Bug: /scratch/ for /scratch/4711 in every job, by way of a variable of the script's own."""
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{lines}\n"})
    done = sub("job.sh", code=1 if name else 0)
    if name:
        assert f"${name}, which " in done.stderr
    assert bool(sub.submitted()) is (name is None)
    if name is None and "oc.env" in lines:  # what it is here is no value of a job's
        assert read_yaml(sub.project.logs / "1/metadata/config.yaml")["msg"].startswith("${oc.env:")


def test_a_clean_up_in_another_file_removes_nothing_that_is_not_its_jobs(sub: Sub, tmp_path: Path) -> None:
    """Bug: the harmless values are those of variables in the script's own text alone."""
    (tmp_path / "scratch/4711").mkdir(parents=True)
    clean = f'rm -rf "{tmp_path}/scratch/$SLURM_JOB_ID" "{tmp_path}/scratch/${{SLURM_ARRAY_TASK_ID}}"\n'
    text = "#SBATCH --time=5\nset -eu\n. ./lib\ntrap tidy EXIT\nexport PORT=$((10000 + SLURM_JOB_ID % 10))\n"
    sub.project.write(**{"job.sh": f"{text}bash ./tidy.sh\npython main.py\n", "lib": f"tidy() {{\n{clean}}}\n"})
    sub.project.write(**{"tidy.sh": clean})
    sub("job.sh")
    assert (tmp_path / "scratch/4711").exists()
    assert len(sub.submitted()) == 1


def test_programs_at_once_stay_out_of_each_others_jobs(sub: Sub, tmp_path: Path) -> None:
    """Bug: a program that has begun to submit does not know of one that starts meanwhile, nor that one of its jobs."""
    text = "#LOCAL --job-name=x\npython main.py seed=1 do=hold flag=FLAG &\npython -m pkg.app seed=2 && echo x >>done\n"
    sub.project.write(**{"job.sh": f"{text}wait\ntouch FLAG\n".replace("FLAG", str(tmp_path / "flag"))})
    sub("--wait", "job.sh")
    assert (sub.project.dir / "done").read_text() == "x\n"


def test_a_command_of_another_program_stays_out_of_earlier_jobs(sub: Sub, tmp_path: Path) -> None:
    """Bug: `python other.py && touch done`, where other.py does nothing, in the job of the program before it."""
    text = """\
    #LOCAL --job-name=x
    set -e
    python main.py seed=1 do=hold flag=FLAG
    train() { python main.py "$@"; }
    python -m pkg.app seed=2 && echo $? in $MLXP_LOCAL_JOB_ID >>done
    train seed=3
    for s in 4
    do
      python -m pkg.app seed=$s
      echo in $MLXP_LOCAL_JOB_ID >>done
    done
    true && echo "always $?" >>"always $MLXP_LOCAL_JOB_ID"
    """.replace("    ", "")
    sub.project.write(**{"job.sh": text.replace("FLAG", str(tmp_path / "flag"))})
    sub("job.sh")
    (tmp_path / "flag").touch()  # by now the first job can know of all the programs
    sub.project.wait_for_end(1, 2, 3, 4)
    assert [sub.project.status(run) for run in (1, 2, 3, 4)] == ["COMPLETE"] * 4
    assert (sub.project.logs / "1/log.stderr").read_text() == ""
    done = (sub.project.dir / "done").read_text().splitlines()
    assert [line.partition("in ")[2][:3] for line in done] == ["794", "794"]  # here, and in no job
    assert len(list(sub.project.dir.glob("always*"))) == 5  # here, and in four jobs


def test_the_folder_of_a_single_run_is_the_folder_of_its_job(sub: Sub) -> None:
    """Bug: hydra.run.dir is ignored, for the program has become a multirun, and a later line looks there."""
    lines = "for s in 1 2; do\n  python main.py seed=$s hydra.run.dir=mine/s$s\ndone\n"
    sub.project.write(**{"job.sh": f"#LOCAL --job-name=x\n{lines}python main.py \"hydra.run.dir='mine/{{id}}'\"\n"})
    sub("--wait", "job.sh")
    assert sorted(path.name for path in (sub.project.dir / "mine").glob("[!.]*") if path.is_dir()) == ["1", "s1", "s2"]
    assert read_yaml(sub.project.dir / "mine/s2/metadata/config.yaml")["seed"] == 2
    sub.project.write(**{"job.sh": "#LOCAL --job-name=x\npython main.py seed=1,2 hydra.run.dir=mine/both\n"})
    assert "gives several jobs the same folder" in sub("job.sh", code=1).stderr


def test_a_scripts_clean_up_removes_nothing_that_is_not_its_jobs(sub: Sub, tmp_path: Path) -> None:
    """Bug: `rm -rf /scratch/$SLURM_JOB_ID`, without the id; `set -u`, which would have stopped it, overruled."""
    other, tidy = tmp_path / "scratch/4711/result", "{0}/scratch/$SLURM_JOB_ID {0}/scratch/x-$SLURM_ARRAY_TASK_ID"
    other.parent.mkdir(parents=True)
    other.write_text("of another job\n")
    (tmp_path / "scratch/x-").mkdir()
    lines = f"set -eu\nmkdir -p {tidy}\ntrap 'rm -rf {tidy}' EXIT\npython main.py\nrm -rf {tidy}\n".format(tmp_path)
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{lines}"})
    sub("--dry-run", "job.sh")
    sub("job.sh")
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == ["4711", "x-"]
    assert other.exists()


def test_a_script_finds_files_and_directories_of_a_job(sub: Sub, tmp_path: Path) -> None:
    """Bug: `cat $PBS_NODEFILE` that waits for the keyboard; a copy to /, and a job's own directory in its arguments."""
    text = (
        "set -euo pipefail\nNP=$(cat $PBS_NODEFILE | wc -l)\ncp main.py $SLURM_TMPDIR/x\n"
        "sort $OAR_NODE_FILE $PE_HOSTFILE\n"
        'export PATH="$SLURM_TMPDIR/bin:$PATH" AT=$SLURM_TMPDIR\n[ "$SLURM_PROCID" -eq 0 ]\n'
        '[ "$PBS_O_HOME" = "$HOME" ]\necho $NP nodes\npython main.py \'msg=${oc.env:AT,none}\'\n'
    )
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{text}"})
    assert sub("job.sh").stdout.splitlines()[2] == "1 nodes"
    # looked up in the job: what it is here would be gone by then
    assert read_yaml(sub.project.logs / "1/metadata/config.yaml")["msg"] == "${oc.env:AT,none}"
    assert not list(tmp_path.glob("mlxpsub-*"))


def test_a_job_has_its_own_tmpdir_and_no_stand_in(sub: Sub, tmp_path: Path) -> None:
    """Bug: a job whose TMPDIR was removed with the session of mlxpsub; or one that is baked into its configuration."""
    lines = "touch $TMPDIR/x\npython main.py 'msg=${oc.env:TMPDIR}'\n"
    sub.project.write(**{"job.sh": f"#LOCAL --job-name=x\n{lines}"})
    sub("--wait", "job.sh")
    assert sub.project.said(1)["msg"] == str(tmp_path)  # of the submission, as this queue passes it on
    assert (tmp_path / "x").exists()  # of the job, and not of the script that ran here
    sub.project.write(**{"job.sh": "#LOCAL --job-name=x\npython main.py msg=$TMPDIR/x\n"})
    assert "$TMPDIR, which only a job has" in sub("job.sh", code=1).stderr


def test_a_script_knows_where_it_was_submitted(sub: Sub) -> None:
    """Bug: `cd $PBS_O_WORKDIR`, in most scripts of PBS, goes home; in a job, to where the program was started."""
    for run, variable in enumerate(["SLURM_SUBMIT_DIR", "PBS_O_WORKDIR"], start=1):
        text = (
            f"#SBATCH --time=5\ncd ${variable}\ncd sub\npython ../main.py --config-dir ../conf\necho in ${variable}\n"
        )
        sub.project.write(**{"job.sh": text})
        sub("job.sh")
        script = sub.project.dir / f"sub/logs/{run}/script.sh"
        environment = {**sub.project.environment, variable: "/elsewhere"}
        done = subprocess.run(["bash", script], capture_output=True, text=True, check=False, env=environment)
        assert done.stdout.splitlines()[-1] == f"in {sub.project.dir}", done.stderr
        assert done.returncode == 0


def test_the_lines_after_the_program_see_how_it_ended(sub: Sub) -> None:
    """Bug: a handler of failures that always finds 0, or is called twice; a job that ends as if all were well."""
    sub.project.write(
        **{
            "job.sh": "#SBATCH --time=5\ntrap 'echo ERR' ERR\npython main.py\nx=$?\necho saw $x\nexit $x\n",
            "main.py": "import hydra\n\n@hydra.main(version_base=None)\ndef main(_):\n    raise ValueError\n\nmain()\n",
        }
    )
    sub("job.sh")
    script = sub.project.logs / "1/script.sh"
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False, env=sub.project.environment)
    assert done.returncode == 1
    assert done.stdout.endswith("saw 1\n")
    assert done.stdout.count("ERR") == 1


def test_lines_after_the_program_are_where_those_before_it_were(sub: Sub) -> None:
    """Bug: what the program has left is looked for in the copy of the code, into which nobody may write."""
    text = "#LOCAL --job-name=x\nmkdir -p out\ncd out\ntrap 'echo trap >>end.$MLXP_LOCAL_JOB_ID' EXIT\n"
    text += "echo before >>end.$MLXP_LOCAL_JOB_ID\npython ../main.py --config-dir ../conf\n"
    text += "echo after >>end.$MLXP_LOCAL_JOB_ID\n"
    sub.project.write(**{"job.sh": text})
    sub("--wait", "job.sh")
    (job,) = [path for path in (sub.project.dir / "out").glob("end.*") if not path.name.startswith("end.794")]
    assert job.read_text().split() == ["before", "after", "trap"]
    sub.project.write(**{"job.sh": "#LOCAL --job-name=x\npython main.py\necho x >>'only after'\n"})
    sub("--wait", "job.sh")
    assert (sub.project.dir / "only after").read_text() == "x\nx\n"  # here, and in the job


def test_what_is_left_out_of_a_job_leaves_behind_what_it_has_set(sub: Sub) -> None:
    """Bug: a job that dies at `$!`, for the command in the background is another's; variables that are lost."""
    text = """\
    #LOCAL --job-name=x
    set -euo pipefail
    pids=()
    export A='a  b' && python main.py seed=1
    python main.py seed=2 &
    pids+=($!)
    export PATH="$PWD/tools:$PATH" && python main.py seed=4 && export C=$MLXP_LOCAL_JOB_ID
    B=b; export B; python main.py seed=3 &
    pids+=($!)
    for pid in "${pids[@]}"; do wait $pid; done
    echo "end with $A" >&2
    """.replace("    ", "")
    sub.project.write(**{"job.sh": text})
    sub("--wait", "job.sh")
    runs = (1, 2, 3, 4)
    assert [sub.project.status(run) for run in runs] == ["COMPLETE"] * 4
    logs = [(sub.project.logs / str(run) / "log.stderr").read_text() for run in runs]
    assert logs == ["end with a  b\n"] * 4
    overrides = [sub.project.info(run)["hydra"]["overrides"] for run in runs]
    last = sub.script(1 + overrides.index(["seed=3"])).splitlines()
    (path,) = [line for line in last if line.startswith("export PATH=")]
    assert path.endswith('"${PATH-}"')
    assert path.count(":") == 1
    assert not any(line.startswith(("export C", "unset C")) for line in last)
    assert "export A='a  b'" in last
    assert last.index("export A='a  b'") < last.index("pids+=($!)")


def test_ranks_of_an_unknown_starter_do_not_submit_each(sub: Sub, tmp_path: Path) -> None:
    """Bug: four processes of torchrun, and four times the sweep."""
    starter = tmp_path / "tools" / "torchrun"
    starter.write_text('#!/bin/sh\nfor rank in 0 1; do LOCAL_RANK=$rank python "$@"; done\n')
    starter.chmod(0o755)
    sub.project.write(**{"job.sh": "#SBATCH --time=5\ntorchrun main.py seed=1,2\n"})
    assert "$LOCAL_RANK is set" in sub("job.sh", code=1).stderr
    assert sub.submitted() == []


def test_at_a_terminal_a_script_asks_once_which_code_is_to_run(sub: Sub) -> None:
    """Bug: the same question for each of the programs of a loop."""
    sub.project.write(
        **{"job.sh": "#SBATCH --time=5\nfor s in 1 2; do python main.py seed=$s; done\n", "new.txt": "new\n"}
    )
    command = Mlxp(sub.project, Path(sub.environment["HOME"]))
    command.environment = {**sub.environment, "TERM": "xterm"}
    command.program = str(MLXPSUB)
    code, shown = command.in_terminal("job.sh", answer="r\n")
    assert code == 0, shown
    assert shown.count("Which code should the jobs run?") == 1
    assert sub.submitted() == ["seed=1", "seed=2"]


@pytest.mark.slurm
def test_a_script_of_a_real_slurm(project: Project, tmp_path: Path) -> None:
    """Bug: an allocation while the script is read; srun with what it has here; a job without its variables."""
    text = """\
#!/bin/bash -l
#SBATCH --time=5
#SBATCH --mem=50
set -eu
export WHERE=$PWD A="${SLURM_JOB_ID:-none}"
srun --ntasks=$SLURM_NTASKS "VENV/python" -u main.py optimizer.lr=1,2 "msg='a, b'"
for s in 7; do srun -n1 "VENV/python" main.py seed=$s; done
echo "in $SLURM_JOB_ID with $A from $WHERE"
""".replace("VENV", str(BIN))
    text = text.replace("=50", "=50\n#SBATCH --ntasks=1")
    project.write(**{"my job.sh": text})
    project.commit()
    sub = Sub(project, {**project.environment, "XDG_STATE_HOME": str(tmp_path / "state")})
    done = sub("--wait", "my job.sh")
    assert sub.submitted() == ["optimizer.lr=1 msg='a, b'", "optimizer.lr=2 msg='a, b'", "seed=7"]
    assert "my job.sh: 3 jobs submitted" in done.stdout
    for run in (1, 2, 3):
        assert project.status(run) == "COMPLETE"
        said, last = (project.logs / str(run) / "log.stdout").read_text().splitlines()
        assert json.loads(said)["msg"] == ("hello" if run == 3 else "a, b")
        words = last.split(maxsplit=5)
        assert words[1] == words[3] != "none"
        assert words[5] == str(project.dir)


LISTING = """\
#!/bin/bash

#OAR -l core=1, walltime=6:00:00
#OAR -t besteffort
#OAR -t idempotent
#OAR -p gpumem>'16000'

"""


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ("python main.py optimizer.lr=10.,1.,0.1 seed=1,2,3,4\n", 12),
        ("python main.py optimizer.lr=10.,1. seed=1,2\npython main.py optimizer=adam,sgd seed=1,2\n", 8),
    ],
    ids=["Listing 2", "Listing 4"],
)
def test_the_listings_of_the_paper_run_as_printed(sub: Sub, tmp_path: Path, lines: str, count: int) -> None:
    """Bug: a directive changed, left out, or taken for something to run."""
    oarsub = tmp_path / "tools" / "oarsub"
    oarsub.write_text('#!/bin/sh\necho . >>"$SUBMISSIONS"\necho "OAR_JOB_ID=$(wc -l <"$SUBMISSIONS")"\n')
    oarsub.chmod(0o755)
    sub.project.write(**{"script.sh": LISTING + lines})
    done = sub("script.sh")
    assert len(sub.submitted()) == count
    assert f"script.sh: {count} jobs submitted" in done.stdout
    for directive in LISTING.splitlines()[2:6]:
        assert f"\n{directive}\n" in sub.script(count)
    assert sub.project.submission(1)["scheduler"] == "oar"


def test_pbs_directives_are_those_of_the_pbs_that_answers(sub: Sub, tmp_path: Path) -> None:
    """Bug: TORQUE's `-t` for PBS Pro, or the other way round."""
    sub.project.write(**{"job.sh": "#PBS -l walltime=1:00\npython main.py seed=1\n"})
    for says, scheduler in (("pbs_version = 2022.1.1", "pbs"), ("Version: 6.1.2", "torque")):
        qstat = tmp_path / "tools" / "qstat"
        qstat.write_text(f"#!/bin/sh\necho '{says}'\n")
        qstat.chmod(0o755)
        assert f": 1 {scheduler} job, in " in sub("--dry-run", "job.sh").stdout


def test_a_command_that_launches_by_one_of_its_words_alone(sub: Sub, tmp_path: Path) -> None:
    """Bug: `flux run` that would allocate for real, or `flux resource` that is taken for a launcher."""
    flux = tmp_path / "tools" / "flux"
    flux.write_text('#!/bin/sh\n[ "$1" != run ] && echo "real $*"\n')
    flux.chmod(0o755)
    lines = (
        "flux resource list\nflux run -n 2 python main.py seed=1,2\nfor s in 3; do flux run python main.py seed=3; done"
    )
    sub.project.write(**{"job.sh": f"#SBATCH --time=5\n{lines}\n"})
    done = sub("job.sh")
    assert sub.submitted() == ["seed=1", "seed=2", "seed=3"]
    assert "real resource list" in done.stdout
    assert "flux run -n 2 " in sub.script(1)
    assert "flux run " in sub.script(3)


def test_the_scheduler_can_be_said(sub: Sub) -> None:
    """Bug: a script without directives that cannot be tried on this machine."""
    sub.project.write(**{"job.sh": "python main.py seed=1,2\n"})
    sub("--scheduler", "local", "--wait", "job.sh")
    assert [sub.project.status(run) for run in (1, 2)] == ["COMPLETE"] * 2


def test_wait_fails_where_a_job_does(sub: Sub) -> None:
    """Bug: `mlxpsub --wait job.sh && publish`."""
    sub.project.write(**{"job.sh": "#LOCAL --job-name=x\npython main.py do=raise,null\n"})
    assert "run 1: FAILED" in sub("--wait", "job.sh", code=1).stdout


def test_a_sweep_that_completes_itself_does_so_in_a_script(project: Project, tmp_path: Path) -> None:
    """Bug: a dry run that submits, or does not see what is there; a script whose sweep is complete that fails."""
    flag = tmp_path / "flag"
    body = f"    if cfg.seed == 2 and not os.path.exists({str(flag)!r}):\n        raise ValueError\n"
    project.write(**{"main.py": MAIN.replace("    run = current_run()\n", f"    run = current_run()\n{body}", 1)})
    options = "hydra/sweeper=mlxp 'hydra.sweeper.skip=[COMPLETE]' hydra.sweeper.resume=true"
    project.write(**{"job.sh": f"#!/bin/bash\n'{BIN}/python' main.py seed=1,2 {options}\n"})
    project.commit()
    sub = Sub(project, {**project.environment, "XDG_STATE_HOME": str(tmp_path / "state")})
    assert "run 2: FAILED" in sub("--scheduler", "local", "--wait", "job.sh", code=1).stdout
    flag.touch()
    said = sub("--scheduler", "local", "--dry-run", "job.sh")
    assert "job.sh: 0 jobs would be submitted" in said.stdout
    assert "in the folders of their unfinished runs: run 2" in said.stdout
    assert (project.status(2), project.info(2)["attempt"]) == ("FAILED", 1)
    assert "run 2: COMPLETE" in sub("--scheduler", "local", "--wait", "job.sh").stdout
    assert (project.status(2), project.info(2)["attempt"]) == ("COMPLETE", 2)
    assert "0 of 2 jobs new" in sub("--scheduler", "local", "--wait", "job.sh").stdout
    assert project.runs() == ["1", "2"]
