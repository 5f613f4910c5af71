"""Checkpoints that older code wrote are loaded and driven to their end by this code (L-U1, L-U2, L-S7)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from pydantic import BaseModel

from tests.corpus.worlds import FOLDER, MAKES, PREIMAGE, WORDS, MintWorld
from wallet_actions import Action, Done, Next, Phase, Transition
from wallet_actions.errors import UsageError
from wallet_actions.store import Store
from wallet_actions.testing.corpus import record, replay
from wallet_actions.testing.entry import hash_of
from wallet_actions.testing.life import Life
from wallet_actions.testing.oracles import Sums
from wallet_actions.testing.world import World

pytestmark = pytest.mark.anyio


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.json")}


async def test_every_checkpoint_still_ends_where_it_did() -> None:
    """L-U1: the files are pinned for ever. What fails here is on somebody's disk: add an upgrade, not a new file."""
    report = await replay(FOLDER, MintWorld)
    assert report.is_ok, report
    assert names_in(FOLDER) >= {
        "cashu_issue-v1-unpaid.json",
        "cashu_issue-v1-secrets_prepared.json",
        "cashu_issue-v1-mint_requested.json",
        "cashu_issue-v1-mint_requested-done.json",
        "cashu_melt-v1-proofs_reserved.json",
        "cashu_melt-v1-melt_requested.json",
        "cashu_melt-v1-payment_pending.json",
        "cashu_melt-v1-payment_pending-done.json",
        "cashu_issue-v2-mint_requested-done.json",
        "cashu_issue_batch-v1-mint_requested-done.json",
        "cashu_melt-v2-reclaiming-failed.json",
        "cashu_swap-v1-swap_requested-done.json",
        "cashu_send-v1-token_created-done.json",
        "cashu_send-v1-rolling_back-cancelled.json",
        "cashu_receive-v1-swap_requested-done.json",
        "cashu_restore-v1-scanning-done.json",
    }


async def test_what_is_recorded_today_has_a_file(tmp_path: Path) -> None:
    """L-S8, L-U1: whoever changes a schema records its checkpoints: `python -m tests.corpus.worlds`."""
    for make in MAKES:
        await record(tmp_path, make, MintWorld)
    assert names_in(tmp_path) <= names_in(FOLDER)
    assert (await replay(tmp_path, MintWorld)).is_ok


# The corpus itself, on an action of a few lines


class Wallet:
    def __init__(self) -> None:
        self.paid: list[str] = []

    async def pay(self, invoice: str) -> None:
        self.paid.append(invoice)


class New(Phase):
    note: str = ""


class Sent(Phase):
    times: int


class Receipt(BaseModel):
    invoice: str


class Pay(Action[Wallet, New | Sent, Receipt], kind="corpus_pay"):
    invoice: str
    limit: int

    @property
    def id(self) -> str:
        return "pay"

    async def advance(self, wallet: Wallet) -> Transition[Self, Receipt]:
        match self.phase:
            case New():
                return Next(self.at(Sent(times=3)))
            case Sent():
                await wallet.pay(self.invoice)
                return Done(Receipt(invoice=self.invoice))


class PayWorld(World[Wallet]):
    kinds: ClassVar[list[Any]] = [Pay]

    def __init__(self) -> None:
        super().__init__()
        self.peer = Wallet()

    def wallet(self, life: Life, store: Store) -> Wallet:
        return life.peer(self.peer, "peer")

    async def owed(self) -> Sums:
        return {}

    def secrets(self) -> list[str]:
        return ["lnbc-secret"]


def pay() -> Pay:
    return Pay(invoice="lnbc-secret", limit=5, phase=New(note="hello"))


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    written = await record(tmp_path, pay, PayWorld)
    assert [path.name for path in written] == [
        "corpus_pay-v1-new.json",
        "corpus_pay-v1-sent.json",
        "corpus_pay-v1-sent-done.json",
    ]
    return tmp_path


def edited(folder: Path, name: str, **fields: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def world_of(action_class: type[Any]) -> type[PayWorld]:
    class Tomorrow(PayWorld):
        kinds = [action_class]  # noqa: RUF012

    return Tomorrow


async def problems(folder: Path, world: type[PayWorld]) -> dict[str, list[str]]:
    report = await replay(folder, world)
    assert report.is_ok is not bool(report.problems)
    assert "lnbc-secret" not in str(report)
    return report.problems


async def test_a_file_is_never_written_over(folder: Path) -> None:
    edited(folder, "corpus_pay-v1-new.json", may_lose=["limit"])
    assert await record(folder, pay, PayWorld) == []
    assert '"may_lose": ["limit"]' in (folder / "corpus_pay-v1-new.json").read_text()
    assert await problems(folder, PayWorld) == {}


async def test_an_empty_corpus_is_not_in_order(tmp_path: Path) -> None:
    report = await replay(tmp_path, PayWorld)
    assert not report.is_ok
    assert "record some first" in str(report)


async def test_what_is_no_entry_is_told(folder: Path) -> None:
    (folder / "corpus_pay-v1-new.json").write_text("{")
    edited(folder, "corpus_pay-v1-sent.json", format=2)
    assert set(await problems(folder, PayWorld)) == {"corpus_pay-v1-new.json", "corpus_pay-v1-sent.json"}


async def test_a_new_field_without_an_upgrade_no_longer_loads(folder: Path) -> None:
    class Tomorrow(Pay, kind="corpus_pay"):
        currency: str

    found = await problems(folder, world_of(Tomorrow))
    assert len(found) == 3
    assert all(problem.startswith("no longer loads: corpus_pay pay") for (problem,) in found.values())


async def test_another_reading_under_the_same_schema_version(folder: Path) -> None:
    class Tomorrow(Pay, kind="corpus_pay"):
        fee: int = 0

    found = await problems(folder, world_of(Tomorrow))
    assert "reads otherwise than it did, although the schema version is the same" in found["corpus_pay-v1-new.json"]


class Renamed(Action[Wallet, New | Sent, Receipt], kind="corpus_pay", schema_version=2):
    """Tomorrow's schema: `limit` is called `most`."""

    invoice: str
    most: int

    @property
    def id(self) -> str:
        return "pay"

    async def advance(self, wallet: Wallet) -> Transition[Self, Receipt]:
        if isinstance(self.phase, New):
            return Next(self.at(Sent(times=3)))
        await wallet.pay(self.invoice)
        return Done(Receipt(invoice=self.invoice))


async def test_an_upgrade_that_keeps_everything_is_in_order(folder: Path) -> None:
    class Tomorrow(Renamed, kind="corpus_pay", schema_version=2):
        upgrades = {1: lambda old: {**{k: v for k, v in old.items() if k != "limit"}, "most": old["limit"]}}  # noqa: RUF012

    assert await problems(folder, world_of(Tomorrow)) == {}


async def test_an_upgrade_that_drops_a_field_is_caught_unless_it_is_meant(folder: Path) -> None:
    """L-U1: the planted bug of an upgrade that forgets."""

    class Tomorrow(Renamed, kind="corpus_pay", schema_version=2):
        upgrades = {1: lambda old: {**{k: v for k, v in old.items() if k != "limit"}, "most": 7}}  # noqa: RUF012

    found = await problems(folder, world_of(Tomorrow))
    assert found["corpus_pay-v1-new.json"] == ["loses limit"]
    for name in found:
        edited(folder, name, may_lose=["limit"])
    assert await problems(folder, world_of(Tomorrow)) == {}


async def test_a_phase_that_is_gone_no_longer_loads(folder: Path) -> None:
    class Tomorrow(Action[Wallet, New, Receipt], kind="corpus_pay"):
        invoice: str
        limit: int

        @property
        def id(self) -> str:
            return "pay"

        async def advance(self, wallet: Wallet) -> Transition[Self, Receipt]:
            return Done(Receipt(invoice=self.invoice))

    assert set(await problems(folder, world_of(Tomorrow))) == {
        "corpus_pay-v1-sent.json",
        "corpus_pay-v1-sent-done.json",
    }


async def test_another_end_is_told(folder: Path) -> None:
    class Tomorrow(Pay, kind="corpus_pay"):
        async def advance(self, wallet: Wallet) -> Transition[Self, Receipt]:
            return Done(Receipt(invoice="another"))

    found = await problems(folder, world_of(Tomorrow))
    assert "ends otherwise: result is another" in found["corpus_pay-v1-new.json"]
    edited(folder, "corpus_pay-v1-sent.json", ends={"status": "failed", "result": None})
    assert (
        "ends otherwise: status: 'done', when recorded 'failed'"
        in (await problems(folder, PayWorld))["corpus_pay-v1-sent.json"]
    )


async def test_a_result_that_cannot_be_read_any_more(folder: Path) -> None:
    name = "corpus_pay-v1-sent-done.json"
    edited(folder, name, result={"invoice": 7})
    assert (await problems(folder, PayWorld))[name] == ["its result can no longer be read"]


async def test_a_coin_that_cannot_be_put_back_is_told(folder: Path) -> None:
    coin = {"id": "c", "account": "a", "unit": "sat", "amount": 1, "payload": "", "is_held": False}
    edited(folder, "corpus_pay-v1-new.json", coins=[coin, coin | {"amount": 2}])
    (problem, *_) = (await problems(folder, PayWorld))["corpus_pay-v1-new.json"]
    assert problem.startswith("cannot be put into the store")


async def test_only_a_run_that_ends_well_is_recorded(tmp_path: Path) -> None:
    class Owing(PayWorld):
        async def owed(self) -> Sums:
            return {("peer", "sat"): 1}

    with pytest.raises(UsageError, match="only a run that ends well can be recorded: peer: the wallet owns 0 sat"):
        await record(tmp_path, pay, Owing)
    assert names_in(tmp_path) == set()


class Tagged(Pay, kind="corpus_tagged"):
    tags: frozenset[str]


def test_sets_read_the_same_in_every_process() -> None:
    """Their own texts stand in the order of hashes, which each process seeds anew."""
    wanted = Tagged(invoice="", limit=1, tags=frozenset("abcdefgh"), phase=New())
    code = "from tests.corpus.test_corpus import tagged_hash; print(tagged_hash())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == hash_of(wanted) == tagged_hash()


def tagged_hash() -> str:
    return hash_of(Tagged(invoice="", limit=1, tags=frozenset("hgfedcba"), phase=New()))


def test_nothing_in_the_files_is_worth_anything() -> None:
    """The one seed that everybody knows, and keys that are counted up."""
    assert WORDS.split()[:11] == ["abandon"] * 11
    texts = [path.read_text() for path in FOLDER.glob("*.json")]
    assert all("http://mint.test" in text for text in texts)
    assert any(PREIMAGE in text for text in texts)
