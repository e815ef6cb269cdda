"""The errors that MLXP has names for, of which programs may catch some."""

from mlxp_core.errors import ArtifactError, ConfigurationError, MetricsError, MlxpError


class InvalidKeyError(MetricsError, KeyError):
    """A log or a column is called what it cannot be."""

    __str__ = Exception.__str__  # KeyError's shows the repr of a sentence


class MissingFieldError(ConfigurationError):
    """The configuration lacks what is asked for."""


class InvalidArtifactError(ArtifactError):
    """There is no such type of artifact."""


class InvalidMapError(MlxpError, ValueError):
    """A map over a data frame is none."""


class InvalidSchedulerError(ConfigurationError):
    """A scheduler is asked for that the program itself does not submit to."""


class InvalidConfigFileError(ConfigurationError):
    """A file mlxp.yaml holds what cannot be used."""
