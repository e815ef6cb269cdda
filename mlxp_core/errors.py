"""The errors of this package that callers may catch.

MlxpError
  NoActiveRunError (RuntimeError)       current_run() outside a run
  RunError (RuntimeError)               a run that cannot be started or ended here
  StoreError (OSError)                  a run folder cannot be made
  ConfigurationError (ValueError)       an option, a template or a header that cannot be used
    ConfigurationTypeError (TypeError)  … for its type
  ConfigurationChangedError             a job composed something else than was submitted
  SnapshotError (RuntimeError)          the code cannot be frozen
    NoRepositoryError                   … for it is in no git repository
  CommandError (RuntimeError)           a scheduler's command failed
    SubmissionRefusedError              the scheduler said no: nothing was submitted
      SubmissionBusyError               … and may say yes later: a limit is reached, the server is away
    SubmissionUnclearError              no clear answer: the job may or may not be there
  JobFailedError (RuntimeError)         a job that was waited for did not complete
  ArtifactError (ValueError)            an artifact or checkpoint that cannot be saved or loaded
    ArtifactTypeError (TypeError)       … for what it is, such as a lock in a pickle
    ArtifactNotFoundError (FileNotFoundError)  … that is not there
  SupersededError (RuntimeError)        a later attempt of the run has taken over
  MetricsError (ValueError)             metrics that cannot be written
    MetricsTypeError (TypeError)        … for the type of a value, of their name, or of themselves
  QueryError (ValueError)               a query string that cannot be understood
  SchemaChangedError (RuntimeError)     a field has another type than when the frame was made
StatisticsWarning (UserWarning)         a number that may not be what it seems: equal runs counted as several

Each also derives from the builtin that a caller would think of catching.
"""


class MlxpError(Exception):
    """Base of all errors of hydra-mlxp."""


class NoActiveRunError(MlxpError, RuntimeError):
    """There is no current run."""


class RunError(MlxpError, RuntimeError):
    """A run cannot be started or ended here: in this process, or at this place of the program."""


class StoreError(MlxpError, OSError):
    """A run folder cannot be made or used."""


class ConfigurationError(MlxpError, ValueError):
    """An option, a template or a header that cannot be used."""


class ConfigurationTypeError(ConfigurationError, TypeError):
    """What was given for a configuration is no mapping."""


class ConfigurationChangedError(MlxpError, ValueError):
    """The configuration composed now is not the one that was submitted."""


class SnapshotError(MlxpError, RuntimeError):
    """The code cannot be frozen."""


class NoRepositoryError(SnapshotError):
    """There is no git repository."""


class CommandError(MlxpError, RuntimeError):
    """A command of a scheduler failed."""


class SubmissionRefusedError(CommandError):
    """The scheduler refused the submission: nothing was submitted."""


class SubmissionBusyError(SubmissionRefusedError):
    """The scheduler refused the submission for a reason that passes by itself."""


class SubmissionUnclearError(CommandError):
    """The scheduler gave no clear answer: look before submitting again."""


class JobFailedError(MlxpError, RuntimeError):
    """A job that was waited for did not complete."""


class ArtifactError(MlxpError, ValueError):
    """An artifact or checkpoint that cannot be saved or loaded."""


class ArtifactTypeError(ArtifactError, TypeError):
    """An object that its type of artifact cannot hold."""


class ArtifactNotFoundError(ArtifactError, FileNotFoundError):
    """An artifact or checkpoint that is not there."""


class SupersededError(MlxpError, RuntimeError):
    """A later attempt of the run has taken over: this one saves nothing more."""


class MetricsError(MlxpError, ValueError):
    """Metrics that cannot be written."""


class MetricsTypeError(MetricsError, TypeError):
    """Metrics, a value of theirs, or the name of their log is of a type that cannot be written."""


class QueryError(MlxpError, ValueError):
    """A query string that cannot be understood."""


class SchemaChangedError(MlxpError, RuntimeError):
    """A field of a log directory has another type than when the frame over it was made."""


class StatisticsWarning(UserWarning):
    """A statistic may not be what it seems; the runs that it is because of are named."""
