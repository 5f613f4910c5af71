"""Restore: bring coins back from the seed alone (NUT-13), with the signatures that the mint has kept (NUT-09).

    scanning ──the next batch, of each keyset in turn──▶ scanning ── … ──▶ done

A step asks for the signatures on one batch of outputs and for the states of the coins that they make. One write then
adds those that are unspent, raises the keyset's counter past what was used, and moves on; so it may end anywhere and
goes on from there, and what came back can be spent at once.

NUT-13 ends a keyset after three batches of 100 without a signature. Here that holds for a keyset that has none at all.
After the last signature of one that was used it takes ten: outputs that were never signed lie in a row where payments
failed one after the other, up to twenty for each, and what comes behind them must not be lost. Whatever the wallet's
own counter has passed is looked at in any case.

A restore may run in a wallet that is in use, in another process even. A coin must not be given to the ledger as free
while another action, whose output it is, means to give it away. So, in this order: the mint's answer is read, then the
plans of all actions that have not ended, then the ledger. An output that is signed by the time of the answer had its
plan on disk before its request left (L-S6). Then either its action still has the plan, and the output is left to it; or
the action is past it, and the ledger has the coin, spent, reserved or free, as the action wrote it, and keeps it so. A
counter that is taken later makes an output that was not signed by the time of the answer. Which actions start or end in
between makes no difference, and no lock is needed.

What this does not know: a token that another life of the seed handed out and that nobody has claimed yet looks like
any other coin, and comes back. And two files of one seed that are in use at the same time take each other's coins for
their own; a seed belongs to one file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, Field

from wallet_actions.action import PERSISTED, Action
from wallet_actions.cashu.answers import SpendState
from wallet_actions.cashu.claims import claimed
from wallet_actions.cashu.crypto import y_of
from wallet_actions.cashu.derivation import MAX_COUNTER
from wallet_actions.cashu.doubt import TIMES_TO_BELIEVE, DoubtfulPhase
from wallet_actions.cashu.errors import MintLiedError
from wallet_actions.cashu.facts import TransactionState, transaction_fact
from wallet_actions.cashu.keyset_ids import is_supported, keyset_version
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.outputs import BLANK_AMOUNT, Output, is_signed, unblind_change
from wallet_actions.cashu.proofs import BlindSignature, Proof, coin_of
from wallet_actions.cashu.wallet import CashuWallet, counter_of, public_id
from wallet_actions.coins import MAX_AMOUNT, Fact
from wallet_actions.errors import RejectedError, TransientError
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

CHECK, RESTORE, DLEQ = 7, 9, 12
BATCH = 100
MOST_EMPTY, MOST_EMPTY_IF_USED = 3, 10  # batches in a row
USUAL_UNIT = "sat"


class Tally(BaseModel):
    """What a restore has come to so far.

    Attributes:
        amounts: by unit, what came back.
        coins: in how many coins.
        pending: by unit, what the mint holds as pending; it is not taken back, and may be found by a later restore.
        unusable: signatures that the mint's keys do not bear out, or for amounts that it has no key for; left out.
        unread: the ids of keysets that could not be read to their end.
        asked: how many outputs the mint was asked for.
    """

    model_config = PERSISTED

    amounts: dict[str, int] = Field(default_factory=dict)
    coins: int = 0
    pending: dict[str, int] = Field(default_factory=dict)
    unusable: int = 0
    unread: tuple[str, ...] = ()
    asked: int = 0


class Restored(Tally):
    """What a `Restore` ends with. Attributes as in `Tally`.

    Attributes:
        mint: the mint's URL.
        unsupported: the ids of keysets that this code cannot hold coins of; they were passed over.
    """

    mint: str
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """How far a restore is.

    Attributes:
        keysets, keysets_done: how many there are to read, and how many of them have been.
        asked: how many outputs the mint was asked for.
        amounts: by unit, what came back so far.
        coins: in how many coins.
    """

    keysets: int
    keysets_done: int
    asked: int
    amounts: Mapping[str, int]
    coins: int

    @property
    def is_complete(self) -> bool:
        """Whether every keyset has been read."""
        return self.keysets_done == self.keysets


class KeysetToScan(BaseModel):
    """A keyset that the restore goes through."""

    model_config = PERSISTED

    id: str
    unit: str


class Scanning(DoubtfulPhase):
    """On its way through the keysets.

    Attributes:
        done: how many of the keysets have been read.
        next_counter: where the next batch of the one after those begins.
        empty: how many batches in a row, up to there, had no signature.
        is_used: whether one before those had.
        tally: what came of it so far.
    """

    done: int = 0
    next_counter: int = 0
    empty: int = 0
    is_used: bool = False
    tally: Tally = Tally()


class Restore(Action[CashuWallet, Scanning, Restored], kind="cashu_restore"):
    """Bring back what the seed owns at one mint: coins of all units and of all keysets, in use or not.

    Start it with its row in the history: `engine.start(restore, restore.opening)`.

    Attributes:
        mint: its URL, in the form that names its account.
        run: how many restores of this mint there were before in this wallet.
        keysets: what there is to read.
        unsupported: the ids of keysets that this code cannot hold coins of.
        unit: whose amount its row in the history shows; another unit that comes back has a row of its own.
        asked_at: when it was asked for.
    """

    mint: str
    run: int
    keysets: tuple[KeysetToScan, ...]
    unsupported: tuple[str, ...]
    unit: str
    asked_at: AwareDatetime

    @classmethod
    async def of(cls, wallet: CashuWallet, mint_url: str, *, run: int = 0) -> Self:
        """Ask a mint for its keysets. Nothing is written yet.

        Args:
            run: see `next_run`.
        Raises:
            UsageError: not a mint's address.
            RejectedError: the mint lacks what a restore depends on.
            TransientError: the mint did not answer.
        """
        mint = wallet.mint(mint_url)
        await mint.require(CHECK, RESTORE, DLEQ)
        infos = sorted(await mint.listed(), key=lambda info: (not info.active, info.unit, info.id))
        keysets = tuple(KeysetToScan(id=info.id, unit=info.unit) for info in infos if is_supported(info.id))
        units = sorted({keyset.unit for keyset in keysets})
        return cls(
            mint=mint.url,
            run=run,
            keysets=keysets,
            unsupported=tuple(sorted(info.id for info in infos if not is_supported(info.id))),
            unit=USUAL_UNIT if USUAL_UNIT in units or not units else units[0],
            asked_at=wallet.clock.now(),
            phase=Scanning(),
        )

    @property
    def id(self) -> str:
        """The mint and the number of the run."""
        return restore_id(self.mint, self.run)

    @property
    def progress(self) -> RestoreProgress:
        """How far it is."""
        tally = self.phase.tally
        return RestoreProgress(len(self.keysets), self.phase.done, tally.asked, tally.amounts, tally.coins)

    @property
    def opening(self) -> Changes:
        """What goes with its start: its row in the history."""
        notes = [f"{len(self.unsupported)} keysets of an unsupported version are passed over"]
        return self._outcome(TransactionState.PENDING, Tally(), notes=notes if self.unsupported else [])

    async def advance(self, wallet: CashuWallet) -> Transition[Self, Restored]:
        """Read one batch."""
        if self.phase.done == len(self.keysets):
            return self._ended()
        try:
            return await self._batch(wallet, self.keysets[self.phase.done])
        except MintLiedError as lie:
            return self._unreadable(str(lie))

    async def on_rejection(self, wallet: CashuWallet, error: RejectedError) -> Transition[Self, Restored]:
        """One keyset that the mint does not tell of is no reason to leave the coins of the others (L-C13)."""
        return self._unreadable(str(error))

    async def on_cancel(self, wallet: CashuWallet) -> Transition[Self, Restored] | None:
        """Possible at any time; what has come back stays."""
        changes = self._outcome(TransactionState.CANCELLED, self.phase.tally)
        return Failed("given up; what had come back until then stays", changes=changes)

    async def _batch(self, wallet: CashuWallet, keyset: KeysetToScan) -> Transition[Self, Restored]:
        first = self.phase.next_counter
        count = min(BATCH, MAX_COUNTER[keyset_version(keyset.id)] + 1 - first)
        outputs = wallet.outputs(keyset.id, first, (BLANK_AMOUNT,) * count)
        found = await wallet.mint(self.mint).client.restore([output.to_message() for output in outputs])
        signed = [(output, found[output.blinded_message]) for output in outputs if output.blinded_message in found]
        own_counter = (await wallet.store.counters()).get(counter_of(keyset.id), 0)
        proofs, tally = await self._new(wallet, keyset, signed)
        used = await self._used(wallet, keyset, signed)
        phase = Scanning(
            done=self.phase.done,
            next_counter=first + count,
            empty=self.phase.empty + 1 if used is None else 0,
            is_used=self.phase.is_used or used is not None,
            tally=_sum(self.phase.tally, tally, asked=count),
        )
        is_at_end = phase.empty >= (MOST_EMPTY_IF_USED if phase.is_used else MOST_EMPTY)
        if (is_at_end and phase.next_counter >= own_counter) or count < BATCH:
            phase = Scanning(done=phase.done + 1, tally=phase.tally)
        changes: dict[str, Any] = {
            "add": [coin_of(proof, mint_url=self.mint, unit=keyset.unit) for proof in proofs],
            "counters": {} if used is None else {counter_of(keyset.id): used + 1},
            "notes": _notes(tally),
        }
        return self._moved(phase, **changes)

    async def _new(
        self, wallet: CashuWallet, keyset: KeysetToScan, signed: Sequence[tuple[Output, BlindSignature]]
    ) -> tuple[Sequence[Proof], Tally]:
        """The coins that are to be added, of outputs that the mint has signed. The order of the looks matters."""
        plans = await claimed(wallet.store, keyset.id) if signed else ()
        ours = {
            y_of(output.secret): (output, signature)
            for output, signature in signed
            if not any(output.counter in plan for plan in plans)
        }
        known = {coin.id for coin in await wallet.store.coins_by_id(ours)} if ours else set()
        new = {y: pair for y, pair in ours.items() if y not in known}
        states = await wallet.mint(self.mint).client.check(list(new)) if new else ()
        unspent: list[tuple[Output, BlindSignature]] = []
        pending = 0
        for (output, signature), state in zip(new.values(), states, strict=True):
            if state is SpendState.UNSPENT:
                unspent.append((output, signature))
            elif state is SpendState.PENDING:
                pending += signature.amount
        proofs = await self._unblinded(wallet, keyset, unspent)
        amount = sum(proof.amount for proof in proofs)
        return proofs, Tally(
            amounts={keyset.unit: amount} if amount else {},
            coins=len(proofs),
            pending={keyset.unit: pending} if pending else {},
            unusable=len(unspent) - len(proofs),
        )

    async def _used(
        self, wallet: CashuWallet, keyset: KeysetToScan, signed: Sequence[tuple[Output, BlindSignature]]
    ) -> int | None:
        """The last counter that was used for certain.

        Only signatures that verify count: a mint that lists the keyset of another one could otherwise keep the restore
        busy for ever, and push the counter so far that the next restore would not find what comes after.
        """
        if not signed:
            return None
        keys = await self._keys(wallet, keyset)
        return next((output.counter for output, by in reversed(signed) if is_signed(output, by, keys)), None)

    async def _keys(self, wallet: CashuWallet, keyset: KeysetToScan) -> Keyset:
        mint = wallet.mint(self.mint)
        if keyset.id not in await mint.known({keyset.id}):
            raise MintLiedError("a keyset that was listed before is not any more")
        return await mint.keyset(keyset.id)

    async def _unblinded(
        self, wallet: CashuWallet, keyset: KeysetToScan, unspent: Sequence[tuple[Output, BlindSignature]]
    ) -> Sequence[Proof]:
        if not unspent:
            return ()
        keys = await self._keys(wallet, keyset)
        proofs: list[Proof] = []
        for output, signature in unspent:
            try:
                proofs += unblind_change([output], [signature], keys, most=MAX_AMOUNT)
            except MintLiedError:
                continue  # counted by who called: one bad signature is no reason to leave the others (L-C13)
        return proofs

    def _unreadable(self, reason: str) -> Transition[Self, Restored]:
        """Look again, and pass the keyset over once the mint has given no use of it several times."""
        doubts = self.phase.doubts + 1
        if doubts < TIMES_TO_BELIEVE:
            again = Scanning.model_validate({**self.phase.__dict__, "doubts": doubts})
            return Park(self.at(again), wake_after=self.retry.delay(doubts), error=TransientError(reason))
        tally = self.phase.tally
        unread = Tally.model_validate({**tally.__dict__, "unread": (*tally.unread, self.keysets[self.phase.done].id)})
        phase = Scanning(done=self.phase.done + 1, tally=unread)
        return self._moved(phase, notes=[f"a keyset could not be read: {reason}"])

    def _moved(self, phase: Scanning, **changes: Any) -> Next[Self]:
        if phase.tally.amounts == self.phase.tally.amounts:
            return Next(self.at(phase), changes=Changes(**changes))
        return Next(self.at(phase), changes=self._outcome(TransactionState.PENDING, phase.tally, **changes))

    def _ended(self) -> Done[Restored] | Failed:
        tally = self.phase.tally
        if tally.unread and len(tally.unread) == len(self.keysets) and not tally.coins:
            return Failed(
                "none of the mint's keysets could be read", changes=self._outcome(TransactionState.FAILED, tally)
            )
        restored = Restored(mint=self.mint, unsupported=self.unsupported, **tally.__dict__)
        return Done(restored, changes=self._outcome(TransactionState.DONE, tally))

    def _outcome(self, state: TransactionState, tally: Tally, **changes: Any) -> Changes:
        return Changes(
            facts=[self._row(state, self.unit, tally)]
            + [self._row(state, unit, tally) for unit in sorted(tally.amounts) if unit != self.unit],
            **changes,
        )

    def _row(self, state: TransactionState, unit: str, tally: Tally) -> Fact:
        return transaction_fact(
            self.key,
            mint=self.mint,
            unit=unit,
            amount=tally.amounts.get(unit, 0),
            state=state,
            at=self.asked_at,
            part=None if unit == self.unit else unit,
        )


def restore_id(mint_url: str, run: int) -> str:
    """What names a restore: `mint_url` as `Restore.mint` has it."""
    return f"{public_id(mint_url)}-{run}"


def _sum(one: Tally, other: Tally, *, asked: int) -> Tally:
    return Tally(
        amounts=_added(one.amounts, other.amounts),
        coins=one.coins + other.coins,
        pending=_added(one.pending, other.pending),
        unusable=one.unusable + other.unusable,
        unread=one.unread,
        asked=one.asked + asked,
    )


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {unit: one.get(unit, 0) + other.get(unit, 0) for unit in {*one, *other}}


def _notes(tally: Tally) -> list[str]:
    notes = [f"the mint holds {amount} {unit} as pending; not taken back" for unit, amount in tally.pending.items()]
    if tally.unusable:
        notes.append(f"{tally.unusable} signatures cannot be used")
    return notes
