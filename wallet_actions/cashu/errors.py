"""What can go wrong with a mint, and what each error proves.

    RejectedError
    ├── MintError               the mint answered with an error of the protocol (4xx, code, detail)
    ├── WrongQuoteError         the quote on offer is not the one asked for; no money has moved
    ├── InsufficientFundsError  the free coins do not cover an amount and its fees
    └── TokenRefusedError       a token that is not taken: the wrong mint, forged, worth less than its fee, ours already
        ├── TokenLockedError    its coins cannot be unlocked, or not yet
        ├── TokenSpentError     it has been spent already
        └── TokenReceivedError  this wallet has received it before
    TransientError
    ├── MintUnreachableError    no connection: the request was never sent
    └── MintLiedError           the answer breaks the protocol; nothing of it was taken over
    MalformedError              text that is not the point, keyset id, token or spending condition that it should be

A mint's word is weaker than the words "rejected" and "transient" suggest. An error of the protocol in answer to a
mint, a swap or a melt does *not* prove that nothing happened: the request may have been carried out by an earlier
attempt or by a look-up that overtook it, and some mints answer every fault of their own with 400 and code 0. Look the
quote and the proofs up before anything is given up. A `MintUnreachableError` alone proves that this very request
changed nothing.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from wallet_actions.errors import RejectedError, TransientError, WalletActionError

_MAX_DETAIL: Final = 200
_SECRET_LIKE: Final = re.compile(r"[0-9a-fA-F]{32,}|[0-9A-Za-z+/_=-]{40,}")


class MalformedError(WalletActionError):
    """Text is not the point, keyset id, token or condition that it should be. The message does not repeat it."""


class MintError(RejectedError):
    """The mint answered with an error of the protocol.

    Attributes:
        code: the protocol's error code (11001: proofs spent, 20002: quote issued, …); 0 is what some mints give to any
            fault of their own and says nothing; None where the answer had a detail and no code.
        detail: the mint's own words, on one line, cut short, with whatever looks like a secret taken out.
        status: the HTTP status, 400 – 499.
    """

    code: int | None

    def __init__(self, detail: str, *, code: int | None, status: int) -> None:
        self.detail = clean_detail(detail)
        self.status = status
        number = "no code" if code is None else f"code {code}"
        super().__init__(f"the mint refused: {self.detail or 'no reason given'} ({number})", code=code)


class WrongQuoteError(RejectedError):
    """The mint offers another quote than the one asked for. It was not taken, and a quote by itself moves no money."""


class InsufficientFundsError(RejectedError):
    """The coins that are free do not cover the amount and what it costs to spend them.

    Attributes:
        needed: amount and fees, in the smallest unit.
        available: what the free coins come to.
    """

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"not enough funds: {needed} needed, {available} available")
        self.needed = needed
        self.available = available


class TokenRefusedError(RejectedError):
    """A token is not taken. Nothing of it was spent."""


class TokenLockedError(TokenRefusedError):
    """The coins of a token are locked, and this wallet cannot unlock them, or not yet.

    Attributes:
        opens_at: when it can; None for never.
    """

    def __init__(self, reason: str, opens_at: datetime | None = None) -> None:
        super().__init__(reason if opens_at is None else f"{reason}; they open at {opens_at:%Y-%m-%d %H:%M} UTC")
        self.opens_at = opens_at


class TokenSpentError(TokenRefusedError):
    """A token has been spent already: by whoever gave it, or by another of its holders."""


class TokenReceivedError(TokenRefusedError):
    """This wallet has received a token before; it is not paid twice.

    Attributes:
        id: of the action that received it, which has the outcome.
        amount, unit: what came in then.
    """

    def __init__(self, id: str, amount: int, unit: str) -> None:
        super().__init__(f"this wallet has received the token already: {amount} {unit}")
        self.id = id
        self.amount = amount
        self.unit = unit


class MintUnreachableError(TransientError):
    """There was no connection to the mint, so this request was never sent."""


class MintLiedError(TransientError):
    """The mint's answer breaks the protocol: wrong amounts, another quote, a signature that does not verify, ….

    Nothing of the answer was taken over, and what the mint did is not known: coins stay held.

    Attributes:
        rule: the broken rule in a few words.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(f"the mint's answer breaks the protocol: {rule}")
        self.rule = rule


def clean_detail(detail: str) -> str:
    """Make foreign text fit for a message: one line, at most 200 characters, long hex and base64 replaced by `…`.

    A mint may quote the request in its complaint, and a request holds proofs.
    """
    printable = "".join(character if character.isprintable() else " " for character in detail[: 8 * _MAX_DETAIL])
    line = _SECRET_LIKE.sub("…", " ".join(printable.split()))
    return line if len(line) <= _MAX_DETAIL else line[: _MAX_DETAIL - 1] + "…"
