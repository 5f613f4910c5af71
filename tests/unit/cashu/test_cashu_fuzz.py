"""Whatever a stranger or a mint sends is understood, or refused with an error of ours: nothing else ever comes out.

Each test prints what it failed on; the loops over changed bytes follow from a seed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.cashu.giving import given as signed_coins
from tests.unit.cashu.giving import token_of
from tests.unit.cashu.kit import TinyMint
from tests.unit.cashu.swap_mint import Bench, Sheet, SwapMint, lost_after, refusing
from tests.unit.cashu.test_cashu_client import CALLS, MELT_QUOTE, MINT_QUOTE, Call, answering, coins, dumped, made
from tests.unit.cashu.token_vectors import V3, V4_MULTIPLE, V4_SINGLE
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.cashu import Receive, notify
from wallet_actions.cashu.answers import MintInfo
from wallet_actions.cashu.conditions import condition_of, locked_secret, pay_to_key
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MalformedError, MintError
from wallet_actions.cashu.melt_quotes import invoice_msat
from wallet_actions.cashu.notify import Topic, Watch
from wallet_actions.cashu.outputs import locked_outputs_for, unblind_all
from wallet_actions.cashu.proofs import Proof
from wallet_actions.cashu.tokens import Token, TokenVersion, decode_token, encode_token, inspect_token
from wallet_actions.cashu.witnesses import Keyring, is_unlocked, unlock
from wallet_actions.errors import ConfigurationError, RejectedError, TransientError, UsageError
from wallet_actions.outcome import Outcome
from wallet_actions_storage.memory import MemoryStore

SEEDS = [1, 2, 3]
MINT = TinyMint()
LOCK = pay_to_key(MINT.private_keys[1].public_key.format().hex())
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RING = Keyring([MINT.private_keys[1].secret])


def rich_token(version: TokenVersion) -> str:
    """With DLEQ proofs, witnesses, locked secrets and a memo."""
    outputs = locked_outputs_for(Seed.from_mnemonic(MNEMONIC), MINT.keyset.id, "5a" * 16, (1, 64), LOCK)
    proofs = unblind_all(outputs, MINT.sign([output.to_message() for output in outputs]), MINT.keyset)
    signed = [Proof(**{**proof.model_dump(), "witness": '{"signatures":[]}'}) for proof in proofs]
    return encode_token(
        Token(mint="https://m.example/a", unit="sat", memo="☕ für dich", proofs=tuple(signed)), version
    )


def read_everything(text: str) -> None:
    """All that is done with a token before a mint is asked; raises nothing but MalformedError."""
    try:
        summary = inspect_token(text)
        token = decode_token(text)
    except MalformedError:
        return
    assert summary.amount == token.amount
    assert decode_token(encode_token(token)).amount == token.amount
    for proof in token.proofs:
        proof.has_valid_dleq(MINT.keyset)
        try:
            assert proof.y
            condition_of(proof.secret)
            unlock([proof], RING, now=NOW)
        except MalformedError:
            continue
        is_unlocked([proof], now=NOW)


changing = pytest.mark.parametrize("seed", SEEDS)


def changed(rng: random.Random, data: bytes) -> bytes:
    """Some bytes set, put in, taken out, doubled or cut off."""
    result = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(len(result) + 1)
        match rng.randrange(6):
            case 0 | 1 if place < len(result):
                result[place] = rng.choice([rng.randrange(256), result[place] ^ (1 << rng.randrange(8))])
            case 2:
                result[place:place] = rng.choice(
                    [b"\x00", b"-", b"0", b"99999999999999999999", b"null", b"\xff", b"[", b'"']
                )
            case 3:
                del result[place : place + rng.randrange(1, 9)]
            case 4:
                end = place + rng.randrange(1, 40)
                result[place:place] = result[place:end]
            case _:
                if rng.random() < 0.2:
                    del result[place:]
    return bytes(result)


@changing
@pytest.mark.parametrize("version", list(TokenVersion))
def test_tokens_with_changed_contents(seed: int, version: TokenVersion) -> None:
    rng = random.Random(seed)
    text = rich_token(version)
    data = base64.urlsafe_b64decode(text[6:] + "=" * (-len(text[6:]) % 4))
    for _ in range(400):
        read_everything(text[:6] + base64.urlsafe_b64encode(changed(rng, data)).decode())


@changing
@pytest.mark.parametrize("text", [V3, V4_SINGLE, V4_MULTIPLE])
def test_tokens_with_changed_text(seed: int, text: str) -> None:
    rng = random.Random(seed)
    for _ in range(400):
        read_everything(changed(rng, text.encode()).decode("utf-8", "surrogateescape"))


numbers = st.integers(-3, 3) | st.sampled_from([2**63 - 1, 2**63, 2**64, -(2**63), 10**30]) | st.floats()
texts = st.text(max_size=8) | st.sampled_from(
    ["sat", "http://m.example", "00" * 8, "01" * 33, "02" + "ab" * 32, "\ud800"]
)
raw = st.binary(max_size=4) | st.sampled_from([b"\0" * 8, b"\1" * 33, b"\2" * 33, b"\3" * 32])
leaves = st.none() | st.booleans() | numbers | texts
names = [
    "m",
    "u",
    "d",
    "t",
    "i",
    "p",
    "a",
    "s",
    "c",
    "w",
    "e",
    "r",
    "token",
    "mint",
    "proofs",
    "unit",
    "memo",
    "amount",
    "id",
    "secret",
    "C",
    "dleq",
    "witness",
    "tags",
    "quote",
    "state",
    "Y",
    "signatures",
    "outputs",
    "keysets",
    "keys",
    "B_",
    "C_",
    "active",
    "request",
    "fee_reserve",
    "change",
    "states",
    "nuts",
    "expiry",
    "payment_preimage",
    "1",
    "nonce",
    "data",
]


def trees(leaf: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(names), inner, max_size=6),
        max_leaves=25,
    )


plain_leaves = st.none() | st.booleans() | numbers | texts.filter(lambda text: text != "\ud800")


@settings(deadline=None, max_examples=200)
@given(item=trees(plain_leaves | raw))
def test_v4_tokens_of_any_structure(item: object) -> None:
    read_everything("cashuB" + base64.urlsafe_b64encode(cbor2.dumps(item)).decode())


@settings(deadline=None, max_examples=200)
@given(item=trees(leaves))
def test_v3_tokens_of_any_structure(item: object) -> None:
    read_everything("cashuA" + base64.urlsafe_b64encode(json.dumps(item).encode()).decode())


@settings(deadline=None, max_examples=200)
@given(body=st.text(max_size=80), head=st.sampled_from(["", "cashu", "cashuA", "cashuB", "cashu:cashuB", "CASHU:"]))
def test_any_text_as_a_token(body: str, head: str) -> None:
    read_everything(head + body)


@settings(deadline=None, max_examples=200)
@given(kind=st.sampled_from(["P2PK", "HTLC", "X"]) | texts, body=trees(leaves))
def test_secrets_of_any_structure(kind: str, body: object) -> None:
    for secret in (json.dumps([kind, body]), json.dumps(body), json.dumps({kind: body})):
        try:
            condition_of(secret)
        except MalformedError:
            continue


@changing
def test_secrets_with_changed_text(seed: int) -> None:
    rng = random.Random(seed)
    secret = locked_secret(LOCK, "ab" * 32).encode()
    for _ in range(1_000):
        text = changed(rng, secret).decode("utf-8", "surrogateescape")
        try:
            condition = condition_of(text)
        except MalformedError:
            continue
        if condition is not None:
            sound = text.encode("utf-8", "replace").decode()
            unlock([Proof(amount=1, id=MINT.keyset.id, secret=sound, C="02" + "11" * 32)], RING, now=NOW)


# Answers of a mint.

_OUTPUTS, _MESSAGES = made()
_SIGNATURES = dumped(MINT.sign(_MESSAGES))
_KEYSET = {"id": MINT.keyset.id, "unit": "sat", "keys": {str(key): value for key, value in MINT.keyset.keys.items()}}
_METHODS = [{"method": "bolt11", "unit": "sat"}]
_NUTS = {
    "4": {"methods": _METHODS, "disabled": False},
    "7": {"supported": True},
    "15": {"methods": _METHODS},
    "17": {"supported": [{**_METHODS[0], "commands": ["proof_state"]}]},
    "29": {"supported": True, "max_batch_size": 3, "methods": ["bolt11"]},
}
ALL_CALLS: dict[str, Call] = {
    **CALLS,
    "mint_batch": lambda client: client.mint_batch({"a": 60, "b": 5}, made()[1]),
    "mint_quotes": lambda client: client.mint_quotes([str(MINT_QUOTE["quote"]), "b"]),
}
ANSWERS: dict[str, object] = {
    "info": {"name": "m", "nuts": _NUTS},
    "keysets": {"keysets": [MINT.info.model_dump()]},
    "keys": {"keysets": [_KEYSET]},
    "create_mint_quote": MINT_QUOTE,
    "mint_quote": MINT_QUOTE,
    "mint": {"signatures": _SIGNATURES},
    "mint_batch": {"signatures": _SIGNATURES},
    "mint_quotes": [MINT_QUOTE, {**MINT_QUOTE, "quote": "b", "state": "UNPAID"}],
    "swap": {"signatures": _SIGNATURES},
    "create_melt_quote": MELT_QUOTE,
    "melt_quote": {**MELT_QUOTE, "payment_preimage": "00", "change": _SIGNATURES[:1]},
    "melt": {**MELT_QUOTE, "change": _SIGNATURES[:1]},
    "check": {"states": [{"Y": coin.y, "state": "UNSPENT", "witness": None} for coin in coins()]},
    "restore": {"outputs": [message.model_dump() for message in _MESSAGES], "signatures": _SIGNATURES},
}
OURS = (TransientError, RejectedError, ConfigurationError, MalformedError)


async def understood(name: str, body: bytes, status: int = 200) -> bool:
    """Whether the client takes the answer; anything but an error of ours fails the test."""
    try:
        result = await ALL_CALLS[name](answering(body, status).client())
    except OURS:
        return False
    if isinstance(result, MintInfo):
        assert type(result.most_quotes) is int
        assert {result.supports(nut) for nut in (4, 7, 15, 17, 29)} <= {True, False}
        assert {result.offers(15, "sat"), result.announces("proof_state")} <= {True, False}
    if name in ("mint", "mint_batch", "swap"):
        try:
            unblind_all(_OUTPUTS, result, MINT.keyset)  # type: ignore[arg-type]
        except OURS:
            return False
    return True


@pytest.mark.anyio
@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_with_changed_bytes(name: str) -> None:
    body = json.dumps(ANSWERS[name]).encode()
    assert await understood(name, body)
    rng = random.Random(f"{SEEDS[0]} {name}")
    for _ in range(150):
        await understood(name, changed(rng, body))
        await understood(name, changed(rng, body), status=rng.choice([400, 404, 422, 500]))


def swapped(rng: random.Random, value: object) -> object:
    """The same structure with one of its values exchanged for another sort of value."""
    others: list[object] = [None, True, 0, -1, 2**63, 10**30, 1.5, "", "x", "02" + "ff" * 32, [], {}, [None], {"a": 1}]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {name: swapped(rng, held) if name == key else held for name, held in value.items()}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        return [swapped(rng, held) if at == place else held for at, held in enumerate(value)]
    return rng.choice(others)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_with_values_of_other_sorts(name: str) -> None:
    rng = random.Random(f"{SEEDS[1]} {name}")
    for _ in range(150):
        await understood(name, json.dumps(swapped(rng, ANSWERS[name])).encode())


@pytest.mark.anyio
@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"1" * 10_000, b'"\\ud800"', b"NaN", b"null", b"[]"],
    ids=["nothing", "cut", "deep lists", "deep maps", "bytes", "number", "half a character", "nan", "null", "list"],
)
async def test_answers_that_are_none(name: str, body: bytes) -> None:
    assert not await understood(name, body) or (name, body) == ("mint_quotes", b"[]"), "it knows none of them"
    assert not await understood(name, body, status=400)


@pytest.mark.anyio
async def test_a_complaint_of_the_mint_may_hold_anything() -> None:
    rng = random.Random(SEEDS[2])
    complaint = {"detail": "proofs are spent", "code": 11001}
    with pytest.raises(MintError):
        await CALLS["swap"](answering(json.dumps(complaint).encode(), 400).client())
    for _ in range(300):
        assert not await understood("swap", json.dumps(swapped(rng, complaint)).encode(), status=400)


_TOLD: dict[Topic, dict[str, object]] = {
    Topic.COINS: {"Y": coins()[0].y, "state": "SPENT", "witness": None},
    Topic.MINT_QUOTES: MINT_QUOTE,
    Topic.MELT_QUOTES: {**MELT_QUOTE, "payment_preimage": "00", "change": _SIGNATURES[:1]},
}


@pytest.mark.anyio
@pytest.mark.parametrize("topic", list(Topic))
async def test_messages_of_a_websocket_may_hold_anything(topic: Topic) -> None:
    """NUT-17: what is not understood is passed over, and nothing is told of what nobody asked for."""
    rng = random.Random(f"{SEEDS[0]} {topic}")
    payload = _TOLD[topic]
    name = str(payload["Y" if topic is Topic.COINS else "quote"])
    message = {"jsonrpc": "2.0", "method": "subscribe", "params": {"subId": "s", "payload": payload}}
    heard = []
    async with answering({}).client() as client:
        for number in range(400):
            watch = Watch(client, topic, [name], deadline=timedelta(hours=1))
            other = json.dumps(swapped(rng, message))
            body = other if number % 2 else changed(rng, json.dumps(message).encode()).decode("utf-8", "replace")
            understood = notify._message(json.dumps(message) if number == 0 else body)
            if understood is not None and understood.params is not None:
                watch._hear(understood.params.payload)
            assert set(watch._untold) <= {name}
            heard.append(bool(watch._untold))
    assert heard[0]
    assert 0 < sum(heard) < len(heard)


@settings(deadline=None, max_examples=200)
@given(
    text=st.text(max_size=40) | st.from_regex(r"ln[a-z]{1,6}[0-9]{0,40}[munp]?1[ac-hj-np-z02-9]{0,9}", fullmatch=True)
)
def test_any_text_as_an_invoice(text: str) -> None:
    """BOLT-11: what it asks for, or nothing; also with more digits than Python reads."""
    for invoice in (text, text.replace("1", "1" * 5_000, 1)):
        asked = invoice_msat(invoice)
        assert asked is None or asked >= 0


# What is made of both: a token that is handed in, and what its mint then says.


async def handed_in(text: str, mint: SwapMint | None = None) -> Receive | None:
    """What `Receive.of` makes of it; anything but one of our errors fails the test, and so does anything written."""
    async with MemoryStore() as store:
        bench = Bench(store, Sheet(1000, fee_ppk=100))
        bench.mint = mint or bench.mint
        bench.wallet = bench.reopened()
        receive, said = None, ""
        try:
            receive = await Receive.of(bench.wallet, text)
        except (*OURS, UsageError) as error:
            said = str(error)
        assert "\n" not in said
        assert not await store.counters()
        if receive is None:
            return None
        await bench.executor.start(receive, receive.opening)
        return receive


def known_token(version: TokenVersion) -> tuple[SwapMint, str]:
    """A token that is good, of plain coins and of locked ones with a witness, and its mint."""
    mint = SwapMint(sheets=[Sheet(1000, fee_ppk=100)])
    open_to_all = pay_to_key(mint.sheets[0].keys[1], locktime=NOW)
    coins = [*signed_coins(mint, 4, 16), *signed_coins(mint, 1, 64, condition=open_to_all)]
    witnessed = [Proof(**{**coin.model_dump(), "witness": '{"signatures":["ab"]}'}) for coin in coins]
    return mint, token_of(witnessed, version, memo="☕")


@pytest.mark.anyio
@changing
@pytest.mark.parametrize("version", list(TokenVersion))
async def test_changed_tokens_that_are_handed_in(seed: int, version: TokenVersion) -> None:
    """Beyond what is read of a token itself: keysets, DLEQ proofs, conditions, fees, and what a checkpoint can hold."""
    rng = random.Random(seed)
    mint, text = known_token(version)
    assert await handed_in(text, mint) is not None
    data = base64.urlsafe_b64decode(text[6:] + "=" * (-len(text[6:]) % 4))
    taken = 0
    for _ in range(60):
        changes = changed(rng, data)
        taken += await handed_in(text[:6] + base64.urlsafe_b64encode(changes).decode(), mint) is not None
    assert taken < 60


@settings(deadline=None, max_examples=40)
@given(text=st.text(max_size=60) | st.builds("cashu{}{}".format, st.sampled_from("ABC:"), st.text(max_size=60)))
def test_any_text_that_is_handed_in(text: str) -> None:
    assert asyncio.run(handed_in(text)) is None


ROUTES = {
    "GET /v1/keysets": "keysets",
    "GET /v1/keys/": "keys",
    "GET /v1/info": "info",
    "POST /v1/swap": "swap",
    "POST /v1/checkstate": "check",
    "POST /v1/restore": "restore",
}


@pytest.mark.anyio
@changing
@pytest.mark.parametrize("route", ROUTES)
async def test_a_token_at_a_mint_that_answers_nonsense(seed: int, route: str) -> None:
    """Whatever is answered in one place, the token is not lost: the mint comes to its senses, and it is received."""
    rng = random.Random(f"{seed} {route}")
    for _ in range(8):
        async with MemoryStore() as store:
            bench = Bench(store, Sheet(1000, fee_ppk=100))
            token = token_of(signed_coins(bench.mint, 4, 16))
            bench.mint.script = [rng.choice([lost_after, refusing(11001)])]

            def nonsense(body: Any, mint: SwapMint = bench.mint) -> Any:
                real = mint.swap(body) if body["_"] == "POST /v1/swap" else mint.answer(body)
                if rng.random() < 0.5:
                    return swapped(rng, real)
                return httpx.Response(rng.choice([200, 400, 404, 500]), content=changed(rng, json.dumps(real).encode()))

            receive = await Receive.of(bench.wallet, token)
            await bench.start(receive)
            bench.mint.routes[route] = nonsense
            bench.wallet = bench.executor._wallet = bench.reopened()
            for _ in range(rng.randrange(1, 4)):
                result = await bench.drive(receive)
                assert result.outcome in (Outcome.PARKED, Outcome.DONE), result.error
            bench.mint.routes.clear()
            bench.mint.script.clear()
            bench.wallet = bench.executor._wallet = bench.reopened()
            result = await bench.drive(receive)
            assert result.outcome is Outcome.DONE, result.error
            assert sum(coin.amount for coin in await bench.coins()) == 19


def test_the_changes_get_past_the_first_check() -> None:
    """A loop whose every token fails at once would show nothing."""
    rng = random.Random(SEEDS[0])
    text = rich_token(TokenVersion.V4)
    data = base64.urlsafe_b64decode(text[6:] + "=" * (-len(text[6:]) % 4))
    read = 0
    for _ in range(400):
        try:
            decode_token("cashuB" + base64.urlsafe_b64encode(changed(rng, data)).decode())
        except MalformedError:
            continue
        read += 1
    assert 0 < read < 400
