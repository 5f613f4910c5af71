"""What an operation under way waits for, and what a person can do about it."""

from __future__ import annotations

from typing import Final

from wallet_actions.cashu.sending import TokenCreated
from wallet_actions.checkpoint import Checkpoint, Status

UNCLAIMED: Final = "unclaimed"

_ASKED: Final = "the mint is asked, and asked again with each command until it answers"
_NOT_AGAIN: Final = "do not pay the invoice in another way meanwhile"
_WAITS: Final = {
    "unpaid": "waits until somebody pays the invoice: `issue --resume ID` shows it",
    "secrets_prepared": f"the invoice is paid; {_ASKED}",
    "mint_requested": f"the invoice is paid; {_ASKED}",
    "proofs_reserved": f"the coins are set aside; {_ASKED}",
    "proofs_pending": f"the token is being taken over; {_ASKED}",
    "swap_requested": f"coins are being changed; {_ASKED}",
    "melt_requested": f"the mint is to pay; {_ASKED}: {_NOT_AGAIN}",
    "payment_pending": f"the payment is on its way, and will arrive or fail: {_NOT_AGAIN}",
    "reclaiming": f"the payment has failed; its coins are being changed, so that they are safe to use; {_ASKED}",
    "token_created": "waits until somebody claims the token: `pending --token ID` shows it, `send --revoke ID` takes "
    "it back",
    "rolling_back": f"the token is being taken back; until then, who has it can claim it; {_ASKED}",
    "scanning": "the mint is asked what it has signed: `restore` shows how far it is",
}
_HALTED: Final = {
    Status.STUCK: "does not go on by itself: each command looks again, and only the mint's operator can end it. "
    "What it holds is kept apart; ask the operator, and show the words above",
    Status.QUARANTINED: "this version cannot read it: a newer one may. What it holds is kept apart",
    Status.PAUSED: "somebody has paused it: `wallet-actions resume KIND ID --db FILE` lets it go on",
}


def state_of(checkpoint: Checkpoint) -> str:
    """Where it stands, in a word or two."""
    if checkpoint.status in _HALTED:
        return checkpoint.status.value
    return UNCLAIMED if checkpoint.phase == TokenCreated.tag else checkpoint.phase.replace("_", " ")


def waits_for(checkpoint: Checkpoint) -> str:
    """What it waits for and what to do, in a sentence."""
    return _HALTED.get(checkpoint.status) or _WAITS.get(checkpoint.phase, _ASKED)
