"""hydra/launcher=mlxp_local from the command line to the run folders: what every launcher does."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from code_copies import copy_of
from support import PATIENCE, Project, read_yaml, until

LOCAL = ("-m", "hydra/launcher=mlxp_local")
WAIT = (*LOCAL, "hydra.launcher.wait=true")
COMMIT = "hydra.launcher.snapshot=commit"


def statuses(project: Project) -> list[str]:
    return [project.info(name)["status"] for name in project.runs()]


def test_jobs_are_submitted_and_left_and_run_in_their_folders(project: Project, tmp_path: Path) -> None:
    """Bug: the launcher blocks until the jobs have ended; or leaves before the folders say what was submitted."""
    flag = tmp_path / "flag"
    done = project.run(*LOCAL, "do=hold", f"flag='{flag}'", "seed=1,2,3", "hydra.launcher.max_parallel=2")
    assert "3 jobs submitted" in done.stdout
    assert project.runs() == ["1", "2", "3"]
    until(lambda: statuses(project) == ["RUNNING", "RUNNING", "PENDING"])
    for index, name in enumerate(project.runs(), start=1):
        submission = project.submission(name)
        assert (submission["scheduler"], submission["job_id"], submission["array_index"]) == ("local", "1", index)
    flag.touch()
    project.wait_for_end(1, 2, 3)
    assert statuses(project) == ["COMPLETE"] * 3
    for index, name in enumerate(project.runs(), start=1):
        lines = (project.logs / name / "metrics" / "train.json").read_text().splitlines()
        assert [json.loads(line)["loss"] for line in lines] == [index, index + 0.1, index + 0.2]
        assert (project.logs / name / "log.stderr").read_text() == ""


def test_mlxp_yaml_says_each_thing_once(project: Project) -> None:
    """Bug: two places that say how a run is submitted, of which `mlxp rerun` reads one and its user edits the other."""
    project.run(*WAIT, "seed=1", "hydra.launcher.pack=2")
    settings = read_yaml(project.logs / "1" / "metadata" / "mlxp.yaml")
    assert settings["order"]["pack"] == 2
    assert settings["launcher"]["snapshot"] == "auto"
    assert settings["launcher"].keys() & settings["order"].keys() == {"header"}  # the option, and what came of it


def test_every_job_runs_the_commit_however_the_files_change_meanwhile(project: Project, tmp_path: Path) -> None:
    """Bug: a job that starts later imports what was edited since."""
    first, flag = project.commit_hash(), tmp_path / "flag"
    project.run(*LOCAL, "do=hold", f"flag='{flag}'", "seed=1,2", "hydra.launcher.max_parallel=1")
    until(lambda: project.info(1)["status"] == "RUNNING")
    project.write(**{"main.py": (project.dir / "main.py").read_text().replace('"code": "A"', '"code": "B"')})
    project.write(**{"conf/optimizer/sgd.yaml": "lr: 77\n"})
    second = project.commit("edited")
    flag.touch()
    project.wait_for_end(1, 2)
    project.run(*WAIT, "seed=3")
    assert [project.said(name)["code"] for name in project.runs()] == ["A", "A", "B"]
    assert [project.info(name)["version_manager"]["commit_hash"] for name in project.runs()] == [first, first, second]
    assert statuses(project) == ["COMPLETE"] * 3


def test_changes_that_do_not_run_are_said_out_loud_before_anything_is_submitted(project: Project) -> None:
    """Bug: changes that silently do not run."""
    project.write(**{"main.py": (project.dir / "main.py").read_text().replace('"A"', '"B"'), "new file.txt": ""})
    done = project.run(*WAIT, "seed=1,2", COMMIT)
    said = done.stdout.index("without these changes")
    assert said < done.stdout.index(" M main.py") < done.stdout.index("?? new file.txt")
    assert done.stdout.index("?? new file.txt") < done.stdout.index("submitted")
    assert project.said(1)["code"] == "A"
    assert project.info(1)["version_manager"]["uncommitted"] == [" M main.py", "?? new file.txt"]


def test_a_changed_configuration_that_is_not_committed_is_refused_at_once(project: Project) -> None:
    """Bug: jobs that compose another configuration than the one shown, and fail hours later."""
    project.write(**{"conf/optimizer/sgd.yaml": "lr: 77\n"})
    done = project.run(*LOCAL, "optimizer=sgd,adam", COMMIT, code=1)
    assert "optimizer.lr: 77 -> 0.1" in done.stderr
    assert "Commit the changed files" in done.stderr
    assert not [name for name in os.listdir(project.logs) if name.isdigit()]
    project.run(*WAIT, "optimizer=adam", COMMIT)  # which does not use the changed file
    assert statuses(project) == ["COMPLETE"]


VALUES = [
    "a b",
    "it's",
    'say "hi"',
    "$HOME `id` $(id)",
    "back\\slash",
    "end\\",
    "two\nlines",
    "ünï ☃",
    "a,b",
    "{x: 1}",
    "${seed}",
]


def test_values_reach_the_job_unharmed(project: Project) -> None:
    """Bug: quoting lost between Hydra, the script, the shell and Hydra again."""
    choices = ",".join(json_quote(value) for value in VALUES)
    project.run(*WAIT, f"msg={choices}", "seed=7")
    expected = ["7" if value == "${seed}" else value for value in VALUES]
    assert [str(project.said(name)["msg"]) for name in project.runs()] == expected
    configs = [read_yaml(project.logs / name / "metadata" / "config.yaml") for name in project.runs()]
    assert [str(config["msg"]) for config in configs] == expected


def json_quote(value: str) -> str:
    """A value as a user quotes it for Hydra: single quotes, a backslash before a quote or before the closing one."""
    escaped = value.replace("'", "\\'")
    return f"'{escaped}\\'" if escaped.endswith("\\") else f"'{escaped}'"


def test_a_launch_without_m_submits_its_one_job_where_that_is_asked_for(project: Project) -> None:
    """Bug: a plain run that is submitted by nobody; `hydra.sweeper.params` that makes a sweep of it; a job of a job."""
    config = (project.dir / "conf" / "config.yaml").read_text()
    params = "hydra:\n  sweeper:\n    params:\n      seed: 1,2\n  launcher:\n    single: submit\n    wait: true\n"
    project.write(
        **{
            "conf/config.yaml": config.replace("  - _self_", "  - override hydra/launcher: mlxp_local\n  - _self_")
            + params
        }
    )
    project.commit()
    done = project.run("msg='a,b'")
    assert "1 job submitted" in done.stdout
    assert project.runs() == ["1"]
    assert project.said(1)["msg"] == "a,b"
    assert read_yaml(project.logs / "1" / "metadata" / "info.yaml")["status"] == "COMPLETE"
    assert "nothing is submitted" in project.run("hydra.launcher.single=run").stdout
    assert "single=sumbit" in project.run("hydra.launcher.single=sumbit", code=1).stderr
    failed = project.run("hydra.launcher.template=nosuch", code=1)
    assert "cannot be read" in failed.stderr
    assert project.runs() == ["1", "2"]


def test_a_run_that_is_submitted_is_one_of_hydras(project: Project) -> None:
    """Bug: the program ends there, as if it had no lines after main(); the folder that the user has named is lost."""
    program = (project.dir / "main.py").read_text()
    calls = "    main()\n    main()\n    print('after')\n"
    single = ("hydra/launcher=mlxp_local", "hydra.launcher.single=submit", "hydra.launcher.wait=true")
    project.write(**{"main.py": program.replace("    main()\n", calls)})
    project.commit()
    done = project.run(*single)
    assert (done.stdout.count("1 job submitted; its run is in"), done.stdout.splitlines()[-1]) == (2, "after")
    assert project.runs() == ["1", "2"]
    project.write(**{"main.py": program.replace("    main()\n", "    main()\n    print('after')\n")})
    project.commit()
    folders = {"mine/a b ${seed}": "mine/a b 3", "{log_dir}/named": "logs/named", "{log_dir}/x/{id}": "logs/x/1"}
    for given, folder in folders.items():
        project.run(*single, "seed=3", f"hydra.run.dir='{given}'")
        metadata = project.dir / folder / "metadata"
        assert read_yaml(metadata / "info.yaml")["status"] == "COMPLETE"
        assert read_yaml(metadata / "config.yaml")["seed"] == 3
    failed = project.run(*single, "do=raise", code=1)
    assert "(ValueError: no luck)" in failed.stderr
    assert "after" not in failed.stdout


def test_a_failed_job_fails_the_launch_that_waits_and_names_its_logs(project: Project) -> None:
    """Bug: exit code 0 after a sweep of failures."""
    done = project.run(*WAIT, "do=null,raise,exit3", code=1)
    assert statuses(project) == ["COMPLETE", "FAILED", "FAILED"]
    assert "run 2: FAILED" in done.stdout
    assert f"run {project.logs / '2'} is FAILED (ValueError: no luck)" in done.stderr
    assert "In all 2 of 3 jobs did not complete: run 2-3" in done.stderr
    assert "log.stderr" in done.stderr
    assert "Traceback" not in done.stderr
    assert (project.logs / "2" / "metadata" / "exit_code").read_text() == "1 1\n"
    assert (project.logs / "3" / "metadata" / "exit_code").read_text() == "3 1\n"
    assert "ValueError: no luck" in (project.logs / "2" / "log.stderr").read_text()


def test_a_launch_that_waits_ends_when_its_queue_was_killed(project: Project, tmp_path: Path) -> None:
    """Bug: waiting for ever for a job that died with its node."""
    process = project.start(
        *WAIT, "do=wait", f"flag='{tmp_path / 'flag'}'", "seed=1,2", "hydra.launcher.max_parallel=1"
    )
    until((tmp_path / "flag").exists)
    queue = int((tmp_path / "spool" / "1" / "pid").read_text())
    children = [int(pid) for pid in Path(f"/proc/{queue}/task/{queue}/children").read_text().split()]
    os.kill(queue, signal.SIGKILL)
    for pid in children:
        os.killpg(pid, signal.SIGKILL)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "is LOST" in stderr
    assert [project.submission(name)["state"] for name in project.runs()] == ["LOST", "LOST"]


def test_ctrl_c_while_waiting_leaves_the_jobs(project: Project, tmp_path: Path) -> None:
    """Bug: an interrupt that kills the sweep, or that prints nothing of what goes on."""
    flag = tmp_path / "flag"
    process = project.start(*WAIT, "do=hold", f"flag='{flag}'", "seed=1,2")
    until(lambda: [project.status(1), project.status(2)] == ["RUNNING"] * 2)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "the jobs go on" in stdout
    flag.touch()
    project.wait_for_end(1, 2)
    assert statuses(project) == ["COMPLETE"] * 2


TEMPLATE = """\
#!/bin/bash
#LOCAL --job-name=mine
set -euo pipefail
export FROM_TEMPLATE="a b"
python main.py ignored=1
echo "after $FROM_TEMPLATE $EXTRA"
"""


def test_a_templates_lines_run_in_every_job(project: Project) -> None:
    """Bug: set-up lines lost, or run once for the whole array."""
    project.write(**{"job.sh": TEMPLATE})
    project.commit()
    project.run(*WAIT, "seed=1,2", "hydra.launcher.template=job.sh", "hydra.launcher.setup=['export EXTRA=x']")
    for name in project.runs():
        assert (project.logs / name / "log.stdout").read_text().splitlines()[-1] == "after a b x"
        assert "#LOCAL --job-name=mine\n" in (project.logs / name / "script.sh").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hydra.launcher.template=no.sh",), "no.sh) cannot be read: No such file or directory"),
        (("hydra.launcher.template=pbs.sh",), "Its launcher is hydra/launcher=mlxp_torque or mlxp_pbs"),
        (("hydra.launcher.header='--foo'",), "a directive starts with #LOCAL"),
        (("hydra.launcher.max_parallel=0",), "at least one job must run"),
        (("hydra.launcher.pack=0",), "at least one run is in each job"),
        (("hydra.launcher.max_parallel=2", "hydra.launcher.array=false"), "leave one of them out"),
        (("hydra.launcher.max_parallel=many",), "hydra.launcher.max_parallel=many: Value 'many' of type 'str'"),
        (("hydra.launcher.snapshot=head",), "not one of auto, commit, worktree, none"),
        (("hydra.launcher.scheduler=cron",), "there is no scheduler 'cron': the known ones are local, slurm, "),
        (("hydra.launcher.templat=x",), "templat"),
        (("optimizer=rmsprop",), "rmsprop"),
        (("nosuchkey=1",), "nosuchkey"),
        (("hydra.sweep.subdir=same",), "several jobs the same folder"),
        (("hydra.sweep.subdir='a\n${seed}'",), "a folder with a line break"),
        (("hydra.sweep.dir='a\nb'",), "has a line break in its path"),
        (("hydra.sweep.dir='{log_dir}/a-${seed}'",), "is logs/a-1 for one job of this sweep, and logs/a-2 for another"),
        (("hydra.launcher.header='#LOCAL --array=1-2'",), "the header sets --array itself"),
        (("hydra.launcher.template=pipe.sh",), "is not a line that the launcher can replace"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    """Bug: run folders of jobs that were never submitted, or a stack trace instead of a sentence."""
    project.write(**{"pbs.sh": "#!/bin/bash\n#PBS -l walltime=1\n", "pipe.sh": "#!/bin/sh\npython main.py | tee x\n"})
    done = project.run(*LOCAL, "seed=1,2", *arguments, code=1)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    runs = [name for name in os.listdir(project.logs) if name.isdigit()] if project.logs.exists() else []
    assert runs == []


@pytest.mark.parametrize("arguments", [(), ("hydra.launcher.array=false",)])
def test_an_array_of_the_users_own_is_refused_for_a_single_job_too(
    project: Project, arguments: tuple[str, ...]
) -> None:
    """Bug: each task of it is the same run, in one folder."""
    done = project.run(*LOCAL, "hydra.launcher.header='#LOCAL --array=1-2'", *arguments, code=1)
    assert "the header sets --array itself" in done.stderr
    assert not (project.logs / "1").exists()


def test_a_refused_submission_is_said_with_its_header_and_in_the_run_folders(project: Project) -> None:
    """Bug: runs that stay PENDING for ever, and a message without the line that was refused."""
    done = project.run(*LOCAL, "seed=1,2", "hydra.launcher.header='#LOCAL --foo=1'", code=1)
    assert "local refused the submission" in done.stderr
    assert "unrecognized arguments: --foo=1" in done.stderr
    assert "#LOCAL --foo=1" in done.stderr
    assert "Traceback" not in done.stderr
    from mlxp_core.runs.layout import RunDir
    from mlxp_core.runs.state import load_status

    for name in project.runs():
        submission = project.submission(name)
        assert (submission["job_id"], submission["state"]) == (None, "FAILED")
        assert "unrecognized arguments: --foo=1" in submission["error"]
        assert load_status(RunDir(project.logs / name)) == "FAILED"


def test_without_arrays_each_job_is_submitted_on_its_own(project: Project) -> None:
    """Bug: hydra.launcher.array=false that still submits one array, or one job only."""
    done = project.run(*WAIT, "seed=1,2", "hydra.launcher.array=false")
    assert [project.submission(name)["job_id"] for name in project.runs()] == ["1", "2"]
    assert [project.submission(name)["array_index"] for name in project.runs()] == [None, None]
    assert statuses(project) == ["COMPLETE"] * 2
    assert "local job 2" in done.stdout


def test_packed_runs_share_a_job(project: Project) -> None:
    """Bug: k jobs for k runs; or the runs of one job in one folder."""
    project.run(*WAIT, "seed=1,2,3", "hydra.launcher.pack=2")
    places = [(project.submission(name)["job_id"], project.submission(name)["array_index"]) for name in project.runs()]
    assert places == [("1", 1), ("1", 1), ("1", 2)]
    assert statuses(project) == ["COMPLETE"] * 3
    for index, name in enumerate(project.runs(), start=1):
        lines = (project.logs / name / "metrics" / "train.json").read_text().splitlines()
        assert [json.loads(line)["loss"] for line in lines] == [index, index + 0.1, index + 0.2]


def test_a_launch_that_is_interrupted_leaves_no_run_pending(project: Project) -> None:
    """Bug: Ctrl-C while the folders are written: runs PENDING for ever, and in no queue; a bare stack trace."""
    process = project.start(*LOCAL, "seed=range(0,30)")
    until((project.logs / "1" / "metadata" / "info.yaml").exists)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in stderr
    written = [name for name in project.runs() if project.status(name)]
    assert written
    notes = [project.submission(name) for name in written]
    open_ends = [note for note in notes if not (note["state"] == "CANCELLED" or note["job_id"])]
    submitted = sum(bool(note["job_id"]) for note in notes)
    if open_ends:
        assert "the same command again finds out" in stdout
    elif submitted < 30:
        assert f"interrupted: {submitted} of 30 jobs are submitted; the same command again submits the rest" in stdout
    assert "None was being submitted" not in stdout


def test_ctrl_c_while_the_scheduler_is_spoken_to_loses_no_job(project: Project, tmp_path: Path) -> None:
    """Bug: the job runs, its folder does not know of it, and the same command waits to find out."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f"#!/bin/sh\ntouch '{tmp_path}/asked'\nsleep 1\necho 77\n")
    sbatch.chmod(0o755)
    path = f"{sbatch.parent}{os.pathsep}{project.environment['PATH']}"
    process = project.start("-m", "hydra/launcher=mlxp_slurm", "seed=1,2", new_session=True, PATH=path)
    until((tmp_path / "asked").exists)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert [project.submission(name)["job_id"] for name in project.runs()] == ["77", "77"]


def test_a_launch_from_a_folder_that_git_does_not_know_has_it_in_each_run(project: Project) -> None:
    """Bug: every job fails at `cd`, hours later."""
    (project.dir / "scratch").mkdir()
    command = [sys.executable, "../main.py", *WAIT, "seed=1"]
    done = subprocess.run(
        command, cwd=project.dir / "scratch", env=project.environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads((project.dir / "scratch" / "logs" / "1" / "log.stdout").read_text().splitlines()[-1])
    assert said["cwd"] == str(project.dir / "scratch" / "logs" / "1" / "work" / "scratch")
    assert "/.mlxp/code/" in said["file"]


@pytest.mark.parametrize(
    ("head", "runs", "without"),
    [
        ("-u -Wignore main.py", "-u -Wignore CODE/main.py", None),
        ("-X importtime -Bum main", "-X importtime -Bu -m main", None),
        ("-mmain", "-m main", None),
        ("-Bm cProfile -o PROFILE main.py", "-B CODE/main.py", "-m cProfile -o PROFILE"),
        ("-m cProfile -o PROFILE -m main", "-m main", "-m cProfile -o PROFILE"),
    ],
)
def test_jobs_run_the_program_as_it_was_started(
    project: Project, tmp_path: Path, head: str, runs: str, without: str | None
) -> None:
    """Bug: `python -m cProfile` without a program, or a debugger, in every job; an option of Python's that is lost."""
    head, without = (text and text.replace("PROFILE", str(tmp_path / "prof")) for text in (head, without))
    command = [sys.executable, *head.split(), *WAIT, "seed=1"]
    done = subprocess.run(
        command, cwd=project.dir, env=project.environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f", without {without}\n" in done.stdout if without else "without" not in done.stdout
    (line,) = [line for line in (project.logs / "1/script.sh").read_text().splitlines() if line.startswith("exec ")]
    words = shlex.split(line)
    expected = [word.replace("CODE", str(copy_of(project, 1))) for word in runs.split()]
    if "-m" in expected and sys.version_info >= (3, 11):
        expected.insert(0, "-P")  # the copy's module, and not what lies where the job starts
    assert words[1 : len(expected) + 2] == [sys.executable, *expected]


def test_a_configuration_that_git_ignores_is_refused_at_once(project: Project) -> None:
    """Bug: accepted here, `Cannot find primary config` in every job."""
    project.write(**{".gitignore": "logs/\nlocal.yaml\n"})
    project.commit()
    project.write(**{"conf/optimizer/local.yaml": "lr: 3\n"})
    done = project.run(*LOCAL, "optimizer=local", code=1)
    assert "Commit the changed files" in done.stderr
    project.run(*WAIT, "optimizer=adam")
    assert statuses(project) == ["COMPLETE"]


def test_batches_of_a_sweep_are_arrays_of_their_own(project: Project) -> None:
    """Bug: the second batch in the folder of the first, or with its indices."""
    project.run(*WAIT, "seed=1,2,3", "hydra.sweeper.max_batch_size=2")
    places = [(project.submission(name)["job_id"], project.submission(name)["array_index"]) for name in project.runs()]
    assert places == [("1", 1), ("1", 2), ("2", None)]
    assert statuses(project) == ["COMPLETE"] * 3


def test_a_script_run_by_hand_runs_its_job_again_as_the_next_attempt(project: Project) -> None:
    """Bug: script.sh that works only under its scheduler, or whose second run mixes with the first."""
    project.run(*WAIT, "seed=4")
    subprocess.run(
        ["bash", str(project.logs / "1" / "script.sh")],
        env=project.environment,
        check=True,
        cwd="/",
        capture_output=True,
    )
    assert project.info(1)["attempt"] == 2
    lines = (project.logs / "1" / "metrics" / "train.json").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


def test_a_job_that_would_compose_another_configuration_does_not_run(project: Project, tmp_path: Path) -> None:
    """Bug: what was submitted and what ran differ, and the folder shows the former."""
    project.write(**{"conf/config.yaml": (project.dir / "conf/config.yaml").read_text() + "extra: ${oc.env:X,1}\n"})
    project.commit()
    project.run(*WAIT, "seed=1")
    copy = copy_of(project, 1)
    (copy / "conf" / "optimizer" / "sgd.yaml").write_text("lr: 99\n")
    script = ["bash", str(project.logs / "1" / "script.sh")]
    done = subprocess.run(script, env=project.environment, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "optimizer.lr: 0.1 -> 99" in done.stderr
    assert done.stdout == ""
    info = project.info(1)
    assert (info["status"], info["attempt"]) == ("FAILED", 2)
    assert "optimizer.lr: 0.1 -> 99" in info["error"]["message"]


def test_a_job_has_the_interpolated_values_of_its_submission(project: Project, tmp_path: Path) -> None:
    """Bug: the time and the environment of the node in place of those that config.yaml shows."""
    text = "t: ${now:%S.%f}\nwho: ${oc.env:WHO,nobody}\nid: ${hydra:job.id}-${hydra:job.num}\n"
    text += "out: ${hydra:runtime.output_dir}\n"
    project.write(**{"conf/config.yaml": (project.dir / "conf/config.yaml").read_text() + text})
    main = (project.dir / "main.py").read_text()
    project.write(**{"main.py": main.replace('"msg": cfg.msg', '"msg": [cfg.t, cfg.who, cfg.id, cfg.out]')})
    project.write(**{"job.sh": "#!/bin/bash\nexport WHO=node\n"})
    project.commit()
    project.run(*WAIT, "seed=1,2", "hydra.launcher.template=job.sh", WHO="submitter")
    for number, name in enumerate(project.runs()):
        config = read_yaml(project.logs / name / "metadata" / "config.yaml")
        shown = [str(config["t"]), config["who"], config["id"], config["out"]]
        assert project.said(name)["msg"] == shown
        assert shown[1:] == ["submitter", f"{name}-{number}", str(project.logs / name)]


def test_a_program_started_as_a_module_from_a_sub_directory_runs_as_one(project: Project) -> None:
    """Bug: `python main.py` of the wrong folder; relative imports and package configurations lost."""
    main = (project.dir / "main.py").read_text()
    project.write(
        **{
            "src/pkg/__init__.py": "",
            "src/pkg/helper.py": "WORD = 'helped'\n",
            "src/pkg/app.py": main.replace("import hydra\n", "import hydra\n\nfrom .helper import WORD\n", 1)
            .replace('config_path="conf"', 'config_path="conf"')
            .replace('"code": "A"', '"code": WORD'),
            "src/pkg/conf/config.yaml": "optimizer: {lr: 0.5}\nseed: 0\nmsg: m\ndo: null\n",
            "src/pkg/conf/__init__.py": "",
        }
    )
    project.commit()
    command = [sys.executable, "-O", "-m", "pkg.app", *WAIT, "seed=1,2", "hydra.launcher.log_dir=../logs"]
    done = subprocess.run(
        command, cwd=project.dir / "src", env=project.environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [project.said(name)["code"] for name in ("1", "2")] == ["helped"] * 2
    assert project.said(1)["cwd"].endswith("/src")
    assert project.said(1)["cwd"] != str(project.dir / "src")
    assert " -O -m pkg.app " in (project.logs / "1" / "script.sh").read_text()


def test_a_repository_reached_through_a_link_is_the_same_repository(project: Project, tmp_path: Path) -> None:
    """Bug: /home is a link to /data/home, the script is not found below the repository, and runs from the work tree."""
    (tmp_path / "link").symlink_to(project.dir)
    project.write(**{"main.py": (project.dir / "main.py").read_text().replace('"A"', '"B"')})
    project.command = [sys.executable, str(tmp_path / "link" / "main.py")]
    project.run(*WAIT, "seed=1", COMMIT)
    project.dir = tmp_path / "link"
    project.run(*WAIT, "seed=2", COMMIT)
    assert [project.said(name)["code"] for name in project.runs()] == ["A", "A"]
    assert "/.mlxp/code/" in project.said(1)["file"]
    assert "/.mlxp/code/" in project.said(2)["file"]


def test_a_pythonpath_into_the_repository_leads_into_the_copy(project: Project) -> None:
    """Bug: jobs import the edited library of the work tree beside the frozen script."""
    project.write(**{"lib/mylib.py": "CODE = 'A'\n"})
    main = (project.dir / "main.py").read_text().replace('"code": "A"', '"code": __import__("mylib").CODE')
    project.write(**{"main.py": main})
    project.commit()
    project.write(**{"lib/mylib.py": "CODE = 'B'\n"})
    project.run(*WAIT, "seed=1", COMMIT, PYTHONPATH=str(project.dir / "lib"))
    assert project.said(1)["code"] == "A"


def test_a_package_of_the_repository_that_is_installed_editable_is_imported_from_the_copy(project: Project) -> None:
    """Bug: the edited package of the work tree, beside the frozen script and the recorded commit."""
    project.write(**{"src/mylib.py": "CODE = 'A'\n"})
    main = (project.dir / "main.py").read_text().replace('"code": "A"', '"code": __import__("mylib").CODE')
    project.write(**{"main.py": main})
    project.commit()
    # what an editable install of a src layout comes to: a line in a .pth file of the environment
    site = project.dir.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"import sys\nsys.path.append({str(project.dir / 'src')!r})\n")
    project.write(**{"src/mylib.py": "CODE = 'B'\n"})
    project.run(*WAIT, "seed=1", COMMIT, PYTHONPATH=str(site))
    assert project.said(1)["code"] == "A"


def test_without_a_snapshot_jobs_run_in_place_and_need_no_repository(project: Project) -> None:
    """Bug: hydra.launcher.snapshot=none that still asks git."""
    (project.dir / ".git").rename(project.dir.parent / "no git")
    done = project.run(*LOCAL, "seed=1", "hydra.launcher.snapshot=commit", code=1)
    assert "no git repository" in done.stderr
    project.run(*WAIT, "seed=1", "hydra.launcher.snapshot=none")
    assert project.said(1)["cwd"] == str(project.dir)


def test_flags_of_the_launch_are_those_of_the_job(project: Project) -> None:
    """Bug: --config-name lost, or a --config-dir that only the launch directory has."""
    project.write(
        **{"more/optimizer/own.yaml": "lr: 5\n", "conf/other.yaml": (project.dir / "conf/config.yaml").read_text()}
    )
    project.commit()
    project.run("--config-name", "other", "--config-dir", "more", *WAIT, "optimizer=own", "hydra.job.name=named")
    assert read_yaml(project.logs / "1" / "metadata" / "config.yaml")["optimizer"]["lr"] == 5
    assert project.info(1)["hydra"]["job_name"] == "named"
    assert project.info(1)["status"] == "COMPLETE"


def test_a_launcher_chosen_in_the_configuration_and_a_mode_set_there_work_as_on_the_command_line(
    project: Project,
) -> None:
    """Bug: hydra.mode=MULTIRUN of the primary configuration makes each job a multirun that submits again."""
    config = (project.dir / "conf/config.yaml").read_text()
    chosen = config.replace("  - _self_\n", "  - override hydra/launcher: mlxp_local\n  - _self_\n")
    project.write(
        **{"conf/config.yaml": chosen + "hydra: {mode: MULTIRUN, launcher: {wait: true}, job: {env_set: {E: x}}}\n"}
    )
    project.commit()
    project.run("seed=1,2")
    assert project.runs() == ["1", "2"]
    assert statuses(project) == ["COMPLETE"] * 2


def test_a_sweep_subdir_of_the_users_own_names_the_folders(project: Project) -> None:
    """Bug: hydra.sweep.subdir ignored; or a second launch writes over the first."""
    arguments = (*WAIT, "seed=1,2", "hydra.sweep.dir=mine", "hydra.sweep.subdir=job-${hydra.job.num}")
    project.run(*arguments)
    for number in (0, 1):
        assert read_yaml(project.dir / "mine" / f"job-{number}" / "metadata" / "info.yaml")["status"] == "COMPLETE"
    (project.dir / "mine/job-0/artifacts/model").mkdir(parents=True)
    project.run(*arguments)
    for number in (0, 1):
        folder = project.dir / "mine" / f"job-{number}"
        info = read_yaml(folder / "metadata/info.yaml")
        assert (info["status"], info["attempt"]) == ("COMPLETE", 2)
        earlier = folder / "metadata/attempts/1"
        assert read_yaml(earlier / "metadata/info.yaml")["status"] == "COMPLETE"
        assert read_yaml(earlier / "metadata/config.yaml")["seed"] == number + 1
        assert (earlier / "metadata/exit_code").read_text() == "0 1\n"
        assert (earlier / "log.stdout").exists()
    assert (project.dir / "mine/job-0/metadata/attempts/1/artifacts/model").is_dir()
    assert not (project.dir / "mine/job-0/artifacts/model").exists()


def test_a_sweep_dir_may_interpolate_what_all_jobs_agree_on(project: Project) -> None:
    """Bug: the value of the multirun's own configuration, which no job has."""
    project.run(*WAIT, "seed=7", "do=null,null", "hydra.sweep.dir='{log_dir}/seed-${seed}'")
    for name in ("1", "2"):
        metadata = project.logs / "seed-7" / name / "metadata"
        assert read_yaml(metadata / "info.yaml")["status"] == "COMPLETE"
        assert read_yaml(metadata / "config.yaml")["seed"] == 7


def test_a_folder_in_which_a_run_goes_on_is_not_given_to_another(project: Project, tmp_path: Path) -> None:
    """Bug: two runs that write into one folder."""
    flag = tmp_path / "flag"
    arguments = ("-m", "hydra/launcher=mlxp_local", "do=hold", f"flag='{flag}'", "hydra.sweep.subdir=mine")
    project.run(*arguments)
    done = project.run(*arguments, code=1)
    assert "holds a run already, which this one would overwrite: it is " in done.stderr
    flag.touch()
    until(lambda: read_yaml(project.logs / "mine/metadata/info.yaml")["status"] == "COMPLETE")


def test_the_value_of_a_job_that_was_left_cannot_be_taken_for_a_number() -> None:
    """Bug: a sweeper that optimises over handles."""
    from hydra_plugins.mlxp._results import SubmittedJob
    from mlxp_core.runs.layout import RunDir
    from mlxp_core.runs.submission_record import QueuedJob

    handle = SubmittedJob(QueuedJob(RunDir(Path("/logs/3")), "slurm", "42", 3))
    assert (handle.run_id, repr(handle)) == (
        3,
        "<SubmittedJob run 3, slurm job 42_3; left without waiting for its value>",
    )
    with pytest.raises(TypeError, match=r"without waiting.*hydra\.launcher\.wait=true"):
        float(handle)  # type: ignore[arg-type]


def test_a_header_may_ask_for_what_a_group_says_that_only_the_sweep_chooses(project: Project) -> None:
    """Bug: Hydra resolves the launcher before any job is composed, and `- optimizer: ???` in it has no value yet."""
    project.write(**{"conf/open.yaml": "defaults:\n  - optimizer: ???\n  - config_of\n  - _self_\n"})
    project.write(**{"conf/config_of.yaml": "seed: 0\nmsg: hello\ndo: null\nflag: null\n"})
    project.commit()
    header = "hydra.launcher.header='#LOCAL --job-name=lr${optimizer.lr}'"
    setup = "hydra.launcher.setup=['export LR=${optimizer.lr}']"
    project.run("--config-name=open", *LOCAL, "optimizer=sgd,adam", header, setup)
    scripts = [(project.logs / name / "script.sh").read_text().splitlines() for name in ("1", "2")]
    for script, rate in zip(scripts, ("0.1", "0.01"), strict=True):
        assert f"#LOCAL --job-name=lr{rate}" in script
        assert f"export LR={rate}" in script
    project.wait_for_end(1, 2)


@pytest.mark.parametrize(
    ("key", "value"), [("header", "'#LOCAL --job-name=${no.such}'"), ("setup", "['a=${no.such}']")]
)
def test_a_header_that_a_job_cannot_fill_in_is_said_with_the_job(project: Project, key: str, value: str) -> None:
    """Bug: forty lines of OmegaConf's parser."""
    done = project.run(*LOCAL, "seed=1,2", f"hydra.launcher.{key}={value}", code=1)
    assert f"hydra.launcher.{key}=" in done.stderr
    assert "has no value for the job seed=1: Interpolation key 'no.such' not found" in done.stderr
    assert "Traceback" not in done.stderr
    assert not project.logs.exists() or project.runs() == []


def test_a_template_in_another_encoding_goes_through_but_for_its_directives(project: Project) -> None:
    """Bug: a stack trace for an old comment; a directive of which one letter has become another."""
    path = project.dir / "job.sh"
    path.write_bytes(b"#!/bin/bash\n#LOCAL --job-name=a\n# caf\xe9\npython main.py\n")
    project.run(*LOCAL, "hydra.launcher.template=job.sh", "seed=1")
    assert b"# caf\xe9\n" in (project.logs / "1" / "script.sh").read_bytes()
    path.write_bytes(b"#!/bin/bash\n#LOCAL --job-name=caf\xe9\npython main.py\n")
    done = project.run(*LOCAL, "hydra.launcher.template=job.sh", "seed=1", code=1)
    assert "is no UTF-8" in done.stderr
    project.wait_for_end(1)


def test_runs_that_lie_deeper_than_anybody_looks_are_warned_of(project: Project) -> None:
    """Bug: `mlxp status` of the log directory shows nothing, and nobody has said why."""
    done = project.run(*LOCAL, "seed=1", "hydra.sweep.subdir='lr/${seed}'")
    assert "such as " + str(project.logs / "lr") in done.stdout + done.stderr
    project.wait_for_end("lr/1")


OWN = """\
import os
from pathlib import Path

from hydra.experimental.callback import Callback


class Own(Callback):
    def on_multirun_start(self, config, **more):
        Path(config.hydra.runtime.cwd, "multirun-seen").write_text("yes")

    def on_job_start(self, config, **more):
        Path(config.hydra.runtime.output_dir, "job-seen").write_text(os.environ["OWN"])
"""
LOGGING = """\
import logging
import os

import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    logging.getLogger(__name__).info("hello from %s", os.getcwd())


if __name__ == "__main__":
    main()
"""


def test_the_users_own_settings_of_hydra_keep_their_meaning_in_a_job(project: Project) -> None:
    """Bug: settings that the launcher drops or sets itself, or a callback that is called in one place only."""
    project.write(**{"main.py": LOGGING, "own.py": OWN, "conf/config.yaml": "seed: 0\n"})
    project.commit()
    project.run(
        *WAIT,
        "hydra.output_subdir=settings",
        "hydra.job.chdir=true",
        "hydra.job.name=mine",
        "+hydra.job.env_set.OWN=x y",
        "hydra.job_logging.formatters.simple.format='mine: %(message)s'",
        "+hydra.callbacks.own._target_=own.Own",
    )
    folder = project.logs / "1"
    assert (folder / "mine.log").read_text() == f"mine: hello from {folder}\n"
    assert (folder / "settings/config.yaml").read_text() == "seed: 0\n"
    assert not (folder / ".hydra").exists()
    assert (folder / "job-seen").read_text() == "x y"
    assert (project.dir / "multirun-seen").exists()


MAINS = """\
import hydra

from mlxp_core import current_run


def make(name):
    @hydra.main(version_base=None)
    def main(cfg):
        print("this is", name)
        current_run().log_metrics({"value": cfg.value}, log_name=name)

    return main


make("a")()
print("between")
for name in ("b", "c"):
    make(name)()
"""


def test_a_job_runs_one_of_the_main_functions_of_its_program(project: Project) -> None:
    """Bug: each job runs all of them, in one folder, and the last one takes the metrics of the others away."""
    project.write(**{"main.py": MAINS})
    project.commit()
    project.run(*WAIT, "+value=1,2")
    assert statuses(project) == ["COMPLETE"] * 6
    for number, name in enumerate("aabbcc", start=1):
        folder = project.logs / str(number)
        assert (folder / "log.stdout").read_text().splitlines().count("between") == 1
        assert f"this is {name}\n" in (folder / "log.stdout").read_text()
        assert [path.name for path in (folder / "metrics").glob("*.json")] == [f"{name}.json"]
        assert json.loads((folder / f"metrics/{name}.json").read_text())["value"] == 2 - number % 2
        assert project.info(number)["attempt"] == 1
