"""What would end an action to the wallet's loss is believed only once the mint has said it several times.

A mint that has just come back from a crash, or that answers from a copy which lags behind, says for a moment what is
not so (L-P6). Such an answer parks the action; the count of them is in its phase, so it survives a restart, and an
outage in between does not make the next answer more credible.
"""

from __future__ import annotations

from typing import Any, TypeVar

from wallet_actions.action import Action, Phase
from wallet_actions.errors import TransientError
from wallet_actions.transition import Done, Failed, Park

ActionT = TypeVar("ActionT", bound=Action[Any, Any, Any])
EndingT = TypeVar("EndingT", bound="Done[Any] | Failed")

TIMES_TO_BELIEVE = 3


class DoubtfulPhase(Phase):
    """A phase in which the mint may say such a thing.

    Attributes:
        doubts: how often it has.
    """

    doubts: int = 0


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
    again = type(phase).model_validate({**phase.__dict__, "doubts": doubts})
    return Park(action.at(again), wake_after=action.retry.delay(doubts), error=TransientError(reason))
