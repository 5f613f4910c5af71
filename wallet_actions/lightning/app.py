"""What an app calls to pay an invoice."""

from __future__ import annotations

from wallet_actions.coins import ActionKey
from wallet_actions.engine import Engine
from wallet_actions.errors import ReservationError
from wallet_actions.lightning.invoices import payment_hash_of
from wallet_actions.lightning.send import LightningSend
from wallet_actions.lightning.wallet import LightningWallet

MOST_RACES = 5


async def pay(engine: Engine, wallet: LightningWallet, invoice: str, *, fee_limit_msat: int | None = None) -> str:
    """Have an invoice paid; `engine.result(LightningSend, …)` waits for the end.

    An invoice that was sent before, by whatever process on this store, is not sent again: it is the same payment, also
    where it has ended by now (G6).

    Args:
        fee_limit_msat: the most that the route may cost; by default a twentieth of the amount, or 1,000 where that is
            more. 0 takes routes without a fee only.
    Returns:
        The payment hash: the id of the `LightningSend`.
    Raises:
        InvoiceError: malformed, expired, of another network, without an amount, or the node's own.
        InsufficientFundsError: the free coins do not cover amount and fee limit.
        ConfigurationError, TransientError: the node did not say who it is. In all these cases nothing was started.
    Durability: on disk when it returns.
    """
    payment_hash = payment_hash_of(invoice)
    if await engine.store.load(ActionKey(LightningSend.kind, payment_hash)) is not None:
        return payment_hash
    action = await LightningSend.of(wallet, invoice, fee_limit_msat=fee_limit_msat)
    for _ in range(MOST_RACES):
        try:
            await engine.start(action, action.opening)
            return action.id
        except ReservationError:
            action = await action.with_other_coins(wallet)
    await engine.start(action, action.opening)
    return action.id
