"""Worlds for sweeps of `Issue` and `Melt`: a wallet in a file, and a real mint whose own books are the truth."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx
from mnemonic import Mnemonic

from tests.integration.statement import history_faults
from wallet_actions.action import Action
from wallet_actions.cashu import KINDS, CashuWallet, Issue, IssueBatch, Melt, MintClient, Seed
from wallet_actions.cashu.facts import transactions
from wallet_actions.cashu.proofs import proof_of
from wallet_actions.events import Observer
from wallet_actions.executor import Executor
from wallet_actions.outcome import Outcome
from wallet_actions.registry import Registry
from wallet_actions.store import Store
from wallet_actions.testing import oracles
from wallet_actions.testing.durable import DurableWorld
from wallet_actions.testing.life import FaultKind, Life
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.testing.peers import FaultyTransport
from wallet_actions.transition import Start

ISSUE_SAT, FUNDS_SAT, MELT_SAT = 20, 64, 10
COUNTERS = 40
TELLING = {
    "GET /v1/mint/quote/bolt11/…",
    "POST /v1/mint/quote/bolt11/check",
    "GET /v1/melt/quote/bolt11/…",
    "POST /v1/melt/bolt11",
}
"""What tells of a payment."""

FAILS = {"fakewallet_pay_invoice_state": "FAILED", "fakewallet_payment_state": "FAILED"}
SETTLES = {"fakewallet_pay_invoice_state": "PENDING", "fakewallet_payment_state": "SETTLED"}
FAILS_LATER = {"fakewallet_pay_invoice_state": "PENDING", "fakewallet_payment_state": "FAILED"}


def plain_http() -> httpx.AsyncHTTPTransport:
    """Without certificates, which take longer to load than the mint to answer."""
    return httpx.AsyncHTTPTransport(verify=False)


class CashuWorld(DurableWorld[CashuWallet]):
    """One wallet with a seed of its own, at a mint that nobody else uses meanwhile.

    Args:
        mint: where the world is made to be swept; the processes find its address in the folder.
    """

    kinds: ClassVar[Sequence[Any]] = KINDS
    faults: ClassVar[Sequence[FaultKind]] = tuple(fault for fault in FaultKind if fault is not FaultKind.REFUSED)

    def __init__(self, folder: Path | None = None, *, mint: NutshellMint | None = None) -> None:
        super().__init__(folder)
        self._mint = mint
        self._before = 0
        self._wallets: list[CashuWallet] = []
        self._transports: list[httpx.AsyncHTTPTransport] = []
        self._told: set[str] = set()

    # What every process finds in the folder

    def setting(self, name: str) -> str:
        return (self.folder / name).read_text()

    @property
    def seed(self) -> Seed:
        return Seed.from_mnemonic(self.setting("words"))

    def wallet(self, life: Life, store: Store) -> CashuWallet:
        def connect(url: str) -> MintClient:
            transport = plain_http()
            self._transports.append(transport)
            return MintClient(url, transport=FaultyTransport(transport, life), clock=self.clock)

        wallet = CashuWallet(store, self.seed, connect=connect, clock=self.clock)
        self._wallets.append(wallet)
        return wallet

    @asynccontextmanager
    async def process(self, life: Life, observers: Sequence[Observer] = ()) -> AsyncIterator[Executor]:
        async with super().process(life, observers) as executor:
            try:
                yield executor
            finally:
                while self._wallets:
                    await self._wallets.pop().__aexit__()

    async def close(self) -> None:
        # Also after the process: what was still on its way went out when it was dead, over a connection of its own.
        while self._transports:
            await self._transports.pop().aclose()
        await super().close()

    def exempt(self, fault: FaultKind, name: str) -> bool:
        return fault is FaultKind.CONTRADICTION and name not in TELLING

    def contradict(self, name: str, answer: Any) -> Any:
        """What was paid, or is being paid, is suddenly not (L-C5, L-P6)."""
        answer.read()
        if answer.status_code != httpx.codes.OK:
            return answer
        told = answer.json()
        return httpx.Response(200, json=list(map(_unpaid, told)) if isinstance(told, list) else _unpaid(told))

    # What the sweeping process does

    async def prepare(self, store: Store) -> None:
        mint = self._mint
        assert mint is not None
        self._before = await mint.outstanding()
        (self.folder / "url").write_text(mint.url)
        (self.folder / "words").write_text(Mnemonic("english").generate())

        def connect(url: str) -> MintClient:
            return MintClient(url, transport=plain_http())

        async with CashuWallet(store, self.seed, connect=connect, clock=self.clock) as wallet:
            action = await self.order(store, wallet, mint)
        (self.folder / "action.json").write_text(Registry(KINDS).of(action).encode(action))

    async def order(self, store: Store, wallet: CashuWallet, mint: NutshellMint) -> Action[CashuWallet, Any, Any]:
        """The action to be swept."""
        return await Issue.of(wallet, mint.url, ISSUE_SAT)

    async def owed(self) -> oracles.Sums:
        assert self._mint is not None
        return {(self._mint.url, "sat"): await self._mint.outstanding() - self._before}

    def secrets(self) -> Iterable[str]:
        return self._told

    async def check(self, said: Iterable[str] = ()) -> list[str]:
        async with self.store() as store:
            keysets = {proof_of(coin).id for coin in await oracles.all_coins(store)}
            self._told = {self.setting("words"), *_quote(self.setting("action.json"))}
            seed = self.seed
            for keyset in keysets:
                for counter in range(COUNTERS):
                    pair = seed.derive(keyset, counter)
                    self._told |= {pair.secret, pair.blinding_factor.hex()}
        return [*await super().check(said), *await self.bookkeeping()]

    async def bookkeeping(self) -> list[str]:
        """What is wrong with the history (L-S11, L-S12)."""
        async with self.store() as store:
            return await history_faults(store)

    async def ending(self) -> dict[str, object]:
        """Without ids, which are different in each world, and without sums, which the mint's books tell."""
        async with self.store() as store:
            end: dict[str, object] = {
                f"action {action.kind}": action.status.value for action in await oracles.all_actions(store)
            }
            for _, fact in await store.facts():
                end[f"fact {fact.kind} {fact.key.partition('/')[0]}"] = "there"
            # What a payment costs is up to the mint, which asks less for one that it finds by itself.
            end["rows"] = [
                (row.operation, row.amount, row.state, row.memo, row.counterpart is None)
                async for row in transactions(store)
            ]
            return end


class MeltWorld(CashuWorld):
    """The same with coins, and an invoice to pay."""

    async def order(self, store: Store, wallet: CashuWallet, mint: NutshellMint) -> Action[CashuWallet, Any, Any]:
        executor = Executor(store, wallet, Registry(KINDS), clock=self.clock)
        issue = await Issue.of(wallet, mint.url, FUNDS_SAT)
        await executor.start(issue)
        result = await executor.drive(issue.key)
        assert result.outcome is Outcome.DONE
        return await Melt.of(wallet, mint.url, await mint.invoice(MELT_SAT))


class BatchWorld(CashuWorld):
    """A wallet with two invoices that are paid."""

    async def order(self, store: Store, wallet: CashuWallet, mint: NutshellMint) -> Action[CashuWallet, Any, Any]:
        return await IssueBatch.of(wallet, mint.url, [ISSUE_SAT, 2 * ISSUE_SAT])


def issue(world: CashuWorld) -> Start:
    action = Issue.model_validate_json(world.setting("action.json"))
    return Start(action, action.opening)


def batch(world: CashuWorld) -> Start:
    action = IssueBatch.model_validate_json(world.setting("action.json"))
    return Start(action, action.opening)


def melt(world: CashuWorld) -> Start:
    action = Melt.model_validate_json(world.setting("action.json"))
    return Start(action, action.opening)


def _unpaid(quote: dict[str, Any]) -> dict[str, Any]:
    unpaid = {"state": "UNPAID", "payment_preimage": None, "change": None}
    return {**quote, **{field: value for field, value in unpaid.items() if field in quote}}


def _quote(action: str) -> list[str]:
    """The secret name of what the action is about, where it is a quote."""
    quote = json.loads(action).get("quote")
    return [] if quote is None else [quote]
