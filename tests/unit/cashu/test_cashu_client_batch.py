"""What the client knows of the protocol's optional parts: batches (NUT-29), parts of payments (NUT-15), NUT-17."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.unit.cashu.test_cashu_client import INVOICE, MELT_QUOTE, MINT, MINT_QUOTE, answering, dumped, made
from wallet_actions.cashu.answers import MintInfo
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.errors import MintError, MintLiedError
from wallet_actions.errors import UsageError

pytestmark = pytest.mark.anyio


async def test_several_quotes_are_minted_at_once() -> None:
    outputs, messages = made()
    answer = answering({"signatures": dumped(MINT.sign(messages))})
    signatures = await answer.client().mint_batch({"b": 60, "a": 5}, messages, signatures={"a": "11" * 64})
    assert [signature.amount for signature in signatures] == [output.amount for output in outputs]
    request = answer.requests[0]
    assert str(request.url) == "http://mint.test/v1/mint/bolt11/batch"
    assert json.loads(request.content) == {
        "quotes": ["b", "a"],
        "quote_amounts": [60, 5],
        "outputs": [message.model_dump() for message in messages],
        "signatures": [None, "11" * 64],
    }


async def test_quotes_without_locks_need_no_signatures() -> None:
    _, messages = made()
    answer = answering({"signatures": dumped(MINT.sign(messages))})
    await answer.client().mint_batch({"a": 65}, messages)
    assert "signatures" not in json.loads(answer.requests[0].content)
    with pytest.raises(UsageError):
        await answer.client().mint_batch({"a": 65}, [])


async def test_a_batch_with_other_signatures_than_asked_for() -> None:
    _, messages = made()
    signatures = dumped(MINT.sign(messages))
    for wrong in (signatures[:1], signatures[::-1], []):
        with pytest.raises(MintLiedError):
            await answering({"signatures": wrong}).client().mint_batch({"a": 65}, messages)
    with pytest.raises(MintError):
        await answering({"detail": "x", "code": 11016}, 400).client().mint_batch({"a": 65}, messages)


async def test_several_quotes_are_looked_up_at_once() -> None:
    quotes = [{**MINT_QUOTE, "quote": "b"}, {**MINT_QUOTE, "quote": "a", "state": "UNPAID"}]
    answer = answering(quotes)
    found = await answer.client().mint_quotes(["a", "b", "unknown"])
    assert {name: quote.state for name, quote in found.items()} == {"b": "PAID", "a": "UNPAID"}
    assert json.loads(answer.requests[0].content) == {"quotes": ["a", "b", "unknown"]}
    assert str(answer.requests[0].url) == "http://mint.test/v1/mint/quote/bolt11/check"
    assert await answering([]).client().mint_quotes(["a"]) == {}
    told = await answering([quotes[1], {"quote": "c", "unknown": True}]).client().mint_quotes(["a", "c"])
    assert list(told) == ["a"]
    answers: list[object] = [[quotes[0], quotes[0]], [{**MINT_QUOTE, "quote": "c"}], {"quotes": []}, [{}], "x"]
    for wrong in answers:
        with pytest.raises(MintLiedError):
            await answering(wrong).client().mint_quotes(["a", "b"])


async def test_a_part_of_a_payment_is_asked_for() -> None:
    answer = answering({**MELT_QUOTE, "amount": 30})
    quote = await answer.client().create_melt_quote(INVOICE, "sat", partial_msat=30_000)
    assert quote.amount == 30
    assert json.loads(answer.requests[0].content) == {
        "options": {"mpp": {"amount": 30_000}},
        "request": INVOICE,
        "unit": "sat",
    }
    await answer.client().create_melt_quote(INVOICE, "sat")
    assert "options" not in json.loads(answer.requests[1].content)
    for wrong in (0, -1, 2**63, True, 1.5):
        with pytest.raises(UsageError):
            await answer.client().create_melt_quote(INVOICE, "sat", partial_msat=wrong)  # type: ignore[arg-type]
    assert len(answer.requests) == 2


def test_what_a_mint_says_of_its_optional_parts() -> None:
    info = MintInfo.model_validate_json(
        json.dumps(
            {
                "nuts": {
                    "15": {"methods": [{"method": "bolt11", "unit": "sat"}, 7, {"method": []}]},
                    "17": {"supported": [{"method": "bolt11", "unit": "sat", "commands": ["proof_state", 1]}, "x"]},
                    "29": {"max_batch_size": 20, "methods": ["bolt11"]},
                }
            }
        )
    )
    assert info.offers(15, "sat")
    assert not info.offers(15, "usd")
    assert not info.offers(15, "sat", method="bolt12")
    assert not info.offers(29, "sat")
    assert not info.offers(5, "sat")
    assert info.announces("proof_state")
    assert not info.announces("bolt11_mint_quote")
    assert info.most_quotes == 20


@pytest.mark.parametrize(
    "nuts",
    [
        None,
        {},
        {"15": None, "17": None, "29": None},
        {"15": [1], "17": [], "29": []},
        {"15": {"methods": 1}, "17": {"supported": True}, "29": {"max_batch_size": "9"}},
        {"15": {"methods": [[]]}, "17": {"supported": [{"commands": "proof_state"}]}, "29": {"max_batch_size": 0}},
        {"15": {}, "17": {"supported": {}}, "29": {"max_batch_size": True}},
        {"29": {"max_batch_size": 20, "disabled": True}},
    ],
)
def test_what_a_mint_does_not_say(nuts: dict[str, object] | None) -> None:
    info = MintInfo.model_validate_json(json.dumps({"nuts": nuts}))
    assert not info.offers(15, "sat")
    assert not info.announces("proof_state")
    assert info.most_quotes == 1


async def test_whether_a_client_connects_by_itself() -> None:
    async with MintClient("http://mint.test") as direct:
        assert direct.is_direct
    async with MintClient("http://mint.test", transport=httpx.MockTransport(lambda _: httpx.Response(200))) as given:
        assert not given.is_direct
