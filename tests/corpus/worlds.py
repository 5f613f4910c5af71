"""The world in which the checkpoints were recorded: a stand-in mint, whose books fit in a file.

Its keys, the wallet's seed and all quotes are those of a test: nothing in the files is worth anything. To record what a
new schema version writes, and nothing else: `python -m tests.corpus.worlds`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import httpx
from pydantic import JsonValue

from tests.unit.cashu.kit import TinyMint
from wallet_actions.cashu import (
    KINDS,
    CashuWallet,
    Issue,
    IssueBatch,
    Melt,
    MintClient,
    Receive,
    Restore,
    Seed,
    Send,
    Swap,
)
from wallet_actions.cashu.amounts import split
from wallet_actions.cashu.crypto import y_of
from wallet_actions.cashu.outputs import outputs_for, unblind_all
from wallet_actions.cashu.proofs import BlindedMessage, Proof, coin_of
from wallet_actions.coins import Coin
from wallet_actions.executor import Executor
from wallet_actions.store import Store
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.corpus import record
from wallet_actions.testing.life import Life
from wallet_actions.testing.oracles import Sums, all_actions
from wallet_actions.testing.peers import FaultyTransport
from wallet_actions.testing.world import World
from wallet_actions.transition import Changes, Start

URL = "http://mint.test"
WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
PAYER = "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong"
PREIMAGE = "5e" * 32
FUNDS = (8, 4, 4)
NUTS = {str(number): {"supported": True} for number in (7, 8, 9, 10, 11, 12, 20)} | {"29": {"max_batch_size": 10}}
FOLDER = Path(__file__).with_name("checkpoints")
START = datetime(2030, 1, 1, tzinfo=UTC)
INPUTS = {"mint": URL, "unit": "sat", "input_total": sum(FUNDS), "asked_at": START}


class StandInMint:
    """A mint with plain JSON for its books, so that they can be put back. A payment is pending before it is paid."""

    def __init__(self) -> None:
        self.tiny = TinyMint()
        self.books: dict[str, Any] = {"mint": {}, "melt": {}, "signed": {}, "spent": []}

    @property
    def outstanding(self) -> int:
        signed: int = sum(entry["amount"] for entry in self.books["signed"].values())
        spent: int = sum(entry["amount"] for entry in self.books["spent"])
        return signed - spent

    async def answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        match request.url.path.removeprefix("/v1/").split("/"):
            case ["info"]:
                return _ok({"name": "stand-in", "nuts": NUTS})
            case ["keysets"]:
                return _ok({"keysets": [self.tiny.info.model_dump(mode="json")]})
            case ["keys", _]:
                keyset = self.tiny.keyset
                return _ok(
                    {
                        "keysets": [
                            {
                                "id": keyset.id,
                                "unit": "sat",
                                "keys": {str(amount): key for amount, key in keyset.keys.items()},
                            }
                        ]
                    }
                )
            case ["mint", "quote", "bolt11", "check"]:
                return _ok([self._mint_quote(quote) for quote in body["quotes"]])
            case ["mint", "bolt11", "batch"]:
                return self._mint(body["quotes"], body["outputs"])
            case ["mint", "quote", "bolt11", quote]:
                return _ok(self._mint_quote(quote))
            case ["mint", "bolt11"]:
                return self._mint([body["quote"]], body["outputs"])
            case ["swap"]:
                return self._swap(body)
            case ["melt", "quote", "bolt11", quote]:
                return _ok(self._melt_quote(quote))
            case ["melt", "bolt11"]:
                return self._melt(body)
            case ["restore"]:
                found = [one for one in body["outputs"] if one["B_"] in self.books["signed"]]
                return _ok({"outputs": found, "signatures": [self.books["signed"][one["B_"]] for one in found]})
            case ["checkstate"]:
                self._claim(body["Ys"])
                spent = {entry["y"] for entry in self.books["spent"]}
                states = [{"Y": y, "state": "SPENT" if y in spent else "UNSPENT"} for y in body["Ys"]]
                return _ok({"states": states})
            case path:
                raise AssertionError(f"the stand-in mint has no {path}")

    def sign(self, outputs: Sequence[Mapping[str, Any]], amounts: Iterable[int]) -> list[dict[str, Any]]:
        signatures = []
        for output, amount in zip(outputs, amounts, strict=False):
            signature = self.tiny.sign_one(BlindedMessage.model_validate(output), amount).model_dump(mode="json")
            self.books["signed"][output["B_"]] = signature
            signatures.append(signature)
        return signatures

    def _mint_quote(self, quote: str) -> dict[str, Any]:
        known = self.books["mint"][quote]
        if known["state"] == "UNPAID":
            known["state"] = "PAID"  # the next one who asks finds it paid
            return {**known, "state": "UNPAID"}
        return dict(known)

    def _mint(self, quotes: Sequence[str], outputs: Sequence[Mapping[str, Any]]) -> httpx.Response:
        known = [self.books["mint"][quote] for quote in quotes]
        if any(quote["state"] != "PAID" for quote in known):
            return httpx.Response(400, json={"detail": "not paid", "code": 20001})
        for quote in known:
            quote["state"] = "ISSUED"
        return _ok({"signatures": self.sign(outputs, [output["amount"] for output in outputs])})

    def _swap(self, body: Mapping[str, Any]) -> httpx.Response:
        spent = {entry["y"] for entry in self.books["spent"]}
        if any(y_of(proof["secret"]) in spent for proof in body["inputs"]):
            return httpx.Response(400, json={"detail": "spent", "code": 11001})
        if any(output["B_"] in self.books["signed"] for output in body["outputs"]):
            return httpx.Response(400, json={"detail": "signed", "code": 11003})
        self._spend(body["inputs"])
        return _ok({"signatures": self.sign(body["outputs"], [output["amount"] for output in body["outputs"]])})

    def _spend(self, inputs: Iterable[Mapping[str, Any]]) -> None:
        self.books["spent"] += [{"y": y_of(proof["secret"]), "amount": proof["amount"]} for proof in inputs]

    def _claim(self, ys: Sequence[str]) -> None:
        """A payee who has a token claims it between the first look and the second; the amount is in the books."""
        due = self.books.get("claim")
        if due is None or due.pop("is_first", False):
            return
        self.books["spent"] += [{"y": y, "amount": 0} for y in ys] + [{"y": "", "amount": due["amount"]}]
        del self.books["claim"]

    def _melt_quote(self, quote: str) -> dict[str, Any]:
        known = self.books["melt"][quote]
        if known["state"] == "PENDING":
            known["state"] = "PAID"
            return {**known, "state": "PENDING"}
        if known["state"] == "PAID":
            change = [self.books["signed"][point] for point in known["blanks"] if point in self.books["signed"]]
            return {**known, "payment_preimage": PREIMAGE, "change": change}
        return dict(known)

    def _melt(self, body: Mapping[str, Any]) -> httpx.Response:
        known = self.books["melt"][body["quote"]]
        if known.get("fails"):
            known["asked"] = known.get("asked", 0) + 1
            # The first answer is lost on the way.
            lost, failed = httpx.Response(502), httpx.Response(400, json={"detail": "no route", "code": 20004})
            return lost if known["asked"] == 1 else failed
        total = sum(proof["amount"] for proof in body["inputs"])
        change = split(total - known["amount"] - 1, self.tiny.keyset.denominations)
        known["blanks"] = [output["B_"] for output in body["outputs"]]
        self.sign(body["outputs"], change)
        self._spend(body["inputs"])
        known["state"] = "PENDING"
        return _ok(known)


def _ok(content: object) -> httpx.Response:
    return httpx.Response(200, json=content)


class MintWorld(World[CashuWallet]):
    """A wallet with coins of 64 sat, a quote that is about to be paid, and one for a payment."""

    kinds: ClassVar[Sequence[Any]] = KINDS

    def __init__(self) -> None:
        super().__init__()
        self.clock: FakeClock
        self.clock.set_wall(START)
        self.mint = StandInMint()
        issue = {"quote": "issue-quote", "request": "lnbc1", "amount": 21, "unit": "sat", "state": "UNPAID"}
        melt = {"quote": "melt-quote", "amount": 10, "fee_reserve": 2, "state": "UNPAID", "unit": "sat"}
        self.mint.books["mint"]["issue-quote"] = issue
        self.mint.books["melt"]["melt-quote"] = melt
        self.mint.books["melt"]["failing-quote"] = {**melt, "quote": "failing-quote", "fails": True}
        for number in range(3):
            self.mint.books["mint"][f"batch-quote-{number}"] = {**issue, "quote": f"batch-quote-{number}"}

    def peers(self) -> JsonValue:
        known: JsonValue = json.loads(json.dumps(self.mint.books))
        return known

    def set_peers(self, known: JsonValue) -> None:
        self.mint.books = json.loads(json.dumps(known))

    def wallet(self, life: Life, store: Store) -> CashuWallet:
        def connect(url: str) -> MintClient:
            return MintClient(url, transport=FaultyTransport(httpx.MockTransport(self.mint.answer), life))

        return CashuWallet(store, Seed.from_mnemonic(WORDS), connect=connect, clock=self.clock)

    async def settle(self, executor: Executor) -> None:
        """A person asks for a token back once it is out, where the books say so."""
        for action in await all_actions(executor.store):
            while self.mint.books.get("revoked") == action.id and not action.status.is_terminal:
                await executor.drive(action.key)
                found = await executor.store.load(action.key)
                assert found is not None
                action = found
                if action.phase == "token_created":
                    await executor.store.request_cancel(action.key, self.clock.now())
        await super().settle(executor)

    async def owed(self) -> Sums:
        return {(URL, "sat"): self.mint.outstanding}

    def secrets(self) -> Iterable[str]:
        return [WORDS, PREIMAGE, *self.mint.books["mint"], *self.mint.books["melt"]]


def issue(world: MintWorld) -> Issue:
    from wallet_actions.cashu.issue import Unpaid

    return Issue.model_validate(
        {
            "mint": URL,
            "unit": "sat",
            "amount": 21,
            "quote": "issue-quote",
            "request": "lnbc1",
            "asked_at": START,
            "key_counter": 3,
            "phase": Unpaid(),
        }
    )


def issue_batch(world: MintWorld) -> IssueBatch:
    from wallet_actions.cashu.issue_batch_phases import Unpaid

    offers = [
        {"quote": f"batch-quote-{number}", "request": f"lnbc{number}", "amount": 21, "key_counter": number or None}
        for number in range(3)
    ]
    return IssueBatch.model_validate(
        {
            "mint": URL,
            "unit": "sat",
            "offers": offers,
            "asked_at": START,
            "phase": Unpaid(waiting=(0, 1, 2)),
        }
    )


async def melt(world: MintWorld) -> Start:
    return await melt_of(world, "melt-quote")


async def failing_melt(world: MintWorld) -> Start:
    return await melt_of(world, "failing-quote")


async def melt_of(world: MintWorld, quote: str) -> Start:
    from wallet_actions.cashu.melt_phases import ProofsReserved

    coins = await funds(world)
    action = Melt.model_validate(
        {
            "mint": URL,
            "unit": "sat",
            "amount": 10,
            "quote": quote,
            "request": "lnbc1",
            "asked_at": START,
            "fee_reserve": 2,
            "inputs": tuple(sorted(coin.id for coin in coins)),
            "input_total": sum(coin.amount for coin in coins),
            "input_fee": 0,
            "phase": ProofsReserved(),
        }
    )
    return Start(action, Changes(add=coins, reserve=action.inputs))


async def swap(world: MintWorld) -> Start:
    from wallet_actions.cashu.swap import ProofsReserved

    coins = await funds(world)
    action = Swap.model_validate(
        {
            **INPUTS,
            "inputs": tuple(sorted(coin.id for coin in coins)),
            "name": "swap",
            "input_fee": 0,
            "wanted": (1, 1),
            "phase": ProofsReserved(),
        }
    )
    return Start(action, Changes(add=coins, reserve=action.inputs))


async def claimed_send(world: MintWorld) -> Start:
    world.mint.books["claim"] = {"amount": 10, "is_first": True}
    return await send_of(world, "claimed")


async def revoked_send(world: MintWorld) -> Start:
    world.mint.books["revoked"] = "revoked"
    return await send_of(world, "revoked")


async def send_of(world: MintWorld, reference: str) -> Start:
    from wallet_actions.cashu.sending import ProofsReserved

    coins = await funds(world)
    action = Send.model_validate(
        {
            **INPUTS,
            "inputs": tuple(sorted(coin.id for coin in coins)),
            "reference": reference,
            "amount": 10,
            "include_fee": False,
            "memo": "a memo",
            "condition": None,
            "version": "B",
            "is_exact": False,
            "phase": ProofsReserved(),
        }
    )
    return Start(action, Changes(add=coins, reserve=action.inputs))


def receive(world: MintWorld) -> Receive:
    from wallet_actions.cashu.receiving import ProofsPending

    proofs = signed(world, (8, 2), seed=Seed.from_mnemonic(PAYER))
    return Receive.model_validate(
        {
            "mint": URL,
            "unit": "sat",
            "memo": "a memo",
            "proofs": tuple(Proof.model_validate({**proof.__dict__, "dleq": None}) for proof in proofs),
            "coins": "token",
            "asked_at": START,
            "phase": ProofsPending(),
        }
    )


def restore(world: MintWorld) -> Restore:
    from wallet_actions.cashu.restore import KeysetToScan, Scanning

    signed(world, (8, 4, 4))
    keyset = world.mint.tiny.keyset
    return Restore(
        mint=URL,
        run=0,
        keysets=(KeysetToScan(id=keyset.id, unit="sat"),),
        unsupported=(),
        unit="sat",
        asked_at=START,
        phase=Scanning(),
    )


async def funds(world: MintWorld) -> list[Coin]:
    async with world.store() as store:
        wallet = CashuWallet(store, Seed.from_mnemonic(WORDS))
        await wallet.allocate(world.mint.tiny.keyset.id, len(FUNDS))
    return [coin_of(proof, mint_url=URL, unit="sat") for proof in signed(world, FUNDS)]


def signed(world: MintWorld, amounts: Sequence[int], *, seed: Seed | None = None) -> Sequence[Proof]:
    """Coins of the first counters of a seed."""
    keyset = world.mint.tiny.keyset
    outputs = outputs_for(seed or Seed.from_mnemonic(WORDS), keyset.id, 0, amounts)
    messages = [output.to_message() for output in outputs]
    world.mint.sign([message.model_dump(mode="json") for message in messages], amounts)
    return unblind_all(outputs, world.mint.tiny.sign(messages), keyset)


MAKES = (issue, issue_batch, melt, failing_melt, swap, claimed_send, revoked_send, receive, restore)


async def main() -> None:
    for make in MAKES:
        for path in await record(FOLDER, make, MintWorld):
            sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    asyncio.run(main())
