"""The state machine of LND's router, without a network: which payments there are, and where each of them stands.

    (none, failed) ──send──▶ initiated ──▶ in flight ──▶ succeeded | failed

A payment that is under way or has succeeded is not sent again; one that has failed starts anew. That is how LND does
it, with the same status codes and texts (routerrpc and its control tower, 0.19 to 0.21).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import bolt11
import grpc
from bolt11.models.tags import TagChar, Tags

from wallet_actions.clock import Clock, SystemClock
from wallet_actions.lightning.invoices import PREFIXES
from wallet_actions.lightning.node import NodeIdentity, PaymentStatus

HASH_DIGITS = 64
UNKNOWN, NOT_FOUND, EXISTS = grpc.StatusCode.UNKNOWN, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS


class Fate(StrEnum):
    """What becomes of a payment."""

    SETTLE = "settle"
    FAIL = "fail"
    HOLD = "hold"


class NodeError(Exception):
    """What LND says in place of an answer.

    Attributes:
        status: a `grpc.StatusCode`.
        details: its text.
    """

    def __init__(self, status: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.status = status
        self.details = details


@dataclass(slots=True)
class Record:
    """A payment as the node has it.

    Attributes:
        states: all that it has been through since it was last started.
        refusal: why it cannot succeed, in LND's words, whatever its fate; empty where it can.
        starts: how often it was started.
        changed: set, and replaced, whenever there is a new state.
    """

    payment_hash: str
    invoice: str = field(repr=False)
    amount_msat: int
    states: list[PaymentStatus]
    fee_msat: int = 0
    failure_reason: str = ""
    refusal: str = ""
    starts: int = 1
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> PaymentStatus:
        """Where it stands."""
        return self.states[-1]

    def reach(self, status: PaymentStatus) -> None:
        """Go on to a state, and tell those who watch."""
        self.states.append(status)
        self.wake()

    def wake(self) -> None:
        """Have those who watch look again."""
        self.changed.set()
        self.changed = asyncio.Event()


class SandboxNode:
    """One node, and a payee.

    Args:
        seed: keys and preimages follow from it; None makes another one each time.

    Attributes:
        balance_msat: what its channels hold.
        fee_msat: what each payment's route costs.
        fate, reason: of payments that nobody has decided on; the reason is for those that fail, in LND's words.
        settled: how often each payment hash was paid; more than once would be a loss.
    """

    def __init__(
        self,
        *,
        network: str = "regtest",
        balance_msat: int = 10**9,
        fee_msat: int = 100,
        clock: Clock | None = None,
        seed: str | None = None,
    ) -> None:
        self.network = network
        self.clock: Clock = clock or SystemClock()
        self.balance_msat = balance_msat
        self.fee_msat = fee_msat
        self.fate = Fate.SETTLE
        self.reason = "NO_ROUTE"
        self.settled: Counter[str] = Counter()
        self.records: dict[str, Record] = {}
        self._preimages: dict[str, str] = {}
        self._decisions: dict[str, tuple[tuple[Fate, ...], str]] = {}
        self._seed = secrets.token_hex(16) if seed is None else seed
        self._drawn = 0
        self._key, self._payee = self._draw(), self._draw()
        self.pubkey = str(bolt11.decode(self.invoice(1_000, is_own=True)).payee)

    @property
    def identity(self) -> NodeIdentity:
        """Its public key and its network."""
        return NodeIdentity(self.pubkey, self.network)

    # Payees

    def invoice(
        self,
        amount_msat: int | None,
        *,
        expiry_s: int = 3600,
        age_s: int = 0,
        network: str = "",
        is_own: bool = False,
    ) -> str:
        """Make an invoice that this node can pay.

        Args:
            amount_msat: None names no amount.
            age_s: how long ago it was made.
            network: another one than the node's.
            is_own: to be paid to this node, and not by it.
        """
        preimage = self._draw()
        payment_hash = hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
        self._preimages[payment_hash] = preimage
        tags = Tags()
        tags.add(TagChar.payment_hash, payment_hash)
        tags.add(TagChar.payment_secret, self._draw())
        tags.add(TagChar.description, "sandbox")
        tags.add(TagChar.expire_time, expiry_s)
        unsigned = bolt11.Bolt11(
            currency=PREFIXES[network or self.network],
            amount_msat=None if amount_msat is None else bolt11.MilliSatoshi(amount_msat),
            date=int(self.clock.now().timestamp()) - age_s,
            tags=tags,
        )
        return str(bolt11.encode(unsigned, self._key if is_own else self._payee))

    def preimage(self, payment_hash: str) -> str:
        """The receipt of a payment."""
        return self._preimages[payment_hash]

    def decide(self, payment_hash: str, *fates: Fate, reason: str = "NO_ROUTE") -> None:
        """Say what becomes of a payment, now or when it is made.

        Args:
            fates: for each time that it is started; the last one also for all that follow.
            reason: for those that fail, in LND's words.
        """
        self._decisions[payment_hash] = fates, reason
        record = self.records.get(payment_hash)
        if record is not None and record.status is PaymentStatus.IN_FLIGHT:
            self._end(record)

    # The router

    def send(self, invoice: str, *, fee_limit_msat: int) -> Record:
        """Start a payment; `run` carries it on.

        Raises:
            NodeError: it exists already, or cannot be made.
        """
        try:
            read = bolt11.decode(invoice)
        except Exception as error:  # noqa: BLE001 whatever is wrong with it
            raise NodeError(UNKNOWN, f"checksum failed: {type(error).__name__}") from None
        if read.currency != PREFIXES[self.network]:
            raise NodeError(UNKNOWN, f"invoice not for current active network '{self.network}'")
        expires_at = datetime.fromtimestamp(read.expiry_time, UTC)
        if self.clock.now() >= expires_at:
            raise NodeError(UNKNOWN, f"invoice expired. Valid until {expires_at}")
        if not read.amount_msat:
            raise NodeError(UNKNOWN, "amount must be specified when paying a zero amount invoice")
        if str(read.payee) == self.pubkey:
            raise NodeError(UNKNOWN, "self-payments not allowed")
        old = self.records.get(read.payment_hash)
        match old.status if old else None:
            case PaymentStatus.INITIATED:
                raise NodeError(EXISTS, "payment already exists")
            case PaymentStatus.IN_FLIGHT:
                raise NodeError(EXISTS, "payment is in transition")
            case PaymentStatus.SUCCEEDED:
                raise NodeError(EXISTS, "invoice is already paid")
        record = Record(read.payment_hash, invoice, int(read.amount_msat), [PaymentStatus.INITIATED], self.fee_msat)
        if old is not None:
            record.starts = old.starts + 1
        if self.fee_msat > fee_limit_msat:
            record.refusal = "NO_ROUTE"
        if record.amount_msat + self.fee_msat > self.balance_msat:
            record.refusal = "INSUFFICIENT_BALANCE"
        self.records[record.payment_hash] = record
        return record

    def run(self, record: Record) -> None:
        """Carry a payment on by one state, as far as its fate lets it."""
        match record.status:
            case PaymentStatus.INITIATED:
                record.reach(PaymentStatus.IN_FLIGHT)
            case PaymentStatus.IN_FLIGHT:
                self._end(record)

    def track(self, payment_hash: str) -> Record:
        """Find a payment.

        Raises:
            NodeError: there is none.
        """
        if len(payment_hash) != HASH_DIGITS:
            raise NodeError(UNKNOWN, f"invalid hash length of {len(payment_hash) // 2}, want {HASH_DIGITS // 2}")
        record = self.records.get(payment_hash)
        if record is None:
            raise NodeError(NOT_FOUND, "payment isn't initiated")
        return record

    def _draw(self) -> str:
        self._drawn += 1
        return hashlib.sha256(f"{self._seed}/{self._drawn}".encode()).hexdigest()

    def _end(self, record: Record) -> None:
        fates, reason = self._decisions.get(record.payment_hash, ((self.fate,), self.reason))
        match Fate.FAIL if record.refusal else fates[min(record.starts, len(fates)) - 1]:
            case Fate.SETTLE:
                self.settled[record.payment_hash] += 1
                self.balance_msat -= record.amount_msat + record.fee_msat
                record.reach(PaymentStatus.SUCCEEDED)
            case Fate.FAIL:
                record.failure_reason = record.refusal or reason
                record.reach(PaymentStatus.FAILED)
            case Fate.HOLD:
                pass
