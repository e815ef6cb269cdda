"""What a mistyped column name was meant to be. The only module that guesses."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_column(name: str, known: Iterable[str]) -> str:
    """Say that there is no such column, and which ones are close to it."""
    names = list(known)
    meant = name.casefold()
    # people drop the prefix more often than they mistype: lr, optimizer.lr
    forms: dict[str, str] = {}
    for one in names:
        forms.setdefault(one.casefold(), one)
        forms.setdefault(one.partition(".")[2].casefold(), one)
    close = [forms[form] for form in difflib.get_close_matches(meant, forms, n=3, cutoff=0.8)]
    close += [one for one in names if one.casefold().endswith(f".{meant}")][:3]
    close = list(dict.fromkeys(close))
    if close:
        return f"no column {name!r}: did you mean {' or '.join(map(repr, close))}?"
    return f"no column {name!r}; Reader(...).fields lists the {len(names)} there are"


def close_to(name: str, known: Iterable[str]) -> str:
    """Say what a mistyped name was meant to be, or which there are; to be put behind the error."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f": did you mean {' or '.join(map(repr, close))}?"
    return f": there is {', '.join(names)}" if names else ": no run has logged anything"
