"""Wallets at a real mint that are driven by hand, and the oracles that look at them afterwards.

    async with Bank(mint, tmp_path) as bank:
        purse = await bank.purse()
        issue = await purse.issue(64)
        assert (await purse.finish(issue)).outcome is Outcome.DONE

Nothing waits: a drive by hand does not heed wake times. When a `Bank` closes, it holds all its purses against the
mint's own books, and searches whatever was logged, shown or recorded for secrets.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
from mnemonic import Mnemonic

from wallet_actions.action import Action
from wallet_actions.cashu import KINDS, Cashu, CashuWallet, Issue, Melt, MintClient, Seed
from wallet_actions.cashu.answers import SpendState
from wallet_actions.cashu.facts import TRANSACTION
from wallet_actions.cashu.proofs import proof_of
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.clock import Clock
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.events import Event, Observer
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.outcome import DriveMode, DriveResult, Outcome
from wallet_actions.registry import Registry
from wallet_actions.store import Store, open_store
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.transition import Changes

MINT_QUOTE = r"^/v1/mint/quote/bolt11/."
MINT = r"^/v1/mint/bolt11$"
MELT_QUOTE = r"^/v1/melt/quote/bolt11/."
MELT = r"^/v1/melt/bolt11$"
KEYSETS = r"^/v1/keysets$"
KEYS = r"^/v1/keys/."
CHECK = r"^/v1/checkstate$"
RESTORE = r"^/v1/restore$"

Alter = Callable[[Any], Any]
"""Makes something else of an answer's JSON; bytes are sent as they are."""


def plain() -> httpx.AsyncHTTPTransport:
    """What a client makes for itself, without certificates: to load them takes longer than most of a test."""
    return httpx.AsyncHTTPTransport(verify=False, retries=0)


@dataclass(slots=True)
class Liar(httpx.AsyncBaseTransport):
    """Passes everything on, and alters the answers to requests whose path fits.

    Attributes:
        lies: regular expression of the path → what becomes of the answer.
        told: how often each lie was told.
    """

    lies: dict[str, Alter] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    _real: httpx.AsyncHTTPTransport = field(default_factory=lambda: plain())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._real.handle_async_request(request)
        for path, alter in self.lies.items():
            if re.search(path, request.url.path) is None:
                continue
            body = await response.aread()
            await response.aclose()
            altered = alter(json.loads(body)) if body[:1] in b"{[" else alter(None)
            self.told[path] = self.told.get(path, 0) + 1
            status = self.statuses.get(path, response.status_code)
            if isinstance(altered, httpx.Response):
                return altered
            content = altered if isinstance(altered, bytes) else json.dumps(altered).encode()
            return httpx.Response(status, content=content)
        return response

    def be_honest(self) -> None:
        self.lies.clear()

    async def aclose(self) -> None:
        await self._real.aclose()


class Purse:
    """One wallet in one store, driven by hand; made by `Bank.purse`."""

    def __init__(
        self,
        store: Store,
        words: str,
        mint_url: str,
        *,
        clock: Clock | None,
        liar: Liar | None,
        path: Path,
        store_url: str,
    ) -> None:
        self.path = path
        self.store_url = store_url
        self.words = words
        self.mint_url = mint_url
        self.store = store
        self.seed = Seed.from_mnemonic(words)

        self.wallet = CashuWallet(
            store, self.seed, connect=lambda url: MintClient(url, transport=liar or plain()), clock=clock
        )
        self.events: list[Event] = []
        self.executor = Executor(store, self.wallet, Registry(KINDS), clock=clock, observers=[self.events.append])
        self.operator = Operator(store, clock=clock)
        self.results: list[DriveResult[Any]] = []

    async def issue(self, amount: int) -> Issue:
        issue = await Issue.of(self.wallet, self.mint_url, amount)
        await self.executor.start(issue)
        return issue

    async def melt(self, request: str) -> Melt:
        melt = await Melt.of(self.wallet, self.mint_url, request)
        await self.executor.start(melt, Changes(reserve=melt.inputs))
        return melt

    async def fund(self, *amounts: int) -> None:
        for amount in amounts:
            assert (await self.finish(await self.issue(amount))).outcome is Outcome.DONE

    async def drive(self, action: Action[Any, Any, Any]) -> DriveResult[Any]:
        """Until it parks or ends."""
        result = await self.executor.drive(action.key)
        self.results.append(result)
        return result

    async def finish(self, action: Action[Any, Any, Any], *, tries: int = 40) -> DriveResult[Any]:
        """Drive it again and again, whatever its wake time, until it does not park any more."""
        for _ in range(tries):
            result = await self.drive(action)
            if result.outcome not in (Outcome.PARKED, Outcome.SUPERSEDED, Outcome.BUSY):
                return result
        raise AssertionError(f"it still parks after {tries} drives: {result.error}")

    async def wait(self, action: Action[Any, Any, Any]) -> DriveResult[Any]:
        """Drive it to its end as a runner would, heeding wake times, whoever else drives it."""
        while True:
            result = await self.executor.drive(action.key, DriveMode.UNTIL_DONE)
            if result.outcome is not Outcome.SUPERSEDED:
                self.results.append(result)
                return result

    async def row(self, action: Action[Any, Any, Any]) -> Checkpoint:
        checkpoint = await self.store.load(action.key)
        assert checkpoint is not None
        return checkpoint

    async def coins(self, state: CoinState | None = None) -> list[Coin]:
        coins: list[Coin] = []
        while page := await self.store.coins(state=state, after=coins[-1].id if coins else ""):
            coins.extend(page)
        return coins

    async def spendable(self) -> int:
        return sum(coin.amount for coin in await self.coins(CoinState.SPENDABLE))

    async def reserved(self) -> int:
        return sum(coin.amount for coin in await self.coins(CoinState.RESERVED))

    async def actions(self) -> Sequence[Checkpoint]:
        return await self.store.list_actions(limit=10_000)

    async def unfinished(self) -> list[ActionKey]:
        return [row.key for row in await self.actions() if not row.status.is_terminal]

    async def transactions(self) -> dict[str, dict[str, Any]]:
        """The permanent record of each operation, by `kind/id`."""
        facts = [fact for _, fact in await self.store.facts(kind=TRANSACTION, limit=10_000)]
        assert len({fact.key for fact in facts}) == len(facts)
        return {fact.key: json.loads(fact.body) for fact in facts}

    async def transaction(self, action: Action[Any, Any, Any]) -> dict[str, Any]:
        return (await self.transactions())[f"{action.kind}/{action.id}"]

    async def story(self, action: Action[Any, Any, Any]) -> list[str]:
        return [
            entry.phase if entry.event == "next" else entry.event for entry in await self.operator.history(action.key)
        ]


class Bank:
    """All the wallets of a test at one mint.

    Args:
        mint: nobody else's for as long as this lasts.

    Attributes:
        slack: by how much the mint's own books may be wrong, where a test makes it sign one output for two amounts.
    """

    def __init__(self, mint: NutshellMint, folder: Path) -> None:
        self.mint = mint
        self.folder = folder
        self.purses: list[Purse] = []
        self.slack = 0
        self._before = 0
        self._stack = AsyncExitStack()
        self._log = _Log()

    async def __aenter__(self) -> Self:
        self._before = await self.mint.outstanding()
        self._log.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                await self.audit()
                await self.check_secrets()
        finally:
            self._log.stop()
            await self._stack.aclose()

    async def purse(
        self,
        *,
        url: str | None = None,
        like: Purse | None = None,
        path: Path | None = None,
        clock: Clock | None = None,
        liar: Liar | None = None,
        around: Callable[[Store], Store] = lambda store: store,
        store_url: str | None = None,
    ) -> Purse:
        """Open a wallet.

        Args:
            url: of a proxy in front of the mint.
            like: another wallet, whose seed and mint this one shares.
            path: of its file; by default a new one.
            around: put in front of its store.
            store_url: where it is, if not in a file.
        """
        words = like.words if like is not None else Mnemonic("english").generate()
        url = url or (like.mint_url if like is not None else self.mint.url)
        path = path or self.folder / f"purse-{len(self.purses)}.db"
        store_url = store_url or f"sqlite:///{path}"
        store = await self._stack.enter_async_context(around(open_store(store_url)))
        purse = Purse(store, words, url, clock=clock, liar=liar, path=path, store_url=store_url)
        await self._stack.enter_async_context(purse.wallet)
        self.purses.append(purse)
        return purse

    async def outstanding(self) -> int:
        """What the mint has signed for this test's wallets and not redeemed."""
        return await self.mint.outstanding() - self._before

    async def audit(self) -> None:
        """Hold all wallets against the mint: G4, G5, and no coin that is not one."""
        owned: dict[str, Coin] = {}
        for purse in self.purses:
            unfinished = await purse.unfinished()
            for coin in await purse.coins():
                if coin.state is not CoinState.SPENT:
                    owned[coin.id] = coin
                if coin.state is CoinState.RESERVED:
                    assert coin.holder in unfinished, "a coin is held by nobody"
            assert not await purse.store.orphans()
        async with MintClient(self.mint.url, transport=plain()) as client:
            keysets = {info.id: await client.keys(info) for info in await client.keysets()}
            for coin in owned.values():
                proof = proof_of(coin)
                assert proof.has_valid_dleq(keysets[proof.id]), "a coin that the mint did not sign"
            if spendable := [coin.id for coin in owned.values() if coin.state is CoinState.SPENDABLE]:
                states = await client.check(spendable)
                assert set(states) == {SpendState.UNSPENT}, "a coin that the mint would not take"
        has, owed = sum(coin.amount for coin in owned.values()), await self.outstanding()
        assert abs(has - owed) <= self.slack, f"the wallets have {has}, and the mint owes {owed}"

    def forget_log(self) -> None:
        """Drop what was logged so far."""
        self._log.lines.clear()

    async def check_secrets(self) -> None:
        """Search whatever was logged, shown or recorded for secrets of any wallet."""
        texts = list(self._log.lines)
        secrets: set[str] = set()
        for purse in self.purses:
            secrets |= await secrets_of(purse)
            texts += await texts_of(purse)
        text = "\n".join(texts)
        leaked = [secret for secret in secrets if secret in text]
        where = [line[:300] for line in texts if any(secret in line for secret in leaked)][:3]
        assert not leaked, f"{len(leaked)} of {len(secrets)} secrets were told: {where}"


async def secrets_of(purse: Purse) -> set[str]:
    """Whatever in a wallet is as good as money, or proves a payment."""
    secrets = {purse.words, purse.seed._seed.hex()}
    for coin in await purse.coins():
        proof = proof_of(coin)
        secrets |= {proof.secret, proof.C}
        if proof.dleq is not None:
            secrets.add(proof.dleq.r)
    for row in await purse.actions():
        state = json.loads(row.state or "{}")
        result = json.loads(row.result or "{}")
        token = state.get("phase", {}).get("token")
        secrets |= {value for value in (state.get("quote"), result.get("preimage"), token) if value}
        for proof in state.get("proofs", ()):
            secrets |= {proof["secret"], proof["C"]}
        secrets |= set(state.get("preimages", ()))
        for plan in _plans(state):
            for counter in range(plan["first_counter"], plan["first_counter"] + 20):
                pair = purse.seed.derive(plan["keyset_id"], counter)
                secrets |= {pair.secret, pair.blinding_factor.hex()}
    return secrets


def _plans(state: object) -> Iterator[dict[str, Any]]:
    """Whatever stands anywhere in a checkpoint that names a keyset and the first of some counters."""
    if isinstance(state, dict):
        if "first_counter" in state:
            yield state
        for value in state.values():
            yield from _plans(value)
    elif isinstance(state, list):
        for value in state:
            yield from _plans(value)


async def texts_of(purse: Purse) -> list[str]:
    """Whatever a wallet shows: events, rows, errors, history, what a drive answers."""
    texts = [repr(purse.wallet), repr(purse.seed), *map(repr, purse.events), *map(repr, await purse.coins())]
    for row in await purse.actions():
        texts += [repr(row), row.id, *map(repr, await purse.operator.history(row.key))]
    for result in purse.results:
        texts += [repr(result), str(result.error)]
        if result.error is not None:
            texts += traceback.format_exception(result.error)
    texts += [repr(fact) for _, fact in await purse.store.facts(limit=10_000)]
    return texts


class _Log(logging.Handler):
    """Keeps whatever anybody logs, at any level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._levels: dict[logging.Logger | logging.Handler, int] = {}

    def start(self) -> None:
        root = logging.getLogger()
        self._levels = {root: root.level, **{handler: handler.level for handler in root.handlers}}
        for handler in root.handlers:
            handler.setLevel(max(handler.level, logging.WARNING))  # others need not see all of it
        root.addHandler(self)
        root.setLevel(logging.DEBUG)

    def stop(self) -> None:
        logging.getLogger().removeHandler(self)
        for logger, level in self._levels.items():
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.__dict__}")


def app(purse: Purse, *, observers: Sequence[Observer] = ()) -> Cashu:
    """A whole app on a purse's store: it drives by itself, and waits as it would."""
    return Cashu(
        purse.store,
        purse.seed,
        connect=lambda url: MintClient(url, transport=plain()),
        observers=observers,
        poll=None,
    )
