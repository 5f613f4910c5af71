"""How a PostgreSQL store is to be opened, from arguments or from a URL."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from wallet_actions.errors import UsageError

_SCHEMES = ("postgresql", "postgres")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_HOSTS = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[\w.%-]*)(?::\d+)?(?:,(?:\[[0-9a-fA-F:.%]+\]|[\w.%-]*)(?::\d+)?)*")
_WORD = re.compile(r"[a-z_]+")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_OF_THE_DRIVER = frozenset(
    {
        "application_name",
        "host",
        "passfile",
        "port",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslpassword",
        "sslrootcert",
        "target_session_attrs",
    }
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What `PostgresStore` was told; see there.

    Attributes:
        dsn: for the driver; may hold a password.
        listen_dsn: for the connection that listens; "" to listen to nothing.
    """

    dsn: str = field(repr=False)
    schema: str
    has_history: bool
    patience_s: float
    is_prepared: bool
    readers: int
    listen_dsn: str = field(repr=False)
    is_read_only: bool

    @property
    def name(self) -> str:
        """The database, for messages: no user, no password."""
        parts = urlsplit(self.dsn)
        hosts = parts.netloc.rpartition("@")[2] or "localhost"
        return f"{hosts}{parts.path}"


def check_settings(settings: Settings) -> Settings:
    """Refuse what cannot work.

    Raises:
        UsageError: which it is.
    """
    for dsn in filter(None, (settings.dsn, settings.listen_dsn)):
        _split(dsn)
    if not _NAME.fullmatch(settings.schema) or settings.schema.startswith("pg_"):
        raise UsageError("a schema's name is of small letters, digits and _, at most 48")
    if settings.patience_s <= 0:
        raise UsageError("busy_timeout is more than nothing")
    if settings.readers < 1:
        raise UsageError("a store reads over one connection at least")
    return settings


def parse_url(url: str) -> tuple[str, dict[str, Any]]:
    """Take a URL apart: what is for the driver, and the arguments of `PostgresStore`.

    Raises:
        UsageError: an option is not known, or its value is none.
    """
    parts = _split(url)
    options: dict[str, Any] = {}
    rest: list[tuple[str, str]] = []
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name in _OPTIONS:
            options[name] = _OPTIONS[name](name, text)
        elif name in _OF_THE_DRIVER:
            rest.append((name, text))
        else:
            known = ", ".join(sorted({*_OPTIONS, *_OF_THE_DRIVER}))
            told = name if _WORD.fullmatch(name) else "of such a name"
            raise UsageError(f"a PostgreSQL store has no option {told} (it has: {known})")
    return urlunsplit(parts._replace(query=urlencode(rest))), options


def _split(url: str) -> SplitResult:
    """The parts of a URL, or an error that tells nothing of it: what follows a / of a password may be named."""
    refusal = UsageError(
        "a PostgreSQL store's URL is postgresql://user:password@host:port/database; in a name or a password each of"
        " : / ? # [ ] @ % is written as %3A %2F %3F %23 %5B %5D %40 %25"
    )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise refusal from None
    hosts = parts.netloc.rpartition("@")[2]
    is_torn = "@" not in parts.netloc and not parts.path.strip("/") and "@" in url
    if parts.scheme not in _SCHEMES or parts.fragment or "@" in parts.path or is_torn or not _HOSTS.fullmatch(hosts):
        raise refusal
    return parts


def _truth(name: str, text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise UsageError(f"{name} is true or false")
    return _TRUTH[text.lower()]


def _seconds(name: str, text: str) -> timedelta:
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise UsageError(f"{name} is a number of seconds") from None


def _count(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} is a number") from None


def _text(_: str, text: str) -> str:
    return text


def _address(_: str, text: str) -> str | bool:
    return _TRUTH.get(text.lower(), text)


_OPTIONS: dict[str, Callable[[str, str], Any]] = {
    "busy_timeout": _seconds,
    "history": _truth,
    "listen": _address,
    "prepared_statements": _truth,
    "read_only": _truth,
    "readers": _count,
    "schema": _text,
}
