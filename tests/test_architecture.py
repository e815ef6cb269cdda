"""Who may import whom, and what the start of a Hydra program loads. Named by file and line."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support import ROOT, Project

from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.scheduler.base import QueueQuery

PACKAGES = ("mlxp_core", "hydra_plugins")


def imports(path: Path, *, types: bool = False) -> Iterator[tuple[int, str]]:
    """Line and absolute module name of every import of a file, also inside of functions.

    ``types``: also those for type checkers alone.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if id(node) in for_types and not types:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, name
            # `from mlxp_core import reader` is an import of mlxp_core.reader
            yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)


def sources(*parts: str) -> list[Path]:
    """Python files below a folder, or a file."""
    path = ROOT.joinpath(*parts)
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def within(name: str, *modules: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def offences(files: list[Path], *forbidden: str, but: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for line, name in imports(path)
        if within(name, *forbidden) and not within(name, *but)
    ]


# what a package of mlxp_core may import besides itself and the ground, which imports nothing of ours
GROUND = {
    "errors",
    "atomic_files",
    "yaml_io",
    "plain_values",
    "nested",
    "statuses",
    "terminal",
    "user_dirs",
    "migrate",
}
ALLOWED: dict[str, set[str]] = {
    "__init__": {"recording"},
    "errors": set(),
    "atomic_files": set(),
    "yaml_io": set(),
    "plain_values": set(),
    "nested": set(),
    "statuses": set(),
    "terminal": set(),
    "user_dirs": set(),
    "migrate": set(),
    "artifacts": {"runs"},
    "scheduler": set(),
    "runs": {"scheduler"},
    "versioning": {"runs"},
    "recording": {"runs", "scheduler", "versioning"},
    "reader": {"runs"},
    "jobs": {"runs", "scheduler", "versioning"},
    "sweeps": {"runs", "scheduler", "jobs", "versioning"},
    "mlxpsub": {"runs", "scheduler", "jobs"},
    "mlxp": {"runs", "recording", "reader"},
    "cli": {"__init__", "runs", "scheduler", "versioning", "reader", "jobs", "sweeps", "mlxpsub"},
}
# within the ground
ALLOWED_IN_GROUND = {"yaml_io": {"atomic_files"}, "nested": {"plain_values"}}


def package_of(path: Path) -> str:
    """The capability that a file of mlxp_core belongs to."""
    return path.relative_to(ROOT / "mlxp_core").parts[0].removesuffix(".py")


def imported_packages(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, module, and the capability that it is of, for each import of ours in a file."""
    for line, name in imports(path):
        if within(name, "mlxp_core"):
            parts = name.split(".")
            yield line, name, parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "__init__"


def test_imports_run_one_way() -> None:
    """Bug: a package that cannot be read, tested or changed without those above it."""
    wrong = []
    for path in sources("mlxp_core"):
        package = package_of(path)
        allowed = {package} | (ALLOWED_IN_GROUND.get(package, set()) if package in GROUND else GROUND)
        allowed |= ALLOWED[package]
        for line, name, imported in imported_packages(path):
            if imported not in allowed and name != "mlxp_core":
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


def test_every_package_stands_in_the_table() -> None:
    """Bug: a new package that the table says nothing of, and which may then import anything."""
    assert {package_of(path) for path in sources("mlxp_core")} == set(ALLOWED)


def circles(files: list[Path]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others, wherever the import stands."""
    modules = {}
    for path in files:
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {
        module: {name for _, name in imports(path, types=True) if name in modules and name != module}
        for module, path in modules.items()
    }
    reached: dict[str, set[str]] = {}
    for module, imported in graph.items():
        seen: set[str] = set()
        left = [*imported]
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                left += graph[name]
        reached[module] = seen
    groups = {
        tuple(sorted({module, *(other for other in reached[module] if module in reached[other])})) for module in graph
    }
    return sorted([*group] for group in groups if len(group) > 1)


def test_no_modules_of_the_core_import_each_other() -> None:
    """Bug: a circle, which decides by chance what is loaded first, and which no reader gets into."""
    # the door re-exports lazily
    files = [path for path in sources("mlxp_core") if path != ROOT / "mlxp_core" / "__init__.py"]
    assert circles(files) == []


# within the reader: what each part may import besides itself
READER_FLOORS: dict[str, set[str]] = {
    "load": set(),
    "cache": {"load"},
    "directory": {"load", "cache"},
    "query": {"load"},
    "statistics": {"query"},
    "frame": {"load", "cache", "directory", "query", "statistics"},
    "reader": {"load", "cache", "directory", "query", "frame"},
    "__init__": {"load", "query", "statistics", "frame", "reader"},
}


def test_the_readers_floors_import_only_lower_ones() -> None:
    """Bug: a run that cannot be read without the cache above it; a private name that two modules hang on."""
    home = ROOT / "mlxp_core" / "reader"
    parts = {path: path.relative_to(home).parts[0].removesuffix(".py") for path in sources("mlxp_core", "reader")}
    assert set(parts.values()) == set(READER_FLOORS)
    wrong = []
    for path, part in parts.items():
        for line, name in imports(path, types=True):
            floor = name.removeprefix("mlxp_core.reader.").split(".")[0]
            above = name.startswith("mlxp_core.reader.") and floor not in {part, *READER_FLOORS[part]}
            private = within(name, "mlxp_core") and name.rpartition(".")[2].startswith("_") and name[-2:] != "__"
            if above or private:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


def test_no_modules_of_the_plugins_import_each_other() -> None:
    """Bug: as above; a function whose argument is filled in by the functions that it is handed to."""
    assert circles(sources("hydra_plugins")) == []


def test_the_plugins_import_of_the_core_what_they_may() -> None:
    """Bug: Polars loaded by every launch; a launch that loads mlxpsub outside of it; a plugin that prints tables."""
    wrong = []
    for path in sources("hydra_plugins"):
        name = path.stem
        allowed = {"__init__", *GROUND, "runs", "recording", "scheduler", "versioning", "jobs", "sweeps"}
        allowed |= {"reader"} if name == "_job_filter" else set()
        # the state is what the others ask: it is loaded where nothing of mlxpsub is
        allowed |= {"mlxpsub"} if name.startswith("_mlxpsub_") and name != "_mlxpsub_state" else set()
        for line, module, imported in imported_packages(path):
            if imported not in allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert wrong == []


def test_the_core_knows_nothing_of_hydra() -> None:
    """Bug: a DictConfig where a plain dict is expected; a reader that needs Hydra."""
    files = [path for path in sources("mlxp_core") if path != ROOT / "mlxp_core" / "mlxp" / "launcher.py"]
    assert offences(files, "hydra", "omegaconf", "hydra_plugins") == []
    # which makes a Hydra program of a function, for projects that were written for MLXP
    assert offences(sources("mlxp_core", "mlxp", "launcher.py"), "hydra_plugins", "mlxp_core.reader") == []


def test_the_reader_needs_no_git() -> None:
    """Bug: a laptop that has only the log directory cannot read it."""
    reader = sources("mlxp_core", "reader")
    assert reader
    assert offences(reader, "git", "hydra", "omegaconf") == []


def test_nothing_but_the_commands_and_the_sweepers_queries_imports_the_reader() -> None:
    """Bug: Polars loaded by every run."""
    files = [path for package in PACKAGES for path in sources(package)]
    rest = [path for path in files if not path.is_relative_to(ROOT / "mlxp_core" / "reader")]
    rest = [path for path in rest if not path.is_relative_to(ROOT / "mlxp_core" / "cli")]
    of_mlxp = {ROOT / "mlxp_core" / "mlxp" / name for name in ("reader.py", "data_structures/dataframe.py")}
    rest = [path for path in rest if path not in of_mlxp]
    rest.remove(ROOT / "hydra_plugins" / "mlxp" / "_job_filter.py")
    lines = {(path, line) for path in rest for line, name in imports(path) if name == "hydra_plugins.mlxp._job_filter"}
    assert [path.name for path, _ in lines] == ["_sweep.py"]
    # inside of the one function that needs it
    assert all(path.read_text(encoding="utf-8").splitlines()[line - 1].startswith("    ") for path, line in lines)
    assert offences(rest, "mlxp_core.reader", "polars") == []


def test_git_is_spoken_to_in_one_module_schedulers_in_another_and_the_shell_in_a_third() -> None:
    """Bug: a second place for time limits, retries and error texts."""
    files = [path for package in PACKAGES for path in sources(package)]
    git = [path for path in files if path != ROOT / "mlxp_core" / "versioning" / "git.py"]
    assert offences(git, "git") == []
    talkers = ("scheduler/client.py", "scheduler/local_queue.py", "versioning/git.py", "mlxpsub/shell_process.py")
    commands = [path for path in files if path not in {ROOT / "mlxp_core" / name for name in talkers}]
    assert offences(commands, "subprocess") == []


def test_the_local_queue_needs_the_standard_library_alone() -> None:
    """Bug: `mlxp_local` that cannot submit where a package is missing, or that starts slowly."""
    queue = sources("mlxp_core", "scheduler", "local_queue.py")
    other = [name for _, name in imports(queue[0]) if name.split(".")[0] not in {*sys.stdlib_module_names, ""}]
    assert other == []


LOADED = """
import sys
{program}
names = set(sys.modules)
print(*{{name.split(".")[0] for name in names}}, *(name for name in names if name.startswith("mlxp")))
"""


def loaded(program: str, tmp_path: Path) -> set[str]:
    """Modules that a program has loaded at its end, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADED.format(program=program)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    return set(done.stdout.split())


def test_hydras_scan_of_the_plugins_loads_nothing_heavy(tmp_path: Path) -> None:
    """Bug: every Hydra program of the environment pays for Polars, git or a scheduler's client."""
    program = "from hydra.core.plugins import Plugins; Plugins.instance()"
    modules = loaded(program, tmp_path)
    assert "hydra_plugins" in modules
    assert modules & {"polars", "pandas", "numpy", "git", "lark"} == set()
    ours = {name for name in modules if name.startswith("mlxp_core.")}
    assert ours == {"mlxp_core.errors", "mlxp_core.scheduler"}


def test_hydras_scan_of_the_plugins_has_nothing_to_warn_of(tmp_path: Path) -> None:
    """Bug: a deprecated call at import time, which Hydra reports at the start of every program of the environment."""
    scan = "from hydra.core.plugins import Plugins; Plugins.instance()"
    command = [sys.executable, "-W", "always", "-c", scan]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "mlxp" not in done.stderr


PROGRAM = """
import atexit, sys, hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config): pass

if __name__ == "__main__":
    atexit.register(lambda: print("loaded:", *sys.modules))
    main()
"""


def test_a_launch_outside_of_mlxpsub_loads_nothing_of_it(project: Project) -> None:
    """Bug: 18 ms of CPU that every launch pays for modules that it has no use for."""
    project.start_for_real()
    project.write(**{"main.py": PROGRAM})
    project.commit()
    done = project.run("-m", "hydra/launcher=mlxp_local", "hydra/sweeper=mlxp", "seed=1,2", "hydra.sweeper.skip=failed")
    modules = set(done.stdout.rpartition("loaded: ")[2].split())
    assert {"mlxp_core.jobs.submit", "hydra_plugins.mlxp._launch", "hydra_plugins.mlxp._sweep"} <= modules
    assert {name for name in modules if "mlxpsub" in name} == {"hydra_plugins.mlxp._mlxpsub_state"}


def test_the_package_itself_loads_nothing_until_it_is_asked(tmp_path: Path) -> None:
    """Bug of MLXP 1.0.5: importing it takes 880 ms."""
    assert {name for name in loaded("import mlxp_core", tmp_path) if name.startswith("mlxp")} == {"mlxp_core"}
    assert loaded("from mlxp_core import current_run", tmp_path) & {"polars", "git", "hydra", "omegaconf"} == set()


def test_a_program_of_mlxps_loads_neither_the_reader_nor_an_mlxp_that_is_installed(tmp_path: Path) -> None:
    """Bug: Polars loaded by every training, for `mlxp.Reader`; `import mlxp` finds ours, or ours the original."""
    (tmp_path / "mlxp.py").write_text("own = True")
    program = "import mlxp_core.mlxp as mlxp; mlxp.launch; import mlxp; assert mlxp.own"
    modules = loaded(f"sys.path.insert(0, {str(tmp_path)!r}); {program}", tmp_path)
    assert "mlxp_core.mlxp.launcher" in modules
    assert modules & {"polars", "pandas", "mlxp_core.reader", "mlxp_core.mlxp.reader"} == set()


def test_the_reader_loads_neither_hydra_nor_git_nor_a_scheduler(tmp_path: Path) -> None:
    """Bug: as above, at run time."""
    modules = loaded("from mlxp_core.reader import Reader", tmp_path)
    assert "polars" in modules
    assert (
        modules
        & {"hydra", "omegaconf", "git", "numpy", "pandas", "mlxp_core.scheduler", "mlxp_core.versioning.snapshot"}
        == set()
    )


def test_every_module_says_at_its_top_what_it_does() -> None:
    """Bug: a stranger who does not know which file to open."""
    files = [path for package in PACKAGES for path in sources(package)]
    assert [str(path) for path in files if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


# what knows a scheduler beside its own file, and why
KNOWN_ELSEWHERE = {
    ("mlxp_core/scheduler/__init__.py", "the tuple of names"),
    ("mlxp_core/scheduler/variables.py", "TMPDIR is any job's; TMP ends names"),
    ("mlxp_core/scheduler/local_queue.py", "the program of one, which imports nothing"),
    ("mlxp_core/cli/mlxpsub.py", "examples in the help text"),
    ("mlxp_core/jobs/template.py", "srun as an example, in a message"),
    ("mlxp_core/mlxpsub/job_template.py", "an example of a line, in a message"),
    ("mlxp_core/user_dirs.py", "XDG_STATE_HOME, where the local queue lies by default"),
    ("mlxp_core/mlxpsub/run.py", "TMPDIR of this process, in a message"),
}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and value of each text in a file's code, without what documents it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.lineno, node.value


def test_a_scheduler_is_known_in_its_own_file_alone() -> None:
    """Bug: a scheduler that is added in one file, and that nine other places have not heard of."""
    schedulers = [load_scheduler(name) for name in SCHEDULERS]
    words = {scheduler.name for scheduler in schedulers} - {"local"}  # which is many things
    for scheduler in schedulers:
        commands = [
            scheduler.submit,
            scheduler.cancel,
            scheduler.status.command(QueueQuery("ada")),
            *scheduler.launchers,
        ]
        words |= {command[0] for command in commands if not command[0].startswith("/")} - {"sh"}
        words |= {scheduler.directive, *scheduler.other_spellings}
        words |= {*scheduler.submit_dir_variables, *scheduler.submitter_variables, *scheduler.client_variables}
        words |= {name for names in scheduler.job_variables.values() for name in names}
        words |= {*scheduler.reason_words}
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words))
    dialects = ROOT / "mlxp_core" / "scheduler" / "dialects"
    found = {
        (str(path.relative_to(ROOT)), line, word[0])
        for package in PACKAGES
        for path in sources(package)
        if not path.is_relative_to(dialects)
        for line, text in texts(path)
        if (word := pattern.search(text))
    }
    known = {path for path, why in KNOWN_ELSEWHERE if why}
    assert sorted(f"{path}:{line}: {word}" for path, line, word in found if path not in known) == []
    assert {path for path, _, _ in found} == known, "an exception that is no longer needed"
