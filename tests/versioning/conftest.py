"""A project with all that a copy of its code may lose."""

from __future__ import annotations

import pytest
from code_copies import TREE
from support import Project, git


@pytest.fixture
def local_submodules(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Git takes no submodule from a local path unless it is told to (CVE-2022-39253)."""
    told = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.file.allow", "GIT_CONFIG_VALUE_0": "always"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    environment.update(told)


@pytest.fixture
def hostile(project: Project, local_submodules: None) -> Project:
    """A project with what a copy may lose, whose program tells which files it runs."""
    main = (project.dir / "main.py").read_text()
    main = main.replace("import hydra\n", "import hydra\nimport tree\n", 1)
    main = main.replace('"code": "A"', '"code": "A", "tree": tree.tree(os.path.dirname(os.path.abspath(__file__)))')
    project.write(**{"main.py": main, "tree.py": TREE, "sub dir/ünï\tname": "x", "run.sh": "#!/bin/sh\n"})
    project.write(**{"kept.txt": "kept", "dos.bat": "a\r\nb\r\n", "bytes": "\0\r\n"})
    project.write(**{".gitattributes": "kept.txt export-ignore\n*.bat text eol=crlf\n"})
    project.write(**{".gitignore": "logs/\n__pycache__/\n"})
    (project.dir / "run.sh").chmod(0o755)
    (project.dir / "to file").symlink_to("main.py")
    (project.dir / "to folder").symlink_to("sub dir")
    (project.dir / "to nothing").symlink_to("/nowhere/at all")
    library = project.dir.parent / "a library"
    library.mkdir()
    (library / "lib.py").write_text("lib")
    git("init", "--quiet", cwd=library)
    git("add", "--all", cwd=library)
    git("commit", "--quiet", "--message", "lib", cwd=library)
    git("submodule", "--quiet", "add", str(library), "third party", cwd=project.dir)
    project.commit("hostile")
    return project
