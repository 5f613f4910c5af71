"""Spending conditions: the published vectors, what unlocks when, and witnesses that hold."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey, PublicKeyXOnly
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.cashu.kit import scalar
from tests.unit.cashu.vectors import V1_KEYSET_ID
from wallet_actions.cashu.conditions import (
    MAX_KEYS,
    MAX_SECRET_CHARS,
    Condition,
    ConditionKind,
    SigFlag,
    condition_of,
    hash_lock,
    lock_of,
    locked_secret,
    pay_to_key,
)
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.proofs import BlindedMessage, Proof
from wallet_actions.cashu.witnesses import Keyring, Locked, Unlock, cosign, is_unlocked, plan_unlock, unlock
from wallet_actions.errors import UsageError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAST, FUTURE = NOW - timedelta(days=1), NOW + timedelta(days=1)
PREIMAGE = "00" * 31 + "01"
DIGEST = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()
VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "nut11_vectors.json").read_text())


def key(number: int) -> bytes:
    return scalar(100 + number)


def pub(number: int) -> str:
    return PrivateKey(key(number)).public_key.format().hex()


def ring(*numbers: int) -> Keyring:
    return Keyring(key(number) for number in numbers)


def coin(condition: Condition | None, number: int = 0, *, witness: str | None = None) -> Proof:
    secret = f"{number:064x}" if condition is None else locked_secret(condition, f"{number:064x}")
    return Proof(amount=2, id=V1_KEYSET_ID, secret=secret, C="02" + f"{number:064x}", witness=witness)


def output(number: int) -> BlindedMessage:
    return BlindedMessage(amount=2**number, id=V1_KEYSET_ID, B_="03" + f"{number:064x}")


def opened(*coins: Proof, keys: Keyring, **options: Any) -> tuple[Proof, ...]:
    result = unlock(coins, keys, now=options.pop("now", NOW), **options)
    assert not isinstance(result, Locked), result
    return result


def requested(vector: dict[str, Any]) -> tuple[list[Proof], list[BlindedMessage], str]:
    request = vector["request"]
    inputs = [Proof.model_validate(fields) for fields in request["inputs"]]
    outputs = [BlindedMessage.model_validate(fields) for fields in request.get("outputs", [])]
    return inputs, outputs, request.get("quote", "")


# Published vectors.


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_published_requests_are_judged_as_published(vector: dict[str, Any]) -> None:
    """NUT-11, with the HTLCs of NUT-14 in it."""
    inputs, outputs, quote_id = requested(vector)
    assert is_unlocked(inputs, now=NOW, outputs=outputs, quote_id=quote_id) is vector["is_valid"]


@pytest.mark.parametrize("vector", [vector for vector in VECTORS if "digest" in vector], ids=lambda it: it["name"])
def test_published_digests_are_what_is_signed(vector: dict[str, Any]) -> None:
    inputs, outputs, quote_id = requested(vector)
    lock = lock_of(inputs[0].secret)
    assert lock is not None
    (signature,) = json.loads(inputs[0].witness or "")["signatures"]
    point = PublicKeyXOnly(bytes.fromhex(lock.condition.data)[1:])
    assert point.verify(bytes.fromhex(signature), bytes.fromhex(vector["digest"]))
    assert is_unlocked(inputs, now=NOW, outputs=outputs, quote_id=quote_id)


@pytest.mark.parametrize("vector", [it for it in VECTORS if it["is_valid"]], ids=lambda it: it["name"])
def test_a_published_request_that_is_changed_does_not_hold(vector: dict[str, Any]) -> None:
    inputs, outputs, quote_id = requested(vector)
    first = inputs[0]
    assert first.witness is not None
    unsigned = [Proof(**{**first.to_input(), "witness": '{"signatures":[]}'}), *inputs[1:]]
    assert not is_unlocked(unsigned, now=NOW, outputs=outputs, quote_id=quote_id)
    if outputs:
        assert not is_unlocked(inputs, now=NOW, outputs=outputs[:-1], quote_id=quote_id)
        assert not is_unlocked(inputs, now=NOW, outputs=outputs, quote_id=quote_id + "x")


# Secrets.

conditions = st.builds(
    lambda kind, pubkeys, refund, n, m, locktime, flag: (
        pay_to_key(
            pub(0),
            pubkeys=pubkeys,
            n_sigs=min(n, 1 + len(pubkeys)),
            locktime=locktime,
            refund=refund if locktime else (),
            n_sigs_refund=min(m, len(refund)) if refund and locktime else 1,
            sigflag=flag,
        )
        if kind is ConditionKind.P2PK
        else hash_lock(
            DIGEST,
            pubkeys=pubkeys,
            n_sigs=min(n, max(len(pubkeys), 1)),
            locktime=locktime,
            refund=refund if locktime else (),
            n_sigs_refund=min(m, len(refund)) if refund and locktime else 1,
            sigflag=flag,
        )
    ),
    st.sampled_from(ConditionKind),
    st.lists(st.sampled_from([pub(1), pub(2), pub(3)]), unique=True).map(tuple),
    st.lists(st.sampled_from([pub(0), pub(3), pub(4)]), unique=True).map(tuple),
    st.integers(1, 4),
    st.integers(1, 3),
    st.none() | st.just(PAST) | st.just(FUTURE),
    st.sampled_from(SigFlag),
)


@settings(deadline=None)
@given(condition=conditions, nonce=st.integers(0, 2**256 - 1))
def test_a_condition_is_read_back_from_its_secret_and_from_a_checkpoint(condition: Condition, nonce: int) -> None:
    """L-S7: equal conditions make equal text."""
    secret = locked_secret(condition, f"{nonce:064x}")
    assert condition_of(secret) == condition
    assert Condition.model_validate_json(condition.model_dump_json()) == condition
    assert locked_secret(Condition.model_validate(condition.model_dump()), f"{nonce:064x}") == secret
    assert secret.isascii()


def test_the_text_of_a_secret() -> None:
    """As in the published vectors: compact JSON with nonce, data and tags, in this order."""
    condition = pay_to_key(
        pub(0).upper(),
        pubkeys=(pub(1),),
        n_sigs=2,
        locktime=datetime.fromtimestamp(21, UTC),
        refund=(pub(2), pub(3)),
        n_sigs_refund=2,
        sigflag=SigFlag.SIG_ALL,
    )
    assert locked_secret(condition, "ab" * 32) == (
        f'["P2PK",{{"nonce":"{"ab" * 32}","data":"{pub(0)}","tags":[["sigflag","SIG_ALL"],["pubkeys","{pub(1)}"],'
        f'["n_sigs","2"],["locktime","21"],["refund","{pub(2)}","{pub(3)}"],["n_sigs_refund","2"]]}}]'
    )
    for nonce in ("", "ab", "AB" * 32, "xy" * 32):
        with pytest.raises(UsageError):
            locked_secret(condition, nonce)


@pytest.mark.parametrize(
    "secret",
    ["", "a", "00" * 32, "[]", "[", '["P2PK"]', '["P2PK",{}', '["P2PK","x"]', "[1,{}]", '{"P2PK":1}', "[" * 100_000],
)
def test_plain_secrets_name_no_condition(secret: str) -> None:
    if len(secret) > MAX_SECRET_CHARS:
        with pytest.raises(MalformedError):
            condition_of(secret)
    else:
        assert condition_of(secret) is None


def test_secrets_of_other_wallets_are_read() -> None:
    """With spaces, capital letters, unknown tags, and a locktime that is no time: such a lock is permanent."""
    tags = [["locktime", "soon"], ["color", "red", "blue"], ["alone"], ["refund", pub(1)]]
    secret = json.dumps(["P2PK", {"nonce": "x", "data": pub(0).upper(), "tags": tags, "more": 1}], indent=1)
    condition = condition_of(secret)
    assert condition is not None
    assert condition.locktime is None
    assert isinstance(plan_unlock(condition, ring(0), now=NOW), Unlock)
    assert plan_unlock(condition, ring(1), now=NOW) == Locked(
        "the coins are locked to a key that this wallet does not have"
    )
    bare = condition_of(json.dumps(["P2PK", {"nonce": "x", "data": pub(0)}]))
    assert bare == pay_to_key(pub(0))
    far = condition_of(json.dumps(["P2PK", {"nonce": "x", "data": pub(0), "tags": [["locktime", "9" * 30]]}]))
    assert far == pay_to_key(pub(0))


OTHER_HALF = ("02" if pub(0).startswith("03") else "03") + pub(0)[2:]
BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "an unknown kind": ("XYZ", {"nonce": "x", "data": pub(0)}),
    "no nonce": ("P2PK", {"data": pub(0)}),
    "no data": ("P2PK", {"nonce": "x"}),
    "not a key": ("P2PK", {"nonce": "x", "data": "02" + "ff" * 32}),
    "a long key": ("P2PK", {"nonce": "x", "data": "04" + "11" * 64}),
    "not a hash": ("HTLC", {"nonce": "x", "data": pub(0)}),
    "a tag twice": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["n_sigs", "1"], ["n_sigs", "1"]]}),
    "an empty tag": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [[]]}),
    "a tag of numbers": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["locktime", 21]]}),
    "tags of another form": ("P2PK", {"nonce": "x", "data": pub(0), "tags": {"locktime": "21"}}),
    "an unknown flag": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["sigflag", "SIG_NONE"]]}),
    "two flags": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["sigflag", "SIG_ALL", "SIG_INPUTS"]]}),
    "no signatures": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["n_sigs", "0"]]}),
    "signatures below zero": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["n_sigs", "-1"]]}),
    "signatures of no number": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["n_sigs", "two"]]}),
    "signatures without end": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["n_sigs", "9" * 5000]]}),
    "more signatures than keys": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["n_sigs", "2"]]}),
    "more refund signatures than keys": (
        "P2PK",
        {"nonce": "x", "data": pub(0), "tags": [["refund", pub(1)], ["n_sigs_refund", "2"], ["locktime", "21"]]},
    ),
    "a key twice": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["pubkeys", pub(0)]]}),
    "both halves of a key": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["pubkeys", OTHER_HALF]]}),
    "a refund key twice": ("P2PK", {"nonce": "x", "data": pub(0), "tags": [["refund", pub(1), pub(1).upper()]]}),
    "too many keys": (
        "P2PK",
        {"nonce": "x", "data": pub(0), "tags": [["pubkeys", *(pub(1 + n) for n in range(MAX_KEYS + 1))]]},
    ),
    "too long": ("P2PK", {"nonce": "x" * MAX_SECRET_CHARS, "data": pub(0)}),
}


@pytest.mark.parametrize("secret", [json.dumps(fault) for fault in BAD.values()], ids=BAD)
def test_a_condition_that_nobody_can_meet_is_an_error(secret: str) -> None:
    """NUT-11: a mint must refuse these for ever."""
    with pytest.raises(MalformedError) as caught:
        condition_of(secret)
    assert pub(0) not in str(caught.value)
    assert not is_unlocked([Proof(amount=1, id=V1_KEYSET_ID, secret=secret, C="02" + "11" * 32)], now=NOW)


def test_the_same_key_may_stand_in_both_pathways() -> None:
    assert pay_to_key(pub(0), locktime=FUTURE, refund=(OTHER_HALF,)).refund == (OTHER_HALF,)


def test_locks_that_make_no_sense_are_not_built() -> None:
    wrong: list[dict[str, Any]] = [
        {"pubkey": "02" + "ff" * 32},
        {"pubkey": pub(0), "pubkeys": (pub(0),)},
        {"pubkey": pub(0), "n_sigs": 2},
        {"pubkey": pub(0), "n_sigs": 0},
        {"pubkey": pub(0), "refund": (pub(1),)},
        {"pubkey": pub(0), "refund": (pub(1),), "locktime": FUTURE, "n_sigs_refund": 2},
        {"pubkey": pub(0), "locktime": datetime(1970, 1, 1, tzinfo=UTC)},
    ]
    for arguments in wrong:
        with pytest.raises(UsageError):
            pay_to_key(**arguments)
    for digest in ("", "00" * 31, pub(0)):
        with pytest.raises(UsageError):
            hash_lock(digest)


# What unlocks, and when.

TIMED = pay_to_key(pub(0), pubkeys=(pub(1), pub(2)), n_sigs=2, locktime=NOW, refund=(pub(3), pub(4)), n_sigs_refund=2)
HTLC = hash_lock(DIGEST, pubkeys=(pub(0),), locktime=NOW, refund=(pub(3),))
BEFORE, AFTER = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("condition", "numbers", "preimages", "now", "signers"),
    [
        (pay_to_key(pub(0)), [0], [], NOW, [0]),
        (pay_to_key(pub(0)), [1], [], NOW, None),
        (pay_to_key(pub(0), locktime=NOW), [], [], BEFORE, None),
        (pay_to_key(pub(0), locktime=NOW), [], [], NOW, None),
        (pay_to_key(pub(0), locktime=NOW), [], [], AFTER, []),
        (pay_to_key(pub(0), locktime=NOW), [0], [], AFTER, [0]),
        (TIMED, [0, 1], [], BEFORE, [0, 1]),
        (TIMED, [2, 1, 0], [], BEFORE, [0, 1]),
        (TIMED, [0], [], BEFORE, None),
        (TIMED, [3, 4], [], BEFORE, None),
        (TIMED, [3, 4], [], NOW, None),
        (TIMED, [3, 4], [], AFTER, [3, 4]),
        (TIMED, [4, 0], [], AFTER, None),
        (TIMED, [1, 2, 3, 4], [], AFTER, [1, 2]),
        (HTLC, [0], [PREIMAGE], BEFORE, [0]),
        (HTLC, [0], ["11" * 32, PREIMAGE], AFTER, [0]),
        (HTLC, [0], ["11" * 32], BEFORE, None),
        (HTLC, [], [PREIMAGE], BEFORE, None),
        (HTLC, [3], [PREIMAGE], BEFORE, None),
        (HTLC, [3], [], AFTER, [3]),
        (HTLC, [0], [], AFTER, None),
        (hash_lock(DIGEST), [], [PREIMAGE.upper()], NOW, []),
        (hash_lock(DIGEST), [], [], NOW, None),
        (hash_lock(DIGEST, locktime=NOW), [], [], AFTER, []),
    ],
)
@pytest.mark.parametrize("flag", list(SigFlag))
def test_who_can_unlock_when(
    condition: Condition,
    numbers: list[int],
    preimages: list[str],
    now: datetime,
    signers: list[int] | None,
    flag: SigFlag,
) -> None:
    """The plan, the witness that follows from it, and a mint's judgement of that agree."""
    condition = Condition.model_validate({**condition.model_dump(), "sigflag": flag})
    keys = ring(*numbers)
    plan = plan_unlock(condition, keys, now=now, preimages=preimages)
    coins = [coin(None, 7), coin(condition, 1), coin(condition, 2)][flag is SigFlag.SIG_ALL :]
    outputs = [output(1), output(2)]
    result = unlock(coins, keys, now=now, preimages=preimages, outputs=outputs, quote_id="q")
    if signers is None:
        assert isinstance(plan, Locked)
        assert result == plan
        return
    assert isinstance(plan, Unlock)
    assert plan.signers == tuple(pub(number) for number in signers)
    assert not isinstance(result, Locked)
    assert is_unlocked(result, now=now, outputs=outputs, quote_id="q")
    assert result == unlock(coins, keys, now=now, preimages=preimages, outputs=outputs, quote_id="q"), "L-S7"
    assert [(it.secret, it.C) for it in result] == [(it.secret, it.C) for it in coins]
    if isinstance(plan_unlock(condition, ring(), now=now, preimages=preimages), Locked):
        assert not is_unlocked(coins, now=now, outputs=outputs, quote_id="q")
        # Whole requests are bound to their outputs and quote; single coins are not.
        is_bound = flag is SigFlag.SIG_ALL
        assert is_unlocked(result, now=now, outputs=outputs[::-1], quote_id="q") is not is_bound
        assert is_unlocked(result, now=now, outputs=outputs, quote_id="r") is not is_bound


@pytest.mark.parametrize(
    ("condition", "numbers", "opens_at"),
    [
        (TIMED, [3, 4], AFTER),
        (TIMED, [3], None),
        (HTLC, [3], AFTER),
        (pay_to_key(pub(0), locktime=NOW), [], AFTER),
        (pay_to_key(pub(0)), [], None),
        (pay_to_key(pub(0), locktime=datetime(9998, 1, 1, tzinfo=UTC)), [], datetime(9998, 1, 1, 0, 0, 1, tzinfo=UTC)),
    ],
)
def test_when_a_lock_will_open(condition: Condition, numbers: list[int], opens_at: datetime | None) -> None:
    plan = plan_unlock(condition, ring(*numbers), now=BEFORE)
    assert isinstance(plan, Locked)
    assert plan.opens_at == opens_at
    if opens_at is not None:
        assert isinstance(plan_unlock(condition, ring(*numbers), now=opens_at), Unlock)
    far = Condition.model_validate({**pay_to_key(pub(0)).model_dump(), "locktime": 2**63 - 1})
    assert plan_unlock(far, ring(), now=NOW) == Locked(
        "the coins are locked to a key that this wallet does not have", datetime(9999, 1, 1, tzinfo=UTC)
    )


def test_a_wallet_is_told_why_coins_stay_locked() -> None:
    reasons = {
        plan.reason
        for plan in (
            plan_unlock(pay_to_key(pub(0)), ring(), now=NOW),
            plan_unlock(TIMED, ring(0), now=BEFORE),
            plan_unlock(HTLC, ring(0), now=BEFORE),
        )
        if isinstance(plan, Locked)
    }
    assert len(reasons) == 3
    assert not any(pub(0) in reason or DIGEST in reason for reason in reasons)


@settings(deadline=None, max_examples=60)
@given(
    condition=conditions,
    numbers=st.sets(st.integers(0, 4)),
    knows=st.booleans(),
    now=st.sampled_from([BEFORE, FUTURE + timedelta(seconds=1)]),
)
def test_plans_and_judgements_agree(condition: Condition, numbers: set[int], knows: bool, now: datetime) -> None:
    keys, preimages = ring(*numbers), [PREIMAGE] if knows else []
    coins, outputs = [coin(condition, 1), coin(condition, 2)], [output(1)]
    result = unlock(coins, keys, now=now, preimages=preimages, outputs=outputs)
    if not isinstance(result, Locked):
        assert is_unlocked(result, now=now, outputs=outputs)
        return
    everything = cosign(coins, keys, outputs=outputs)
    assert not is_unlocked(everything, now=now, outputs=outputs), "no signature was held back"


# Witnesses.


def test_the_form_of_witnesses() -> None:
    (signed,) = opened(coin(pay_to_key(pub(0))), keys=ring(0))
    shown = json.loads(signed.witness or "")
    assert list(shown) == ["signatures"]
    digest = hashlib.sha256(signed.secret.encode()).digest()
    assert PublicKeyXOnly(bytes.fromhex(pub(0))[1:]).verify(bytes.fromhex(shown["signatures"][0]), digest)
    (opened_hash,) = opened(coin(hash_lock(DIGEST)), keys=ring(), preimages=[PREIMAGE])
    assert json.loads(opened_hash.witness or "") == {"preimage": PREIMAGE, "signatures": []}
    (free,) = opened(coin(pay_to_key(pub(0), locktime=PAST)), keys=ring())
    assert free.witness is None
    (refund,) = opened(coin(HTLC), keys=ring(3), now=AFTER)
    assert list(json.loads(refund.witness or "")) == ["signatures"]
    (plain,) = opened(coin(None, witness="{}"), keys=ring(0))
    assert plain.witness is None, "a mint refuses a witness where nothing is locked"
    assert not is_unlocked([coin(None, witness="{}")], now=NOW)


def test_a_whole_request_is_signed_in_both_forms() -> None:
    """Mints that follow the present text of NUT-11, and mints that follow the former one, find what they look for."""
    condition = pay_to_key(pub(0), sigflag=SigFlag.SIG_ALL)
    coins, outputs = (coin(condition, 1), coin(condition, 2)), (output(0), output(6))
    result = opened(*coins, keys=ring(0), outputs=outputs, quote_id="quote")
    assert json.loads(result[1].witness or "") == {"signatures": []}
    signatures = json.loads(result[0].witness or "")["signatures"]
    present = "".join(it.secret + it.C for it in coins) + f"1{outputs[0].B_}64{outputs[1].B_}" + "quote"
    former = "".join(it.secret for it in coins) + outputs[0].B_ + outputs[1].B_ + "quote"
    point = PublicKeyXOnly(bytes.fromhex(pub(0))[1:])
    for message, signature in zip((present, former), signatures, strict=True):
        assert point.verify(bytes.fromhex(signature), hashlib.sha256(message.encode()).digest())


def test_whole_requests_are_not_mixed() -> None:
    whole = pay_to_key(pub(0), sigflag=SigFlag.SIG_ALL)
    others = [coin(None, 9), coin(pay_to_key(pub(0)), 9), coin(pay_to_key(pub(1), sigflag=SigFlag.SIG_ALL), 9)]
    for other in others:
        for coins in ([coin(whole, 1), other], [other, coin(whole, 1)]):
            with pytest.raises(MalformedError, match="other terms"):
                unlock(coins, ring(0, 1), now=NOW)
            assert not is_unlocked(coins, now=NOW)
    first, second = lock_of(coin(whole, 1).secret), lock_of(coin(whole, 2).secret)
    assert first is not None
    assert second is not None
    assert first.terms == second.terms


@pytest.mark.parametrize("flag", list(SigFlag))
def test_several_wallets_sign_one_after_the_other(flag: SigFlag) -> None:
    condition = pay_to_key(pub(0), pubkeys=(pub(1), pub(2)), n_sigs=3, sigflag=flag)
    coins = (coin(condition, 1), coin(condition, 2))
    outputs = (output(1),)
    passed_on = cosign(coins, ring(0), outputs=outputs)
    assert isinstance(unlock(passed_on, ring(2), now=NOW, outputs=outputs), Locked)
    passed_on = cosign(passed_on, ring(0, 1), outputs=outputs)
    assert passed_on == cosign(passed_on, ring(0, 1), outputs=outputs), "nobody signs twice"
    assert not is_unlocked(passed_on, now=NOW, outputs=outputs)
    result = opened(*passed_on, keys=ring(2), outputs=outputs)
    assert is_unlocked(result, now=NOW, outputs=outputs)


def test_one_key_does_not_count_twice() -> None:
    """NUT-11: keys are counted, not signatures, which can be made in any number."""
    condition = pay_to_key(pub(0), pubkeys=(pub(1),), n_sigs=2)
    made = coin(condition)
    digest = hashlib.sha256(made.secret.encode()).digest()
    signatures = [PrivateKey(key(0)).sign_schnorr(digest, bytes([number]) * 32).hex() for number in range(3)]
    assert len(set(signatures)) == 3
    for shown in (signatures, [signatures[0], signatures[0].upper()]):
        assert not is_unlocked([coin(condition, witness=json.dumps({"signatures": shown}))], now=NOW)


@pytest.mark.parametrize(
    "witness",
    [
        None,
        "",
        "x",
        "[]",
        "{}",
        '{"signatures":null}',
        '{"signatures":"x"}',
        '{"signatures":[1]}',
        '{"signatures":["zz"]}',
        json.dumps({"signatures": ["11" * 64]}),
        json.dumps({"signatures": ["11" * 64] * 1000}),
        "[" * 40_000,
        "[" * 10_000,
        "\ud800",
    ],
)
def test_witnesses_that_show_nothing(witness: str | None) -> None:
    made = coin(pay_to_key(pub(0)), witness=witness)
    assert not is_unlocked([made], now=NOW)
    assert is_unlocked(opened(made, keys=ring(0)), now=NOW)


def test_a_token_may_bring_the_preimage_along() -> None:
    made = coin(hash_lock(DIGEST, pubkeys=(pub(0),)), witness=json.dumps({"preimage": PREIMAGE}))
    (result,) = opened(made, keys=ring(0))
    assert json.loads(result.witness or "")["preimage"] == PREIMAGE
    assert not HTLC.matches("0" * 63)
    assert not HTLC.matches("é" * 64)
    assert not pay_to_key(pub(0)).matches(PREIMAGE)


def test_a_keyring_shows_no_keys() -> None:
    keys = ring(0, 1)
    assert repr(keys) == "Keyring(2 keys)"
    assert OTHER_HALF in keys
    assert pub(2) not in keys
    with pytest.raises(UsageError):
        keys.sign(pub(2), "x")
    for wrong in (b"", bytes(32), b"\xff" * 32, bytes(33)):
        with pytest.raises(MalformedError):
            Keyring([wrong])
    plan = plan_unlock(hash_lock(DIGEST), keys, now=NOW, preimages=[PREIMAGE])
    assert PREIMAGE not in repr(plan)
