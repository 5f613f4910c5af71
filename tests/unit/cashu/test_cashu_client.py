"""The mint's client against answers of every kind: honest, wrong, broken, and none at all."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.unit.cashu.kit import TinyMint
from tests.unit.cashu.vectors import MNEMONIC, V1_KEYSET_ID
from wallet_actions.cashu.answers import MintInfo, SpendState
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MalformedError, MintError, MintLiedError, MintUnreachableError, WrongQuoteError
from wallet_actions.cashu.keysets import KeysetInfo
from wallet_actions.cashu.outputs import BLANK_AMOUNT, Output, outputs_for, unblind_all
from wallet_actions.cashu.proofs import BlindedMessage, Proof
from wallet_actions.cashu.quotes import MeltQuoteState, MintQuoteState
from wallet_actions.cashu.transport import MAX_BODY_BYTES, normalize_mint_url
from wallet_actions.clock import SystemClock
from wallet_actions.errors import ConfigurationError, RejectedError, TransientError, UsageError

pytestmark = pytest.mark.anyio

MINT = TinyMint()
KEYSET = MINT.keyset
SEED = Seed.from_mnemonic(MNEMONIC)
QUOTE = "quote-1234567890"
INVOICE = "lnbc1000n1pj4apw9"
MINT_QUOTE: dict[str, object] = {"quote": QUOTE, "request": INVOICE, "amount": 65, "unit": "sat", "state": "PAID"}
MELT_QUOTE: dict[str, object] = {
    "quote": QUOTE,
    "request": INVOICE,
    "amount": 60,
    "unit": "sat",
    "fee_reserve": 4,
    "state": "PAID",
    "expiry": None,
}


class FixedClock(SystemClock):
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Answering:
    """Answers each request with one response, and remembers what was asked."""

    respond: Callable[[httpx.Request], httpx.Response]
    requests: list[httpx.Request] = field(default_factory=list)

    def client(self) -> MintClient:
        def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return self.respond(request)

        return MintClient("http://mint.test", transport=httpx.MockTransport(handle), clock=FixedClock())


def answering(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Answering:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answering(lambda _: httpx.Response(status, content=content, headers=headers))


def made(amounts: Sequence[int] = (1, 64)) -> tuple[tuple[Output, ...], list[BlindedMessage]]:
    outputs = outputs_for(SEED, KEYSET.id, 0, amounts)
    return outputs, [output.to_message() for output in outputs]


def dumped(signatures: Sequence[object]) -> list[dict[str, object]]:
    return [json.loads(signature.model_dump_json()) for signature in signatures]  # type: ignore[attr-defined]


def coins() -> tuple[Proof, ...]:
    outputs, messages = made()
    return unblind_all(outputs, MINT.sign(messages), KEYSET)


Call = Callable[[MintClient], Awaitable[object]]
CALLS: dict[str, Call] = {
    "info": lambda client: client.info(),
    "keysets": lambda client: client.keysets(),
    "keys": lambda client: client.keys(MINT.info),
    "create_mint_quote": lambda client: client.create_mint_quote(65, "sat"),
    "mint_quote": lambda client: client.mint_quote(QUOTE),
    "mint": lambda client: client.mint(QUOTE, made()[1]),
    "swap": lambda client: client.swap(coins(), made()[1]),
    "create_melt_quote": lambda client: client.create_melt_quote(INVOICE, "sat"),
    "melt_quote": lambda client: client.melt_quote(QUOTE),
    "melt": lambda client: client.melt(QUOTE, coins(), made()[1]),
    "check": lambda client: client.check([coin.y for coin in coins()]),
    "restore": lambda client: client.restore(made()[1]),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


# Honest answers.


async def test_info_tells_what_the_mint_supports() -> None:
    nuts = {"4": {"methods": [], "disabled": False}, "5": {"methods": [], "disabled": True}, "7": {"supported": True}}
    answer = answering(
        {"name": "m", "nuts": {**nuts, "12": {"supported": False}, "17": {"supported": []}}, "motd": "x"}
    )
    info = await answer.client().info()
    assert [nut for nut in (4, 5, 7, 12, 17, 20) if info.supports(nut)] == [4, 7]
    assert not MintInfo().supports(4)
    assert str(answer.requests[0].url) == "http://mint.test/v1/info"


async def test_keysets_and_keys() -> None:
    listed = [MINT.info.model_dump(), {"id": "L3zxxRB/I8uE", "unit": "sat", "active": False, "new": 1}]
    keysets = await answering({"keysets": listed}).client().keysets()
    assert keysets[0] == MINT.info
    sheet = {"id": KEYSET.id, "unit": "sat", "keys": {str(amount): key for amount, key in KEYSET.keys.items()}}
    for extra in ({}, {"input_fee_ppk": 0, "final_expiry": None, "active": True}, {"input_fee_ppk": None}):
        answer = answering({"keysets": [{**sheet, **extra}]})
        assert await answer.client().keys(MINT.info) == KEYSET
        assert answer.requests[0].url.path == f"/v1/keys/{KEYSET.id}"


async def test_quotes() -> None:
    answer = answering(MINT_QUOTE)
    assert (await answer.client().create_mint_quote(65, "sat")).state is MintQuoteState.PAID
    assert json.loads(answer.requests[0].content) == {"amount": 65, "unit": "sat"}
    assert (await answer.client().mint_quote(QUOTE)).amount == 65
    assert answer.requests[1].url.path == f"/v1/mint/quote/bolt11/{QUOTE}"
    # Nutshell gives the invoice back in lower case.
    melt = await answering(MELT_QUOTE).client().create_melt_quote(INVOICE.upper(), "sat")
    assert (melt.amount, melt.fee_reserve) == (60, 4)
    assert (await answering(MELT_QUOTE).client().melt_quote(QUOTE)).state is MeltQuoteState.PAID


async def test_a_quote_can_be_locked_to_a_key() -> None:
    pubkey = "03d56ce4e446a85bbdaa547b4ec2b073d40ff802831352b8272b7dd7a4de5a7cac"
    answer = answering({**MINT_QUOTE, "pubkey": pubkey})
    await answer.client().create_mint_quote(65, "sat", pubkey=pubkey)
    assert json.loads(answer.requests[0].content)["pubkey"] == pubkey
    for other in (None, "02" + "11" * 32):
        with pytest.raises(WrongQuoteError):
            await answering({**MINT_QUOTE, "pubkey": other}).client().create_mint_quote(65, "sat", pubkey=pubkey)


async def test_a_quote_id_cannot_lead_elsewhere() -> None:
    answer = answering({**MINT_QUOTE, "quote": "../../v1/info?x#y%2e1"})
    await answer.client().mint_quote("../../v1/info?x#y%2e1")
    assert answer.requests[0].url.raw_path == b"/v1/mint/quote/bolt11/..%2F..%2Fv1%2Finfo%3Fx%23y%252e1"


async def test_mint_and_swap_and_melt_and_restore() -> None:
    outputs, messages = made()
    signatures = MINT.sign(messages)
    answer = answering({"signatures": dumped(signatures)})
    assert await answer.client().mint(QUOTE, messages, signature="ab") == signatures
    sent = json.loads(answer.requests[0].content)
    assert sent == {"quote": QUOTE, "outputs": dumped(messages), "signature": "ab"}
    proofs = unblind_all(outputs, await answer.client().swap(coins(), messages), KEYSET)
    assert sum(proof.amount for proof in proofs) == 65

    blanks = made([BLANK_AMOUNT] * 3)[1]
    change = [MINT.sign_one(blanks[0], 4)]
    paid = await answering({**MELT_QUOTE, "change": dumped(change)}).client().melt(QUOTE, coins(), blanks)
    assert paid.change == tuple(change)
    assert (await answering({**MELT_QUOTE, "state": "PENDING"}).client().melt(QUOTE, coins())).change is None

    body = {"outputs": dumped(messages[1:]), "signatures": dumped(signatures[1:])}
    assert await answering(body).client().restore(messages) == {messages[1].B_: signatures[1]}
    assert await answering({"outputs": [], "signatures": []}).client().restore(messages) == {}


async def test_check_gives_states_in_order() -> None:
    ys = [coin.y for coin in coins()]
    states = [
        {"Y": ys[0], "state": "SPENT", "witness": None},
        {"Y": ys[1].upper().replace("X", "x"), "state": "PENDING"},
    ]
    answer = answering({"states": states})
    assert await answer.client().check(ys) == (SpendState.SPENT, SpendState.PENDING)
    assert json.loads(answer.requests[0].content) == {"Ys": ys}


async def test_a_request_is_the_same_bytes_each_time_and_gives_nothing_away() -> None:
    """L-S7, and NUT-12: no blinding factor in what the mint is sent."""
    answer = answering({"signatures": dumped(MINT.sign(made()[1]))})
    for _ in range(2):
        await answer.client().swap(coins(), made()[1])
    first, second = (request.content for request in answer.requests)
    assert first == second
    assert not any(output.blinding_factor.hex().encode() in first for output in made()[0])
    assert answer.requests[0].headers["accept-encoding"] == "identity"
    assert "cookie" not in answer.requests[0].headers


async def test_requests_without_substance_are_refused_before_they_are_sent() -> None:
    answer = answering({})
    client = answer.client()
    bad: list[Call] = [
        lambda it: it.mint(QUOTE, []),
        lambda it: it.swap([], made()[1]),
        lambda it: it.swap(coins(), []),
        lambda it: it.melt(QUOTE, []),
        lambda it: it.restore([]),
        lambda it: it.create_mint_quote(0, "sat"),
        lambda it: it.create_mint_quote(2**63, "sat"),
    ]
    for call in bad:
        with pytest.raises(UsageError):
            await call(client)
    with pytest.raises(MalformedError):
        await client.keys(KeysetInfo(id="../../x", unit="sat", active=True))
    assert answer.requests == []


# A mint that lies.


async def test_another_quote_than_asked_for_is_refused() -> None:
    for call in ("mint_quote", "melt_quote", "melt"):
        body = {**(MINT_QUOTE if call == "mint_quote" else MELT_QUOTE), "quote": "another"}
        with pytest.raises(MintLiedError):
            await CALLS[call](answering(body).client())


@pytest.mark.parametrize("change", [{"amount": 64}, {"unit": "usd"}])
async def test_an_offer_of_something_else_is_not_taken(change: dict[str, object]) -> None:
    with pytest.raises(WrongQuoteError):
        await answering({**MINT_QUOTE, **change}).client().create_mint_quote(65, "sat")


@pytest.mark.parametrize("change", [{"request": "lnbc2"}, {"unit": "usd"}])
async def test_an_offer_to_pay_something_else_is_not_taken(change: dict[str, object]) -> None:
    with pytest.raises(WrongQuoteError):
        await answering({**MELT_QUOTE, **change}).client().create_melt_quote(INVOICE, "sat")


@pytest.mark.parametrize("call", ["mint", "swap"])
@pytest.mark.parametrize("lie", ["fewer", "more", "none", "amount", "keyset", "order", "negative", "no list"])
async def test_signatures_that_do_not_fit_the_outputs_are_refused(call: str, lie: str) -> None:
    signatures: object = dumped(MINT.sign(made()[1]))
    assert isinstance(signatures, list)
    match lie:
        case "fewer":
            signatures = signatures[:1]
        case "more":
            signatures = [*signatures, signatures[0]]
        case "none":
            signatures = []
        case "amount":
            signatures[1]["amount"] = 32
        case "keyset":
            signatures[1]["id"] = V1_KEYSET_ID
        case "order":
            signatures.reverse()
        case "negative":
            signatures[0]["amount"] = -1
        case _:
            signatures = {"0": signatures[0]}
    with pytest.raises(MintLiedError):
        await CALLS[call](answering({"signatures": signatures}).client())


async def test_change_that_was_not_asked_for_is_refused() -> None:
    signatures = dumped(MINT.sign(made()[1]))
    with pytest.raises(MintLiedError):
        await answering({**MELT_QUOTE, "change": signatures}).client().melt(QUOTE, coins())
    with pytest.raises(MintLiedError):
        await answering({**MELT_QUOTE, "change": signatures}).client().melt(QUOTE, coins(), made()[1][:1])
    signatures[0]["id"] = V1_KEYSET_ID
    with pytest.raises(MintLiedError):
        await CALLS["melt"](answering({**MELT_QUOTE, "change": signatures}).client())


async def test_restored_outputs_that_do_not_fit_are_refused() -> None:
    messages = made()[1]
    signatures = dumped(MINT.sign(messages))
    foreign = outputs_for(SEED, KEYSET.id, 90, [1])[0].to_message()
    bodies: list[dict[str, object]] = [
        {"outputs": dumped(messages), "signatures": signatures[:1]},
        {"outputs": dumped(messages[:1]), "signatures": signatures},
        {"outputs": dumped([messages[0], messages[0]]), "signatures": signatures},
        {"outputs": dumped([foreign]), "signatures": signatures[:1]},
        {"outputs": dumped(messages[:1]), "signatures": [{**signatures[0], "id": V1_KEYSET_ID}]},
    ]
    for body in bodies:
        with pytest.raises(MintLiedError):
            await answering(body).client().restore(messages)


async def test_states_of_other_coins_are_refused() -> None:
    ys = [coin.y for coin in coins()]
    state = {"Y": ys[0], "state": "UNSPENT"}
    for states in ([], [state], [state, state], [{**state, "Y": ys[1]}, state], [state, {"Y": ys[1], "state": "LOST"}]):
        with pytest.raises(MintLiedError):
            await answering({"states": states}).client().check(ys)


async def test_keys_that_are_not_the_keysets_are_refused() -> None:
    keys = {str(amount): key for amount, key in KEYSET.keys.items()}
    sheet: dict[str, object] = {"id": KEYSET.id, "unit": "sat", "keys": keys}
    swapped = {**keys, "1": keys["2"], "2": keys["1"]}
    lies: list[list[dict[str, object]]] = [
        [],
        [{**sheet, "id": V1_KEYSET_ID}],
        [sheet, sheet],
        [{**sheet, "unit": "usd"}],
        [{**sheet, "input_fee_ppk": 100}],
        [{**sheet, "final_expiry": 5}],
        [{**sheet, "keys": swapped}],
        [{**sheet, "keys": {**keys, "1": "02" + "ff" * 32}}],
        [{**sheet, "keys": {}}],
        [{**sheet, "keys": {"one": keys["1"]}}],
        [{**sheet, "keys": [keys["1"]]}],
    ]
    for lie in lies:
        with pytest.raises(MintLiedError):
            await answering({"keysets": lie}).client().keys(MINT.info)
    # A mint that lists another fee than the id covers is caught here as well.
    with pytest.raises(MintLiedError):
        await answering({"keysets": [sheet]}).client().keys(MINT.info.model_copy(update={"input_fee_ppk": 1}))


async def test_a_keyset_that_is_listed_twice_is_refused() -> None:
    listed = MINT.info.model_dump()
    with pytest.raises(MintLiedError):
        await answering({"keysets": [listed, {**listed, "input_fee_ppk": 5}]}).client().keysets()


WRONG_SHAPES: list[object] = [
    [],
    None,
    7,
    "text",
    {"signatures": 7, "states": {}, "keysets": 1, "outputs": "x", "nuts": 7},
]


@every_call
@pytest.mark.parametrize("body", WRONG_SHAPES, ids=str)
async def test_json_of_another_form_is_a_lie(call: Call, body: object) -> None:
    with pytest.raises(MintLiedError):
        await call(answering(body).client())


BROKEN = {
    "html": b"<!doctype html><title>502</title><p>secret-of-the-proxy",
    "empty": b"",
    "cut": b'{"keysets": [',
    "utf-8": b'{"name": "\xff\xfe"}',
    "nested": b"[" * 100_000,
    "digits": b'{"amount": ' + b"9" * 10_000 + b"}",
    "surrogate": b'{"name": "\\ud800"}',
}


@every_call
@pytest.mark.parametrize("kind", BROKEN)
async def test_an_answer_that_cannot_be_read_is_transient(call: Call, kind: str) -> None:
    """L-D6: neither a page of a proxy nor garbage is the mint's refusal."""
    with pytest.raises(TransientError) as caught:
        await call(answering(BROKEN[kind]).client())
    assert not isinstance(caught.value, MintLiedError), "whether the mint said this is not known"
    assert "secret-of-the-proxy" not in str(caught.value)


# Errors of the protocol, and of what stands before the mint.


@every_call
async def test_an_error_of_the_protocol_carries_its_code(call: Call) -> None:
    with pytest.raises(MintError) as caught:
        await call(answering({"detail": "quote not paid", "code": 20001}, 400).client())
    assert isinstance(caught.value, RejectedError)
    assert (caught.value.code, caught.value.status, caught.value.detail) == (20001, 400, "quote not paid")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"detail": "oops", "code": 0}, 0),
        (400, {"detail": "oops"}, None),
        (404, {"detail": "Not Found"}, None),
        (422, {"detail": [{"loc": ["body"], "input": "secret"}]}, None),
        (400, {"code": 11001, "error": "spent"}, 11001),
    ],
)
async def test_refusals_of_other_mints(status: int, body: object, code: int | None) -> None:
    with pytest.raises(MintError) as caught:
        await answering(body, status).client().mint(QUOTE, made()[1])
    assert caught.value.code == code
    assert "secret" not in str(caught.value)


async def test_the_mints_words_are_cut_and_cleaned() -> None:
    secret = made()[0][0].secret
    detail = f"bad\r\n\x1b[31m  secret {secret}; cashuB{'o2F0' * 40} {'word ' * 500}"
    with pytest.raises(MintError) as caught:
        await answering({"detail": detail, "code": 10001}, 400).client().swap(coins(), made()[1])
    told = str(caught.value)
    assert told.startswith("the mint refused: bad [31m secret …; … word")
    assert len(caught.value.detail) <= 200
    assert told.isprintable()


@every_call
@pytest.mark.parametrize(
    ("status", "content"),
    [
        (500, b'{"detail": "x", "code": 11001}'),
        (502, b"<html>"),
        (503, b""),
        (504, b""),
        (408, b""),
        (400, b"<html>bad request</html>"),
        (404, b""),
        (413, b"<html>"),
        (400, b'{"message": "a proxy"}'),
        (400, b'{"detail": "x", "code": "11001"}'),
        (400, b'{"detail": "x", "code": true}'),
        (302, b""),
        (307, b""),
    ],
)
async def test_what_is_not_the_mints_word_is_transient(call: Call, status: int, content: bytes) -> None:
    answer = answering(content, status, {"location": "http://elsewhere.test/"})
    with pytest.raises(TransientError):
        await call(answer.client())
    assert len(answer.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 405, 410, 501, 301, 308])
async def test_what_a_person_must_put_right(status: int) -> None:
    answer = answering({"detail": "x", "code": 1}, status, {"location": "http://elsewhere.test/"})
    with pytest.raises(ConfigurationError) as caught:
        await answer.client().mint(QUOTE, made()[1])
    assert "elsewhere" not in str(caught.value)
    assert len(answer.requests) == 1


@pytest.mark.parametrize(
    ("header", "wait"), [("7", timedelta(seconds=7)), ("Thu, 01 Jan 2026 00:00:30 GMT", timedelta(seconds=30))]
)
async def test_the_mint_says_when_to_come_back(header: str, wait: timedelta) -> None:
    """L-P5."""
    for status in (429, 503):
        with pytest.raises(TransientError) as caught:
            await answering({"detail": "Rate limit exceeded."}, status, {"retry-after": header}).client().info()
        assert caught.value.retry_after == wait


@every_call
@pytest.mark.parametrize("status", [200, 400])
async def test_a_body_that_is_too_long_is_not_read_to_its_end(call: Call, status: int) -> None:
    given = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self):  # type: ignore[no-untyped-def]
            nonlocal given
            while True:
                given += 1
                yield b" " * 65536

    with pytest.raises(TransientError):
        await call(Answering(lambda _: httpx.Response(status, stream=Endless())).client())
    assert given == MAX_BODY_BYTES // 65536 + 1


async def test_a_compressed_body_is_not_unpacked() -> None:
    answer = Answering(
        lambda _: httpx.Response(200, stream=httpx.ByteStream(b"\x1f\x8b"), headers={"content-encoding": "gzip"})
    )
    with pytest.raises(TransientError):
        await answer.client().info()


FAULTS: list[tuple[type[httpx.TransportError], type[TransientError]]] = [
    (httpx.ConnectError, MintUnreachableError),
    (httpx.ConnectTimeout, MintUnreachableError),
    (httpx.ReadError, TransientError),
    (httpx.WriteError, TransientError),
    (httpx.ReadTimeout, TransientError),
    (httpx.RemoteProtocolError, TransientError),
]


@every_call
@pytest.mark.parametrize(("fault", "expected"), FAULTS)
async def test_a_broken_connection(
    call: Call, fault: type[httpx.TransportError], expected: type[TransientError]
) -> None:
    """L-P4: only a connection that never was proves that nothing was sent."""

    def respond(request: httpx.Request) -> httpx.Response:
        raise fault("boom with a secret", request=request)

    answer = Answering(respond)
    with pytest.raises(TransientError) as caught:
        await call(answer.client())
    assert isinstance(caught.value, MintUnreachableError) is (expected is MintUnreachableError)
    assert "secret" not in str(caught.value)
    assert len(answer.requests) == 1


# Addresses.


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://mint.example", "https://mint.example"),
        (" HTTPS://Mint.Example:443/ ", "https://mint.example"),
        ("http://127.0.0.1:3338/", "http://127.0.0.1:3338"),
        ("https://mint.example/Bitcoin//", "https://mint.example/Bitcoin"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("https://bücher.example:8443/a/../b", "https://xn--bcher-kva.example:8443/b"),
    ],
)
def test_an_address_is_written_in_one_way(given: str, url: str) -> None:
    assert normalize_mint_url(given) == url
    assert normalize_mint_url(url) == url


@pytest.mark.parametrize(
    "given",
    [
        "",
        "mint.example",
        "ftp://mint.example",
        "https://",
        "https:///x",
        "https://user:pw@mint.example",
        "https://mint.example/?a=b",
        "https://mint.example?",
        "https://mint.example/#x",
        "https://mint.example:99999999",
        "https://mint.example:0",
        "https://exa mple",
        "http://%41.example",
        "http://[fe80::1%25eth0]/",
        "https://\x00",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        MintClient(given)
    assert "pw" not in str(caught.value)


async def test_a_path_in_the_address_is_kept() -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={})

    async with MintClient("https://mint.example/Bitcoin/", transport=httpx.MockTransport(handle)) as client:
        await client.info()
        assert client.url == "https://mint.example/Bitcoin"
    assert seen == ["https://mint.example/Bitcoin/v1/info"]
