"""The command ``mlxp``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mlxp_core import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="mlxp", description="Runs recorded with hydra-mlxp.")
    parser.add_argument("--version", action="version", version=f"hydra-mlxp {__version__}")
    parser.parse_args(arguments)
    parser.print_help()
    return 0
