"""Tell whether somebody at a terminal can answer."""

from __future__ import annotations

import os
import sys


def can_answer() -> bool:
    """Whether somebody sits at a terminal, and this program is in its foreground: in the background it would hang."""
    try:
        return (
            sys.stdin.isatty()
            and sys.stderr.isatty()
            and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
            and os.environ.get("TERM") != "dumb"
        )
    except (OSError, ValueError, AttributeError):  # no stdin, or a closed one
        return False
