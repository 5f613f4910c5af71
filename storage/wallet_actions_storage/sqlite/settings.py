"""How a SQLite store is to be opened, from arguments or from a URL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

from wallet_actions.errors import UsageError

Durability = Literal["full", "normal"]

_PREFIX = "sqlite:///"
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Settings:
    """What `SQLiteStore` was told; see there."""

    path: Path
    is_exclusive: bool
    durability: Durability
    has_history: bool
    patience_s: float
    is_read_only: bool
    is_shared: bool = False

    @property
    def name(self) -> str:
        """The file, for messages."""
        return str(self.path)


def check_settings(settings: Settings) -> Settings:
    """Refuse what cannot work.

    Raises:
        UsageError: which it is.
    """
    if settings.path.name in {"", ":memory:"}:
        raise UsageError("a SQLite store is a file; for a store in memory use memory://")
    if settings.durability not in {"full", "normal"}:
        raise UsageError("durability is full or normal")
    if settings.patience_s < 0:
        raise UsageError("busy_timeout is not negative")
    if settings.is_exclusive and settings.is_shared:
        raise UsageError("a file that several workers share is no process's own: exclusive or shared, not both")
    if settings.is_exclusive and settings.is_read_only:
        raise UsageError("a store that only reads does not need the file to itself")
    return settings


def parse_url(url: str) -> tuple[str, dict[str, Any]]:
    """Take a URL apart: the file, and the arguments of `SQLiteStore`.

    Raises:
        UsageError: no file is named, or an option is not known.
    """
    address, _, query = url.partition("?")
    path = unquote(address.removeprefix(_PREFIX))
    if address in {"sqlite:", "sqlite:/", "sqlite://", _PREFIX} or path == ":memory:":
        raise UsageError("the URL names no file; for a store in memory use memory://")
    if not address.startswith(_PREFIX):
        raise UsageError("a SQLite store's URL is sqlite:///relative.db or sqlite:////absolute.db, with three slashes")
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise UsageError(f"a SQLite store has no option {name} (it has: {', '.join(sorted(_OPTIONS))})")
        options[name] = _OPTIONS[name](name, text)
    return path, options


def _truth(name: str, text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise UsageError(f"{name} is true or false")
    return _TRUTH[text.lower()]


def _seconds(name: str, text: str) -> timedelta:
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise UsageError(f"{name} is a number of seconds") from None


def _text(_: str, text: str) -> str:
    return text


_OPTIONS: dict[str, Callable[[str, str], Any]] = {
    "busy_timeout": _seconds,
    "durability": _text,
    "exclusive": _truth,
    "history": _truth,
    "read_only": _truth,
    "shared": _truth,
}
