"""The command `mlxp` itself: help, version, errors, a reader that goes away. In process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mlxp_core
from mlxp_core import cli
from mlxp_core.errors import QueryError


def test_the_version_is_said_whatever_else_is_there() -> None:
    """Bug: `mlxp --version` asks for a command, or shows the help."""
    done = CliRunner().invoke(cli.app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"hydra-mlxp {mlxp_core.__version__}\n")


def test_without_a_command_the_help_is_shown() -> None:
    """Bug: "Missing command"; or the help above each answer; -h that is no help."""
    shown = CliRunner().invoke(cli.app, [])
    assert shown.exit_code == 0
    assert "Usage: mlxp" in shown.stdout
    for command in ("status", "logs", "cancel", "rerun", "rm", "checkout", "snapshots"):
        assert f"\n  {command} " in shown.stdout
        done = CliRunner().invoke(cli.app, [command, "-h"])
        assert (done.exit_code, done.stdout.count("Usage: ")) == (0, 1)
        assert f"Usage: mlxp {command} " in done.stdout


def test_a_command_answers_without_the_help(tmp_path: Path) -> None:
    """Bug: the help of `mlxp` above what a command prints."""
    done = CliRunner().invoke(cli.app, ["status", "--log-dir", str(tmp_path)])
    assert (done.exit_code, done.stdout.count("Usage")) == (0, 0)


class Command:
    """In the place of the application."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **words: Any) -> None:
        self.calls.append(words)
        if self.error:
            raise self.error


def test_arguments_and_the_name_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: "Usage: __main__.py"; arguments of another program."""
    command: Any = Command()
    monkeypatch.setattr(cli, "app", command)
    cli.main(["status"])
    cli.main()
    cli.run_app(command, "mlxpsub", ["a.sh"])
    assert command.calls == [
        {"args": ["status"], "prog_name": "mlxp"},
        {"args": None, "prog_name": "mlxp"},
        {"args": ["a.sh"], "prog_name": "mlxpsub"},
    ]


@pytest.mark.parametrize("error", [QueryError("no such field"), OSError("a full disk")])
def test_what_cannot_be_done_is_one_message(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    """Bug: forty lines of Python; a message on stdout, which a program reads."""
    command: Any = Command(error)
    with pytest.raises(SystemExit) as ended:
        cli.run_app(command, "mlxp", [])
    assert ended.value.code == 1
    assert capsys.readouterr() == ("", f"mlxp: {error}\n")


def test_a_fault_of_ours_is_not_hidden() -> None:
    """Bug: a fault of the program that looks like the user's, without its place."""
    command: Any = Command(KeyError("x"))
    with pytest.raises(KeyError):
        cli.run_app(command, "mlxp", [])
    # as Python shows it: typer would print the values of all variables
    assert cli.app.pretty_exceptions_enable is False


def test_a_reader_that_goes_away_ends_it_as_a_signal_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `mlxp status | head` ends with a BrokenPipeError, of this program or of Python's last flush."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as out:
        os.close(read)
        monkeypatch.setattr(sys, "stdout", out)
        command: Any = Command(BrokenPipeError())
        with pytest.raises(SystemExit) as ended:
            cli.run_app(command, "mlxp", [])
        assert ended.value.code == 128 + signal.SIGPIPE == 141
        out.write("what was still to be written")
        out.flush()  # to nowhere
