"""What a fault proxy can do to a request, when it does it, and what it saw."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

BAD_GATEWAY = 502
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
HTML_HEADERS = (("content-type", "text/html"),)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The connection is closed without an answer; the peer never hears of the request."""


@dataclass(frozen=True, slots=True)
class ResetBefore:
    """The connection is reset; the peer never hears of the request."""


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """The peer does it and answers; the connection is reset instead of the answer."""


@dataclass(frozen=True, slots=True)
class Status:
    """An answer of the proxy's own; the peer never hears of the request."""

    code: int = BAD_GATEWAY
    body: bytes = HTML
    headers: Headers = HTML_HEADERS


@dataclass(frozen=True, slots=True)
class StatusAfter:
    """The peer does it; an answer of the proxy's own replaces the peer's."""

    code: int = BAD_GATEWAY
    body: bytes = HTML
    headers: Headers = HTML_HEADERS


@dataclass(frozen=True, slots=True)
class Delay:
    """The request reaches the peer later, also when its client has given up meanwhile."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Late:
    """The peer does it at once; its answer is held back."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The peer gets the request twice.

    Attributes:
        answer: which of its answers the client gets. After `first` the second request follows when the client has its
            answer.
        gap_s: seconds between the peer's first answer and the second request.
    """

    answer: Literal["first", "second"] = "first"
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Kill:
    """A process is killed at a moment of the request, be it the peer's or the client's.

    Attributes:
        target: a process id, killed with SIGKILL, or what is called to do the killing.
        at: `before` the peer hears of it; `answered`, when the peer has answered and the client does not know; or
            `delivered`, when the answer was handed to the client's connection. In the first two cases the connection is
            reset afterwards.
        after_s: seconds from that moment to the killing.
    """

    target: int | Callable[[], object] = field(repr=False)
    at: Literal["before", "answered", "delivered"] = "answered"
    after_s: float = 0.0


Fault = Refuse | ResetBefore | LoseAnswer | Status | StatusAfter | Delay | Late | Duplicate | Kill


@dataclass(slots=True)
class Record:
    """One request, as far as it has come. Times are the event loop's, in seconds.

    Attributes:
        index: its place among all requests, from 0.
        method, path: without the query, which may hold what is nobody's business.
        fault: what a rule did to it.
        body: what the client sent; never shown.
        started_at: its last byte was read.
        forwarded_at: when it was passed on, one entry for each time.
        answered_at: the peer's answer was complete, one entry for each time.
        ended_at: the client has its answer, or the connection was cut.
        peer_status: the status of the peer's answer, the last one where there are more.
        status: the status that the client was given; None when the connection was cut.
    """

    index: int
    method: str
    path: str
    fault: Fault | None
    body: bytes = field(repr=False)
    started_at: float
    forwarded_at: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    ended_at: float | None = None
    peer_status: int | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """When to do what.

    Attributes:
        fault: what to do.
        path: a regular expression that is searched for in the path; None fits all.
        method: such as `POST`; None fits all.
        when: an additional condition on the record.
        nth: which of the requests that fit is the first to be treated so, from 1. All that fit are counted, also those
            that an earlier rule took.
        once: only that one; else also all that fit and come later.
    """

    fault: Fault
    path: str | None = None
    method: str | None = None
    when: Callable[[Record], bool] | None = field(default=None, repr=False)
    nth: int = 1
    once: bool = True

    def fits(self, record: Record) -> bool:
        """Whether this rule is about such a request, however many there were."""
        return (
            (self.path is None or re.search(self.path, record.path) is not None)
            and (self.method is None or self.method == record.method)
            and (self.when is None or self.when(record))
        )
