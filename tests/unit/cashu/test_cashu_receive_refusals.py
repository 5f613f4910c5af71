"""Tokens that are not taken: one clear error each, with nothing of the token in it, and nothing written."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import cbor2
import httpx
import pytest
from coincurve import PrivateKey

from tests.unit.cashu.fake_mint import URL
from tests.unit.cashu.giving import bare, given, token_of
from tests.unit.cashu.swap_mint import Bench, Sheet, SwapMint
from wallet_actions.cashu import Receive, Swap
from wallet_actions.cashu.conditions import SigFlag, hash_lock, pay_to_key
from wallet_actions.cashu.errors import MalformedError, TokenLockedError, TokenRefusedError
from wallet_actions.cashu.proofs import Proof
from wallet_actions.cashu.tokens import TokenVersion
from wallet_actions.errors import RejectedError, TransientError, UsageError
from wallet_actions.outcome import Outcome
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

PUBKEY = PrivateKey(bytes([7]) * 32).public_key.format().hex()


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


@pytest.fixture
def bench(store: MemoryStore) -> Bench:
    return Bench(store)


async def refused(bench: Bench, token: str, error: type[Exception], said: str, **options: Any) -> str:
    """Refused with such words, nothing of the token in them, and nothing on disk."""
    with pytest.raises(error, match=said) as caught:
        await Receive.of(bench.wallet, token, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 200
    assert len(token) < 40 or token[10:30] not in message
    assert not await bench.store.list_actions()
    assert not await bench.store.facts()
    assert not await bench.store.counters()
    assert not bench.mint.swaps
    return message


def v4(content: Any) -> str:
    return "cashuB" + base64.urlsafe_b64encode(cbor2.dumps(content)).decode().rstrip("=")


def v3(content: Any) -> str:
    return "cashuA" + base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def parts(proofs: tuple[Proof, ...], **changes: Any) -> dict[str, Any]:
    """The contents of a version 3 token whose coins are changed."""
    coins = [proof.model_dump(exclude_none=True) | changes for proof in proofs]
    return {"token": [{"mint": URL, "proofs": coins}], "unit": "sat"}


async def test_text_that_is_no_token(bench: Bench) -> None:
    good = token_of(given(bench.mint, 4, 16))
    content = parts(given(bench.mint, 1, first=10))
    cases = {
        "": "does not begin with cashuA or cashuB",
        "lnbc1": "does not begin with",
        "cashu" + "C" + good[6:]: "version that is not supported",
        good[: len(good) // 2]: "cut off|not base64|CBOR|form of the protocol",
        good[:-1]: "cut off|not base64|CBOR|form of the protocol",
        good[:40] + "*" + good[41:]: "not base64",
        "cashuB" + base64.urlsafe_b64encode(b"\xff" * 40).decode(): "CBOR|form of the protocol",
        v4([1, 2]): "form of the protocol",
        v3([1, 2]): "form of the protocol",
        "cashuA" + base64.urlsafe_b64encode(b'{"token":').decode(): "not JSON",
        "cashuB" + "A" * 10_000_000: "more than 2097152 characters",
        v3({**content, "token": [*content["token"], {**content["token"][0], "mint": URL + "2"}]}): "of several mints",
        v3({**content, "token": []}): "without coins",
        v3(parts(given(bench.mint, 1, first=20), amount=0)): "an amount that is no integer from 1",
        v3(parts(given(bench.mint, 1, first=30), amount=-1)): "an amount that is no integer from 1",
        v3(parts(given(bench.mint, 1, first=40), amount=2**63)): "an amount that is no integer from 1",
        v3(parts(given(bench.mint, 1, 1, first=50), secret="a")): "a coin twice",
        v3(parts(given(bench.mint, 1, 1, first=60), amount=2**63 - 1)): "more than 2\\^63 - 1 in all",
        v3(
            {**parts(given(bench.mint, 1, first=70)), "token": [{"mint": "nowhere", "proofs": []}]}
        ): "address of a mint",
    }
    for text, said in cases.items():
        await refused(bench, text, MalformedError, said)
    assert not bench.mint.requests


async def test_coins_that_the_mint_does_not_have_so(bench: Bench) -> None:
    proofs = given(bench.mint, 4, 16)
    other = SwapMint(sheets=[Sheet(9000)])
    await refused(bench, token_of(given(other, 2)), MalformedError, "names no keyset of the mint")
    await refused(bench, token_of(proofs, unit="usd"), MalformedError, "of another unit than it says")
    bench.mint.sheets.append(Sheet(5000, unit="usd"))
    mixed = [*proofs, *given(bench.mint, 2, sheet=bench.mint.sheets[1])]
    bench.wallet = bench.reopened()
    await refused(bench, token_of(mixed), MalformedError, "of another unit than it says, or of several")
    await refused(bench, token_of([bare(proofs[0], amount=3)]), MalformedError, "no key for this amount")
    for changes in ({"amount": 8}, {"secret": "ab"}, {"C": proofs[1].C}):
        forged = Proof(**{**proofs[0].model_dump(), **changes})
        for version in TokenVersion:
            await refused(bench, token_of([proofs[1], forged], version), TokenRefusedError, "DLEQ proof does not hold")
    assert bench.mint.count("GET /v1/keysets") == 2  # once for each wallet: it is not asked again for each token


async def test_a_keyset_that_is_written_short(bench: Bench) -> None:
    """As other wallets write it; the mint is not asked again for what is known."""
    for proof in given(bench.mint, 4, 16):
        coin = {"a": proof.amount, "s": proof.secret, "c": bytes.fromhex(proof.C)}
        token = v4({"t": [{"i": bytes.fromhex(proof.id)[:8], "p": [coin]}], "m": URL, "u": "sat"})
        assert (await Receive.of(bench.wallet, token)).proofs == (bare(proof),)
    assert bench.mint.count("GET /v1/keysets") == 1


async def test_a_keyset_of_a_version_to_come(bench: Bench) -> None:
    (proof,) = given(bench.mint, 4)
    future = "02" + "ab" * 32
    listed = [{"id": future, "unit": "sat", "active": True}, bench.mint.sheets[0].info]
    bench.mint.routes["GET /v1/keysets"] = lambda body: {"keysets": listed}
    content = v3(parts((proof,), id=future))
    await refused(bench, content, MalformedError, "of a version that is not supported")


async def test_a_token_that_is_not_worth_it(store: MemoryStore) -> None:
    bench = Bench(store, Sheet(1000, fee_ppk=500))
    proofs = given(bench.mint, 1, 1)
    await refused(bench, token_of(proofs[:1]), TokenRefusedError, "is worth 1 sat, and taking it would cost 1")
    assert (await Receive.of(bench.wallet, token_of(proofs))).amount == 2


async def test_too_many_coins(bench: Bench) -> None:
    (proof,) = given(bench.mint, 1)
    coins = [bare(proof, secret=f"{number:064x}") for number in range(1001)]
    await refused(bench, token_of(coins), TokenRefusedError, "more than 1000 coins: ask the sender for smaller ones")
    assert not bench.mint.requests


async def test_another_mint(bench: Bench) -> None:
    token = token_of(given(bench.mint, 4))
    await refused(
        bench, token, TokenRefusedError, f"of the mint {URL}, not of http://elsewhere", mint="http://elsewhere"
    )
    await refused(bench, token, UsageError, "address of a mint|http", mint="elsewhere")
    assert not bench.mint.requests
    await Receive.of(bench.wallet, token, mint="HTTP://MINT.TEST:80/")


async def test_locked_coins(bench: Bench) -> None:
    now = bench.clock.now()
    later = now + timedelta(days=1)
    closed = {
        "locked to a key that this wallet does not have$": pay_to_key(PUBKEY),
        "to a preimage that this wallet does not know$": hash_lock("ab" * 32),
        rf"does not have; they open at {later + timedelta(seconds=1):%Y-%m-%d %H:%M} UTC$": pay_to_key(
            PUBKEY, locktime=later
        ),
        r"does not know; they open at": hash_lock("ab" * 32, locktime=later),
    }
    for said, condition in closed.items():
        bench.mint.signed.clear()
        token = token_of(given(bench.mint, 4, 16, condition=condition))
        await refused(bench, token, TokenLockedError, said, preimages=["00" * 32, "x"])
    bench.clock.set_wall(later + timedelta(seconds=2))
    await Receive.of(bench.wallet, token)


async def test_conditions_that_nobody_can_meet(bench: Bench) -> None:
    (proof,) = given(bench.mint, 4)

    def with_secret(kind: str, **fields: Any) -> str:
        secret = json.dumps([kind, {"nonce": "ab" * 32, "data": PUBKEY, **fields}])
        return token_of([bare(proof, secret=secret)])

    for kind in ("P2PK", "HTLC"):
        await refused(bench, with_secret(kind, data="02" * 5), MalformedError, "no mint can see fulfilled")
    await refused(bench, with_secret("P2PK", tags=[["n_sigs", "2"]]), MalformedError, "no mint can see fulfilled")
    await refused(bench, with_secret("P2PK", tags=[["refund", PUBKEY]] * 2), MalformedError, "a tag twice")
    await refused(bench, with_secret("DLC"), MalformedError, "of a kind that is not supported")
    whole = given(bench.mint, 2, condition=pay_to_key(PUBKEY, sigflag=SigFlag.SIG_ALL))
    await refused(bench, token_of([*whole, proof]), MalformedError, "signed as a whole")


async def test_a_witness_that_no_store_can_hold(bench: Bench) -> None:
    (proof,) = given(bench.mint, 4)
    content = parts((proof,), witness="\ud800")
    await refused(bench, v3(content), MalformedError, "text that UTF-8 cannot carry|not JSON|form of the protocol")
    # A witness beside a plain coin is nobody's business.
    receive = await Receive.of(bench.wallet, v3(parts((proof,), witness='{"signatures":["aa"]}')))
    assert receive.proofs[0].witness is None


async def test_coins_of_this_wallet(bench: Bench) -> None:
    """Free here, or held by a payment: its holder would find them gone. A spent one is for the mint to judge."""
    token = token_of(await bench.fund(4))
    with pytest.raises(TokenRefusedError, match="in this wallet already"):
        await Receive.of(bench.wallet, token)
    swap = await bench.start(await Swap.of(bench.wallet, URL, denominations=[1, 1, 2]))
    with pytest.raises(TokenRefusedError, match="in this wallet already"):
        await Receive.of(bench.wallet, token)
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    await Receive.of(bench.wallet, token)


async def test_a_mint_that_lacks_what_a_safe_end_depends_on(bench: Bench) -> None:
    bench.mint.routes["GET /v1/info"] = lambda body: {"nuts": {"7": {"supported": True}, "12": {"supported": True}}}
    await refused(bench, token_of(given(bench.mint, 4)), RejectedError, "does not offer NUT-09")


async def test_a_mint_that_has_no_keyset_in_use(bench: Bench) -> None:
    bench.mint.sheets[0].is_active = False
    await refused(bench, token_of(given(bench.mint, 4)), RejectedError, "no keyset in use")


async def test_a_mint_that_cannot_make_up_the_amount(store: MemoryStore) -> None:
    bench = Bench(store, Sheet(1000, powers=1), Sheet(2000, powers=10))
    bench.mint.sheets[1].is_active = False
    proofs = given(bench.mint, 512, 512, sheet=bench.mint.sheets[1])
    await refused(bench, token_of(proofs), UsageError, "would take more than 1000 coins")


async def test_a_mint_that_is_away(bench: Bench) -> None:
    def unreachable(body: Any) -> Any:
        raise httpx.ConnectError("away")

    bench.mint.routes["GET /v1/keysets"] = unreachable
    await refused(bench, token_of(given(bench.mint, 4)), TransientError, "mint|reach|connect")
