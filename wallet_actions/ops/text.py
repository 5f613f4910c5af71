"""Text for people: ages, times, amounts, and nothing that a terminal would obey.

Ids, accounts and error messages come from peers and from databases that others wrote.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from wallet_actions.checkpoint import Checkpoint, ErrorRecord, Status

MAX_AGE = timedelta(days=36_500)
_AGE = re.compile(r"(\d{1,10})([dhms])", re.ASCII)
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}


def clean(text: str) -> str:
    """Escape what is not printable: control characters, escape sequences, marks that turn the writing round."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def parse_age(text: str) -> timedelta:
    """Read `30d`, `12h`, `90m` or `45s`.

    Raises:
        ValueError: anything else, or more than 36500 days.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError("an age is a whole number and a unit: 30d, 12h, 90m or 45s")
    count, unit = int(match[1]), _UNITS[match[2]]
    if count > MAX_AGE // unit:
        raise ValueError("an age is at most 36500d")
    return count * unit


def span(delta: timedelta) -> str:
    """A stretch of time in its largest unit: `45 s`, `12 min`, `5 h`, `3 d`. The sign is left out."""
    seconds = abs(delta.total_seconds())
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def local(moment: datetime, *, has_zone: bool = True) -> str:
    """A time in the zone of this machine."""
    try:
        return f"{moment.astimezone():{'%Y-%m-%d %H:%M:%S %Z' if has_zone else '%Y-%m-%d %H:%M:%S'}}"
    except (OverflowError, ValueError):  # at the ends of the calendar
        return moment.isoformat(sep=" ", timespec="seconds")


def wake_text(checkpoint: Checkpoint, now: datetime, paused_kinds: frozenset[str]) -> str:
    """When an action will be driven, in a few words; empty where it will not be, or is running."""
    if checkpoint.status is not Status.PARKED:
        return ""
    if checkpoint.kind in paused_kinds:
        return "kind paused"
    if checkpoint.wake_at is None:
        return "when notified"
    if checkpoint.wake_at <= now:
        return f"due {span(now - checkpoint.wake_at)} ago"
    return f"in {span(checkpoint.wake_at - now)}"


def error_text(error: ErrorRecord | None) -> str:
    """An error as it was recorded, in one line."""
    return "" if error is None else clean(f"{error.type}: {error.message}")


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 coin`, `3 coins`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
