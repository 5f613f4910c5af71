"""A mint in this process that keeps just enough state for an action to go through, and can be told to misbehave."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.unit.cashu.kit import TinyMint
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.crypto import y_of
from wallet_actions.cashu.proofs import BlindedMessage

URL = "http://mint.test"
Json = dict[str, Any]
Route = Callable[[Json], Json]


class Refusal(Exception):
    """The mint answers with an error of the protocol."""

    def __init__(self, code: int, detail: str = "no") -> None:
        super().__init__(detail)
        self.code = code


@dataclass
class FakeMint:
    """Signs what it is given, once each.

    Attributes:
        routes: method and path, or its beginning → what answers in place of the mint's own.
        requests: all that it was asked, in order, as `METHOD path`.
        signed: `B_` → the signature.
        state: of every quote.
        coins: where every coin stands; once there was a swap, those that went into one, and the others are unspent.
        swapped: `Y`s of what went in.
        change: amounts that a melt gives back.
        nuts: further parts of the protocol that it says it has, with their settings.
        pubkey: what the last quote was locked to.
    """

    tiny: TinyMint = field(default_factory=TinyMint)
    routes: dict[str, Route] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    signed: dict[str, Json] = field(default_factory=dict)
    state: str = "PAID"
    quote: str = "quote-1"
    amount: int = 10
    fee_reserve: int = 2
    change: Sequence[int] = ()
    expiry: int | None = None
    coins: str = "UNSPENT"
    swapped: set[str] = field(default_factory=set)
    nuts: Json = field(default_factory=dict)
    pubkey: str | None = None

    def client(self, url: str) -> MintClient:
        return MintClient(url, transport=httpx.MockTransport(self.handle))

    def handle(self, request: httpx.Request) -> httpx.Response:
        name = f"{request.method} {request.url.path}"
        self.requests.append(name)
        body = json.loads(request.content) if request.content else {}
        try:
            own = next((route for start, route in self.routes.items() if name.startswith(start)), None)
            return httpx.Response(200, json=(own or self.answer)(body | {"_": name}))
        except Refusal as refusal:
            return httpx.Response(400, json={"detail": str(refusal), "code": refusal.code})

    def answer(self, body: Json) -> Json:
        keyset = self.tiny.keyset
        match body.pop("_").removeprefix("GET ").removeprefix("POST ").split("/")[2:]:
            case ["info"]:
                return {"nuts": {nut: {"supported": True} for nut in ("7", "9", "12")} | self.nuts}
            case ["keysets"]:
                return {"keysets": [{"id": keyset.id, "unit": "sat", "active": True, "input_fee_ppk": 0}]}
            case ["keys", _]:
                return {"keysets": [{"id": keyset.id, "unit": "sat", "keys": dict(keyset.keys)}]}
            case ["mint", "quote", *_]:
                self.pubkey = body.get("pubkey", self.pubkey)
                quote = {"quote": self.quote, "request": "lnbc1", "state": self.state, "expiry": self.expiry}
                return quote | {"pubkey": self.pubkey}
            case ["mint", "bolt11"]:
                messages = [BlindedMessage.model_validate(output) for output in body["outputs"]]
                return {"signatures": [self.sign(message, message.amount) for message in messages]}
            case ["melt", "quote", *_]:
                return self.melt_quote()
            case ["swap"]:
                if self.coins != "UNSPENT":
                    raise Refusal(11001 if self.coins == "SPENT" else 11002)
                messages = [BlindedMessage.model_validate(output) for output in body["outputs"]]
                signatures = [self.sign(message, message.amount) for message in messages]
                self.coins = "SPENT"
                self.swapped |= {y_of(proof["secret"]) for proof in body["inputs"]}
                return {"signatures": signatures}
            case ["melt", "bolt11"]:
                self.state, self.coins = "PAID", "SPENT"
                messages = [BlindedMessage.model_validate(output) for output in body.get("outputs", ())]
                for message, amount in zip(messages, self.change, strict=False):
                    self.sign(message, amount)
                return self.melt_quote()
            case ["checkstate"]:
                old = self.swapped or body["Ys"]  # after a swap there are new ones
                return {"states": [{"Y": y, "state": self.coins if y in old else "UNSPENT"} for y in body["Ys"]]}
            case ["restore"]:
                outputs = [output for output in body["outputs"] if output["B_"] in self.signed]
                return {"outputs": outputs, "signatures": [self.signed[output["B_"]] for output in outputs]}
        raise AssertionError(body)

    def melt_quote(self) -> Json:
        return {
            "quote": self.quote,
            "amount": self.amount,
            "fee_reserve": self.fee_reserve,
            "state": self.state,
            "expiry": self.expiry,
            "change": list(self.signed.values()) if self.state == "PAID" else None,
        }

    def sign(self, message: BlindedMessage, amount: int) -> Json:
        if message.B_ in self.signed:
            raise Refusal(11003, "outputs already signed")
        signature: Json = json.loads(self.tiny.sign_one(message, amount).model_dump_json())
        self.signed[message.B_] = signature
        return signature
