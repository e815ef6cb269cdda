"""ARCHITECTURE.md and CONTRIBUTING.md: what they name exists, and what they say of imports and files is so."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest
import yaml
from support import ROOT

from mlxp_core import start_run
from mlxp_core.runs import submission_record
from mlxp_core.runs.layout import LogDir, RunDir

ARCHITECTURE = ROOT / "mlxp_core" / "ARCHITECTURE.md"
DOCUMENTS = (ARCHITECTURE, ROOT / "CONTRIBUTING.md")
HOMES = [ROOT, ROOT / "mlxp_core", ROOT / "hydra_plugins" / "mlxp", ROOT / "tests"]
# `jobs/submit.py`, `submit()`, `RunState`
TOKEN = re.compile(
    r"`(?P<path>[\w./-]+\.(?:py|sh|yaml|md|toml|cfg))`|`(?P<function>\w+)\(\)`|`(?P<kind>[A-Z][a-z]\w*)`"
)
# made when a job runs, or by a user
NOT_IN_THE_TREE = {"script.sh", "job.sh", "submission.yaml", "info.yaml"}


def text(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def defined(path: Path) -> set[str]:
    """Names of the functions and classes of a file, at its top."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.parse(text(path)).body if isinstance(node, kinds)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_function_named_exists(document: Path) -> None:
    """Bug: a module is renamed, and newcomers are sent to where it was."""
    stale: list[str] = []
    module: Path | None = None
    for number, line in enumerate(text(document).splitlines(), start=1):
        for token in TOKEN.finditer(line):
            path, name = token["path"], token["function"] or token["kind"]
            if path is None:  # of the file that was named last
                if module is not None and name not in defined(module):
                    stale.append(f"{document.name}:{number}: there is no {name} in {module.relative_to(ROOT)}")
            elif found := [home / path for home in HOMES if (home / path).is_file()]:
                module = found[0] if path.endswith(".py") else module
            elif path not in NOT_IN_THE_TREE and not path.startswith("metadata/") and "NAME" not in path:
                stale.append(f"{document.name}:{number}: there is no {path}")
    assert stale == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_folder_and_link_named_exists(document: Path) -> None:
    """Bug: as above, of a folder."""
    folders = re.findall(
        r"(?<![\w.<])((?:tests|scheduler|hydra_plugins|mlxp_core)(?:/[\w-]+)*)/?(?![\w/.<-])", text(document)
    )
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text(document))
    names = {*folders, *links}
    assert [name for name in names if not any((home / name).exists() for home in (*HOMES, document.parent))] == []


def test_every_folder_of_the_tests_is_in_the_table_of_the_suite() -> None:
    """Bug: nobody knows what a folder is for."""
    folders = [path for path in (ROOT / "tests").iterdir() if path.is_dir() and not path.name.startswith(("_", "."))]
    contributing = text(ROOT / "CONTRIBUTING.md")
    assert [path.name for path in folders if f"tests/{path.name}" not in contributing] == []


def table_of_imports() -> dict[str, set[str]]:
    """The table in tests/test_architecture.py, which all imports are held to."""
    tree = ast.parse(text(ROOT / "tests" / "test_architecture.py"))
    named = {}
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [None])[0]
        if isinstance(target, ast.Name) and target.id in {"ALLOWED", "GROUND"}:
            named[target.id] = eval(ast.unparse(node.value))  # "set()" is no literal
    ground = {name for name in named["ALLOWED"] if name in named["GROUND"]}
    return {"ground": set(), **{name: allowed for name, allowed in named["ALLOWED"].items() if name not in ground}}


def test_the_table_of_packages_is_the_one_that_is_checked() -> None:
    """Bug: the document allows what the test forbids."""
    rows = re.findall(r"^\| `?(\w+)`? \| [^|]+ \| ?([^|]*?) ?\|$", text(ARCHITECTURE).split("\n## ")[1], re.MULTILINE)
    rows = [row for row in rows if row[0] != "package"]
    assert {name: set(re.findall(r"\w+", imports)) for name, imports in rows} == table_of_imports()


def paths(layout: object, folder: Path) -> list[str]:
    """Every path that a layout knows, relative to its folder, as the document writes it."""
    found = []
    samples = {"attempt": "<n>", "log_name": "<log_name>", "artifact_type": "<type>", "name": "<name>"}
    for name, member in vars(type(layout)).items():
        if isinstance(member, property):
            value = getattr(layout, name)
        elif not name.startswith("_") and inspect.isfunction(member) and name != "run":
            value = member(layout, *(samples[parameter] for parameter in [*inspect.signature(member).parameters][1:]))
        else:
            continue
        value = getattr(value, "path", value)
        if isinstance(value, Path):
            found.append(str(value.relative_to(folder)))
    return found


@pytest.mark.parametrize("kind", [RunDir, LogDir])
def test_every_file_of_a_run_is_described(kind: type) -> None:
    """Bug: a file in the run folder that no reader of the contract knows of."""
    contract = text(ARCHITECTURE).partition("## The run folder")[2]
    names = paths(kind(Path("logs")), Path("logs"))
    assert len(names) > 5
    # of a folder, what is in it
    assert [name for name in names if f"`{name}" not in contract] == []


def keys_of(name: str) -> set[str]:
    """The keys of a YAML file that the document names, those in brackets included."""
    return set(re.findall(r"`(\w+)`", text(ARCHITECTURE).partition(f"Keys of {name}:")[2].partition("\nKeys of")[0]))


def all_keys(content: dict) -> set[str]:
    inner = (all_keys(value) for value in content.values() if isinstance(value, dict))
    return {*content, *(name for names in inner for name in names)}


def test_the_keys_that_a_job_writes_are_described(tmp_path: Path) -> None:
    """Bug: as above, of a key."""
    with pytest.raises(KeyError), start_run(tmp_path, {"seed": 1}) as run:
        raise KeyError("no luck")
    info = yaml.safe_load(run.layout.info.read_text())
    assert all_keys(info) - keys_of("info.yaml") == set()
    environment = yaml.safe_load(run.layout.environment.read_text())
    row = next(line for line in text(ARCHITECTURE).splitlines() if "`metadata/environment.yaml`" in line)
    assert [key for key in environment if f"`{key}`" not in row] == []


def test_the_keys_that_the_submitting_side_writes_are_described(tmp_path: Path) -> None:
    """Bug: as above, before there is a job."""
    from composed_runs import plan

    from mlxp_core.jobs.write import write_runs

    run = RunDir(tmp_path / "1")
    write_runs(plan([run], "slurm", [sys.executable, "main.py"], tmp_path))
    assert all_keys(yaml.safe_load(run.info.read_text())) - keys_of("info.yaml") == set()
    row = next(line for line in text(ARCHITECTURE).splitlines() if "| `metadata/mlxp.yaml`" in line)
    assert [key for key in yaml.safe_load(run.settings.read_text()) if f"`{key}`" not in row] == []
    source = inspect.getsource(submission_record)
    checked = {*re.findall(r'"(\w+)"', source.partition("_FIELDS: ")[2].partition("\n}")[0])}
    assert checked - keys_of("submission.yaml") == set()


IMPORT = re.compile(r"^\s*from ((?:mlxp_core|hydra_plugins)[\w.]*) import ([\w, ]+)", re.MULTILINE)


def test_what_programs_in_strings_import_exists() -> None:
    """Bug: a test's own program fails at its first line, as nothing but that test sees, on a machine that runs it."""
    stale = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {module} has no {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for module, names in IMPORT.findall(node.value.replace("; from", "\nfrom"))
        for name in re.findall(r"(\w+)(?: as \w+)?", names)
        if not is_there(module, name)
    ]
    assert stale == []


def is_there(module: str, name: str) -> bool:
    try:
        found = importlib.import_module(module)
    except ImportError:
        return False
    return hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}") is not None
