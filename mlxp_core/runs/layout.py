"""The names of all files in a log directory: the contract of writer and reader. No file is opened here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunDir:
    """One run's folder, ``<log_dir>/<id>``."""

    path: Path

    @property
    def id(self) -> int | None:
        """The run's id, or None for a folder that the user named."""
        return int(self.path.name) if is_run_id(self.path.name) else None

    @property
    def script(self) -> Path:
        """The job as submitted; running it by hand runs this job."""
        return self.path / "script.sh"

    @property
    def stdout(self) -> Path:
        """What the job printed."""
        return self.path / "log.stdout"

    @property
    def stderr(self) -> Path:
        """What the job printed to stderr."""
        return self.path / "log.stderr"

    @property
    def metadata(self) -> Path:
        """The folder of the files below."""
        return self.path / "metadata"

    @property
    def config(self) -> Path:
        """The composed configuration, resolved."""
        return self.metadata / "config.yaml"

    @property
    def config_unresolved(self) -> Path:
        """The composed configuration with its interpolations."""
        return self.metadata / "config_unresolved.yaml"

    @property
    def info(self) -> Path:
        """Status, times, host, process, command, code version; written by the job once it runs."""
        return self.metadata / "info.yaml"

    @property
    def digest(self) -> Path:
        """What config.yaml and info.yaml say, in JSON, and what a run has logged that has ended; see digest.py."""
        return self.metadata / "digest.jsonl"

    @property
    def submission(self) -> Path:
        """Scheduler, job id, array index, what the scheduler last said; written by the submitting side."""
        return self.metadata / "submission.yaml"

    @property
    def exit_code(self) -> Path:
        """The exit code of the job's command and the attempt that it is of, written by script.sh."""
        return self.metadata / "exit_code"

    @property
    def starts(self) -> Path:
        """A line for each start of script.sh: when, on which host, as which process, in which job."""
        return self.metadata / "starts"

    @property
    def settings(self) -> Path:
        """This package's own settings for the run, and how it is submitted."""
        return self.metadata / "mlxp.yaml"

    @property
    def environment(self) -> Path:
        """Software and hardware that the run met."""
        return self.metadata / "environment.yaml"

    @property
    def diff(self) -> Path:
        """What the run's code has changed of the commit that it was taken from, where it has."""
        return self.metadata / "uncommitted.diff"

    @property
    def code(self) -> Path:
        """Files that the run has loaded and that the recorded commit does not hold, each named by git's hash of it."""
        return self.metadata / "code"

    @property
    def return_value(self) -> Path:
        """What the task function returned, as JSON, where it is a plain value."""
        return self.metadata / "return_value.json"

    @property
    def payload(self) -> Path:
        """The job's own part of a task function that is no program: its configuration, pickled."""
        return self.metadata / "payload.pkl"

    def attempt_dir(self, attempt: int) -> RunDir:
        """What an earlier attempt left, laid out like a run: its metrics, its ``metadata/info.yaml``."""
        return RunDir(self.metadata / "attempts" / str(attempt))

    @property
    def metrics(self) -> Path:
        """One file for each log name."""
        return self.path / "metrics"

    @property
    def metric_keys(self) -> Path:
        """Which keys the metric files hold, so that a reader need not open them to know."""
        return self.metrics / ".keys"

    @property
    def metrics_continued(self) -> Path:
        """From which earlier attempt the metrics go on, how many bytes of its lines each has, and at which step."""
        return self.metrics / ".continued"

    @property
    def artifacts(self) -> Path:
        """Artifacts, by type and name."""
        return self.path / "artifacts"

    @property
    def artifact_folders(self) -> Path:
        """An empty file at ``<type>/<name>`` for each artifact that is a folder and not a file."""
        return self.artifacts / ".folders"

    @property
    def work(self) -> Path:
        """The folder in which a job starts: with what its code has while it runs, and then with what it has written."""
        return self.path / "work"

    def metric_file(self, log_name: str) -> Path:
        """``metrics/<log_name>.json``: one JSON object a line."""
        return self.metrics / f"{log_name}.json"

    def metric_keys_file(self, log_name: str) -> Path:
        """``metrics/.keys/<log_name>.json``: one ``[key, type]`` a line, type ``number`` or ``other``."""
        return self.metric_keys / f"{log_name}.json"

    def artifact_file(self, artifact_type: str, name: str) -> Path:
        """``artifacts/<type>/<name>``."""
        return self.artifacts / artifact_type / name


@dataclass(frozen=True)
class LogDir:
    """A log directory: run folders named 1, 2, 3, … and the package's own ``.mlxp``."""

    path: Path

    @property
    def internal(self) -> Path:
        """What belongs to the package and not to a run."""
        return self.path / ".mlxp"

    @property
    def last_id(self) -> Path:
        """A hint: every id up to this one is taken."""
        return self.internal / "last_id"

    @property
    def submissions(self) -> Path:
        """One numbered folder for each submission: its script, its manifest of runs, its job id."""
        return self.internal / "submissions"

    @property
    def launches(self) -> Path:
        """A numbered folder for each launch that has not submitted all of its runs."""
        return self.internal / "launches"

    @property
    def mlxpsub_scripts(self) -> Path:
        """For each mlxpsub whose script had several programs the commands in which they came up, a number a line."""
        return self.internal / "scripts"

    @property
    def lock(self) -> Path:
        """Held by whoever submits runs of this directory again."""
        return self.internal / "lock"

    @property
    def code(self) -> Path:
        """Copies of the code, one folder for each version."""
        return self.internal / "code"

    @property
    def payloads(self) -> Path:
        """Task functions that are no programs, pickled; each once, named by its hash."""
        return self.internal / "payloads"

    @property
    def removed(self) -> Path:
        """Runs that are being removed."""
        return self.internal / "removed"

    @property
    def reader_index(self) -> Path:
        """What the reader keeps of runs that do not change; a cache."""
        return self.internal / "reader-index"

    def run(self, run_id: int) -> RunDir:
        """The folder of one run."""
        return RunDir(self.path / str(run_id))


@dataclass(frozen=True)
class SubmissionDir:
    """One submission's folder, ``.mlxp/submissions/<n>``."""

    path: Path

    @classmethod
    def of_script(cls, script: str | Path) -> SubmissionDir:
        """Give the folder of a script that was submitted."""
        return cls(Path(script).parent)

    @property
    def script(self) -> Path:
        """The script that is submitted: one job, or an array."""
        return self.path / "job.sh"

    @property
    def manifest(self) -> Path:
        """The submission's runs, one a line, in the order of their indices."""
        return self.path / "manifest"

    @property
    def job_id(self) -> Path:
        """The id that the scheduler has given; written before any of the runs says so."""
        return self.path / "job_id"

    def output(self, array_index: int | str | None) -> Path:
        """Where the scheduler itself has its say on a job; of arrays see SubmissionRecord."""
        return self.path / f"{'job' if array_index is None else array_index}.out"


@dataclass(frozen=True)
class LaunchDir:
    """The folder of a launch that has not submitted all of its runs, ``.mlxp/launches/<n>``."""

    path: Path

    @property
    def record(self) -> Path:
        """Its command, process and runs."""
        return self.path / "launch.yaml"


@dataclass(frozen=True)
class CodeDir:
    """A folder of copies of the code, one for each version: ``.mlxp/code``, or where hydra.launcher.code_dir says."""

    path: Path

    def copy(self, commit: str) -> Path:
        """The files of a version."""
        return self.path / commit

    @property
    def repository(self) -> Path:
        """The repository of versions that no repository of the user's has, or need have any more."""
        return self.path / "repository.git"

    def templates(self, commit: str) -> Path:
        """Templates of the working folders of its jobs, one for each folder in it that jobs have started in."""
        return self.path / f"{commit}.work"

    def diff(self, commit: str) -> Path:
        """What a version has changed of the commit that it was taken from, where it has."""
        return self.path / f"{commit}.diff"

    def marker(self, commit: str) -> Path:
        """The version that a copy is, as info.yaml has it, in JSON: a program that runs from the copy records it."""
        return self.path / f"{commit}.json"

    def links(self, commit: str) -> Path:
        """Links into a version by which its jobs find the packages that are installed from it."""
        return self.path / f"{commit}.path"


def is_run_id(name: str) -> bool:
    """Whether a folder's name is a run id: a whole number without leading zeros.

    This package gives 1, 2, 3, …; Hydra's own ``hydra.sweep.subdir=${hydra.job.num}`` begins at 0.
    """
    return name.isascii() and name.isdigit() and (name[0] != "0" or name == "0")
