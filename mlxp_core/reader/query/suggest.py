"""Suggest names for mistyped ones, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_column(name: str, columns: Iterable[str]) -> str:
    """Give the message that there is no such column, with the ones that are close."""
    names = list(columns)
    folded = name.casefold()
    # people drop the prefix more often than they mistype: lr, optimizer.lr
    forms: dict[str, str] = {}
    for column in names:
        forms.setdefault(column.casefold(), column)
        forms.setdefault(column.partition(".")[2].casefold(), column)
    close = [forms[form] for form in difflib.get_close_matches(folded, forms, n=3, cutoff=0.8)]
    close += [column for column in names if column.casefold().endswith(f".{folded}")][:3]
    close = list(dict.fromkeys(close))
    if close:
        return f"no column {name!r}: did you mean {' or '.join(map(repr, close))}?"
    return f"no column {name!r}; Reader(...).fields lists the {len(names)} there are"


def suggestion(name: str, candidates: Iterable[str], none: str = "no run has logged anything") -> str:
    """Give the end of an error message: the names that are close to a mistyped one, or else all of them.

    ``none`` is what it says where there are none.
    """
    names = sorted(candidates)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f": did you mean {' or '.join(map(repr, close))}?"
    return f": there is {', '.join(names)}" if names else f": {none}"
