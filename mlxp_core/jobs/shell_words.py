"""Shell text: words and simple commands of the user's lines, programs of ours."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

# commands that may name the program's file and do not run it
SHELL_BUILTINS = frozenset(
    "[ [[ : cat chmod cp echo git grep head ls md5sum mv printf sed sha256sum tail test touch".split()  # noqa: SIM905
)


# words and operators of a line of shell; anything else, such as an open quote, is no match
_TOKEN = re.compile(
    r"""\s*(?:(?P<operator>[|&;<>()]+)|(?P<word>(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s|&;<>()'"\\])+))"""
)


_PIECE = re.compile(r"""'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"\\])*)"|\\(?P<escaped>.)""", re.DOTALL)

# of `env`, to which the first line of a script gives all its words as one argument
_SPLIT_STRING = re.compile(r"(-\w*S|--split-string[=\s])\s*")
_WITH_VALUE = frozenset({"-u", "--unset", "-C", "--chdir"})


@dataclass(frozen=True)
class Simple:
    """One simple command of a line: where its words start, and the words without their quotes."""

    starts: tuple[int, ...]
    words: tuple[str, ...]

    def names(self, program: str) -> bool:
        """Tell whether a word is the program, or holds it, as a quoted command line does."""
        return any(re.search(rf"(?<![\w.]){re.escape(program)}(?![\w.])", word) for word in self.words)

    def interpreter(self, program: str) -> int | None:
        """The place in the line of what runs the program: ``srun python -u main.py``, ``./main.py``."""
        files = [PurePath(word).name for word in self.words]
        if files.count(program) != 1 or self.words[0] in SHELL_BUILTINS:
            return None
        position = files.index(program)
        before = [index for index in range(position) if re.fullmatch(r"python[\d.]*", files[index])]
        if before:
            return self.starts[before[-1]]
        return self.starts[0] if position == 0 else None


def simple_commands(line: str) -> list[Simple]:
    """The simple commands of a line, split at its operators; an operator makes the line more than one command."""
    commands: list[Simple] = []
    starts: list[int] = []
    words: list[str] = []
    position = 0
    while position < len(line.rstrip()):
        token = _TOKEN.match(line, position)
        if token is None:  # an open quote: the rest is no command that could be replaced
            commands.append(Simple((position,), (line[position:],)))
            break
        word = token["word"]
        if word is not None and word.startswith("#"):  # to the end of its line, of the several of a loop
            position = line.find("\n", token.start("word"))
            if position < 0:
                break
            continue
        if word is not None:
            starts.append(token.start("word"))
            words.append(_PIECE.sub(_unquoted, word))
        else:
            if words:
                commands.append(Simple(tuple(starts), tuple(words)))
            starts, words = [], []
            commands.append(Simple((token.start("operator"),), (token["operator"],)))
        position = token.end()
    if words:
        commands.append(Simple(tuple(starts), tuple(words)))
    return commands


def _unquoted(piece: re.Match[str]) -> str:
    """Unquote a piece of a word as a shell does, but for what it expands."""
    if piece["double"] is not None:
        return re.sub(r'\\([$`"\\])', r"\1", piece["double"])
    return piece["single"] if piece["single"] is not None else piece["escaped"]


def is_continued(line: str) -> bool:
    """Tell whether a backslash at its end makes a line and the next one one; not one of two, nor one in a comment."""
    if (len(line) - len(line.rstrip("\\"))) % 2 == 0:
        return False
    position = 0
    while token := _TOKEN.match(line, position):
        if (token["word"] or "").startswith("#"):
            return False
        position = token.end()
    return True


def join_continued(text: str) -> str:
    """A text with its continued lines as one each; as long, so that places stay."""
    first, *lines = text.split("\n")
    joined = [first]
    for line in lines:
        if is_continued(joined[-1]):
            joined[-1] = f"{joined[-1][:-1]}  {line}"
        else:
            joined.append(line)
    return "\n".join(joined)


def shebang_words(shebang: str) -> list[str]:
    """The program of a script's first line, and what it is given, as the kernel cuts the line."""
    return shebang[2:].strip().split(maxsplit=1)


def shebang_shell(shebang: str) -> str:
    """The shell of a script's first line; behind ``env``, the one that it finds: ``bash`` of ``env -S bash -e``."""
    shell, *arguments = shebang_words(shebang) or [""]
    if PurePath(shell).name != "env" or not arguments:
        return shell
    split = _SPLIT_STRING.match(arguments[0])
    words = iter(arguments[0][split.end() if split else 0 :].split())
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-") and "=" not in word:
            return word
    return shell


def trim(lines: Sequence[str]) -> tuple[str, ...]:
    """Lines without the blank ones at both ends."""
    kept = [index for index, line in enumerate(lines) if line.strip()]
    return tuple(lines[kept[0] : kept[-1] + 1]) if kept else ()


def in_one_line(path: Path) -> str:
    """A path for a comment, which a line break would end."""
    return str(path).replace("\n", "?")


def script_text(*lines: str) -> str:
    """Lines as the text of a script."""
    return "\n".join((*lines, ""))


@functools.cache
def load_shell(name: str) -> tuple[str, ...]:
    """The lines of a shell program of ours (``shell/*.sh``), without what its first paragraph says of the file."""
    text = (Path(__file__).with_name("shell") / f"{name}.sh").read_text(encoding="utf-8")
    return tuple(text.partition("\n\n")[2].splitlines())
