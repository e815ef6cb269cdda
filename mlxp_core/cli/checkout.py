"""``mlxp checkout``: the exact code of a run, in a folder of its own."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlxp_core.cli.selection import LOGS, Folder, choose, open_log_dir


def checkout(
    name: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or the name of its folder.")],
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="A new or empty folder; code-of-run-RUN by default.", show_default=False),
    ] = None,
    *,
    repo: Annotated[
        Path | None, typer.Option("--repo", help="Where the repository is now, if it was moved.", show_default=False)
    ] = None,
    commit_only: Annotated[
        bool, typer.Option("--commit-only", help="The commit, where the run had changes that nobody kept.")
    ] = False,
    folder: Folder = LOGS,
) -> None:
    """Recreate the code that a run has run.

    With the changes that were not committed, and the submodules; from git, or from the copy of the jobs where git no
    longer has it. The files may be changed; the run, its folder and your work tree stay as they are. In a repository,
    git is told not to look at it (.git/info/exclude).
    """
    from mlxp_core.versioning.checkout import checkout_run  # noqa: PLC0415

    run, *others = choose(open_log_dir(folder), [name])
    if others:
        raise typer.BadParameter(f"{name} is more than one run")
    target = (directory or Path(f"code-of-run-{run.path.name}")).absolute()
    result = checkout_run(run, target, repository=repo.absolute() if repo else None, commit_only=commit_only)
    if result.not_from_git:
        print(f"taken from the copy that the jobs run, for git cannot give it: {result.not_from_git}", file=sys.stderr)
    if result.lost_changes:
        print("without these changes, which the run had:\n  " + "\n  ".join(result.lost_changes), file=sys.stderr)
    for path, kept in result.elsewhere.items():
        print(f"not part of the code, it loaded {path}, which is kept as {kept}", file=sys.stderr)
    print(result.folder)
    if result.command:
        print(f"commit {result.commit}; run it with\n  cd {shlex.quote(str(result.directory))}", file=sys.stderr)
        print(f"  {result.command}", file=sys.stderr)
