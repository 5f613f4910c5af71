"""`Receive` at a real mint: every sort of token, and every fault on the way."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from coincurve import PrivateKey

from tests.integration.cashu_giver import Giver
from tests.integration.cashu_kit import Bank, Purse, app
from wallet_actions.cashu import Receive, Received, Send
from wallet_actions.cashu.conditions import Condition, SigFlag, hash_lock, pay_to_key
from wallet_actions.cashu.errors import (
    MalformedError,
    TokenLockedError,
    TokenReceivedError,
    TokenRefusedError,
)
from wallet_actions.cashu.keys import COUNTER, OwnKeys
from wallet_actions.cashu.proofs import Proof, proof_of
from wallet_actions.cashu.tokens import TokenVersion
from wallet_actions.cashu.witnesses import Keyring, cosign
from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState
from wallet_actions.errors import ActionFailedError, ConfigurationError, TransientError
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.testing.proxy import (
    Fault,
    FaultProxy,
    Kill,
    LoseAnswer,
    ResetBefore,
    Rule,
    StatusAfter,
)
from wallet_actions.testing.proxy import (
    Status as Answer,
)

pytestmark = pytest.mark.anyio

SWAP = r"^/v1/swap$"
CHECK = r"^/v1/checkstate$"
RESTORE = r"^/v1/restore$"
JSON = (("content-type", "application/json"),)
KEYS = [bytes([number]) * 32 for number in range(1, 5)]
PUBKEYS = [PrivateKey(key).public_key.format().hex() for key in KEYS]
PREIMAGE = "07" * 32
DIGEST = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()
PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
async def bank(mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(mint, tmp_path) as bank:
        yield bank


@pytest.fixture
async def giver(bank: Bank) -> AsyncIterator[Giver]:
    async with Giver.at(bank.mint) as giver:
        yield giver


async def received(purse: Purse, token: str, **options: object) -> tuple[Receive, DriveResult[Received]]:
    receive = await Receive.of(purse.wallet, token, **options)  # type: ignore[arg-type]
    await purse.executor.start(receive, receive.opening)
    return receive, await purse.finish(receive)


def row_of(purse: Purse, receive: Receive, state: str, **fields: object) -> dict[str, object]:
    row = {
        "operation": "cashu_receive",
        "id": receive.id,
        "mint": purse.mint_url,
        "unit": "sat",
        "amount": receive.amount,
        "fee": 0,
        "state": state,
        "at": receive.asked_at.isoformat().replace("+00:00", "Z"),
    }
    return {**row, **fields}


@pytest.mark.parametrize("version", list(TokenVersion))
async def test_a_token_becomes_coins(bank: Bank, giver: Giver, version: TokenVersion) -> None:
    purse = await bank.purse()
    token = giver.token(await giver.coins([1, 2, 8, 64]), version, memo="for you ☕")
    receive, result = await received(purse, token)
    assert result.result == Received(mint=bank.mint.url, unit="sat", amount=75, fee=0)
    assert sorted(coin.amount for coin in await purse.coins(CoinState.SPENDABLE)) == [1, 2, 8, 64]
    assert await purse.story(receive) == ["start", "swap_requested", "done"]
    assert await purse.transactions() == {
        f"cashu_receive/{receive.id}": row_of(purse, receive, "done", memo="for you ☕")
    }


@pytest.mark.parametrize("count", [1, 9, 11])
async def test_what_the_mint_keeps_is_the_fee(dear_mint: NutshellMint, tmp_path: Path, count: int) -> None:
    async with Bank(dear_mint, tmp_path) as bank, Giver.at(dear_mint) as giver:
        purse = await bank.purse()
        fee = 1 if count < 11 else 2
        receive, result = await received(purse, giver.token(await giver.coins([2] * count)))
        assert result.result == Received(mint=dear_mint.url, unit="sat", amount=2 * count - fee, fee=fee)
        assert await purse.spendable() == 2 * count - fee
        assert await purse.transaction(receive) == row_of(purse, receive, "done", fee=fee)


async def test_a_token_worth_no_more_than_its_fee_is_refused(dear_mint: NutshellMint, tmp_path: Path) -> None:
    async with Bank(dear_mint, tmp_path) as bank, Giver.at(dear_mint) as giver:
        purse = await bank.purse()
        with pytest.raises(TokenRefusedError, match="the token is worth 1 sat, and taking it would cost 1"):
            await Receive.of(purse.wallet, giver.token(await giver.coins([1])))
        assert not await purse.actions()
        bank.slack = 1


async def test_the_app_takes_a_token_once(bank: Bank, giver: Giver) -> None:
    """G6: the same coins are the same action, however they are written; nobody is credited twice."""
    purse = await bank.purse()
    coins = await giver.coins([4, 16])
    async with app(purse) as cashu:
        receive = await cashu.receive(giver.token(coins), mint=bank.mint.url + "/")
        outcome = await cashu.received(receive.id)
        for version in TokenVersion:
            bare = [Proof(amount=coin.amount, id=coin.id, secret=coin.secret, C=coin.C) for coin in reversed(coins)]
            with pytest.raises(TokenReceivedError, match="has received the token already: 20 sat") as caught:
                await cashu.receive(giver.token(bare, version, memo="another"))
            assert await cashu.received(caught.value.id) == outcome
    assert await purse.spendable() == 20
    assert len(await purse.transactions()) == 1


async def test_one_request_is_enough(bank: Bank, giver: Giver) -> None:
    purse = await bank.purse()
    coins = [await giver.coins([4, 16]) for _ in range(2)]
    async with FaultProxy(bank.mint.url) as proxy:
        giver.mint_url = proxy.url
        await received(purse, giver.token(coins[0]))
        before = len(proxy.records)
        await received(purse, giver.token(coins[1]))
        assert [record.path for record in proxy.records[before:]] == ["/v1/swap"]
        assert {record.path for record in proxy.records[:before]} == {
            "/v1/info",
            "/v1/keysets",
            f"/v1/keys/{giver.keyset.id}",
            "/v1/swap",
        }


async def test_a_token_without_proofs_of_the_mints_signature_is_taken(bank: Bank, giver: Giver) -> None:
    """The mint spends no coin that it did not sign, and what comes out of the swap is proved."""
    coins = [coin.model_copy(update={"dleq": None}) for coin in await giver.coins([4, 16])]
    _, result = await received(await bank.purse(), giver.token(coins))
    assert result.outcome is Outcome.DONE


async def test_forged_coins_are_refused(bank: Bank, giver: Giver) -> None:
    purse = await bank.purse()
    real, other = await giver.coins([4, 4])
    forged = [
        real.model_copy(update={"C": other.C}),
        real.model_copy(update={"secret": "ab" * 32}),
        real.model_copy(update={"dleq": other.dleq}),
        real.model_copy(update={"amount": 8}),
    ]
    for coin in forged:
        with pytest.raises(TokenRefusedError, match="DLEQ proof does not hold"):
            await Receive.of(purse.wallet, giver.token([coin]))
    with pytest.raises(MalformedError, match="no key for this amount"):
        await Receive.of(purse.wallet, giver.token([real.model_copy(update={"amount": 3, "dleq": None})]))
    assert not await purse.actions()
    # Without a DLEQ proof it is the mint that says so, three times.
    receive, result = await received(purse, giver.token([forged[0].model_copy(update={"dleq": None})]))
    assert result.status is Status.FAILED
    assert "could not be verified" in str(result.error)
    assert await purse.transaction(receive) == row_of(purse, receive, "failed")
    # The real one has the same secret, and is another token.
    _, result = await received(purse, giver.token([real]))
    assert result.outcome is Outcome.DONE
    bank.slack = 4


async def test_a_spent_token_fails_with_that_reason(bank: Bank, giver: Giver) -> None:
    purse = await bank.purse()
    coins = await giver.coins([4, 16])
    bank.slack = sum(coin.amount for coin in await giver.spend(coins))
    token = giver.token(coins)
    async with app(purse) as cashu:
        receive = await cashu.receive(token)
        with pytest.raises(ActionFailedError, match="the token has been spent already"):
            await cashu.received(receive.id)
        assert (await cashu.receive(token)).id == receive.id
        with pytest.raises(ActionFailedError, match="the token has been spent already"):
            await cashu.received(receive.id)
    assert await purse.transaction(receive) == row_of(purse, receive, "failed")
    assert len(await purse.actions()) == 1
    row = await purse.row(receive)
    assert row.updated_at - row.created_at < timedelta(seconds=10)
    assert [entry.error.message for entry in await purse.operator.history(receive.key) if entry.error] == [
        "the token has been spent already"
    ] * 3


async def test_what_is_left_of_a_token_is_taken(dear_mint: NutshellMint, tmp_path: Path) -> None:
    """L-C13: one coin that was spent is no reason to leave the others to whoever comes first."""
    async with Bank(dear_mint, tmp_path) as bank, Giver.at(dear_mint) as giver:
        purse = await bank.purse()
        coins = await giver.coins([4, 16, 32])
        bank.slack = sum(coin.amount for coin in await giver.spend(coins[1:2]))
        receive, result = await received(purse, giver.token(coins))
        assert result.result == Received(mint=dear_mint.url, unit="sat", amount=35, fee=1, spent=16)
        assert await purse.transaction(receive) == row_of(purse, receive, "done", amount=36, fee=1)
        history = await purse.operator.history(receive.key)
        assert [note for entry in history for note in entry.notes] == ["1 of 3 coins had been spent already"]


async def test_what_is_left_may_be_worth_nothing(dear_mint: NutshellMint, tmp_path: Path) -> None:
    async with Bank(dear_mint, tmp_path) as bank, Giver.at(dear_mint) as giver:
        coins = await giver.coins([1, 16])
        bank.slack = sum(coin.amount for coin in await giver.spend(coins[1:])) + 1
        _, result = await received(await bank.purse(), giver.token(coins))
        assert "what is left of the token is worth 1 sat, and taking it would cost 1" in str(result.error)


CASES: dict[str, tuple[Condition, list[int], list[str]]] = {
    "one key": (pay_to_key(PUBKEYS[0]), [0], []),
    "two of three": (pay_to_key(PUBKEYS[0], pubkeys=(PUBKEYS[1], PUBKEYS[2]), n_sigs=2), [0, 2], []),
    "refund": (pay_to_key(PUBKEYS[0], locktime=PAST, refund=(PUBKEYS[3],)), [3], []),
    "anybody": (pay_to_key(PUBKEYS[0], locktime=PAST), [], []),
    "hash": (hash_lock(DIGEST), [], [PREIMAGE.upper(), "not a preimage"]),
    "hash and key": (hash_lock(DIGEST, pubkeys=(PUBKEYS[0],)), [0], [PREIMAGE]),
}


@pytest.mark.parametrize("flag", list(SigFlag))
@pytest.mark.parametrize(("condition", "numbers", "preimages"), CASES.values(), ids=CASES)
async def test_locked_coins_are_unlocked(
    bank: Bank, giver: Giver, condition: Condition, numbers: list[int], preimages: list[str], flag: SigFlag
) -> None:
    """NUT-11, NUT-14; what unlocks them is made anew each time, and never on disk but for the preimage."""
    condition = Condition.model_validate({**condition.model_dump(), "sigflag": flag})
    token = giver.token(await giver.locked(condition, [2, 8]))
    purse = await bank.purse()
    if numbers or preimages:
        with pytest.raises(TokenLockedError) as caught:
            await Receive.of(purse.wallet, token)
        assert caught.value.opens_at is None
    able = holding(await bank.purse(), *(KEYS[number] for number in numbers))
    receive = await Receive.of(able.wallet, token, preimages=preimages)
    assert [preimage.get_secret_value() for preimage in receive.preimages] == [PREIMAGE][: len(preimages)]
    await able.executor.start(receive, receive.opening)
    row = await able.row(receive)
    assert row.state is not None
    assert not any(key.hex() in row.state for key in KEYS)
    assert (await able.finish(receive)).outcome is Outcome.DONE
    assert await able.spendable() == 10


@pytest.mark.parametrize("flag", list(SigFlag))
async def test_coins_are_unlocked_with_a_receiving_key(bank: Bank, giver: Giver, flag: SigFlag) -> None:
    purse = await bank.purse()
    key = await purse.wallet.receiving_key()
    token = giver.token(await giver.locked(pay_to_key(key, sigflag=flag), [2, 8]))
    assert (await received(purse, token))[1].outcome is Outcome.DONE


async def test_a_restored_wallet_looks_ahead(bank: Bank, giver: Giver) -> None:
    """The mnemonic alone does not tell how many receiving keys were shown; payments do."""
    purse = await bank.purse()
    keys = [await purse.wallet.receiving_key() for _ in range(7)]
    token = giver.token(await giver.locked(pay_to_key(keys[5]), [2, 8]))
    restored = await bank.purse(like=purse)
    assert (await received(restored, token))[1].outcome is Outcome.DONE
    assert (await restored.store.counters())[COUNTER] == 6
    assert await restored.wallet.receiving_key() == keys[6]


async def test_what_others_signed_counts(bank: Bank, giver: Giver) -> None:
    """Two of two: the sender has signed, and sends the token on with its witness."""
    purse = holding(await bank.purse(), KEYS[1])
    coins = await giver.locked(pay_to_key(PUBKEYS[0], pubkeys=(PUBKEYS[1],), n_sigs=2), [2, 8])
    with pytest.raises(TokenLockedError, match="too few of them have signed"):
        await Receive.of(purse.wallet, giver.token(coins))
    for version in TokenVersion:
        await Receive.of(purse.wallet, giver.token(cosign(coins, Keyring(KEYS[:1])), version))
    assert (await received(purse, giver.token(cosign(coins, Keyring(KEYS[:1])))))[1].outcome is Outcome.DONE


async def test_coins_that_open_later_are_refused_with_the_time(bank: Bank, giver: Giver) -> None:
    purse = holding(await bank.purse(), KEYS[3])
    condition = pay_to_key(PUBKEYS[0], locktime=FUTURE, refund=(PUBKEYS[3],))
    with pytest.raises(TokenLockedError, match="does not have; they open at 2100-01-01 00:00 UTC") as caught:
        await Receive.of(purse.wallet, giver.token(await giver.locked(condition, [2, 8])))
    assert caught.value.opens_at == FUTURE + timedelta(seconds=1)
    assert not await purse.actions()
    bank.slack = 10


async def test_coins_that_must_be_signed_as_a_whole_go_alone(bank: Bank, giver: Giver) -> None:
    purse = holding(await bank.purse(), KEYS[0])
    whole = await giver.locked(pay_to_key(PUBKEYS[0], sigflag=SigFlag.SIG_ALL), [2])
    with pytest.raises(MalformedError, match="cannot be spent with coins on other terms"):
        await Receive.of(purse.wallet, giver.token([*whole, *await giver.coins([8])]))
    assert (await received(purse, giver.token(whole)))[1].outcome is Outcome.DONE
    bank.slack = 8


async def test_it_waits_for_a_key_that_the_app_does_not_bring_any_more(bank: Bank, giver: Giver) -> None:
    """The token is accepted; the app comes back without its key, and later with it."""
    purse = holding(await bank.purse(), KEYS[0])
    receive = await Receive.of(purse.wallet, giver.token(await giver.locked(pay_to_key(PUBKEYS[0]), [2, 8])))
    await purse.executor.start(receive, receive.opening)
    result = await holding(purse).drive(receive)
    assert (result.outcome, type(result.error)) == (Outcome.PARKED, ConfigurationError)
    assert (await holding(purse, KEYS[0]).finish(receive)).outcome is Outcome.DONE


async def test_a_token_of_another_mint_is_refused(bank: Bank, giver: Giver) -> None:
    purse = await bank.purse()
    token = giver.token(await giver.coins([8]))
    with pytest.raises(TokenRefusedError, match=f"is of the mint {bank.mint.url}, not of https://mint.test"):
        await Receive.of(purse.wallet, token, "https://mint.test/")
    bank.slack = 8


async def test_a_mint_that_is_away_is_a_passing_trouble(bank: Bank, giver: Giver) -> None:
    purse = await bank.purse()
    async with FaultProxy(bank.mint.url) as proxy:
        giver.mint_url = proxy.url
    with pytest.raises(TransientError):
        await Receive.of(purse.wallet, giver.token(await giver.coins([8])))
    assert not await purse.actions()
    bank.slack = 8


async def test_coins_of_the_wallet_are_no_token_for_it(bank: Bank, giver: Giver) -> None:
    """To swap a coin that is free here, or held by a payment, would be to spend it behind the ledger's back."""
    purse = await bank.purse()
    await purse.fund(64)
    token = giver.token([proof_of(coin) for coin in await purse.coins()])
    with pytest.raises(TokenRefusedError, match="in this wallet already"):
        await Receive.of(purse.wallet, token)
    await purse.melt(await bank.mint.invoice(1))
    with pytest.raises(TokenRefusedError, match="in this wallet already"):
        await Receive.of(purse.wallet, token)


@pytest.mark.parametrize("amount", [16, 11], ids=["as they are", "with a swap"])
async def test_a_token_of_ours_is_received_by_us(bank: Bank, amount: int) -> None:
    """The sending action holds the coins in the ledger; it sees them spent, and ends."""
    purse = await bank.purse()
    await purse.fund(16, 16)
    async with app(purse) as cashu:
        send = await cashu.send(bank.mint.url, amount)
        receive = await cashu.receive(await cashu.token(send.id))
        assert (await cashu.received(receive.id)).amount == amount
        cashu.engine.notify(Send, send.id)
        await cashu.claimed(send.id)
    assert (await purse.spendable(), await purse.reserved()) == (32, 0)
    assert {row["state"] for row in (await purse.transactions()).values()} == {"done"}


REFUSAL = json.dumps({"detail": "try again", "code": 11000}).encode()
FAULTS: dict[str, Fault] = {
    "reset before": ResetBefore(),
    "answer lost": LoseAnswer(),
    "502 after": StatusAfter(),
    "refusal": Answer(400, REFUSAL, JSON),
    "refusal, after": StatusAfter(400, REFUSAL, JSON),
    "said to be spent": Answer(400, json.dumps({"detail": "spent", "code": 11001}).encode(), JSON),
    "said to be forged": Answer(400, json.dumps({"detail": "forged", "code": 10001}).encode(), JSON),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_no_fault_of_the_swap_loses_a_token(bank: Bank, giver: Giver, fault: Fault) -> None:
    """L-C6, L-P2: no answer is taken at its word; the row in the history is that of a smooth run."""
    purse = await bank.purse()
    async with FaultProxy(bank.mint.url) as proxy:
        giver.mint_url = purse.mint_url = proxy.url
        token = giver.token(await giver.coins([4, 16]))
        proxy.use(Rule(fault, path=SWAP), Rule(LoseAnswer(), path=CHECK), Rule(LoseAnswer(), path=RESTORE))
        receive, result = await received(purse, token)
        assert result.result == Received(mint=proxy.url, unit="sat", amount=20, fee=0)
        assert await purse.transactions() == {f"cashu_receive/{receive.id}": row_of(purse, receive, "done")}


async def test_a_keyset_is_retired_between_plan_and_request(tmp_path: Path) -> None:
    """The plan's outputs will never be signed; others are, of the new keyset, and want another signature of ours."""
    async with NutshellMint() as mint, Bank(mint, tmp_path) as bank, Giver.at(mint) as giver:
        purse = await bank.purse()
        async with FaultProxy(mint.url) as proxy:
            giver.mint_url = purse.mint_url = proxy.url
            whole = pay_to_key(await purse.wallet.receiving_key(), sigflag=SigFlag.SIG_ALL)
            tokens = [giver.token(await giver.locked(whole, [4, 16])), giver.token(await giver.coins([1, 32]))]
            proxy.use(Rule(Kill(lambda: mint.rotate_keyset(input_fee_ppk=100), at="before"), path=SWAP))
            receive, result = await received(purse, tokens[0])
            assert result.result == Received(mint=proxy.url, unit="sat", amount=20, fee=0)
            assert await purse.story(receive) == [
                *("start", "swap_requested", "retry", "proofs_pending", "swap_requested", "done")
            ]
            new = {proof_of(coin).id for coin in await purse.coins()}
            assert giver.keyset.id not in new
            # Coins of the retired keyset cost what they always did.
            assert (await received(purse, tokens[1]))[1].outcome is Outcome.DONE


async def test_it_can_be_given_up_until_the_mint_was_asked(bank: Bank, giver: Giver) -> None:
    """L-C8; the same token may come again then."""
    purse = await bank.purse()
    token = giver.token(await giver.coins([4, 16]))
    receive = await Receive.of(purse.wallet, token)
    await purse.executor.start(receive, receive.opening)
    assert await purse.operator.request_cancel(receive.key)
    assert (await purse.drive(receive)).status is Status.CANCELLED
    assert await purse.transaction(receive) == row_of(purse, receive, "cancelled")
    again, result = await received(purse, token)
    assert (again.id, result.outcome) == (f"{receive.id}-1", Outcome.DONE)
    assert (await Receive.of(purse.wallet, token)).id == again.id


async def test_it_cannot_be_given_up_once_the_mint_was_asked(bank: Bank, giver: Giver) -> None:
    purse = await bank.purse()
    async with FaultProxy(bank.mint.url, Rule(ResetBefore(), path=SWAP)) as proxy:
        giver.mint_url = purse.mint_url = proxy.url
        receive = await Receive.of(purse.wallet, giver.token(await giver.coins([4, 16])))
        await purse.executor.start(receive, receive.opening)
        assert (await purse.drive(receive)).outcome is Outcome.PARKED
        assert await purse.operator.request_cancel(receive.key)
        assert (await purse.finish(receive)).outcome is Outcome.DONE


async def test_one_wallet_in_two_processes_takes_a_token_once(bank: Bank, giver: Giver) -> None:
    """L-S4: one file, two engines; both are told the same."""
    first = await bank.purse()
    second = await bank.purse(like=first, path=first.path)
    token = giver.token(await giver.coins([4, 16]))

    async def take(purse: Purse) -> Received | int:
        async with app(purse) as cashu:
            try:
                return await cashu.received((await cashu.receive(token)).id)
            except TokenReceivedError as error:
                return error.amount

    outcomes = await asyncio.gather(take(first), take(second))
    whole = Received(mint=bank.mint.url, unit="sat", amount=20, fee=0)
    assert all(outcome in (whole, 20) for outcome in outcomes)
    assert await first.spendable() == 20
    assert len(await first.transactions()) == 1
    bank.purses.remove(second)


async def test_of_two_wallets_one_gets_the_token(bank: Bank, giver: Giver) -> None:
    """The other is told that it is spent, and not before the mint has said so three times."""
    token = giver.token(await giver.coins([4, 16]))
    purses = [await bank.purse() for _ in range(2)]
    results = await asyncio.gather(*(received(purse, token) for purse in purses))
    assert sorted(result.outcome for _, result in results) == [Outcome.DONE, Outcome.FAILED]
    assert sorted([await purse.spendable() for purse in purses]) == [0, 20]


def holding(purse: Purse, *keys: bytes) -> Purse:
    """The wallet of an app that brings just these keys along."""
    purse.wallet.keys = OwnKeys(purse.store, purse.seed, keys)
    return purse
