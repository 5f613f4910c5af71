"""`Restore` at a mint in this process: what it takes back, what leaves to others, and makes of bad answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any, Self

import httpx
import pytest
from coincurve import PrivateKey

from tests.unit.cashu.fake_mint import URL, FakeMint, Json, Refusal
from tests.unit.cashu.kit import TinyMint, scalar
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.action import Action, Phase
from wallet_actions.cashu import (
    Cashu,
    CashuWallet,
    MintClient,
    Restore,
    Restored,
    RestoreProgress,
    Seed,
    TransactionState,
)
from wallet_actions.cashu.derivation import MAX_COUNTER
from wallet_actions.cashu.facts import Transaction, transactions
from wallet_actions.cashu.keyset_ids import KeysetVersion, derive_v1, derive_v2
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.outputs import Output, unblind_all
from wallet_actions.cashu.plan import OutputPlan, SwapPlan
from wallet_actions.cashu.proofs import BlindSignature, Proof, coin_of
from wallet_actions.cashu.restore import BATCH, MOST_EMPTY, MOST_EMPTY_IF_USED, Scanning
from wallet_actions.cashu.wallet import counter_of
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.errors import ActionFailedError, RejectedError, UnknownActionError
from wallet_actions.executor import Executor
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.registry import Registry
from wallet_actions.testing.clock import FakeClock
from wallet_actions.transition import Changes, Done, Next, Park, Transition
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

SEED = Seed.from_mnemonic(MNEMONIC)
UNKNOWN_KEYSET = "02" + "ab" * 32


class Vault:
    """A mint that remembers what an earlier life of the seed had signed.

    Attributes:
        mints: the keyset of each, with its unit.
        states: `Y` → where the coin stands; unspent unless it says otherwise.
    """

    def __init__(self, *mints: tuple[TinyMint, str], version: int = 2) -> None:
        self.mints = mints or ((TinyMint(), "sat"),)
        self.version = version
        self.states: dict[str, str] = {}
        self.fake = FakeMint()
        self.fake.routes = {
            "GET /v1/keysets": self._keysets,
            "GET /v1/keys/": self._keys,
            "POST /v1/checkstate": self._states,
        }

    def keyset(self, number: int = 0) -> Keyset:
        tiny, unit = self.mints[number]
        keys = tiny.keyset.keys
        if self.version == 1:
            return Keyset(id=derive_v1(keys), unit=unit, keys=keys)
        return tiny.keyset if unit == "sat" else _in_unit(tiny, unit)

    def sign(self, counter: int, amount: int, *, keyset: int = 0, state: str = "UNSPENT") -> str:
        """Sign an output of the seed's; returns the coin's id."""
        output = self.output(counter, amount, keyset=keyset)
        signature = self.mints[keyset][0].sign_one(output.to_message(), amount)
        self.fake.signed[output.blinded_message] = json.loads(signature.model_dump_json())
        proof = self.proof(counter, amount, keyset=keyset)
        self.states[proof.y] = state
        return proof.y

    def output(self, counter: int, amount: int, *, keyset: int = 0) -> Output:
        (output,) = CashuWallet(MemoryStore(), SEED).outputs(self.keyset(keyset).id, counter, (amount,))
        return output

    def proof(self, counter: int, amount: int, *, keyset: int = 0) -> Proof:
        output = self.output(counter, amount, keyset=keyset)
        signature = BlindSignature.model_validate_json(json.dumps(self.fake.signed[output.blinded_message]))
        (proof,) = unblind_all([output], [signature], self.keyset(keyset))
        return proof

    def spoil(self, counter: int, *, keyset: int = 0, **fields: Any) -> None:
        """Make something else of a signature."""
        output = self.output(counter, 1, keyset=keyset)
        self.fake.signed[output.blinded_message] |= fields

    def asked(self, path: str) -> int:
        return sum(request.endswith(path) for request in self.fake.requests)

    def _keysets(self, body: Json) -> Json:
        listed = [self.keyset(number) for number in range(len(self.mints))]
        return {"keysets": [{"id": one.id, "unit": one.unit, "active": place == 0} for place, one in enumerate(listed)]}

    def _keys(self, body: Json) -> Json:
        (keyset,) = [one for one in map(self.keyset, range(len(self.mints))) if one.id == body["_"].rpartition("/")[2]]
        return {"keysets": [{"id": keyset.id, "unit": keyset.unit, "keys": dict(keyset.keys)}]}

    def _states(self, body: Json) -> Json:
        return {"states": [{"Y": y, "state": self.states.get(y, "UNSPENT")} for y in body["Ys"]]}


def _in_unit(tiny: TinyMint, unit: str) -> Keyset:
    keys = tiny.keyset.keys
    return Keyset(id=derive_v2(keys, unit=unit), unit=unit, keys=keys)


def other_keys(first: int = 2000) -> TinyMint:
    return TinyMint({2**power: PrivateKey(scalar(first + power)) for power in range(8)})


class Held(Phase):
    plan: SwapPlan


class Past(Phase):
    coins: tuple[str, ...]


class Gift(Action[CashuWallet, Held | Past, None], kind="gift"):
    """An action that has a coin signed and gives it away, as far as the ledger goes."""

    name: str = "gift"
    payload: str = ""

    @property
    def id(self) -> str:
        return self.name

    async def advance(self, wallet: CashuWallet) -> Transition[Self, None]:
        if isinstance(self.phase, Past):
            return Done(None, changes=Changes(spend=self.phase.coins))
        coin = coin_of(Proof.model_validate_json(self.payload), mint_url=URL, unit="sat")
        return Park(self.at(Past(coins=(coin.id,))), changes=Changes(add=[coin], reserve=[coin.id]))


class Bench:
    """A wallet in memory, new but for its seed."""

    def __init__(self, store: MemoryStore, vault: Vault) -> None:
        self.store, self.vault = store, vault
        self.clock = FakeClock()
        self.wallet = CashuWallet(store, SEED, connect=vault.fake.client, clock=self.clock)
        self.executor = Executor(store, self.wallet, Registry([Restore, Gift]), clock=self.clock)

    async def start(self, run: int = 0) -> Restore:
        restore = await Restore.of(self.wallet, URL, run=run)
        await self.executor.start(restore, restore.opening)
        return restore

    async def finish(self, action: Action[Any, Any, Any]) -> DriveResult[Any]:
        for _ in range(20):
            result = await self.executor.drive(action.key)
            if result.outcome is not Outcome.PARKED:
                return result
        raise AssertionError("it still parks")

    async def restored(self, run: int = 0) -> Restored:
        result = await self.finish(await self.start(run))
        assert result.outcome is Outcome.DONE, result
        assert isinstance(result.result, Restored)
        return result.result

    async def coins(self, state: CoinState | None = CoinState.SPENDABLE) -> dict[str, int]:
        return {coin.id: coin.amount for coin in await self.store.coins(state=state)}

    async def counter(self, keyset: int = 0) -> int:
        return (await self.store.counters()).get(counter_of(self.vault.keyset(keyset).id), 0)

    async def rows(self) -> list[Transaction]:
        return [row async for row in transactions(self.store)]

    async def notes(self, restore_id: str) -> list[str]:
        history = await self.store.history(ActionKey("cashu_restore", restore_id))
        return [note for entry in history for note in entry.notes]


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture
async def bench(vault: Vault) -> AsyncIterator[Bench]:
    async with MemoryStore() as store:
        yield Bench(store, vault)


@pytest.mark.parametrize("version", [1, 2])
async def test_what_is_unspent_comes_back_and_the_counter_is_past_what_was_used(version: int) -> None:
    """L-C12: and blank outputs come back with the amount that was signed."""
    vault = Vault(version=version)
    async with MemoryStore() as store:
        bench = Bench(store, vault)
        mine = {vault.sign(0, 8): 8, vault.sign(3, 64): 64, vault.sign(130, 1): 1}
        vault.sign(1, 32, state="SPENT")
        vault.sign(140, 2, state="SPENT")
        restored = await bench.restored()
        assert restored == Restored(mint=URL, amounts={"sat": 73}, coins=3, asked=BATCH * (2 + MOST_EMPTY_IF_USED))
        assert await bench.coins() == mine
        assert await bench.counter() == 141
        assert vault.asked("/restore") == 2 + MOST_EMPTY_IF_USED
        assert vault.asked("/checkstate") == 2
        assert [(row.amount, row.unit, row.fee, row.state) for row in await bench.rows()] == [
            (73, "sat", 0, TransactionState.DONE)
        ]


async def test_a_second_one_takes_nothing_twice(bench: Bench, vault: Vault) -> None:
    vault.sign(0, 8)
    await bench.restored()
    before = vault.asked("/checkstate")
    again = await bench.restored(run=1)
    assert (again.amounts, again.coins, await bench.coins()) == ({}, 0, {vault.proof(0, 8).y: 8})
    assert vault.asked("/checkstate") == before, "it asks for the states of coins that it has"


async def test_nothing_is_asked_twice_of_a_keyset_that_was_never_used(bench: Bench, vault: Vault) -> None:
    restored = await bench.restored()
    assert (restored.coins, restored.asked, await bench.counter()) == (0, MOST_EMPTY * BATCH, 0)
    assert vault.asked("/restore") == MOST_EMPTY
    assert vault.asked("/checkstate") == vault.asked(f"/keys/{vault.keyset().id}") == 0


@pytest.mark.parametrize(
    ("counters", "found"),
    [
        ((0, BATCH * MOST_EMPTY_IF_USED), 2),
        ((0, BATCH * (MOST_EMPTY_IF_USED + 1)), 1),
        ((BATCH * MOST_EMPTY - 1,), 1),
        ((BATCH * MOST_EMPTY,), 0),
    ],
)
async def test_how_long_a_row_of_unused_counters_may_be(
    bench: Bench, vault: Vault, counters: Sequence[int], found: int
) -> None:
    """NUT-13: three batches; ten where the keyset was in use."""
    assert (BATCH, MOST_EMPTY, MOST_EMPTY_IF_USED) == (100, 3, 10)
    for counter in counters:
        vault.sign(counter, 1)
    assert (await bench.restored()).coins == found


async def test_whatever_the_wallets_own_counter_has_passed_is_looked_at(bench: Bench, vault: Vault) -> None:
    vault.sign(BATCH * 15 + 7, 4)
    await bench.wallet.allocate(vault.keyset().id, BATCH * 15 + 8)
    assert (await bench.restored()).amounts == {"sat": 4}


async def test_the_last_counters_that_there_are(bench: Bench, vault: Vault) -> None:
    vault.version = 1
    last = MAX_COUNTER[KeysetVersion.V1]
    vault.sign(last, 16)
    restore = (await Restore.of(bench.wallet, URL)).at(Scanning(next_counter=last - 30))
    await bench.executor.start(restore, restore.opening)
    result = await bench.finish(restore)
    assert result.result == Restored(mint=URL, amounts={"sat": 16}, coins=1, asked=31)
    assert await bench.counter() == last + 1


async def test_every_keyset_and_every_unit() -> None:
    """In use or not; each unit that is not the first has a row of its own, since they are never added up."""
    vault = Vault((TinyMint(), "usd"), (other_keys(), "sat"), (other_keys(3000), "sat"), (other_keys(4000), "eur"))
    async with MemoryStore() as store:
        bench = Bench(store, vault)
        for keyset, amount in enumerate((8, 16, 32)):
            vault.sign(5, amount, keyset=keyset)
        restored = await bench.restored()
        assert (restored.amounts, restored.coins) == ({"usd": 8, "sat": 48}, 3)
        balances = await bench.wallet.balances(URL)
        assert {(one.unit, one.spendable) for one in balances} == {("usd", 8), ("sat", 48)}
        assert [await bench.counter(keyset) for keyset in range(4)] == [6, 6, 6, 0]
        assert {(row.unit, row.amount, row.state) for row in await bench.rows()} == {
            ("sat", 48, "done"),
            ("usd", 8, "done"),
        }
        assert [fact.key.count("/") for _, fact in await store.facts()] == [1, 2]


async def test_a_keyset_of_an_unsupported_version_is_passed_over_and_told(bench: Bench, vault: Vault) -> None:
    vault.sign(0, 8)
    listed = vault._keysets({})["keysets"]
    vault.fake.routes["GET /v1/keysets"] = lambda _: {
        "keysets": [{"id": UNKNOWN_KEYSET, "unit": "sat", "active": True}, *listed]
    }
    restored = await bench.restored()
    assert (restored.unsupported, restored.amounts) == ((UNKNOWN_KEYSET,), {"sat": 8})
    assert await bench.notes((await Restore.of(bench.wallet, URL)).id) == [
        "1 keysets of an unsupported version are passed over"
    ]


async def test_a_mint_without_what_it_takes_is_refused(bench: Bench, vault: Vault) -> None:
    vault.fake.routes["GET /v1/info"] = lambda _: {"nuts": {"7": {"supported": True}, "12": {"supported": True}}}
    with pytest.raises(RejectedError, match="NUT-09"):
        await bench.start()
    assert not await bench.store.list_actions()


async def test_one_bad_signature_does_not_keep_the_others(bench: Bench, vault: Vault) -> None:
    """L-C13: a proof that does not hold, an amount without a key, no proof at all."""
    for counter, amount in enumerate((1, 2, 4, 8)):
        vault.sign(counter, amount)
    vault.spoil(0, dleq={"e": "11" * 32, "s": "22" * 32})
    vault.spoil(1, amount=3)
    vault.spoil(2, dleq=None)
    restored = await bench.restored()
    assert (restored.amounts, restored.coins, restored.unusable) == ({"sat": 8}, 1, 3)
    assert await bench.notes((await Restore.of(bench.wallet, URL)).id) == ["3 signatures cannot be used"]
    assert await bench.counter() == 4


async def test_coins_that_the_mint_holds_as_pending_are_left_and_found_later(bench: Bench, vault: Vault) -> None:
    """They are not spendable, and may never be."""
    vault.sign(0, 8)
    held = vault.sign(1, 32, state="PENDING")
    restored = await bench.restored()
    assert (restored.amounts, restored.pending) == ({"sat": 8}, {"sat": 32})
    assert held not in await bench.coins(None)
    vault.states[held] = "UNSPENT"
    assert (await bench.restored(run=1)).amounts == {"sat": 32}


async def test_a_coin_that_is_here_under_another_address_of_the_mint_stays_there(bench: Bench, vault: Vault) -> None:
    """L-C13: the ledger names it once; a second account for it would be refused for ever."""
    mine = vault.sign(0, 8)
    vault.sign(1, 4)
    coin = coin_of(vault.proof(0, 8), mint_url="http://moved.test", unit="sat")
    gift = Gift(phase=Past(coins=(coin.id,)))
    await bench.executor.start(gift, Changes(add=[coin]))
    restored = await bench.restored()
    assert restored.amounts == {"sat": 4}
    assert (await bench.store.coins_by_id([mine]))[0].account == "http://moved.test"


# What the mint does not tell


def broken(after: int = 0) -> Any:
    calls = 0

    def refuse(body: Json) -> Json:
        nonlocal calls
        calls += 1
        raise Refusal(0, f"no {calls}")

    return refuse


async def test_a_keyset_that_cannot_be_read_does_not_keep_the_others() -> None:
    """L-C13: its keys are not the ones of its id. The mint is asked several times before it is passed over."""
    vault = Vault((TinyMint(), "sat"), (other_keys(), "sat"))
    for keyset, amount in enumerate((8, 16)):
        vault.sign(0, amount, keyset=keyset)
    honest = vault._keys
    wrong = vault.keyset(0).id

    def keys(body: Json) -> Json:
        answer = honest(dict(body))
        if body["_"].endswith(wrong):
            answer["keysets"][0]["keys"][1] = answer["keysets"][0]["keys"][2]
        return answer

    vault.fake.routes["GET /v1/keys/"] = keys
    async with MemoryStore() as store:
        bench = Bench(store, vault)
        restored = await bench.restored()
        assert (restored.amounts, restored.unread) == ({"sat": 16}, (wrong,))
        assert vault.asked(f"/keys/{wrong}") == 3
        (note,) = await bench.notes((await Restore.of(bench.wallet, URL)).id)
        assert note.startswith("a keyset could not be read: ")
        vault.fake.routes["GET /v1/keys/"] = honest
        bench = Bench(store, vault)
        assert (await bench.restored(run=1)).amounts == {"sat": 8}


@pytest.mark.parametrize("path", ["POST /v1/restore", "POST /v1/checkstate"])
async def test_a_mint_that_refuses_everything_ends_it(bench: Bench, vault: Vault, path: str) -> None:
    """L-S12: and its row does not stay pending."""
    vault.sign(0, 8)
    honest = vault.fake.routes.get(path)
    vault.fake.routes[path] = broken()
    restore = await bench.start()
    result = await bench.finish(restore)
    assert result.outcome is Outcome.FAILED
    assert isinstance(result.error, ActionFailedError)
    assert "could be read" in str(result.error)
    assert [(row.amount, row.state) for row in await bench.rows()] == [(0, TransactionState.FAILED)]
    del vault.fake.routes[path]
    if honest is not None:
        vault.fake.routes[path] = honest
    assert (await bench.restored(run=1)).amounts == {"sat": 8}


async def test_refusals_that_pass_cost_nothing(bench: Bench, vault: Vault) -> None:
    vault.sign(0, 8)
    vault.fake.routes["POST /v1/restore"] = broken()
    restore = await bench.start()
    for doubts in (1, 2):
        result = await bench.executor.drive(restore.key)
        assert isinstance(result.action, Restore)
        assert (result.outcome, result.action.phase.doubts) == (Outcome.PARKED, doubts)
    del vault.fake.routes["POST /v1/restore"]
    result = await bench.finish(restore)
    assert result.result == Restored(mint=URL, amounts={"sat": 8}, coins=1, asked=BATCH * (1 + MOST_EMPTY_IF_USED))


async def test_a_keyset_that_is_not_listed_any_more(bench: Bench, vault: Vault) -> None:
    """As the next process finds it, which has to ask."""
    vault.sign(0, 8)
    restore = await bench.start()
    vault.fake.routes["GET /v1/keysets"] = lambda _: {"keysets": []}
    later = Bench(bench.store, vault)
    assert (await later.finish(restore)).outcome is Outcome.FAILED


async def test_a_mint_without_keysets(bench: Bench, vault: Vault) -> None:
    vault.fake.routes["GET /v1/keysets"] = lambda _: {"keysets": []}
    assert await bench.restored() == Restored(mint=URL)
    assert [(row.unit, row.state) for row in await bench.rows()] == [("sat", TransactionState.DONE)]


async def test_given_up_on_the_way(bench: Bench, vault: Vault) -> None:
    """What has come back stays, and the history says so."""
    vault.sign(0, 8)
    restore = await bench.start()
    moved = await restore.advance(bench.wallet)
    assert isinstance(moved, Next)
    assert [json.loads(fact.body)["amount"] for fact in moved.changes.facts] == [8], "what came back is not told yet"
    given_up = await moved.action.on_cancel(bench.wallet)
    assert given_up is not None
    (fact,) = given_up.changes.facts
    row = json.loads(fact.body)
    assert (row["state"], row["amount"]) == ("cancelled", 8)
    assert await bench.store.request_cancel(restore.key, bench.clock.now())
    assert (await bench.finish(restore)).status is Status.CANCELLED
    assert [(row.amount, row.state) for row in await bench.rows()] == [(0, TransactionState.CANCELLED)]


# In a wallet that is in use


async def gift(bench: Bench, vault: Vault, *, first: int = 0) -> tuple[Gift, str]:
    """An action under way whose given coin, counter `first + 1`, the mint has just signed."""
    coin = vault.sign(first + 1, 16)
    plan = SwapPlan(
        kept=OutputPlan(keyset_id=vault.keyset().id, first_counter=first, amounts=(8,)),
        given=OutputPlan(keyset_id=vault.keyset().id, first_counter=first + 1, amounts=(16,)),
    )
    action = Gift(phase=Held(plan=plan), payload=vault.proof(first + 1, 16).model_dump_json())
    return action, coin


async def test_what_an_action_under_way_has_in_hand_is_left_to_it(bench: Bench, vault: Vault) -> None:
    """A coin that is given away by one action must not be free for another."""
    action, coin = await gift(bench, vault)
    vault.sign(0, 8)
    vault.sign(2, 4)
    await bench.executor.start(action)
    restored = await bench.restored()
    assert (restored.amounts, await bench.coins(None)) == ({"sat": 4}, {vault.proof(2, 4).y: 4})
    assert (await bench.finish(action)).outcome is Outcome.DONE
    assert [one.state for one in await bench.store.coins_by_id([coin])] == [CoinState.SPENT]
    assert (await bench.restored(run=1)).amounts == {"sat": 8}, "what it left behind comes with the next one"


class MeanwhileStore(MemoryStore):
    """At a given look, another process does something first."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[str, Any] = {}

    async def _meanwhile(self, look: str) -> None:
        if look in self.before:
            await self.before.pop(look)()

    async def list_actions(
        self,
        *,
        statuses: Collection[Status] | None = None,
        kinds: Collection[str] | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> Sequence[Checkpoint]:
        await self._meanwhile("actions")
        return await super().list_actions(statuses=statuses, kinds=kinds, after=after, limit=limit)

    async def coins_by_id(self, ids: Iterable[str]) -> Sequence[Coin]:
        await self._meanwhile("coins")
        return await super().coins_by_id(list(ids))


@pytest.mark.parametrize("look", ["actions", "coins"])
@pytest.mark.parametrize("steps", [1, 2])
async def test_an_action_that_moves_on_between_the_looks(vault: Vault, look: str, steps: int) -> None:
    """The plans are read after the mint's answer, and the ledger after the plans: each order but this loses."""
    async with MeanwhileStore() as store:
        bench = Bench(store, vault)
        action, coin = await gift(bench, vault)
        await bench.executor.start(action)

        async def others() -> None:
            for _ in range(steps):
                await bench.executor.drive(action.key)

        store.before[look] = others
        restored = await bench.restored()
        assert restored.amounts == {}, "a coin of another action was counted as restored"
        state = CoinState.SPENT if steps == 2 else CoinState.RESERVED
        assert [one.state for one in await store.coins_by_id([coin])] == [state]


async def test_counters_that_are_taken_meanwhile_are_not_signed_yet(vault: Vault) -> None:
    """An action that begins during a restore is none of its business: the answer was there before."""
    async with MeanwhileStore() as store:
        bench = Bench(store, vault)
        vault.sign(0, 8)
        action = None

        async def others() -> None:
            nonlocal action
            action, _ = await gift(bench, vault, first=1)
            await bench.executor.start(action)

        store.before["actions"] = others
        assert (await bench.restored()).amounts == {"sat": 8}
        assert action is not None
        assert (await bench.finish(action)).outcome is Outcome.DONE


async def test_an_action_that_has_its_coin_signed_just_before_the_answer(bench: Bench, vault: Vault) -> None:
    """Its plan was not there when the request left; so the plans are read after the answer."""
    action, coin = await gift(bench, vault)
    began = False

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal began
        if request.url.path == "/v1/restore" and not began:
            began = True
            await bench.executor.start(action)
        return vault.fake.handle(request)

    bench.wallet.mint(URL)
    bench.wallet._mints[URL].client = MintClient(URL, transport=httpx.MockTransport(handle))
    assert (await bench.restored()).amounts == {}
    assert (await bench.finish(action)).outcome is Outcome.DONE
    assert [one.state for one in await bench.store.coins_by_id([coin])] == [CoinState.SPENT]


# Beginning, going on, following


async def app(store: MemoryStore, vault: Vault) -> Cashu:
    return Cashu(store, SEED, connect=vault.fake.client, poll=None)


async def test_one_that_has_not_ended_is_gone_on_with(vault: Vault) -> None:
    """G6: two that are begun at once are one; a new one begins when it has ended."""
    vault.sign(0, 8)
    async with MemoryStore() as store, await app(store, vault) as cashu:
        await store.set_kind_paused("cashu_restore", True)
        cashu.engine.executor.forget_pauses()
        first = await cashu.restore(URL)
        assert (await cashu.restore(f"{URL}/")).id == first.id
        async with store.peer() as shared, await app(shared, vault) as other:
            assert (await other.restore(URL)).id == first.id
        await cashu.engine.operator.resume_kind("cashu_restore")
        assert (await cashu.restored(first.id)).amounts == {"sat": 8}
        second = await cashu.restore(URL)
        assert second.id != first.id
        assert (await cashu.restored(second.id)).amounts == {}
        assert [row.amount async for row in cashu.history()] == [8, 0]
        assert [row.amount for row in await cashu.latest(1)] == [0]


async def test_its_progress_is_told_until_it_ends() -> None:
    vault = Vault((TinyMint(), "sat"), (other_keys(), "usd"))
    vault.sign(0, 8)
    async with MemoryStore() as store, await app(store, vault) as cashu:
        restore = await cashu.restore(URL)
        told = [progress async for progress in cashu.restoring(restore.id)]
        asked = BATCH * (1 + MOST_EMPTY_IF_USED + MOST_EMPTY)
        assert told[-1] == RestoreProgress(2, 2, asked, {"sat": 8}, 1)
        assert told[-1].is_complete
        assert not any(progress.is_complete for progress in told[:-1])
        assert told == sorted(told, key=lambda progress: progress.asked)
        assert [progress async for progress in cashu.restoring(restore.id)] == [told[-1]]
        with pytest.raises(UnknownActionError):
            await anext(cashu.restoring("another"))


async def test_an_old_seed_in_a_wallet_that_is_used_before_it_is_restored(bench: Bench, vault: Vault) -> None:
    """`skip_used` moves past what was used; what it skipped is restored all the same."""
    for counter in range(5):
        vault.sign(counter, 2)
    await bench.wallet.skip_used(URL, vault.keyset().id)
    assert await bench.counter() == 5
    vault.sign(await bench.wallet.allocate(vault.keyset().id, 1), 64)
    assert (await bench.restored()).amounts == {"sat": 74}
    assert await bench.counter() == 6


async def test_what_another_mint_says_of_a_keyset_moves_no_counter(bench: Bench, vault: Vault) -> None:
    """L-C12: it lists the keyset of another one and claims to have signed everything: a restore would stop short."""
    vault.sign(2, 8)
    (junk,) = vault.fake.signed.values()
    own = vault.output(2, 8).blinded_message

    def all_signed(body: Json) -> Json:
        return {"outputs": body["outputs"], "signatures": [dict(junk) for _ in body["outputs"]]}

    vault.fake.routes["POST /v1/restore"] = all_signed
    restored = await bench.restored()
    assert own in vault.fake.signed
    assert restored.amounts == {"sat": 8}
    assert await bench.counter() == 3
    assert restored.asked == (1 + MOST_EMPTY_IF_USED) * BATCH


async def test_a_mint_that_has_signed_nothing_of_what_it_says(bench: Bench, vault: Vault) -> None:
    other = Vault((other_keys(), "sat"))
    other.sign(0, 8)
    (junk,) = other.fake.signed.values()
    junk["id"] = vault.keyset().id
    vault.fake.routes["POST /v1/restore"] = lambda body: {
        "outputs": body["outputs"],
        "signatures": [dict(junk) for _ in body["outputs"]],
    }
    restored = await bench.restored()
    assert (restored.amounts, restored.unusable) == ({}, MOST_EMPTY * BATCH)
    assert await bench.counter() == 0
