"""What an action asks a mint to sign, written down before the request leaves.

A plan holds no secret: keyset, counters or a salt, and amounts. With the seed it gives the same outputs each time, so a
request can be repeated byte for byte, and its answer looked up, in another life of the process (L-S6, L-S7).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel

from wallet_actions.action import PERSISTED
from wallet_actions.cashu.amounts import split
from wallet_actions.cashu.conditions import Condition
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.outputs import Output
from wallet_actions.cashu.wallet import CashuWallet

_SALT_BYTES = 16


class OutputPlan(BaseModel):
    """Outputs that a request carries, to be made again from the seed.

    Attributes:
        first_counter: of the first one.
        amounts: in the order of the request.
    """

    model_config = PERSISTED

    keyset_id: str
    first_counter: int
    amounts: tuple[int, ...]

    @classmethod
    async def of(cls, wallet: CashuWallet, keyset: Keyset, amounts: Sequence[int]) -> Self:
        """Take counters for outputs of these amounts; none where there are no amounts.

        Durability: the counters are taken for good when it returns; a plan that is then forgotten leaves a gap.
        """
        first_counter = await wallet.allocate(keyset.id, len(amounts))
        return cls(keyset_id=keyset.id, first_counter=first_counter, amounts=tuple(amounts))

    def outputs(self, wallet: CashuWallet) -> tuple[Output, ...]:
        """The outputs: the same ones each time."""
        return wallet.outputs(self.keyset_id, self.first_counter, self.amounts)


class LockedPlan(BaseModel):
    """Outputs whose coins are spent under a condition.

    Attributes:
        salt: drawn for this plan alone; not secret.
        condition: what it takes to spend them.
        amounts: in the order of the request.
    """

    model_config = PERSISTED

    keyset_id: str
    salt: str
    condition: Condition
    amounts: tuple[int, ...]

    @classmethod
    def of(cls, keyset: Keyset, amounts: Sequence[int], condition: Condition) -> Self:
        """Draw a salt; nothing needs to be durable but the plan itself."""
        salt = secrets.token_hex(_SALT_BYTES)
        return cls(keyset_id=keyset.id, salt=salt, condition=condition, amounts=tuple(amounts))

    def outputs(self, wallet: CashuWallet) -> tuple[Output, ...]:
        """The outputs: the same ones each time."""
        return wallet.locked_outputs(self.keyset_id, self.salt, self.amounts, self.condition)


class SwapPlan(BaseModel):
    """The outputs of a swap: what stays in the wallet, and what is given away.

    Both are of one keyset. The request carries them together by rising amount, so that the mint cannot tell which are
    which (NUT-03).
    """

    model_config = PERSISTED

    kept: OutputPlan
    given: OutputPlan | LockedPlan | None = None

    @classmethod
    async def of(
        cls,
        wallet: CashuWallet,
        keyset: Keyset,
        *,
        kept: int | Sequence[int],
        given: int | Sequence[int] = 0,
        condition: Condition | None = None,
    ) -> Self:
        """Settle the outputs of a swap.

        Args:
            kept, given: sums, which are split into few coins, or the amounts of the coins.
            condition: what it shall take to spend what is given.
        Durability: as `OutputPlan.of`.
        Raises:
            UsageError: the keyset's coins do not make up a sum.
        """
        kept_plan = await OutputPlan.of(wallet, keyset, _amounts(kept, keyset))
        given_amounts = _amounts(given, keyset)
        given_plan: OutputPlan | LockedPlan | None = None
        if given_amounts and condition is not None:
            given_plan = LockedPlan.of(keyset, given_amounts, condition)
        elif given_amounts:
            given_plan = await OutputPlan.of(wallet, keyset, given_amounts)
        return cls(kept=kept_plan, given=given_plan)

    @property
    def keyset_id(self) -> str:
        """The keyset of all of them."""
        return self.kept.keyset_id

    def kept_outputs(self, wallet: CashuWallet) -> tuple[Output, ...]:
        """The outputs that stay here."""
        return self.kept.outputs(wallet)

    def given_outputs(self, wallet: CashuWallet) -> tuple[Output, ...]:
        """The outputs that are given away."""
        return () if self.given is None else self.given.outputs(wallet)

    def outputs(self, wallet: CashuWallet) -> tuple[Output, ...]:
        """All of them, in the order of the request."""
        both = (*self.kept_outputs(wallet), *self.given_outputs(wallet))
        return tuple(sorted(both, key=lambda output: (output.amount, output.blinded_message)))


def _amounts(wanted: int | Sequence[int], keyset: Keyset) -> Sequence[int]:
    if not isinstance(wanted, int):
        return wanted
    return split(wanted, keyset.denominations) if wanted else ()
