"""Read times as run folders have them: ISO 8601 with zone, and what others have written there."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo

# what `datetime.fromisoformat` of Python 3.10 refuses, and how tables print what they hold
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d)?(?:[.,](\d+))?)?\s*(?:([Zz]|UTC)|([+-]\d\d)(?::?(\d\d))?)?"
)
_YEARS = range(2, 9999)  # a time of the first or last may be of none in another zone


def parse_time(text: str, naive: tzinfo | None = None) -> datetime:
    """Read an ISO 8601 time or date, as a time with a zone. A date is its first moment.

    ``naive`` is the zone of a text without one; None for that of this machine. Raises ValueError.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = _other_time(text)
    if moment.year not in _YEARS:
        raise ValueError(f"{text!r} is of no year that every zone knows")
    if moment.tzinfo is None:
        return moment.replace(tzinfo=naive) if naive else moment.astimezone()
    return moment


def _other_time(text: str) -> datetime:
    found = _ISO.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no time")
    date, time, seconds, fraction, utc, hours, minutes = found.groups()
    zone = "+00:00" if utc else f"{hours}:{minutes or '00'}" if hours else ""
    fraction = (fraction or "0")[:6].ljust(6, "0")
    return datetime.fromisoformat(f"{date}T{time or '00:00'}{seconds or ':00'}.{fraction}{zone}")
