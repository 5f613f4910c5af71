"""The peers of the kit's small actions, each with books of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from wallet_actions import Coin, RejectedError

MINT = "mint"
ASKED_UNTIL_SETTLED = 3


def coin(proof: str, amount: int) -> Coin:
    """What the wallet keeps of a proof: the id is public, the proof is the money."""
    return Coin(id=proof.removeprefix("proof-"), account=MINT, unit="sat", amount=amount, payload=proof)


@dataclass(frozen=True, slots=True)
class Melted:
    """What the mint says of a payment that it made."""

    preimage: str
    change: tuple[tuple[str, int], ...] = ()

    def coins(self) -> list[Coin]:
        return [coin(proof, amount) for proof, amount in self.change]


@dataclass(frozen=True, slots=True)
class Order:
    """A payment that was asked for."""

    invoice: str
    amount: int
    proofs: tuple[str, ...]


@dataclass(slots=True)
class Mint:
    """Pays invoices with proofs, and signs new ones.

    Attributes:
        unspent: the proofs that it would take, with their amounts.
        paid: how often each invoice was paid.
        signed: how often each counter's secret was signed.
    """

    unspent: dict[str, int] = field(default_factory=dict)
    paid: Counter[str] = field(default_factory=Counter)
    signed: Counter[str] = field(default_factory=Counter)
    melts: dict[str, Melted] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    issued: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)

    def promised(self) -> int:
        """What the orders that it has taken will cost."""
        return sum(self.unspent.get(proof, 0) for order in self.orders.values() for proof in order.proofs)

    def payments(self) -> Counter[str]:
        """How often each invoice was paid, or will be."""
        return self.paid + Counter(order.invoice for order in self.orders.values())

    def issue(self, *amounts: int) -> list[Coin]:
        proofs = {f"proof-c{number}": amount for number, amount in enumerate(amounts, start=1)}
        self.unspent |= proofs
        return [coin(proof, amount) for proof, amount in proofs.items()]

    async def melt(self, key: str, invoice: str, amount: int, proofs: Sequence[str]) -> Melted:
        """Pay. The same key is the same request: it is done once, and answered again."""
        return self.melts[key] if key in self.melts else self._melt(key, Order(invoice, amount, tuple(proofs)))

    async def melt_once(self, invoice: str, amount: int, proofs: Sequence[str]) -> Melted:
        """Pay, as mints without keys have it: who asks again is told that the proofs are spent."""
        return self._melt(invoice, Order(invoice, amount, tuple(proofs)))

    async def look_up(self, key: str) -> Melted | None:
        return self.melts.get(key)

    async def submit(self, key: str, invoice: str, amount: int, proofs: Sequence[str]) -> None:
        """Take an order, to be carried out some time later, whatever happens. The same key is the same order."""
        if key not in self.melts:
            self.orders.setdefault(key, Order(invoice, amount, tuple(proofs)))

    async def settled(self, key: str) -> Melted | None:
        """Whether an order was carried out by now."""
        self.asked[key] += 1
        if self.asked[key] >= ASKED_UNTIL_SETTLED:
            self.settle(key)
        return self.melts.get(key)

    async def sign(self, quote: str, counter: int, amount: int) -> tuple[tuple[str, int], ...]:
        """Sign the secret of a counter for a paid quote; a quote is issued once, and answered again."""
        if quote not in self.issued:
            self.signed[f"counter {counter}"] += 1
            self.issued[quote] = ((f"proof-{quote}-{counter}", amount),)
            self.unspent |= dict(self.issued[quote])
        return self.issued[quote]

    def settle(self, key: str) -> None:
        if key in self.orders:
            self._melt(key, self.orders.pop(key))

    def _melt(self, key: str, order: Order) -> Melted:
        if not all(proof in self.unspent for proof in order.proofs):
            raise RejectedError("the mint answered 400: proofs are already spent", code=11001)
        given = sum(self.unspent[proof] for proof in order.proofs)
        if given < order.amount:
            raise RejectedError("the mint answered 400: not enough inputs", code=11002)
        for proof in order.proofs:
            del self.unspent[proof]
        change = ((f"proof-{key}-change", given - order.amount),) if given > order.amount else ()
        self.unspent |= dict(change)
        self.paid[order.invoice] += 1
        self.melts[key] = Melted(f"preimage-of-{order.invoice}", change)
        return self.melts[key]


@dataclass(slots=True)
class Bank:
    """Makes transfers out of an account with it.

    Attributes:
        transfers: the reference of each, by the key that it was asked for with.
        sent: how often money was sent to each payee.
    """

    transfers: dict[str, str] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    payees: dict[str, str] = field(default_factory=dict)

    async def transfer(self, key: str, payee: str, amount: int) -> str:
        """Send money; the same key is the same transfer."""
        if key not in self.transfers:
            self.sent[payee] += 1
            self.transfers[key] = f"tx-{len(self.transfers) + 1}"
            self.payees[self.transfers[key]] = payee
        return self.transfers[key]

    async def open_transfer(self, payee: str, amount: int) -> str:
        """Send money, as banks without keys have it: each call is another transfer. Answers with its reference."""
        return await self.transfer(f"call {len(self.transfers) + 1}", payee, amount)

    async def find(self, payee: str) -> str | None:
        """The transfer to a payee, if there is one."""
        return next((reference for reference, to in self.payees.items() if to == payee), None)


@dataclass(slots=True)
class Desk:
    """The app's own back office, on another machine: a journal, the state of orders, and a signer.

    Attributes:
        lines: how often each line was written.
        states: of each order, what it was set to, in order.
        sessions: how often each nonce was used.
    """

    lines: Counter[str] = field(default_factory=Counter)
    states: dict[str, list[str]] = field(default_factory=dict)
    sessions: Counter[str] = field(default_factory=Counter)

    async def append(self, line: str) -> None:
        self.lines[line] += 1

    async def set_state(self, order: str, state: str) -> None:
        self.states.setdefault(order, []).append(state)

    async def sign(self, nonce: str, payment: str) -> str:
        """Sign together: each call is a session of its own, with a challenge of its own."""
        self.sessions[nonce] += 1
        return f"signature of {payment} in session {self.sessions[nonce]}"
