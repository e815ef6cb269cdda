"""The fake TORQUE, PBS Pro, MWM and LSF answer as the manuals of the real ones say (tests/clusters/fake/README.md)."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, until

pytestmark = pytest.mark.thorough

FAKE = ROOT / "tests" / "clusters" / "fake"
DIRECTIVE = {"torque": "#PBS", "pbs": "#PBS", "mwm": "#MSUB", "lsf": "#BSUB"}
SUBMIT = {"torque": "qsub", "pbs": "qsub", "mwm": "msub", "lsf": "bsub"}
CANCEL = {"torque": "qdel", "pbs": "qdel", "mwm": "canceljob", "lsf": "bkill"}
ARRAY = {"torque": "-t 1-{}", "pbs": "-J 1-{}", "mwm": "-t sweep[1-{}]", "lsf": "-J sweep[1-{}]"}
INDEX = {"torque": "PBS_ARRAYID", "pbs": "PBS_ARRAY_INDEX", "mwm": "MOAB_JOBARRAYINDEX", "lsf": "LSB_JOBINDEX"}
DIALECTS = list(DIRECTIVE)


class Cluster:
    """One fake cluster, and a user at its prompt."""

    def __init__(self, dialect: str, folder: Path) -> None:
        self.dialect = dialect
        self.spool = folder / "spool"
        self.home = folder / "home"
        self.work = folder / "a user's work"
        for made in (self.spool, self.home, self.work):
            made.mkdir()
        path = os.pathsep.join([str(FAKE / dialect), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PBS_", "LSB_", "PYTHON"))},
            "PATH": path,
            "HOME": str(self.home),
            "MLXP_FAKE_CLUSTER": str(self.spool),
            "MINE": "of the submitter",
        }

    def run(self, *words: str, stdin: str = "", timeout: float = 20) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.work,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def try_to_submit(self, body: str, options: str = "") -> subprocess.CompletedProcess[str]:
        """From a file, or from stdin where that is how directives are read."""
        (self.work / "job.sh").write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        command = [SUBMIT[self.dialect], *options.split()]
        if self.dialect == "lsf":
            return self.run(*command, stdin=(self.work / "job.sh").read_text(encoding="utf-8"))
        return self.run(*command, "job.sh")

    def submit(self, body: str, options: str = "") -> str:
        """Submit, and give the number."""
        done = self.try_to_submit(body, options)
        assert (done.returncode, done.stderr) == (0, "")
        return re.search(r"\d+", done.stdout)[0]

    def ends(self, job: str) -> list[tuple[int, str, str]]:
        """Index, state and exit status of a job's tasks, in the dialect's own words."""
        if self.dialect == "torque":
            said = self.run("qstat", "-f", "-1", "-t", job).stdout
            blocks = said.split("Job Id: ")[1:]
            return [(number(b), field("job_state", b), field("exit_status", b)) for b in blocks]
        if self.dialect == "pbs":
            said = json.loads(self.run("qstat", "-x", "-t", "-f", "-F", "json", job).stdout or "{}").get("Jobs", {})
            tasks = {name: at for name, at in said.items() if "[]" not in name}
            return [(number(name), at["job_state"], str(at.get("Exit_status", ""))) for name, at in tasks.items()]
        if self.dialect == "mwm":
            said = self.run("checkjob", "--xml", job).stdout
            return [
                (number(attribute("JobID", block)), attribute("State", block), attribute("CompletionCode", block))
                for block in re.findall("<job .*?/>", said)
            ]
        said = json.loads(self.run("bjobs", "-json", "-o", "jobid jobindex stat exit_code", job).stdout)["RECORDS"]
        return [(int(at["JOBINDEX"]), at["STAT"], at["EXIT_CODE"]) for at in said if "STAT" in at]

    def wait_for(self, job: str, state: str) -> None:
        """Wait until the queue itself has all tasks in a state: asking its commands again and again takes longer."""
        queue = sqlite3.connect(self.spool / "queue.db")
        query = "SELECT count(*) FROM task WHERE job = ? AND state != ?"
        limit = time.monotonic() + 20
        while queue.execute(query, (job, state)).fetchone() != (0,):
            assert time.monotonic() < limit, f"{job} not {state}"
            time.sleep(0.01)  # a good deal of this file is waiting here
        queue.close()

    def wait_for_end(self, job: str) -> list[tuple[int, str]]:
        """Index and exit status of each task."""
        self.wait_for(job, "ended")
        ends = self.ends(job)
        assert {state for _, state, _ in ends} <= {"C", "F", "Completed", "Removed", "DONE", "EXIT"}
        return [(index, status) for index, _, status in ends]

    def wait_until_running(self, job: str) -> None:
        self.wait_for(job, "running")
        assert {state for _, state, _ in self.ends(job)} <= {"R", "Running", "RUN"}

    def control(self, *words: str) -> None:
        subprocess.run([sys.executable, FAKE / "cluster.py", *words], env=self.environment, check=True)

    def set(self, **files: object) -> None:
        for name, text in files.items():
            (self.spool / name).write_text(str(text), encoding="utf-8")

    def is_idle(self) -> bool:
        """Whether no scheduler process is there."""
        with (self.spool / "scheduler.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True


def number(text: str) -> int:
    found = re.match(r"\d+\[(\d+)\]", text)
    return int(found[1]) if found else 0


def field(name: str, block: str) -> str:
    found = re.search(rf"^    {name} = (.*)$", block, re.MULTILINE)
    return found[1] if found else ""


def attribute(name: str, block: str) -> str:
    found = re.search(rf' {name}="(.*?)"', block)
    return found[1] if found else ""


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(request.param, tmp_path)
    made.set(kill_delay=0.3)
    yield made
    if not made.is_idle():
        made.control("stop")


def on(*dialects: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("cluster", dialects, indirect=True)


# Exit codes are the program's, or for a signal: 256 + it (TORQUE, PBS Pro), 128 + it (LSF).
ENDS = {
    "torque": {"0": "0", "3": "3", "killed": "265", "deleted": "271", "queued": "271", "walltime": "-11"},
    "pbs": {"0": "0", "3": "3", "killed": "265", "deleted": "271", "queued": "", "walltime": "-29"},
    "mwm": {"0": "0", "3": "3", "killed": "265", "deleted": "CNCLD(271)", "queued": "CNCLD(271)", "walltime": "-11"},
    "lsf": {"0": "", "3": "3", "killed": "137", "deleted": "130", "queued": "", "walltime": "140"},
}
LIMIT = {"torque": "-l walltime=0:00:01", "pbs": "-l walltime=1", "mwm": "-l walltime=1", "lsf": "-W 1"}


@on(*DIALECTS)
def test_each_end_has_the_exit_status_of_the_manual(cluster: Cluster) -> None:
    """Bug: a table of states that was tested against numbers that no cluster gives."""
    cluster.set(limit_seconds=0.2)
    jobs = {"0": cluster.submit("true"), "3": cluster.submit("exit 3"), "killed": cluster.submit("kill -9 $$")}
    jobs["walltime"] = cluster.submit("sleep 60", LIMIT[cluster.dialect])
    jobs["deleted"] = cluster.submit("exec sleep 60")
    cluster.wait_until_running(jobs["deleted"])
    cluster.set(slots=0)
    jobs["queued"] = cluster.submit("true")
    for name in ("deleted", "queued"):
        assert cluster.run(CANCEL[cluster.dialect], jobs[name]).returncode == 0
    found = {name: cluster.wait_for_end(job)[0][1] for name, job in jobs.items()}
    assert found == ENDS[cluster.dialect]


@on("torque", "pbs")
def test_one_that_does_not_end_by_sigterm_is_killed(cluster: Cluster) -> None:
    """Bug: a stop that waits for ever, since a program that ignores SIGTERM never ended in a test."""
    job = cluster.submit("trap '' TERM; touch ready; while :; do sleep 0.05; done")
    until((cluster.home / "ready").exists)
    cluster.run("qdel", job)
    assert cluster.wait_for_end(job) == [(0, "265")]


UNKNOWN = {
    "torque": ("qstat -f 99", 153, "qstat: Unknown Job Id Error 99.cluster\n"),
    "pbs": ("qstat -x -f -F json 99", 153, "qstat: Unknown Job Id 99.cluster\n"),
    "mwm": ("checkjob 99", 1, "ERROR:  invalid job specified (99)\n\n"),
    "lsf": ("bjobs 99", 255, "Job <99> is not found\n"),
}


@on(*DIALECTS)
def test_an_unknown_id_has_its_own_exit_code_and_words(cluster: Cluster) -> None:
    """Bug: a server that is down taken for a job that is gone, or the other way round."""
    command, code, words = UNKNOWN[cluster.dialect]
    done = cluster.run(*command.split())
    assert (done.returncode, done.stdout, done.stderr) == (code, "", words)
    cluster.set(down="")
    down = cluster.run(*command.split())
    assert down.returncode not in {0, code} or down.stderr != words


SUBMITTED = {
    "torque": ("1.cluster\n", "2[].cluster\n"),
    "pbs": ("1.cluster\n", "2[].cluster\n"),
    "mwm": ("\n1\n", "\n2\n"),
    "lsf": (
        "Job <1> is submitted to default queue <normal>.\n",
        "Job <2> is submitted to default queue <normal>.\n",
    ),
}


@on(*DIALECTS)
def test_a_submission_answers_with_the_id(cluster: Cluster) -> None:
    """Bug: an id that the parser cuts wrongly."""
    cluster.set(slots=0)
    array = ARRAY[cluster.dialect].format(3)
    assert (cluster.try_to_submit("true").stdout, cluster.try_to_submit("true", array).stdout) == SUBMITTED[
        cluster.dialect
    ]
    assert [index for index, _, _ in cluster.ends("2")] == [1, 2, 3]


@on(*DIALECTS)
def test_an_array_runs_each_index_and_no_more_at_once_than_asked_for(cluster: Cluster) -> None:
    """Bug: a throttle that is written and not obeyed."""
    passed = " -V" if cluster.dialect == "mwm" else ""
    body = f'cd "{cluster.work}"; mkdir lock || exit 9; sleep 0.05; rmdir lock; touch "done.${INDEX[cluster.dialect]}"'
    job = cluster.submit(body, ARRAY[cluster.dialect].format(3) + "%1" + passed)
    ok = ENDS[cluster.dialect]["0"]
    assert cluster.wait_for_end(job) == [(1, ok), (2, ok), (3, ok)]
    assert sorted(path.name for path in cluster.work.glob("done.*")) == ["done.1", "done.2", "done.3"]


@on("mwm")
def test_moab_tells_the_index_only_to_those_who_pass_the_environment(cluster: Cluster) -> None:
    """Bug: msub without -V: every sub-job runs the first trial."""
    job = cluster.submit("exit ${MOAB_JOBARRAYINDEX-9}", ARRAY["mwm"].format(2))
    assert cluster.wait_for_end(job) == [(1, "9"), (2, "9")]


@on("lsf")
def test_lsf_tells_a_job_without_an_array_the_index_0(cluster: Cluster) -> None:
    """Bug: index 0 taken for a task of an array."""
    assert cluster.wait_for_end(cluster.submit("exit $((LSB_JOBINDEX + 7))")) == [(0, "7")]


@on("torque", "pbs", "mwm")
def test_directives_end_at_the_first_command_and_the_command_line_wins(cluster: Cluster) -> None:
    """Bug: directives behind the user's set-up lines, which qsub never sees."""
    directive = DIRECTIVE[cluster.dialect]
    body = f"\n# a comment\n{directive} -N first\n{{}}\n{directive} -N second\necho $PBS_JOBNAME"
    cluster.wait_for_end(cluster.submit(body.format("")))
    cluster.wait_for_end(cluster.submit(body.format("true")))
    cluster.wait_for_end(cluster.submit(body.format(""), "-N third"))
    assert sorted(path.name for path in cluster.work.glob("*.o*")) == ["first.o2", "second.o1", "third.o3"]
    assert (cluster.work / "third.o3").read_text(encoding="utf-8") == "third\n"


@on("lsf")
def test_bsub_reads_directives_from_stdin_alone(cluster: Cluster) -> None:
    """Bug: `bsub script` runs with none of the options in the script."""
    script = cluster.work / "job.sh"
    script.write_text("#!/bin/bash\n#BSUB -J named\n#BSUB -o out.%J\necho $LSB_JOBNAME\n", encoding="utf-8")
    script.chmod(0o755)
    cluster.run("bsub", "./job.sh")
    cluster.run("bsub", stdin=script.read_text(encoding="utf-8"))
    cluster.wait_for_end("1")
    cluster.wait_for_end("2")
    assert [path.name for path in cluster.work.glob("out.*")] == ["out.2"]
    assert (cluster.work / "out.2").read_text(encoding="utf-8").endswith("\nnamed\n")
    assert "./job.sh\n" in (cluster.spool / "mail" / "1.0").read_text(encoding="utf-8")


@on("torque", "pbs", "mwm")
def test_a_job_starts_at_home_with_a_logins_environment(cluster: Cluster) -> None:
    """Bug: a script that finds its files and its Python only because a test's queue kept both."""
    cluster.wait_for_end(cluster.submit('echo "$PWD|$MINE|$PBS_O_WORKDIR"', "-N plain"))
    cluster.wait_for_end(cluster.submit('echo "$MINE|$OTHER"', "-N some -v MINE,OTHER=a"))
    cluster.wait_for_end(cluster.submit('echo "$MINE"', "-N all -V"))
    said = {path.name.split(".")[0]: path.read_text(encoding="utf-8") for path in cluster.work.glob("*.o*")}
    assert said == {
        "plain": f"{cluster.home}||{cluster.work}\n",
        "some": "of the submitter|a\n",
        "all": "of the submitter\n",
    }


@on("lsf")
def test_an_lsf_job_keeps_the_environment_and_the_folder(cluster: Cluster) -> None:
    """Bug: LSF treated as PBS."""
    cluster.wait_for_end(cluster.submit('#BSUB -o out\necho "$PWD|$MINE|$LS_SUBCWD|$LSB_JOBID"'))
    last = (cluster.work / "out").read_text(encoding="utf-8").splitlines()[-1]
    assert last == f"{cluster.work}|of the submitter|{cluster.work}|1"


@on("torque", "pbs")
def test_output_comes_at_the_end_under_the_names_of_the_manual(cluster: Cluster) -> None:
    """Bug: live output expected where it is spooled; a log looked for under another dialect's name."""
    (cluster.work / "logs").mkdir()
    running = cluster.submit(f'echo early; until [ -e "{cluster.work}/go" ]; do sleep 0.05; done', "-N slow -j oe")
    cluster.wait_until_running(running)
    assert list(cluster.work.glob("slow*")) == []
    (cluster.work / "go").touch()
    for job in (running, cluster.submit("true", f"-N many {ARRAY[cluster.dialect].format(2)} -j oe")):
        cluster.wait_for_end(job)
    cluster.wait_for_end(cluster.submit("true", "-N put -j oe -o logs"))
    cluster.wait_for_end(cluster.submit("echo lost", "-N put -j oe -o nowhere/log"))
    expected = {
        "torque": ["logs/put.o3", "many.o2-1", "many.o2-2", "slow.o1"],
        "pbs": ["logs/3.cluster.OU", "many.o2.1", "many.o2.2", "slow.o1"],
    }
    found = [str(path.relative_to(cluster.work)) for path in cluster.work.rglob("*") if path.is_file()]
    assert sorted(set(found) - {"go", "job.sh"}) == expected[cluster.dialect]
    assert (cluster.spool / "undelivered" / "4.0.OU").read_text(encoding="utf-8") == "lost\n"


@on("lsf")
def test_lsf_appends_its_report_and_the_output(cluster: Cluster) -> None:
    """Bug: a log that is compared with what the program printed, or one that a second run truncates."""
    for body, options in (
        ("echo one; echo two >&2", "-o log"),
        ("exit 3", "-o log"),
        ("echo over", "-oo log2"),
        ("echo over", "-oo log2"),
    ):
        cluster.wait_for_end(cluster.submit(body, options))
    text = (cluster.work / "log").read_text(encoding="utf-8")
    subjects = [line.split(" in cluster")[1] for line in text.splitlines() if line.startswith("Subject: ")]
    assert subjects == [" <cluster> Done", " <cluster> Exited"]
    assert "Successfully completed.\n" in text and "Exited with exit code 3.\n" in text and "\none\ntwo\n" in text
    assert (cluster.work / "log2").read_text(encoding="utf-8").count("Subject: ") == 1


NAMES = {"torque": ("a" * 15, "a" * 16), "pbs": ("1-a.b_c+" + "a" * 228, "a" * 237), "mwm": ("a" * 15, "a" * 16)}


@on(*NAMES)
def test_a_name_that_is_too_long_is_refused(cluster: Cluster) -> None:
    """Bug: a sweep that cannot be submitted because of its name."""
    good, bad = NAMES[cluster.dialect]
    cluster.submit("true", f"-N {good}")
    refused = cluster.try_to_submit("true", f"-N {bad}")
    assert refused.returncode != 0 and "illegal -N value" in refused.stderr and refused.stdout == ""
    (cluster.work / "job.sh").write_text("#!/bin/bash\n", encoding="utf-8")
    blank = cluster.run(SUBMIT[cluster.dialect], "-N", "a b", "job.sh")
    assert blank.returncode != 0 and "illegal -N value" in blank.stderr


TOO_LARGE = {
    "torque": ("Requested array size too large, limit is 2", "qmgr -c |print server", "max_job_array_size = 2"),
    "pbs": ("qsub: Array job exceeds server or queue size limit", "qmgr -c |list server", "max_array_size = 2"),
    "lsf": ("Job array index too large. Job not submitted.", "bparams -a", "MAX_JOB_ARRAY_SIZE = 2"),
}


@on(*TOO_LARGE)
def test_a_site_says_how_large_an_array_may_be_and_refuses_a_larger_one(cluster: Cluster) -> None:
    """Bug: a sweep of 5,000 on a site with the default limit."""
    words, question, answer = TOO_LARGE[cluster.dialect]
    cluster.set(max_array_size=2)
    cluster.submit("true", ARRAY[cluster.dialect].format(2))
    refused = cluster.try_to_submit("true", ARRAY[cluster.dialect].format(3))
    assert refused.returncode != 0 and words in refused.stderr
    command = question.partition("|")
    assert answer in cluster.run(*command[0].split(), *([command[2]] if command[2] else [])).stdout
    cluster.set(arrays_off="")
    assert cluster.try_to_submit("true", ARRAY[cluster.dialect].format(2)).returncode != 0


@on("pbs")
def test_pbs_pro_refuses_an_array_of_one(cluster: Cluster) -> None:
    """Bug: a sweep with a single trial left to run."""
    refused = cluster.try_to_submit("true", "-J 1-1")
    assert refused.returncode == 2 and refused.stderr.startswith("qsub: illegal -J value")


@on("pbs")
def test_a_finished_job_is_told_of_only_when_history_is_asked_for(cluster: Cluster) -> None:
    """Bug: `qstat` without -x: each job that has ended is taken for lost."""
    job = cluster.submit("true")
    cluster.wait_for_end(job)
    said = cluster.run("qstat", "-f", "-F", "json", job)
    words = "qstat: 1.cluster Job has finished, use -x or -H to obtain historical job information\n"
    assert (said.returncode, said.stderr) == (35, words)
    assert "Jobs" not in json.loads(cluster.run("qstat", "-f", "-F", "json").stdout)


@on("pbs")
def test_an_array_says_which_indices_are_left(cluster: Cluster) -> None:
    """Bug: an array that has begun (state B) read as an unknown state."""
    cluster.set(slots=1)
    job = cluster.submit("exec sleep 60", "-J 1-4")
    until(lambda: "R" in {state for _, state, _ in cluster.ends(job)})
    said = json.loads(cluster.run("qstat", "-f", "-F", "json", "1[]").stdout)["Jobs"]["1[].cluster"]
    assert (said["job_state"], said["array_indices_remaining"]) == ("B", "2-4")


@on(*DIALECTS)
def test_a_passing_refusal_passes_and_is_told_apart_from_one_that_stays(cluster: Cluster) -> None:
    """Bug: the rest of a sweep given up because the queue was full for a minute."""
    words = {"torque": "already in queue", "pbs": "would exceed", "mwm": "already in queue", "lsf": "pending job"}
    cluster.set(busy=1, refuse="1 1\nYour account has no hours left.")
    busy, refused = cluster.try_to_submit("true"), cluster.try_to_submit("true")
    assert busy.returncode != 0 and words[cluster.dialect] in busy.stderr
    # the file for refusals said: once, after one that goes well; the busy one was that
    assert refused.returncode != 0 and "no hours left" in refused.stderr
    assert cluster.submit("true") == "1"


@on(*DIALECTS)
def test_a_lost_answer_is_an_accepted_job(cluster: Cluster) -> None:
    """Bug: the same trials submitted twice."""
    cluster.set(lost_answer=1)
    lost = cluster.try_to_submit("true")
    assert lost.returncode != 0 and lost.stdout == "" and lost.stderr
    cluster.wait_for_end("1")


@on(*DIALECTS)
def test_a_server_that_is_down_or_talks_nonsense_or_hangs_has_accepted_nothing(cluster: Cluster) -> None:
    """Bug: nonsense with exit code 0 taken for an id; a program that waits for ever."""
    cluster.set(down=1)
    assert cluster.try_to_submit("true").returncode != 0
    cluster.set(garbage=1)
    nonsense = cluster.try_to_submit("true")
    assert nonsense.returncode == 0 and not re.search(r"\d", nonsense.stdout)
    cluster.set(hang=1)
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.run(SUBMIT[cluster.dialect], "job.sh", timeout=3)  # it must have come so far as to hang
    assert cluster.submit("true") == "1"
    commands = [json.loads(line) for line in (cluster.spool / "commands.log").read_text(encoding="utf-8").splitlines()]
    assert [entry["argv"][0] for entry in commands] == [SUBMIT[cluster.dialect]] * 4
    assert commands[0]["cwd"] == str(cluster.work)


@on(*DIALECTS)
def test_a_queue_can_forget_ended_jobs_at_once(cluster: Cluster) -> None:
    """Bug: a job that has ended well and left the queue taken for lost."""
    cluster.set(forget="")
    job = cluster.submit("true")
    until(lambda: cluster.ends(job) == [])


@on("torque", "pbs", "lsf")
def test_a_requeued_job_keeps_its_id_and_its_output(cluster: Cluster) -> None:
    """Bug: a second attempt that is taken for another job, or that hides the first one's log."""
    out = {"lsf": "-o out"}.get(cluster.dialect, "-j oe -o out")
    body = f'cd "{cluster.work}"; echo try; [ -e again ] && exit 0; touch again; exec sleep 60'
    job = cluster.submit(body, out)
    until((cluster.work / "again").exists)
    cluster.control("requeue", job)
    assert cluster.wait_for_end(job) == [(0, ENDS[cluster.dialect]["0"])]
    assert (cluster.work / "out").read_text(encoding="utf-8").splitlines()[-2:] == ["try", "try"]


@on("lsf")
def test_an_exit_code_that_requeues(cluster: Cluster) -> None:
    """Bug: a job that asks for another start by its exit code is noted as failed."""
    body = "echo x >> tries; [ $(wc -l < tries) = 2 ] || exit 99"
    assert cluster.wait_for_end(cluster.submit(body, "-Q 99")) == [(0, "")]
    assert (cluster.work / "tries").read_text(encoding="utf-8") == "x\nx\n"


@on(*DIALECTS)
def test_a_job_vanishes_with_its_node_unless_it_may_start_again(cluster: Cluster) -> None:
    """Bug: RUNNING for ever after a node's death."""
    may, may_not = {"lsf": ("-r", "")}.get(cluster.dialect, ("-r y", "-r n"))
    lost, again = cluster.submit("exec sleep 60", may_not), cluster.submit("exec sleep 60", may)
    for job in (lost, again):
        cluster.wait_until_running(job)
        cluster.control("kill-node", job)
    gone = [(0, "UNKWN", "")] if cluster.dialect == "lsf" else []
    until(lambda: cluster.ends(lost) == gone)
    cluster.wait_until_running(again)


@on("torque")
def test_stop_leaves_no_process_and_an_idle_cluster_has_none(cluster: Cluster) -> None:
    """Bug: a test suite that leaves sleeping jobs on the machine."""
    cluster.wait_for_end(cluster.submit("true"))
    until(cluster.is_idle)
    job = cluster.submit(f'sleep 60 & echo $! > "{cluster.work}/pid"; trap "" TERM; wait; sleep 60')
    until(lambda: (cluster.work / "pid").exists() and (cluster.work / "pid").read_text(encoding="utf-8"))
    cluster.wait_until_running(job)
    cluster.control("stop")
    assert cluster.is_idle()
    child = int((cluster.work / "pid").read_text(encoding="utf-8"))
    until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])


@on("torque")
def test_of_a_large_array_every_task_is_run(cluster: Cluster) -> None:
    """Bug: a task among hundreds that is lost, or run twice, and a test of hundreds of trials that waits for it."""
    job = cluster.submit("true", "-N many -j oe -t 1-300")
    assert cluster.wait_for_end(job) == [(index, "0") for index in range(1, 301)]
