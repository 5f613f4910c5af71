"""The wallet: its coins, its counters, and what it passes over."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from tests.unit.cashu.fake_mint import URL, FakeMint
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.cashu import Cashu, CashuWallet, InsufficientFundsError, Seed, Swap
from wallet_actions.cashu.coin_selection import MOST_INPUTS
from wallet_actions.cashu.outputs import unblind_all
from wallet_actions.cashu.proofs import BlindedMessage, Proof, coin_of
from wallet_actions.cashu.wallet import moment, public_id
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import Coin
from wallet_actions.errors import InvariantError, RejectedError, UsageError
from wallet_actions.events import Event
from wallet_actions.store import Delta, NewAction, Store
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with MemoryStore() as store:
        yield store


def wallet_on(store: Store, mint: FakeMint) -> CashuWallet:
    return CashuWallet(store, Seed.from_mnemonic(MNEMONIC), connect=mint.client)


async def put(store: Store, *coins: Coin) -> None:
    now = datetime.now(UTC)
    row = Checkpoint("gift", coins[0].id[:20], 0, 1, "{}", "open", Status.RUNNING, now, now)
    await store.create(NewAction(row, Delta(add=coins)))


async def proofs_of(wallet: CashuWallet, mint: FakeMint, *amounts: int) -> tuple[Proof, ...]:
    keyset = await wallet.mint(URL).active_keyset("sat")
    outputs = wallet.outputs(keyset.id, await wallet.allocate(keyset.id, len(amounts)), amounts)
    return unblind_all(outputs, mint.tiny.sign([output.to_message() for output in outputs]), keyset)


async def test_a_mint_has_one_client_however_its_address_is_written(store: Store) -> None:
    async with wallet_on(store, FakeMint()) as wallet:
        assert wallet.mint("HTTP://mint.test:80/") is wallet.mint(URL)
        with pytest.raises(UsageError):
            wallet.mint("mint.test")
        assert repr(wallet) == "CashuWallet(mints=['http://mint.test'])"


async def test_its_coins_are_counted_by_mint_and_unit(store: Store) -> None:
    mint = FakeMint()
    async with wallet_on(store, mint) as wallet:
        proofs = await proofs_of(wallet, mint, 8, 4)
        await put(store, *(coin_of(proof, mint_url=URL, unit="sat") for proof in proofs))
        (balance,) = await wallet.balances("http://MINT.test/")
        assert (balance.spendable, balance.reserved) == (12, 0)
        assert await wallet.balances("http://other.test") == []
        assert await wallet.spendable(URL, "usd") == []
        assert {coin.amount for coin in await wallet.spendable(URL + "/", "sat")} == {4, 8}


async def test_coins_that_nobody_can_spend_do_not_keep_others_from_being_spent(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """L-C13, G9: a keyset that the mint has dropped, and a coin that holds something else; kept, and not chosen."""
    mint = FakeMint()
    async with wallet_on(store, mint) as wallet:
        good, old = await proofs_of(wallet, mint, 8, 64)
        dropped = old.model_copy(update={"id": "00" + "ab" * 7})
        broken = Coin("not-a-proof", URL, "sat", 128, payload='{"secret": "tell-nobody"}')
        await put(store, coin_of(good, mint_url=URL, unit="sat"), coin_of(dropped, mint_url=URL, unit="sat"), broken)
        with caplog.at_level(logging.ERROR):
            coins, fee = await wallet.select(URL, "sat", 7)
        assert [coin.id for coin in coins] == [good.y]
        assert fee == 0
        with pytest.raises(InsufficientFundsError, match="9 needed, 8 available"):
            await wallet.select(URL, "sat", 9)
        assert sum(coin.amount for coin in await wallet.spendable(URL, "sat")) == 200
    assert [record.__dict__["coin_id"] for record in caplog.records] == ["not-a-proof"] * 2, "at each choice"
    assert "tell-nobody" not in caplog.text


async def test_the_proofs_of_an_action_come_in_one_order(store: Store) -> None:
    """L-S7, L-S8."""
    mint = FakeMint()
    async with wallet_on(store, mint) as wallet:
        proofs = await proofs_of(wallet, mint, 1, 2, 4, 8)
        await put(store, *(coin_of(proof, mint_url=URL, unit="sat") for proof in proofs))
        ids = [proof.y for proof in proofs]
        assert [proof.y for proof in await wallet.proofs(ids)] == sorted(ids)
        assert await wallet.proofs(ids[::-1]) == await wallet.proofs(ids)
        with pytest.raises(InvariantError, match="not in the store"):
            await wallet.proofs([*ids, "02" + "00" * 32])


async def test_counters_only_move_on(store: Store) -> None:
    """L-C12."""
    async with wallet_on(store, FakeMint()) as wallet:
        assert [await wallet.allocate("keyset", count) for count in (3, 2, 0, 1)] == [0, 3, 0, 5]
        assert (await store.counters())["cashu/keyset"] == 6


async def test_a_store_belongs_to_the_seed_that_it_was_opened_with_first(store: Store) -> None:
    """L-C12: the counters of one seed say nothing about another's; found out before an action is driven."""
    mine = Seed.from_mnemonic(MNEMONIC)
    for _ in range(2):
        async with CashuWallet(store, mine):
            assert f"cashu-seed/{mine.fingerprint}" in await store.counters()
    before = await store.counters()
    for other in (Seed.from_mnemonic(MNEMONIC, "another passphrase"), Seed(bytes(32))):
        with pytest.raises(UsageError, match="belongs to another recovery phrase"):
            await CashuWallet(store, other).__aenter__()
        driven: list[Event] = []
        with pytest.raises(UsageError, match="belongs to another recovery phrase"):
            await Cashu(store, other, observers=[driven.append]).__aenter__()
        assert driven == []
    assert await store.counters() == before
    async with Cashu(store, mine) as cashu:
        assert await cashu.balances() == []


async def test_two_seeds_that_open_a_new_store_at_once_never_both_own_it() -> None:
    """However the calls interleave: one that owns it opens it again, and the other never does."""
    for delay in range(8):
        async with MemoryStore() as store:
            first, second = Seed(bytes(32)), Seed(bytes([1] * 32))
            opened: set[str] = set()

            async def enter(seed: Seed, wait: int, store: Store = store, opened: set[str] = opened) -> None:
                for _ in range(wait):
                    await anyio.lowlevel.checkpoint()
                with contextlib.suppress(UsageError):
                    async with CashuWallet(cast("Store", _Slow(store)), seed):
                        opened.add(seed.fingerprint)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(enter, first, 0)
                tasks.start_soon(enter, second, delay)
            assert len(opened) <= 1
            owners = {name for name in await store.counters() if name.startswith("cashu-seed/")}
            assert owners == {f"cashu-seed/{fingerprint}" for fingerprint in opened}
            for seed in (first, second):
                opened_before = set(opened)
                await enter(seed, 0)
                assert opened == opened_before


class _Slow:
    """Lets others run before each call."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            return await getattr(self._store, name)(*arguments)

        return call


async def test_counters_of_an_earlier_life_are_skipped(store: Store) -> None:
    """NUT-13: as far as signatures are found, whatever gaps there are between them."""
    mint = FakeMint()
    async with wallet_on(store, mint) as wallet:
        keyset = await wallet.mint(URL).active_keyset("sat")
        for counter in (0, 1, 50, 140, 400):
            (output,) = wallet.outputs(keyset.id, counter, [1])
            mint.sign(output.to_message(), 1)
        await wallet.skip_used(URL, keyset.id)
        assert await wallet.allocate(keyset.id, 1) == 141, "a hundred in a row unsigned is the end"
        await wallet.skip_used(URL, keyset.id)
        assert await wallet.allocate(keyset.id, 1) == 142


async def test_a_mint_that_signs_everything_does_not_keep_the_wallet_for_ever(store: Store) -> None:
    mint = FakeMint()

    def sign_all(body: dict[str, Any]) -> dict[str, object]:
        messages = [BlindedMessage.model_validate(output) for output in body["outputs"]]
        signatures = [mint.tiny.sign_one(message, 1).model_dump() for message in messages]
        return {"outputs": body["outputs"], "signatures": signatures}

    mint.routes["POST /v1/restore"] = sign_all
    async with wallet_on(store, mint) as wallet:
        await wallet.skip_used(URL, mint.tiny.keyset.id)
    assert mint.requests.count("POST /v1/restore") == 20


async def test_a_mint_that_claims_signatures_moves_no_counter(store: Store) -> None:
    """L-C12: it may list the keyset of another mint, whose coins a restore of the seed has to find."""
    mint = FakeMint()
    keyset = mint.tiny.keyset

    def claim_all(body: dict[str, Any]) -> dict[str, object]:
        proof = {"e": "11" * 32, "s": "22" * 32}
        signature = {"amount": 1, "id": keyset.id, "C_": keyset.keys[1], "dleq": proof}
        return {"outputs": body["outputs"], "signatures": [signature] * len(body["outputs"])}

    mint.routes["POST /v1/restore"] = claim_all
    async with wallet_on(store, mint) as wallet:
        await wallet.skip_used(URL, keyset.id)
        assert await wallet.allocate(keyset.id, 1) == 0
    assert mint.requests.count("POST /v1/restore") == 1


def test_a_quote_is_shown_under_another_name() -> None:
    assert public_id("quote") == public_id("quote")
    assert len(public_id("quote")) == 32
    assert "quote" not in public_id("quote")


def test_any_time_that_a_mint_gives_is_a_date() -> None:
    assert moment(None) is None
    assert moment(0) is None
    assert moment(1_700_000_000) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert (moment(2**63 - 1) or datetime.min.replace(tzinfo=UTC)).year == 9999


async def test_skips_at_the_same_time_do_not_add_up(store: Store) -> None:
    """L-C12: a long row of counters that nobody used would look like the end to whoever restores the seed (NUT-13)."""
    mint = FakeMint()
    async with wallet_on(store, mint) as wallet:
        keyset = await wallet.mint(URL).active_keyset("sat")
        for output in wallet.outputs(keyset.id, 0, (1,) * 130):
            mint.sign(output.to_message(), 1)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(wallet.skip_used, URL, keyset.id)
        assert await wallet.allocate(keyset.id, 1) == 130


async def test_a_skip_of_another_process_meanwhile_is_not_added_to(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-C12: as above, where no lock of this process helps."""
    mint = FakeMint()
    async with wallet_on(store, mint) as wallet, wallet_on(store, mint) as other:
        keyset = await wallet.mint(URL).active_keyset("sat")
        for output in wallet.outputs(keyset.id, 0, (1,) * 130):
            mint.sign(output.to_message(), 1)
        client = wallet.mint(URL).client
        restore = client.restore

        async def overtaken(outputs: Any) -> Any:
            found = await restore(outputs)
            await other.skip_used(URL, keyset.id)
            return found

        monkeypatch.setattr(client, "restore", overtaken)
        await wallet.skip_used(URL, keyset.id)
        assert await wallet.allocate(keyset.id, 1) == 130


async def test_more_coins_than_a_mint_takes_at_once(store: Store) -> None:
    """A wallet of dust: to reserve them would end in a refusal; a person can swap them into fewer."""
    mint = FakeMint()
    async with wallet_on(store, mint) as wallet:
        keyset = await wallet.mint(URL).active_keyset("sat")
        count = MOST_INPUTS + 1
        point = keyset.keys[1]
        dust = [Proof(amount=1, id=keyset.id, secret=f"{place:064x}", C=point) for place in range(count)]
        await put(store, *(coin_of(proof, mint_url=URL, unit="sat") for proof in dust))
        with pytest.raises(RejectedError, match="1001 coins, and a mint takes 1000 at once: swap them into fewer"):
            await wallet.select(URL, "sat", count)
        chosen, _ = await wallet.select(URL, "sat", MOST_INPUTS)
        assert len(chosen) == MOST_INPUTS
        swap = await Swap.of(wallet, URL)
        assert (len(swap.inputs), swap.left) == (500, count - 500)
