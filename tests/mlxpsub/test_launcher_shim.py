"""Stand-ins for parallel launchers: where in their arguments the command begins, and what they become."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from unittest.mock import patch

import pytest

from mlxp_core.mlxpsub import launcher_shim
from mlxp_core.mlxpsub.launcher_shim import command_index

RUNNABLE = {"python", "env", "bash", "test", "/bin/echo", "./main.py", "-label", ""}


@pytest.fixture(autouse=True)
def _commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"{path}/{name}" if name in RUNNABLE else None)


@pytest.mark.parametrize(
    ("arguments", "index"),
    [
        ("python main.py", 0),
        ("-n 2 python main.py", 2),
        ("-n2 python main.py", 1),
        ("--ntasks 2 --label python main.py", 3),
        ("--ntasks=2 python main.py python", 1),
        ("-J test python main.py", 2),  # a job's name that is a command as well
        ("--job-name test env A=1 python main.py", 2),
        ("--job-name=test python main.py", 1),
        ("-n python main.py", 1),  # its number is empty here
        ("--label test -f x", 1),  # an option that takes no value
        ("-v test a python main.py", 1),
        ("-l test a python main.py", 1),
        ("-np 4 ./main.py", 2),
        ("-np test python main.py", 2),
        ("-x A -x B bash -c 'python main.py'", 4),
        ("-o test -e python", 1),  # both may be values: the first
        ("--version", None),
        ("-n 2 no-such-command main.py", None),
        ("", None),
        ("'' -n 2 python", 3),
        ("-label python", 1),  # an option, whatever stands in somebody's PATH
    ],
)
def test_the_command_is_the_first_word_that_can_be_run(arguments: str, index: int | None) -> None:
    """Bug: the value of an option is run; or options of the program are taken for the launcher's."""
    assert command_index(shlex.split(arguments), "/bin") == index


def become(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[str, list[str], dict[str, str]]:
    """What a stand-in becomes, and in which environment."""
    became: list[tuple[str, list[str], dict[str, str]]] = []

    class Become(Exception):  # noqa: N818
        pass

    def execv(path: str, words: list[str]) -> None:
        became.append((path, words, dict(os.environ)))
        raise Become

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(sys, "argv", ["launcher_shim.py", "/s/bin", *arguments])
    monkeypatch.setenv("PATH", "/s/bin:/usr/bin")
    with patch.dict(os.environ), pytest.raises(Become):  # it sets a variable for the command
        launcher_shim.main()
    return became[0]


def test_a_stand_in_becomes_the_command_and_tells_what_it_was_called_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: jobs without their srun and its options; of two launchers the inner one alone; two processes here."""
    monkeypatch.delenv("MLXP_SUB_STARTERS", raising=False)
    _, words, environment = become(monkeypatch, "srun", "", "-n", "2", "-J", "a b", "python", "main.py", "-m")
    assert words == ["python", "main.py", "-m"]
    assert environment["MLXP_SUB_STARTERS"] == "srun -n 2 -J 'a b'"
    monkeypatch.setenv("MLXP_SUB_STARTERS", "srun -n 2")
    _, words, environment = become(monkeypatch, "mpirun", "", "-np", "4", "python", "main.py")
    assert (words, environment["MLXP_SUB_STARTERS"]) == (["python", "main.py"], "srun -n 2 mpirun -np 4")


def test_a_command_with_subcommands_launches_by_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `flux jobs` starts what it is asked for; `flux run` waits for an instance that is not there."""
    monkeypatch.delenv("MLXP_SUB_STARTERS", raising=False)
    there = {"flux", "python", "run"}  # the subcommand is a program as well
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"{path}/{name}" if name in there else None)
    _, words, environment = become(monkeypatch, "flux", "run,submit", "run", "-n", "2", "python", "main.py")
    assert (words, environment["MLXP_SUB_STARTERS"]) == (["python", "main.py"], "flux run -n 2")
    path, words, environment = become(monkeypatch, "flux", "run,submit", "jobs", "python")
    assert (path, words) == ("/usr/bin/flux", ["flux", "jobs", "python"])
    assert environment["PATH"] == "/usr/bin"  # without the stand-ins, which it would find again


def test_a_launcher_that_is_not_here_and_has_no_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a script that goes on after `srun --version` as if it were there."""
    monkeypatch.setattr(sys, "argv", ["launcher_shim.py", "/s/bin", "srun", "", "--version"])
    with pytest.raises(SystemExit, match="srun: not found"):
        launcher_shim.main()
