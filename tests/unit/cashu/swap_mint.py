"""A mint in this process that swaps as a real one does, keeps books of its coins, and misbehaves by a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx
from coincurve import PrivateKey

from tests.unit.cashu.fake_mint import URL, FakeMint, Json, Refusal
from tests.unit.cashu.kit import prove, scalar, sign
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.action import Action
from wallet_actions.cashu import KINDS, CashuWallet, Issue, Seed
from wallet_actions.cashu.crypto import parse_point, y_of
from wallet_actions.cashu.facts import TRANSACTION
from wallet_actions.cashu.keyset_ids import derive_v1, derive_v2
from wallet_actions.cashu.proofs import BlindedMessage, Proof
from wallet_actions.coins import Coin, CoinState
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.registry import Registry
from wallet_actions.store import Store
from wallet_actions.testing.clock import FakeClock

Answer = Json | httpx.Response
Turn = Callable[["SwapMint", Json], Answer]
"""What becomes of one request to swap."""


@dataclass(eq=False)
class Sheet:
    """A keyset of the mint.

    Attributes:
        base: what its keys are made of.
        powers: how many denominations it has: 1, 2, 4, ….
    """

    base: int
    fee_ppk: int = 0
    is_active: bool = True
    is_listed: bool = True
    version: int = 2
    powers: int = 10
    unit: str = "sat"

    @cached_property
    def private_keys(self) -> dict[int, PrivateKey]:
        return {2**power: PrivateKey(scalar(self.base + power)) for power in range(self.powers)}

    @cached_property
    def keys(self) -> dict[int, str]:
        return {amount: key.public_key.format().hex() for amount, key in self.private_keys.items()}

    @cached_property
    def id(self) -> str:
        if self.version == 1:
            return derive_v1(self.keys)
        return derive_v2(self.keys, unit=self.unit, input_fee_ppk=self.fee_ppk)

    @property
    def info(self) -> Json:
        return {"id": self.id, "unit": self.unit, "active": self.is_active, "input_fee_ppk": self.fee_ppk}


@dataclass
class SwapMint(FakeMint):
    """Attributes:
    sheets: its keysets.
    states: `Y` → state, of coins that are not unspent.
    script: what becomes of the next requests to swap, one after another; then they are carried out.
    swaps: the bodies of all requests to swap.
    retired_code: what it says of a keyset that is not in use.
    """

    sheets: list[Sheet] = field(default_factory=lambda: [Sheet(1000)])
    states: dict[str, str] = field(default_factory=dict)
    script: list[Turn] = field(default_factory=list)
    swaps: list[bytes] = field(default_factory=list)
    retired_code: int = 12002

    def handle(self, request: httpx.Request) -> httpx.Response:
        name = f"{request.method} {request.url.path}"
        self.requests.append(name)
        body = json.loads(request.content) if request.content else {}
        own = next((route for start, route in self.routes.items() if name.startswith(start)), None)
        try:
            if own is not None:
                answer: Answer = own(body | {"_": name})
            elif name == "POST /v1/swap":
                self.swaps.append(request.content)
                turn = self.script.pop(0) if self.script else carry_out
                answer = turn(self, body)
            else:
                answer = self.answer(body | {"_": name})
        except Refusal as refusal:
            return httpx.Response(400, json={"detail": str(refusal), "code": refusal.code})
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def answer(self, body: Json) -> Json:
        match body["_"].split("/")[2:]:
            case ["keysets"]:
                return {"keysets": [sheet.info for sheet in self.sheets if sheet.is_listed]}
            case ["keys", id]:
                sheet = self.sheet(id)
                if not sheet.is_listed:
                    raise Refusal(12001, "keyset not known")
                return {"keysets": [{"id": id, "unit": sheet.unit, "keys": dict(sheet.keys)}]}
            case ["checkstate"]:
                return {"states": [{"Y": y, "state": self.states.get(y, "UNSPENT")} for y in body["Ys"]]}
        return super().answer(body)

    def sheet(self, id: str) -> Sheet:
        return next(sheet for sheet in self.sheets if sheet.id == id)

    def swap(self, body: Json) -> Json:
        """Carry a swap out, or refuse it, in the order in which Nutshell looks."""
        ys = [y_of(proof["secret"]) for proof in body["inputs"]]
        messages = [BlindedMessage.model_validate(output) for output in body["outputs"]]
        states = {self.states.get(y, "UNSPENT") for y in ys}
        for state, code in {"SPENT": 11001, "PENDING": 11002}.items():
            if state in states:
                raise Refusal(code, state)
        for message in messages:
            if not self.sheet(message.id).is_active:
                raise Refusal(self.retired_code, "keyset inactive")
            if message.B_ in self.signed:
                raise Refusal(11003, "outputs already signed")
        fee = (sum(self.sheet(proof["id"]).fee_ppk for proof in body["inputs"]) + 999) // 1000
        if sum(proof["amount"] for proof in body["inputs"]) - fee != sum(message.amount for message in messages):
            raise Refusal(11005, "not balanced")
        self.states |= dict.fromkeys(ys, "SPENT")
        return {"signatures": [self.sign(message, message.amount) for message in messages]}

    def sign(self, message: BlindedMessage, amount: int) -> Json:
        if message.B_ in self.signed:
            raise Refusal(11003, "outputs already signed")
        point, key = parse_point(message.B_), self.sheet(message.id).private_keys[amount]
        e, s = prove(point, key)
        made = {"amount": amount, "id": message.id, "C_": sign(point, key).format().hex()}
        self.signed[message.B_] = made | {"dleq": {"e": e.hex(), "s": s.hex()}}
        return self.signed[message.B_]

    def rotate(self, fee_ppk: int = 0, *, version: int = 2) -> Sheet:
        """Retire all keysets for a new one."""
        for sheet in self.sheets:
            sheet.is_active = False
        self.sheets.append(Sheet(1000 * (len(self.sheets) + 1), fee_ppk=fee_ppk, version=version))
        return self.sheets[-1]

    def count(self, name: str) -> int:
        return sum(asked.startswith(name) for asked in self.requests)


# Turns


def carry_out(mint: SwapMint, body: Json) -> Json:
    return mint.swap(body)


def refusing(code: int | None, *, status: int = 400) -> Turn:
    body = {"detail": "no"} | ({} if code is None else {"code": code})
    return lambda mint, _: httpx.Response(status, json=body)


def lost(mint: SwapMint, body: Json) -> Answer:
    """The request never arrives, or its answer never comes: nobody can tell."""
    raise httpx.ReadTimeout("lost")


def lost_after(mint: SwapMint, body: Json) -> Answer:
    """The swap is made, and its answer is lost."""
    mint.swap(body)
    raise httpx.ReadTimeout("lost")


def bad_gateway_after(mint: SwapMint, body: Json) -> Answer:
    mint.swap(body)
    return httpx.Response(502, text="<html>Bad Gateway</html>")


def dies_with(*, is_signed: bool) -> Turn:
    """The mint dies in the act, before or after it signs: the inputs stay pending."""

    def die(mint: SwapMint, body: Json) -> Answer:
        if is_signed:
            mint.swap(body)
        mint.states |= {y_of(proof["secret"]): "PENDING" for proof in body["inputs"]}
        raise httpx.ReadError("connection reset")

    return die


@dataclass
class Queue:
    """Holds a request back, to deliver it late; the sender hears nothing."""

    held: list[Json] = field(default_factory=list)

    def __call__(self, mint: SwapMint, body: Json) -> Answer:
        self.held.append(body)
        raise httpx.ReadTimeout("lost")

    def deliver(self, mint: SwapMint) -> None:
        for body in self.held:
            mint.swap(body)


# A wallet at it


class Bench:
    """A wallet at a `SwapMint`, driven by hand."""

    def __init__(self, store: Store, *sheets: Sheet) -> None:
        self.store = store
        self.mint = SwapMint(sheets=list(sheets) or [Sheet(1000)])
        self.clock = FakeClock()
        self.wallet = self.reopened()
        self.executor = Executor(store, self.wallet, Registry(KINDS), clock=self.clock)
        self.operator = Operator(store, clock=self.clock)

    def reopened(self) -> CashuWallet:
        """The wallet in another process: what the last one knew of the mint is gone."""
        seed = Seed.from_mnemonic(MNEMONIC)
        return CashuWallet(self.store, seed, connect=self.mint.client, clock=self.clock)

    async def fund(self, *amounts: int) -> list[Proof]:
        """Coins, each of a quote of its own."""
        for amount in amounts:
            self.mint.quote, self.mint.state = f"fund-{len(self.mint.requests)}", "PAID"
            issue = await Issue.of(self.wallet, URL, amount)
            await self.executor.start(issue, issue.opening)
            assert (await self.drive(issue)).outcome is Outcome.DONE
        return list(await self.wallet.proofs([coin.id for coin in await self.coins()]))

    async def drive(self, action: Action[Any, Any, Any]) -> DriveResult[Any]:
        return await self.executor.drive(action.key)

    async def start(self, action: Any) -> Any:
        await self.executor.start(action, action.opening)
        return action

    async def coins(self, state: CoinState = CoinState.SPENDABLE) -> Sequence[Coin]:
        return await self.store.coins(state=state)

    async def amounts(self, state: CoinState = CoinState.SPENDABLE) -> list[int]:
        return sorted(coin.amount for coin in await self.coins(state))

    async def transaction(self, action: Action[Any, Any, Any]) -> Json:
        ((_, fact),) = await self.store.facts(kind=TRANSACTION, key=f"{action.kind}/{action.id}")
        row: Json = json.loads(fact.body)
        return row

    async def notes(self, action: Action[Any, Any, Any]) -> list[str]:
        return [note for entry in await self.store.history(action.key) for note in entry.notes]
