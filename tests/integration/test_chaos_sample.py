"""A small, seeded sample of `make chaos`, and bugs that it has to find."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.chaos.__main__ import main, summary
from tests.chaos.bank import Call
from tests.chaos.course import Chaos, Settings
from tests.chaos.history import (
    Record,
    Tenure,
    beyond_concurrency,
    beyond_rate,
    held_by_two,
    operations,
    tenures,
    unclaimed,
    unfenced,
)
from tests.chaos.plan import Fault, Start, draw
from wallet_actions.coins import ActionKey
from wallet_actions.fleet import Limit
from wallet_actions.testing.linear import violations
from wallet_actions.testing.nutshell import MintConfig, NutshellMint

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("database", "mint_actions"), [("sqlite", 0), ("postgres", 5)])
async def test_a_fleet_that_meets_with_everything_loses_nothing(database: str, mint_actions: int) -> None:
    """G2–G5, L-S4, L-D15: to the unit, against the bank's ledger and a mint's books."""
    settings = Settings(
        *(database, 8, 60, mint_actions, 3.0),
        lease_s=1.0,
        patience_s=60.0,
        workers=3,
    )
    async with AsyncExitStack() as stack:
        mint = await stack.enter_async_context(NutshellMint(MintConfig(input_fee_ppk=100))) if mint_actions else None
        chaos = Chaos(settings, mint)
        report = await chaos.run()
    assert [str(finding) for finding in report.findings] == []
    assert report.actions >= 60 + mint_actions
    assert report.kills >= 1
    assert report.faults.total() >= 3
    assert report.facts["the bank owes"] > 0
    assert summary([report]).endswith(f"{report.faults.total()} database faults: 0 lost, 0 doubled, 0 stuck")


async def test_workers_that_break_the_rules_are_found() -> None:
    """They heed neither leases nor versions, and ask the bank with another key each time."""
    settings = Settings(*("sqlite", 1, 40, 0, 2.0), lease_s=1.0, patience_s=1.0, workers=2, plant="careless,keyless")
    report = await Chaos(settings).run()
    told = "\n".join(str(finding) for finding in report.findings)
    assert re.search(r"had \d+ effects at the peer", told)
    assert " wrote on version " in told
    assert not summary([report]).endswith(": 0 lost, 0 doubled, 0 stuck")


def test_what_is_done_and_when_follows_from_the_seed() -> None:
    plans = [draw(seed, "postgres", actions=300, seconds=10, workers=4, lease_s=2) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert plans[0].actions >= 200
    assert {event.name for event in plans[0].events if isinstance(event, Fault)} == {
        *("kill", "stop", "crash", "cut", "half_open")
    }
    assert {event.task["kind"] for event in plans[0].events if isinstance(event, Start)} == {
        *("deposit", "payment", "express", "metered", "batch")
    }


def test_what_cannot_be_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "paper"])
    assert ended.value.code == 2
    assert "paper" in capsys.readouterr().err


# The judge of histories


KEY = ActionKey("express", "e1")


def claim(life: str, at_s: float, *keys: ActionKey, version: int = 1, lease_s: float = 2.0) -> Record:
    rows = [[*key, version, at_s + lease_s] for key in keys]
    asked = {"owner": life, "at": at_s, "lease": lease_s}
    return Record(life, "claim", at_s, asked, at_s + 0.01, "done", {"rows": rows})


def save(life: str, at_s: float, from_: int, *, status: str = "running", outcome: str = "done") -> Record:
    asked: dict[str, Any] = {"key": [*KEY], "from": from_, "status": status, "delta": {}}
    return Record(life, "finish" if status == "done" else "save", at_s, asked, at_s + 0.01, outcome)


def create(life: str, at_s: float) -> Record:
    asked: dict[str, Any] = {"key": [*KEY], "delta": {"reserve": ["c"]}}
    return Record(life, "create", at_s, asked, at_s + 0.01, "done", {"new": True, "owner": life})


def renewal(life: str, at_s: float, *keys: ActionKey) -> Record:
    asked = {"owner": life, "at": at_s, "until": at_s + 2}
    return Record(life, "renew", at_s, asked, at_s + 0.01, "done", {"keys": [[*key] for key in keys]})


def held(records: Sequence[Record]) -> list[Tenure]:
    return tenures(records, epoch_s=0.0)


def others(count: int) -> list[ActionKey]:
    return [ActionKey("express", f"o{n}") for n in range(count)]


def test_a_takeover_is_no_violation() -> None:
    """L-S4: the zombie's write conflicts."""
    story = [create("a", 0), save("a", 1, 0), claim("b", 4, KEY, version=2), save("a", 5, 1, outcome="conflict")]
    story.append(save("b", 6, 2, status="done"))
    assert unfenced(story) == []
    assert held_by_two(held(story)) == []
    assert violations(operations(story), {KEY: 3}) == []


def test_a_write_without_a_claim_is_found() -> None:
    story = [create("a", 0), save("a", 1, 0), save("b", 2, 1)]
    assert unfenced(story) == ["express e1: worker b wrote on version 1 of a"]
    assert unfenced([create("a", 0), save("a", 1, 0, status="parked"), save("b", 2, 1)]) == []


def test_a_lease_that_was_not_heeded_is_found() -> None:
    assert held_by_two(held([claim("a", 0, KEY), claim("b", 1, KEY, version=2)])) != []
    assert held_by_two(held([claim("a", 0, KEY), claim("b", 2, KEY, version=2)])) == []
    renewed = [claim("a", 0, KEY), renewal("a", 1.5, KEY), claim("b", 3, KEY, version=2)]
    assert held_by_two(held(renewed)) != []


def test_more_at_once_than_the_limit_lets_is_found() -> None:
    limits = {"express": Limit(concurrency=3)}
    keys = others(4)
    assert beyond_concurrency(held([claim("a", 0, *keys[:2]), claim("b", 1, *keys[2:])]), limits) != []
    assert beyond_concurrency(held([claim("a", 0, *keys[:2]), claim("b", 3, *keys[2:])]), limits) == []
    revived = [claim("a", 0, *keys[:2]), claim("b", 3, *keys[2:]), renewal("a", 3.5, *keys[:2])]
    assert beyond_concurrency(held(revived), limits) != []


def test_more_a_second_than_the_limit_lets_is_found() -> None:
    limits = {"express": Limit(per_second=10)}
    assert beyond_rate([claim("a", 0, *others(10)), claim("b", 1, *others(10))], limits) == []
    assert beyond_rate([claim("a", 0, *others(10)), claim("b", 0.2, *others(10))], limits) != []


def test_a_drive_without_a_claim_is_found() -> None:
    call = Call("pay", "e1", {"kind": "express", "id": "e1", "life": "a"}, 1.0)
    assert unclaimed([call], held([claim("a", 0, KEY)]), {"express"}) == []
    assert unclaimed([call], held([claim("b", 0, KEY)]), {"express"}) != []
