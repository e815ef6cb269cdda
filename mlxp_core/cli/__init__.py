"""The command ``mlxp``: one module for each of its commands, which loads what it needs when it is called."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mlxp_core import __version__
from mlxp_core.cli import snapshots
from mlxp_core.cli.cancel import cancel
from mlxp_core.cli.checkout import checkout
from mlxp_core.cli.logs import logs
from mlxp_core.cli.remove import remove
from mlxp_core.cli.rerun import rerun
from mlxp_core.cli.status import status
from mlxp_core.errors import MlxpError

app = typer.Typer(
    name="mlxp",
    help="Runs recorded with hydra-mlxp: where they stand, what they print, which code they run; to end or repeat.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001  (the signature that typer asks for)
    if wanted:
        print(f"hydra-mlxp {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _mlxp(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001  (is answered before this is called)
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


for _command in (status, logs, cancel, rerun, checkout):
    app.command()(_command)
app.command("rm")(remove)
app.add_typer(snapshots.app, name="snapshots")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    run_app(app, "mlxp", arguments)


def run_app(command: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a command; what cannot be done is said in one message, with exit code 1."""
    try:
        command(args=arguments, prog_name=name)
    except BrokenPipeError:  # `mlxp status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (MlxpError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
