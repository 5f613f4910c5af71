"""What would end an action to the wallet's loss is believed only once the mint has said it several times.

A mint that has just come back from a crash, or that answers from a copy which lags behind, says for a moment what is
not so (L-P6). Such an answer parks the action; the count of them is in its phase, so it survives a restart, and an
outage in between does not make the next answer more credible.

Coins or quotes that a mint calls pending are another matter: only the mint can end that. One that died in the act holds
them for ever, so after a while the action is stuck, its coins kept apart, until a person asks it to look again (L-C7).
The same is true where it goes on refusing what cannot be done in another way.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import AwareDatetime

from wallet_actions.action import Action, Phase
from wallet_actions.errors import InvariantError, TransientError
from wallet_actions.transition import Done, Failed, Park

ActionT = TypeVar("ActionT", bound=Action[Any, Any, Any])
EndingT = TypeVar("EndingT", bound="Done[Any] | Failed")

TIMES_TO_BELIEVE = 3
PATIENCE = timedelta(hours=1)
SHORTEST_LOOK, LONGEST_LOOK = timedelta(seconds=1), timedelta(minutes=5)


class DoubtfulPhase(Phase):
    """A phase in which the mint may say such a thing.

    Attributes:
        doubts: how often it has.
    """

    doubts: int = 0


class HeldPhase(DoubtfulPhase):
    """A phase in which the mint may hold coins or quotes of the action as pending, or refuse them without end.

    Attributes:
        held_since: when it was first seen to, without a break.
    """

    held_since: AwareDatetime | None = None


def doubted(action: ActionT, reason: str, ending: EndingT) -> Park[ActionT] | EndingT:
    """End the action if the mint has said so often enough; otherwise look again later.

    Args:
        action: in a `DoubtfulPhase`.
        reason: what the mint says, for the user.
        ending: what it comes to.
    """
    phase = action.phase
    doubts = phase.doubts + 1
    if doubts >= TIMES_TO_BELIEVE:
        return ending
    no_hold = {"held_since": None} if isinstance(phase, HeldPhase) else {}
    again = type(phase).model_validate({**phase.__dict__, "doubts": doubts, **no_hold})
    return Park(action.at(again), wake_after=action.retry.delay(doubts), error=TransientError(reason))


def held(action: ActionT, reason: str, now: datetime) -> Park[ActionT]:
    """Look again later at what the mint holds as pending or goes on refusing, or of which it says what cannot be.

    Args:
        action: in a `HeldPhase`.
        reason: what the mint says, for the user.
    Raises:
        InvariantError: it has held them for an hour. The action is stuck then, and its coins are kept apart.
    """
    phase = action.phase
    since = phase.held_since or now
    if now - since >= PATIENCE:
        raise InvariantError(
            f"stuck at the mint: {reason} (since {since:%Y-%m-%d %H:%M} UTC). Only its operator can end that. "
            "Nothing is given up, and its coins are kept apart; retry the action to look again",
            rule="stuck at the mint",
        )
    again = type(phase).model_validate({**phase.__dict__, "held_since": since})
    delay = min(max((now - since) / 4, SHORTEST_LOOK), LONGEST_LOOK)
    return Park(action.at(again), wake_after=delay, error=TransientError(reason))


def not_held(action: ActionT) -> ActionT:
    """The action, with what the mint held or refused forgotten: since then it has said something else, or nothing."""
    phase = action.phase
    if not isinstance(phase, HeldPhase) or phase.held_since is None:
        return action
    return action.at(type(phase).model_validate({**phase.__dict__, "held_since": None}))
