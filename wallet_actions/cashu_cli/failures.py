"""What went wrong, in one line that says what is safe and what to do."""

from __future__ import annotations

from wallet_actions.cashu.errors import InsufficientFundsError, MalformedError, MintUnreachableError, WrongQuoteError
from wallet_actions.errors import (
    ActionError,
    ActionFailedError,
    NotFinishedError,
    RejectedError,
    ReservationError,
    TransientError,
    WalletActionError,
)
from wallet_actions.ops.failures import NEEDS_A_PERSON, CommandError

PENDING = "wallet-actions cashu pending"
NAMES = {
    "cashu_issue": "issue",
    "cashu_issue_batch": "issue",
    "cashu_send": "send",
    "cashu_receive": "receive",
    "cashu_swap": "swap",
    "cashu_melt": "melt",
    "cashu_restore": "restore",
}
HOLDING = frozenset({"cashu_send", "cashu_swap", "cashu_melt"})
"""The kinds that hold coins of the wallet; those that they did not spend are free once they have ended."""


class OperationError(CommandError):
    """An operation of the wallet did not end well, or was not begun."""

    exit_status = NEEDS_A_PERSON


class UnreadableError(CommandError):
    """What the user gave is not what it should be; nothing was begun."""


class StillUnderWayError(OperationError):
    """The time that the user gave is over, and the operation goes on without him."""


def operation_name(kind: str) -> str:
    """What a person calls a kind of action."""
    return NAMES.get(kind, kind)


def told(error: WalletActionError, mint: str | None = None) -> CommandError | WalletActionError:
    """The error to show instead, under the same name for scripts; itself where its message says all.

    Args:
        mint: that was to be asked, where it is known.
    """
    match error:
        case InsufficientFundsError():
            return _named(error, f"{error}; nothing was changed (see `wallet-actions cashu balance`)")
        case WrongQuoteError():
            said = str(error).replace("pass max_fee to accept it", "accept it with --max-fee")
            return _named(error, f"{said}; nothing was changed")
        case RejectedError():
            return _named(error, f"{error}; nothing was changed")
        case MintUnreachableError() if mint is not None:
            return _named(
                error, f"the mint {mint} cannot be reached; nothing was begun, and no coin has moved: try again later"
            )
        case TransientError():
            return _named(error, f"{error}; nothing was begun, and no coin has moved: try again later")
        case ActionFailedError():
            reason = error.error.message if error.error is not None else "no reason was recorded"
            freed = "; its coins are free again" if error.kind in HOLDING else ""
            return _named(error, f"{operation_name(error.kind)} {error.id} {error.status.value}: {reason}{freed}")
        case NotFinishedError():
            reason = f": {error.error.message}" if error.error is not None else ""
            return _named(
                error,
                f"{operation_name(error.kind)} {error.id} is {error.status.value}{reason} (see `{PENDING}`)",
            )
        case MalformedError():
            return _named(error, f"this cannot be read: {error}", UnreadableError)
        case ActionError() | ReservationError():
            return _named(error, str(error))
        case _:
            return error


def _named(
    error: WalletActionError, message: str, kind: type[OperationError | UnreadableError] = OperationError
) -> CommandError:
    shown = kind(message)
    shown.told_as = type(error).__name__
    return shown
