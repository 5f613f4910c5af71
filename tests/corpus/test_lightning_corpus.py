"""Payments whose checkpoints older code wrote are loaded and driven to their end by this code (L-U1, L-S7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.lightning_worlds import FOLDER, MAKES, LightningWorld
from wallet_actions.testing.corpus import record, replay

pytestmark = pytest.mark.anyio

SEND = "lightning_send-v1-"
FILES = {
    "settled": {"coins_reserved", "dispatched", "in_flight", "settled", "settled-done"},
    "failed": {"coins_reserved", "dispatched", "in_flight", "payment_failed", "payment_failed-failed"},
    "doubted": {"dispatched", "in_flight", "payment_failed", "payment_failed-failed"},
    "expired": {"coins_reserved", "dispatched", "payment_failed", "payment_failed-failed"},
}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.json")}


@pytest.mark.parametrize("course", list(MAKES))
async def test_every_payment_still_ends_where_it_did(course: str) -> None:
    """L-U1: the files are pinned for ever. What fails here is on somebody's disk: add an upgrade, not a new file."""
    report = await replay(FOLDER / course, LightningWorld)
    assert report.is_ok, report
    if course == "allotted":
        assert names_in(FOLDER / course) >= {"lightning_allot-v1-booked.json", "lightning_allot-v1-booked-done.json"}
    else:
        assert names_in(FOLDER / course) >= {f"{SEND}{name}.json" for name in FILES[course]}


@pytest.mark.parametrize("course", list(MAKES))
async def test_what_is_recorded_today_has_a_file(tmp_path: Path, course: str) -> None:
    """L-S8, L-U1: whoever changes a schema records its checkpoints: `python -m tests.corpus.lightning_worlds`."""
    await record(tmp_path, MAKES[course], LightningWorld)
    assert names_in(tmp_path) <= names_in(FOLDER / course)
    assert (await replay(tmp_path, LightningWorld)).is_ok


def test_a_doubt_is_in_the_files() -> None:
    """A checkpoint that tells of a lost answer is not read as one that does not."""
    for phase in ("dispatched", "in_flight", "payment_failed"):
        assert '"is_unanswered": true' in (FOLDER / "doubted" / f"{SEND}{phase}.json").read_text(), phase
        if phase != "dispatched":
            assert '"is_unanswered": false' in (FOLDER / "failed" / f"{SEND}{phase}.json").read_text(), phase


def test_nothing_in_the_files_is_worth_anything() -> None:
    assert LightningWorld().node.network == "regtest"
    for path in FOLDER.glob("*/lightning_send-*.json"):
        assert '"invoice": "lnbcrt210n1' in path.read_text(), path.name
