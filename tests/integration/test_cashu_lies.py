"""A mint that lies: nothing of it is taken over, nothing is freed, nothing crashes; and the truth still ends it right.

The answers are those of a real mint, altered on the way.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tests.integration.cashu_kit import (
    CHECK,
    KEYS,
    KEYSETS,
    MELT,
    MELT_QUOTE,
    MINT,
    MINT_QUOTE,
    RESTORE,
    Alter,
    Bank,
    Liar,
    Purse,
)
from wallet_actions.cashu import Cashu, InsufficientFundsError, Issue, Melt, MintClient, Paid
from wallet_actions.cashu.errors import WrongQuoteError
from wallet_actions.cashu.transport import MAX_BODY_BYTES
from wallet_actions.coins import CoinState
from wallet_actions.errors import ConfigurationError, RejectedError, TransientError, WalletActionError
from wallet_actions.outcome import Outcome
from wallet_actions.testing.nutshell import NutshellMint

pytestmark = pytest.mark.anyio

INFO = r"^/v1/info$"
NEW_MINT_QUOTE = r"^/v1/mint/quote/bolt11$"
NEW_MELT_QUOTE = r"^/v1/melt/quote/bolt11$"
POINT_OFF_THE_CURVE = "02" + "ff" * 32
SOMEBODYS_POINT = "02" + "c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5"


@pytest.fixture
async def bank(mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(mint, tmp_path) as bank:
        yield bank


class Endless(httpx.AsyncByteStream):
    """A body that never ends.

    Attributes:
        given: how much of it was taken, in bytes.
    """

    def __init__(self) -> None:
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.given += 1 << 16
            yield b" " * (1 << 16)


def endless(answer: Any) -> httpx.Response:
    return httpx.Response(200, stream=Endless())


BODIES: dict[str, bytes | httpx.Response | Alter] = {
    "HTML": b"<html><body>Please log in to the hotel's network</body></html>",
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "an empty object": b"{}",
    "a text": b'"fine"',
    "cut short": b'{"quote": "abc", "sta',
    "not UTF-8": b'{"quote": "\xff\xfe"}',
    "nested for ever": b"[" * 200_000,
    "a number without end": b'{"amount": ' + b"9" * 200_000 + b"}",
    "no number": b'{"amount": NaN, "signatures": [Infinity]}',
    "too long": b" " * MAX_BODY_BYTES + b"{}",
    "without an end": endless,
    "compressed": lambda answer: httpx.Response(
        200, headers={"content-encoding": "br"}, stream=httpx.ByteStream(b"\x00")
    ),
    "no content": lambda answer: httpx.Response(204),
    "moved": lambda answer: httpx.Response(302, headers={"location": "http://127.0.0.1:9/"}),
    "moved for good": lambda answer: httpx.Response(301, headers={"location": "http://127.0.0.1:9/"}),
    "broken": lambda answer: httpx.Response(500, json={"detail": "Internal Server Error"}),
    "forbidden": lambda answer: httpx.Response(403, content=b"<html>"),
    "a teapot": lambda answer: httpx.Response(418, content=b"<html>"),
}


SOME_BODIES = {name: BODIES[name] for name in ("HTML", "nothing", "nested for ever", "moved for good", "broken")}
"""Where other tests show already that all answers are read in one way."""


def body(lie: bytes | httpx.Response | Alter) -> Alter:
    return lie if callable(lie) else lambda answer: lie


def each(change: Callable[[dict[str, Any]], object]) -> Callable[[list[Any]], list[Any]]:
    """Changes each signature in place."""

    def changed(signatures: list[Any]) -> list[Any]:
        for signature in signatures:
            change(signature)
        return signatures

    return changed


def amount(value: object) -> Callable[[list[Any]], list[Any]]:
    return each(lambda signature: signature.update(amount=value))


def dleq(**values: object) -> Callable[[list[Any]], list[Any]]:
    return each(lambda signature: signature["dleq"].update(values))


def doubled(signature: dict[str, Any]) -> None:
    signature["amount"] *= 2


def exchanged(signatures: list[Any]) -> list[Any]:
    first, second = signatures[:2]
    first["C_"], second["C_"] = second["C_"], first["C_"]
    return signatures


FALSE_SIGNATURES: dict[str, Callable[[list[Any]], Any]] = {
    "twice the amount": each(doubled),
    "negative": amount(-1),
    "zero": amount(0),
    "too large": amount(2**64),
    "a float": amount(1.5),
    "a text": amount("1"),
    "true": amount(True),
    "no amount": amount(None),
    "a bad challenge": dleq(e="11" * 32),
    "a bad response": dleq(s="11" * 32),
    "zero as a scalar": dleq(s="00" * 32),
    "beyond the order": dleq(s="ff" * 32),
    "no hex": dleq(e="zz" * 32),
    "no proof": each(lambda signature: signature.pop("dleq")),
    "null for a proof": each(lambda signature: signature.update(dleq=None)),
    "somebody else's point": each(lambda signature: signature.update(C_=SOMEBODYS_POINT)),
    "no point": each(lambda signature: signature.update(C_=POINT_OFF_THE_CURVE)),
    "no text": each(lambda signature: signature.update(C_=17)),
    "another keyset": each(lambda signature: signature.update(id="00" + "ab" * 7)),
    "no keyset": each(lambda signature: signature.update(id="../../etc/passwd")),
    "exchanged": exchanged,
    "reversed": lambda signatures: signatures[::-1],
    "too many": lambda signatures: [*signatures, signatures[0]],
    "no list": lambda signatures: {"0": signatures[0]},
}
"""For whole sets of signatures, of which there are at least two."""


SOME_FALSE = ("twice the amount", "a bad challenge", "no proof", "another keyset", "reversed", "too many")


def altered(name: str, change: Callable[[list[Any]], Any]) -> Alter:
    """Alters the signatures of an answer that has some."""

    def alter(answer: Any) -> Any:
        if not isinstance(answer, dict) or not answer.get(name):
            return answer
        return {**answer, name: change(copy.deepcopy(answer[name]))}

    return alter


def saying(**fields: object) -> Alter:
    """Alters fields of an answer that is no error."""
    return lambda answer: answer if "code" in answer else {**answer, **fields}


async def expect_held(purse: Purse, action: Issue | Melt, *, held: int = 0) -> None:
    """Drive once under a lie: it parks, says why, and all is as before."""
    coins = await purse.coins()
    result = await purse.drive(action)
    assert result.outcome is Outcome.PARKED
    assert isinstance(result.error, TransientError | RejectedError | ConfigurationError)
    assert await purse.coins() == coins
    assert await purse.reserved() == held


# Issue


async def test_nonsense_instead_of_any_answer_to_an_issue(bank: Bank) -> None:
    """L-D6: by what it proves, which is nothing."""
    liar = Liar()
    first = await bank.purse(liar=liar)
    issue = await first.issue(21)
    for path, bodies in ((MINT_QUOTE, BODIES), (KEYSETS, SOME_BODIES), (KEYS, SOME_BODIES), (MINT, SOME_BODIES)):
        purse = await bank.purse(like=first, path=first.path, liar=liar)
        for lie in bodies.values():
            liar.lies = {path: body(lie), RESTORE: body(lie)}
            await expect_held(purse, issue)
        assert liar.told[path] >= len(bodies)
    liar.be_honest()
    assert (await first.finish(issue)).outcome is Outcome.DONE
    assert await first.spendable() == 21


async def test_an_endless_answer_is_cut_off(bank: Bank) -> None:
    stream = Endless()
    liar = Liar({MINT_QUOTE: lambda answer: httpx.Response(200, stream=stream)})
    purse = await bank.purse(liar=liar)
    issue = await purse.issue(21)
    await expect_held(purse, issue)
    assert stream.given <= MAX_BODY_BYTES + (1 << 16)


async def test_false_signatures_on_outputs(bank: Bank) -> None:
    """Each of them in the answer to the request: the look-up finds the true ones."""
    liar = Liar()
    purse = await bank.purse(liar=liar)
    for count, name in enumerate(SOME_FALSE, start=1):
        liar.lies = {MINT: altered("signatures", FALSE_SIGNATURES[name])}
        issue = await purse.issue(7)
        assert (await purse.finish(issue)).outcome is Outcome.DONE
        assert await purse.spendable() == 7 * count


async def test_false_signatures_in_every_answer(bank: Bank) -> None:
    """And in what the look-up finds: nothing is taken until one of them is true."""
    liar = Liar()
    purse = await bank.purse(liar=liar)
    issue = await purse.issue(7)
    for name, change in FALSE_SIGNATURES.items():
        if name in {"twice the amount", "negative"}:
            continue
        liar.lies = {MINT: altered("signatures", change), RESTORE: altered("signatures", change)}
        await expect_held(purse, issue)
    liar.be_honest()
    assert (await purse.finish(issue)).outcome is Outcome.DONE
    assert await purse.spendable() == 7


MISSING: dict[str, Alter] = {
    "none": lambda answer: answer if "code" in answer else {"outputs": [], "signatures": []},
    "one less": lambda answer: {name: items[:-1] for name, items in answer.items()},
    "for other amounts": altered("signatures", each(doubled)),
}


@pytest.mark.parametrize("lie", MISSING.values(), ids=MISSING)
async def test_signatures_that_a_look_up_does_not_find(bank: Bank, lie: Alter) -> None:
    """L-P6: "issued to another wallet" is not believed at the mint's first word, nor at its second."""
    liar = Liar({MINT: lambda answer: httpx.Response(502), RESTORE: lie})
    purse = await bank.purse(liar=liar)
    issue = await purse.issue(7)
    for _ in range(2):
        await expect_held(purse, issue)
    liar.be_honest()
    assert (await purse.finish(issue)).outcome is Outcome.DONE
    assert await purse.spendable() == 7


MINT_QUOTE_LIES: dict[str, Alter] = {
    "another quote": saying(quote="0199a0b0-0000-7000-8000-000000000000"),
    "no state": saying(state=None, amount_paid=None, amount_issued=None),
    "a new state": saying(state="GIVEN_AWAY"),
    "a negative amount": saying(amount=-21),
    "another form": saying(request={"bolt11": "lnbc1"}),
    "an id that is a path": saying(quote="../../v1/keys"),
}


async def test_false_words_about_a_quote(bank: Bank) -> None:
    liar = Liar()
    purse = await bank.purse(liar=liar)
    issue = await purse.issue(7)
    for lie in MINT_QUOTE_LIES.values():
        liar.lies = {MINT_QUOTE: lie}
        await expect_held(purse, issue)
    liar.be_honest()
    assert (await purse.finish(issue)).outcome is Outcome.DONE


async def test_a_quote_that_is_called_issued(bank: Bank) -> None:
    liar = Liar({MINT_QUOTE: saying(state="ISSUED")})
    purse = await bank.purse(liar=liar)
    issue = await purse.issue(7)
    for _ in range(2):
        await expect_held(purse, issue)
    liar.be_honest()
    assert (await purse.finish(issue)).outcome is Outcome.DONE


KEYSET_LIES: dict[str, dict[str, Alter]] = {
    "no keysets": {KEYSETS: lambda answer: {"keysets": []}},
    "none in use": {KEYSETS: altered("keysets", each(lambda keyset: keyset.update(active=False)))},
    "of another unit": {KEYSETS: altered("keysets", each(lambda keyset: keyset.update(unit="usd")))},
    "of a version to come": {
        KEYSETS: altered("keysets", each(lambda keyset: keyset.update(id="02" + keyset["id"][2:])))
    },
    "unknown": {KEYSETS: altered("keysets", each(lambda keyset: keyset.update(id="01" + "ab" * 32)))},
    "listed twice": {KEYSETS: altered("keysets", lambda keysets: keysets * 2)},
    "a negative fee": {KEYSETS: altered("keysets", each(lambda keyset: keyset.update(input_fee_ppk=-1)))},
    "another fee": {KEYSETS: altered("keysets", each(lambda keyset: keyset.update(input_fee_ppk=7)))},
    "another key": {KEYS: altered("keysets", each(lambda keyset: keyset["keys"].update({"1": SOMEBODYS_POINT})))},
    "no keys": {KEYS: altered("keysets", each(lambda keyset: keyset.update(keys={})))},
    "a key that is none": {KEYS: altered("keysets", each(lambda keyset: keyset["keys"].update({"1": "02"})))},
    "a key for a negative amount": {
        KEYS: altered("keysets", each(lambda keyset: keyset["keys"].update({"-1": SOMEBODYS_POINT})))
    },
    "none of that id": {KEYS: lambda answer: {"keysets": []}},
}


async def test_false_keysets(bank: Bank) -> None:
    """No output is made for keys that do not hash to their keyset's id."""
    liar = Liar()
    first = await bank.purse(liar=liar)
    issue = await first.issue(7)
    before = await first.store.counters()
    for lies in KEYSET_LIES.values():
        liar.lies = lies
        purse = await bank.purse(like=first, path=first.path, liar=liar)
        await expect_held(purse, issue)
        assert await purse.store.counters() == before
    liar.be_honest()
    assert (await first.finish(issue)).outcome is Outcome.DONE


# Melt


async def funded(bank: Bank, *amounts: int) -> tuple[Purse, Liar]:
    liar = Liar()
    purse = await bank.purse(liar=liar)
    await purse.fund(*amounts)
    return purse, liar


async def test_nonsense_instead_of_any_answer_to_a_melt(bank: Bank) -> None:
    """The first of them hides that the payment was made; the coins stay held until that is heard."""
    first, liar = await funded(bank, 32)
    melt = await first.melt(await bank.mint.invoice(10))
    for path, bodies in ((KEYSETS, SOME_BODIES), (MELT, BODIES)):
        purse = await bank.purse(like=first, path=first.path, liar=liar)  # knows nothing but what is in the file
        for lie in bodies.values():
            liar.lies = {path: body(lie), MELT_QUOTE: body(lie)}
            await expect_held(purse, melt, held=32)
    liar.be_honest()
    assert (await purse.finish(melt)).outcome is Outcome.DONE
    assert await purse.spendable() == 21


async def test_false_signatures_on_change(bank: Bank) -> None:
    """In the answer to the request: the outputs that were truly signed are restored."""
    purse, liar = await funded(bank, 1024)
    left = 1024
    for name in SOME_FALSE:
        melt = await purse.melt(await bank.mint.invoice(10))
        liar.lies = {MELT: altered("change", FALSE_SIGNATURES[name])}
        assert (await purse.finish(melt)).outcome is Outcome.DONE
        left -= 11
        assert await purse.spendable() == left
        liar.be_honest()


async def test_false_signatures_on_change_in_every_answer(bank: Bank) -> None:
    purse, liar = await funded(bank, 1024)
    melt = await purse.melt(await bank.mint.invoice(10))
    for name, change in FALSE_SIGNATURES.items():
        if name == "too many":
            continue
        liar.lies = {MELT: altered("change", change), MELT_QUOTE: altered("change", change)}
        liar.lies[RESTORE] = altered("signatures", change)
        if name != "reversed":
            await expect_held(purse, melt, held=1024)
    liar.be_honest()
    assert (await purse.finish(melt)).outcome is Outcome.DONE
    assert await purse.spendable() == 1013


NO_CHANGE: dict[str, tuple[Callable[[list[Any]], Any], Alter]] = {
    "null": (lambda change: None, MISSING["none"]),
    "empty": (lambda change: [], MISSING["none"]),
    "only the smallest": (lambda change: change[-1:], MISSING["none"]),
    "one less than due": (lambda change: change[1:], lambda answer: answer),
}


@pytest.mark.parametrize(("change", "restored"), NO_CHANGE.values(), ids=NO_CHANGE)
async def test_paid_without_the_change_that_is_due(
    bank: Bank, change: Callable[[list[Any]], Any], restored: Alter
) -> None:
    """L-C7: the payment is made, but it is not over before the change is there."""
    purse, liar = await funded(bank, 1024)
    melt = await purse.melt(await bank.mint.invoice(10))
    liar.lies = {MELT: altered("change", change), MELT_QUOTE: altered("change", change), RESTORE: restored}
    if restored is MISSING["none"]:
        for _ in range(2):
            await expect_held(purse, melt, held=1024)
        liar.be_honest()
    assert (await purse.finish(melt)).outcome is Outcome.DONE
    assert await purse.spendable() == 1013


async def test_a_mint_that_keeps_the_change(bank: Bank) -> None:
    """L-D7: in the end the payment is over, and the history says what is missing."""
    purse, liar = await funded(bank, 64)
    bank.slack = 53
    melt = await purse.melt(await bank.mint.invoice(10))
    liar.lies = {MELT: saying(change=None), MELT_QUOTE: saying(change=None), RESTORE: MISSING["none"]}
    result = await purse.finish(melt)
    assert result.outcome is Outcome.DONE
    assert await purse.spendable() == 0
    history = await purse.operator.history(melt.key)
    assert history[-1].notes == ("the mint gave 0 of change where at least 34 were due",)
    assert (await purse.transaction(melt))["fee"] == 54


MELT_LIES: dict[str, Alter] = {
    "another quote": saying(quote="0199a0b0-0000-7000-8000-000000000000"),
    "no state": saying(state=None),
    "a new state": saying(state="VANISHED"),
    "a negative amount": saying(amount=-10),
    "a negative reserve": saying(fee_reserve=-1),
    "unpaid, with a receipt": saying(state="UNPAID", payment_preimage="ab" * 32, change=None),
    "unpaid": saying(state="UNPAID", change=None),
}


@pytest.mark.parametrize("lie", MELT_LIES.values(), ids=MELT_LIES)
async def test_false_words_about_a_payment(bank: Bank, lie: Alter) -> None:
    """L-C5: neither "unpaid" with a receipt nor "unpaid" for coins that are spent frees anything."""
    purse, liar = await funded(bank, 32)
    melt = await purse.melt(await bank.mint.invoice(10))
    liar.lies = {MELT: lie, MELT_QUOTE: lie}
    for _ in range(2):
        await expect_held(purse, melt, held=32)
    liar.be_honest()
    assert (await purse.finish(melt)).outcome is Outcome.DONE
    assert await purse.spendable() == 21


async def test_a_payment_that_is_called_pending_for_ever(bank: Bank) -> None:
    purse, liar = await funded(bank, 32)
    melt = await purse.melt(await bank.mint.invoice(10))
    liar.lies = {MELT: saying(state="PENDING", change=None), MELT_QUOTE: saying(state="PENDING", change=None)}
    for _ in range(5):
        assert (await purse.drive(melt)).outcome is Outcome.PARKED
        assert await purse.reserved() == 32
    liar.be_honest()
    assert (await purse.finish(melt)).outcome is Outcome.DONE
    assert await purse.spendable() == 21


CHECK_LIES: dict[str, Alter] = {
    "of others": altered("states", each(lambda state: state.update(Y=SOMEBODYS_POINT))),
    "in another order": lambda answer: {"states": answer["states"][::-1]},
    "one less": lambda answer: {"states": answer["states"][1:]},
    "one more": lambda answer: {"states": answer["states"] * 2},
    "none": lambda answer: {"states": []},
    "pending": altered("states", each(lambda state: state.update(state="PENDING"))),
    "a new state": altered("states", each(lambda state: state.update(state="BURNT"))),
    "without a coin": altered("states", each(lambda state: state.pop("Y"))),
}


async def test_false_words_about_coins(bank: Bank) -> None:
    """The payment has failed, but the coins are not free before the mint says so of these very coins."""
    purse, liar = await funded(bank, 31)
    await bank.mint.set(fakewallet_pay_invoice_state="FAILED", fakewallet_payment_state="FAILED")
    melt = await purse.melt(await bank.mint.invoice(10))
    assert len(melt.inputs) > 1
    for lie in (*CHECK_LIES.values(), *(body(lie) for lie in SOME_BODIES.values())):
        liar.lies = {CHECK: lie}
        await expect_held(purse, melt, held=30)
    liar.be_honest()
    assert (await purse.finish(melt)).outcome is Outcome.FAILED
    assert await purse.spendable() == 31


# Before anything is written


def lying_app(purse: Purse, liar: Liar) -> Cashu:
    return Cashu(purse.store, purse.seed, connect=lambda url: MintClient(url, transport=liar), poll=None)


@pytest.mark.parametrize("path", [INFO, KEYSETS, KEYS, NEW_MINT_QUOTE, NEW_MELT_QUOTE])
async def test_nonsense_before_anything_is_written(bank: Bank, path: str) -> None:
    purse, liar = await funded(bank, 64)
    before = await purse.actions(), await purse.coins()
    invoice = await bank.mint.invoice(10)
    for lie in SOME_BODIES.values():
        liar.lies = {path: body(lie)}
        async with lying_app(purse, Liar(liar.lies)) as cashu:
            if path != NEW_MELT_QUOTE:
                with pytest.raises(WalletActionError):
                    await cashu.issue(bank.mint.url, 10)
            if path not in (NEW_MINT_QUOTE, KEYS):
                with pytest.raises(WalletActionError):
                    await cashu.melt(bank.mint.url, invoice)
    assert (await purse.actions(), await purse.coins()) == before


FALSE_OFFERS: dict[str, tuple[dict[str, object], type[Exception]]] = {
    "for more": ({"amount": 11}, RejectedError),
    "for less": ({"amount": 9}, RejectedError),
    "for nothing": ({"amount": 0}, TransientError),
    "negative": ({"amount": -10}, TransientError),
    "in another unit": ({"unit": "usd"}, RejectedError),
    "without an id": ({"quote": ""}, TransientError),
    "an id that leads elsewhere": ({"quote": "../melt"}, TransientError),
    "an id that only leads elsewhere": ({"quote": ".."}, TransientError),
}


@pytest.mark.parametrize(("lie", "error"), FALSE_OFFERS.values(), ids=FALSE_OFFERS)
async def test_an_offer_that_is_not_the_one_asked_for(
    bank: Bank, lie: dict[str, object], error: type[Exception]
) -> None:
    purse, liar = await funded(bank, 64)
    before = await purse.actions(), await purse.coins()
    invoice = await bank.mint.invoice(10)
    liar.lies = {NEW_MINT_QUOTE: saying(**lie), NEW_MELT_QUOTE: saying(**lie)}
    async with lying_app(purse, Liar(liar.lies)) as cashu:
        if lie.get("quote") != "../melt":
            with pytest.raises(error):
                await cashu.issue(bank.mint.url, 10)
            with pytest.raises(error):
                await cashu.melt(bank.mint.url, invoice)
    assert (await purse.actions(), await purse.coins()) == before


async def test_a_reserve_that_nobody_can_pay(bank: Bank) -> None:
    purse, liar = await funded(bank, 64)
    for reserve, error in [(2**63 - 1, WrongQuoteError), (2**63, TransientError), (-1, TransientError)]:
        liar.lies = {NEW_MELT_QUOTE: saying(fee_reserve=reserve)}
        with pytest.raises(error):
            await purse.melt(await bank.mint.invoice(10))
    liar.lies = {NEW_MELT_QUOTE: saying(fee_reserve=2**63 - 1)}
    with pytest.raises(InsufficientFundsError):
        await Melt.of(purse.wallet, bank.mint.url, await bank.mint.invoice(10), max_fee=2**63 - 1)
    assert await purse.reserved() == 0


async def test_an_offer_until_the_end_of_time(bank: Bank) -> None:
    liar = Liar({path: saying(expiry=2**63 - 1) for path in (NEW_MINT_QUOTE, NEW_MELT_QUOTE)})
    purse = await bank.purse(liar=liar)
    await purse.fund(64)
    melt = await purse.melt(await bank.mint.invoice(10))
    assert (await purse.finish(melt)).outcome is Outcome.DONE


async def test_a_quote_that_was_given_before(bank: Bank) -> None:
    """G6: an old action under a new request would show its own end for it."""
    purse, liar = await funded(bank, 64)
    issue = await purse.issue(10)
    melt = await purse.melt(await bank.mint.invoice(10))
    assert (await purse.finish(melt)).outcome is Outcome.DONE
    before = await purse.coins()
    liar.lies = {
        NEW_MINT_QUOTE: saying(quote=issue.quote.get_secret_value()),
        NEW_MELT_QUOTE: saying(quote=melt.quote.get_secret_value()),
    }
    rows = await purse.actions()
    async with lying_app(purse, Liar(liar.lies)) as cashu:
        await cashu.issued(issue.id)
        with pytest.raises(WrongQuoteError, match="given before"):
            await cashu.issue(bank.mint.url, 10)
        with pytest.raises(WrongQuoteError, match="given before"):
            await cashu.melt(bank.mint.url, await bank.mint.invoice(10))
    assert len(await purse.actions()) == len(rows)
    assert await purse.coins(CoinState.SPENT) == [coin for coin in before if coin.state is CoinState.SPENT]
    assert await purse.reserved() == 0


@pytest.mark.parametrize("nut", ["9", "12"])
async def test_a_mint_that_lacks_what_a_safe_end_depends_on(bank: Bank, nut: str) -> None:
    purse, _ = await funded(bank, 64)

    def without(answer: Any) -> Any:
        return {**answer, "nuts": {name: value for name, value in answer["nuts"].items() if name != nut}}

    async with lying_app(purse, Liar({INFO: without})) as cashu:
        with pytest.raises(RejectedError, match=f"NUT-{nut:>02}"):
            await cashu.issue(bank.mint.url, 10)
        with pytest.raises(RejectedError, match=f"NUT-{nut:>02}"):
            await cashu.melt(bank.mint.url, await bank.mint.invoice(10))
    assert len(await purse.actions()) == 1


async def test_a_receipt_is_kept_and_not_shown(bank: Bank) -> None:
    """The preimage is in the result and in the permanent record; `Bank` searches everything else for it."""
    purse, liar = await funded(bank, 32)
    preimage = "5e" * 32
    liar.lies = {MELT: saying(payment_preimage=preimage)}
    melt = await purse.melt(await bank.mint.invoice(10))
    result = await purse.finish(melt)
    assert result.result == Paid(amount=10, fee=1, preimage=SecretStr(preimage))
    facts = [fact for _, fact in await purse.store.facts(kind="cashu_payment_proof")]
    assert [fact.body for fact in facts] == [f'{{"preimage":"{preimage}"}}']
