"""A Cashu wallet of ours at a mint, and the same requests sent to another mint with nothing behind them.

For each of issue, send with a swap, receive, and melt with its quote: ours does so many at once, and every request is
noted. Then the mint's twin, which has the same private key, gets the very same requests, in the same order within an
operation and as many operations at once; only the ids of quotes are its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import httpx
from coincurve import PublicKey

from benchmarks.sides import options
from wallet_actions.cashu import Cashu, CashuWallet, Melt, MintClient, Seed
from wallet_actions.cashu.conditions import pay_to_key
from wallet_actions.cashu.proofs import BlindedMessage
from wallet_actions.cashu.quotes import sign_mint_request
from wallet_actions.testing.nutshell import MintConfig, NutshellMint

T = TypeVar("T")

OPERATIONS = ("issue", "send", "receive", "melt")
AMOUNT, PART = 64, 20
QUOTE = re.compile(rb'"quote": ?"([^"]+)"')
WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
WATCH = "/v1/checkstate"
# What is the mint's and not the operation's: learnt once for all of them.
SHARED = re.compile(r"^/v1/(info|keys|keysets)")


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was made, and the quote that its answer named."""

    method: str
    path: str
    body: bytes
    quote: bytes


@dataclass(slots=True)
class Recorder(httpx.AsyncBaseTransport):
    """Notes the requests by the task that makes them; a drive is a task of its own."""

    made: dict[asyncio.Task[Any] | None, list[Request]] = field(default_factory=dict)
    _real: httpx.AsyncHTTPTransport = field(default_factory=lambda: httpx.AsyncHTTPTransport(verify=False))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass it on."""
        body = await request.aread()
        response = await self._real.handle_async_request(request)
        answer = await response.aread()
        found = QUOTE.search(answer)
        path = request.url.raw_path.decode()
        if SHARED.search(path) is None:
            made = Request(request.method, path, body, found[1] if found else b"")
            self.made.setdefault(asyncio.current_task(), []).append(made)
        headers = [(name, value) for name, value in response.headers.items() if name != "content-encoding"]
        return httpx.Response(response.status_code, headers=headers, content=answer, request=request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._real.aclose()

    def chains(self) -> list[list[Request]]:
        """The requests of each operation: those of tasks that speak of the same quote belong together."""
        chains: list[list[Request]] = []
        by_quote: dict[bytes, list[Request]] = {}
        for requests in self.made.values():
            quotes = {request.quote for request in requests if request.quote}
            chain = next((by_quote[quote] for quote in quotes if quote in by_quote), None)
            if chain is None:
                chain = []
                chains.append(chain)
            chain.extend(requests)
            by_quote.update(dict.fromkeys(quotes, chain))
        return chains


class Signer:
    """Signs for the ecash of quotes, each of which is locked to a key of its own (NUT-20)."""

    def __init__(self, wallet: CashuWallet, count: int) -> None:
        self._keys: dict[str, bytes] = {}
        for counter in range(count):
            key = wallet.quote_key(counter)
            self._keys[PublicKey.from_valid_secret(key).format().hex()] = key

    def signed(self, chain: list[Request], body: bytes) -> bytes:
        """The body of a request for ecash, signed for the quote that stands in it now."""
        asked = json.loads(body)
        if "signature" in asked:
            pubkey = next(json.loads(request.body)["pubkey"] for request in chain if b'"pubkey"' in request.body)
            outputs = tuple(BlindedMessage.model_validate(output) for output in asked["outputs"])
            asked["signature"] = sign_mint_request(asked["quote"], outputs, self._keys[pubkey])
        return json.dumps(asked).encode()


async def replay(chain: list[Request], client: httpx.AsyncClient, signer: Signer) -> None:
    """Send the requests of one operation, with the quotes that the answers name."""
    quotes: dict[bytes, bytes] = {}
    for request in chain:
        path, body = request.path.encode(), request.body
        for old, new in quotes.items():
            path, body = path.replace(old, new), body.replace(old, new)
        if request.path == "/v1/mint/bolt11":
            body = signer.signed(chain, body)
        response = await client.request(
            request.method, path.decode(), content=body or None, headers={"content-type": "application/json"}
        )
        if response.status_code != 200:
            raise SystemExit(f"the twin refused {request.path}: {response.text}")
        found = QUOTE.search(response.content)
        if found and request.quote:
            quotes[request.quote] = found[1]


async def together(work: list[Callable[[], Coroutine[Any, Any, Any]]], at_once: int) -> float:
    """Do some things, so many at once.

    Returns:
        The seconds that it took.
    """
    places = asyncio.Semaphore(at_once)

    async def do(one: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        async with places:
            await one()

    begun_s = time.perf_counter()
    await asyncio.gather(*(do(one) for one in work))
    return time.perf_counter() - begun_s


def seed(name: str) -> Seed:
    """A wallet's seed."""
    return Seed.from_mnemonic(WORDS, passphrase=name)


async def twin_s(client: httpx.AsyncClient, signer: Signer, chains: list[list[Request]], at_once: int) -> float:
    """How long the mint takes to answer these requests, in seconds."""

    async def warm() -> None:
        await client.post("/v1/mint/quote/bolt11", json={"amount": 1, "unit": "sat"})

    # Its first quotes are slow; ours met a mint that had answered before.
    await together([warm] * at_once, at_once)
    return await together([partial(replay, chain, client, signer) for chain in chains], at_once)


async def prepared(
    operation: str, app: Cashu, giver: Cashu, mint: NutshellMint, count: int
) -> list[Callable[[], Coroutine[Any, Any, Any]]]:
    """The operations, with what they need already there."""

    async def fund(wallet: Cashu, amount: int) -> None:
        for _ in range(count):
            await wallet.issued((await wallet.issue(mint.url, amount)).id)

    lock = pay_to_key(await giver.wallet.receiving_key())

    async def issue() -> None:
        await app.issued((await app.issue(mint.url, AMOUNT)).id)

    async def send() -> None:
        # Locked, so that it takes a swap also where coins would fit.
        action = await app.send(mint.url, PART, condition=lock)
        await app.token(action.id)

    if operation == "issue":
        return [issue] * count
    if operation == "send":
        await fund(app, AMOUNT)
        return [send] * count
    if operation == "receive":
        await fund(giver, AMOUNT)
        tokens = [await giver.token((await giver.send(mint.url, AMOUNT)).id) for _ in range(count)]

        async def receive(token: str) -> None:
            await app.received((await app.receive(token)).id)

        return [partial(receive, token) for token in tokens]
    await fund(app, 2 * AMOUNT)
    invoices = [await mint.invoice(AMOUNT) for _ in range(count)]

    async def melt(invoice: str) -> None:
        action = await Melt.of(app.wallet, mint.url, invoice, "sat")
        await app.pay(action)
        await app.paid(action.id)

    return [partial(melt, invoice) for invoice in invoices]


async def main() -> None:
    """Do it at one mint, and again at its twin, operation by operation."""
    given = options.read()
    key = secrets.token_hex(32)
    folders = [given.folder / f"mint-{given.turn}-{name}" for name in ("a", "b")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "mint.key").write_text(key)
    figures: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        mint, twin = [await stack.enter_async_context(NutshellMint(MintConfig(data_dir=one))) for one in folders]
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=twin.url, timeout=60))
        for operation in OPERATIONS:
            recorder = Recorder()
            path = f"sqlite:///{folders[0]}/{operation}"
            async with (
                # Wallets of their own: what one operation leaves behind is not to ask the mint during the next.
                Cashu(f"{path}.db", seed(operation), connect=partial(MintClient, transport=recorder)) as app,
                Cashu(f"{path}-giver.db", seed(f"{operation} giver")) as giver,
            ):
                count = given.at_once * given.batches
                first, *work = await prepared(operation, app, giver, mint, count + 1)
                await first()  # which learns the mint's keys, once for all
                recorder.made.clear()
                ours_s = await together(work, given.at_once)
                # What is sent is watched from then on until it is claimed: that is no part of sending it.
                chains = [chain for chain in recorder.chains() if {one.path for one in chain} != {WATCH}]
                signer = Signer(app.wallet, 8 * count + 8)
            figures[f"{operation}_rate"] = count / ours_s
            figures[f"{operation}_raw"] = count / await twin_s(client, signer, chains, given.at_once)
            figures[f"{operation}_requests"] = sum(len(chain) for chain in chains) / count
    options.answer(**figures)


if __name__ == "__main__":
    asyncio.run(main())
