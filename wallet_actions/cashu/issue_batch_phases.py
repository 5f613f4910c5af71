"""The phases of an `IssueBatch`, each with what exists by then, and what it ends with."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, SecretStr

from wallet_actions.action import PERSISTED
from wallet_actions.cashu.doubt import DoubtfulPhase, HeldPhase
from wallet_actions.cashu.plan import OutputPlan
from wallet_actions.cashu.proofs import Amount


class Offer(BaseModel):
    """One quote of a batch; for its fields, see `Issue`."""

    model_config = PERSISTED

    quote: SecretStr
    request: str
    amount: Amount
    expires_at: AwareDatetime | None = None
    key_counter: int | None = None


class BatchRequest(BaseModel):
    """A request for the ecash of some quotes.

    Attributes:
        places: of its quotes among the action's offers.
        plan: the outputs.
        earlier: outputs of requests for these quotes that the mint refused; they may still be signed late.
    """

    model_config = PERSISTED

    places: tuple[int, ...]
    plan: OutputPlan
    earlier: tuple[OutputPlan, ...] = ()


class BatchPhase(DoubtfulPhase):
    """How far each quote is, by its place among the offers.

    Attributes:
        waiting: to be paid.
        requests: for ecash; in `mint_requested` the first one may have reached the mint, the others may have earlier.
        issued: whose ecash is in the wallet. What stands nowhere was dropped.
    """

    waiting: tuple[int, ...] = ()
    requests: tuple[BatchRequest, ...] = ()
    issued: tuple[int, ...] = ()


class Unpaid(BatchPhase):
    """Some quotes wait to be paid."""


class MintRequested(BatchPhase, HeldPhase):
    """The first of the requests may have reached the mint."""


class IssuedBatch(BaseModel):
    """What an `IssueBatch` ends with.

    Attributes:
        amount: that much ecash of the mint came, in the unit.
        paid, unpaid: the invoices, by whether their ecash came.
    """

    model_config = PERSISTED

    mint: str
    unit: str
    amount: int
    paid: tuple[str, ...]
    unpaid: tuple[str, ...]
