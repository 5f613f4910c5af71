"""Sagas that older code stored are loaded, read as ledgers, and driven to their end by this code (L-U1, L-U2, L-S7)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.sagas import COURSES, FOLDER
from wallet_actions.saga import RowState
from wallet_actions.saga.desk import info_of
from wallet_actions.saga.rows import PHASES, rows_of
from wallet_actions.testing.corpus import record, replay
from wallet_actions.testing.entry import Entry
from wallet_actions.testing.world import World

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("make", "world"), COURSES.items(), ids=[make.__name__ for make in COURSES])
async def test_a_stored_saga_still_ends_where_it_did(
    make: Callable[[Any], Any], world: Callable[[], World[Any]], tmp_path: Path
) -> None:
    """The files are pinned for ever. What fails here is on somebody's disk: mend the code that reads, not a file."""
    folder = FOLDER / make.__name__
    report = await replay(folder, world)
    assert report.is_ok, report
    written = await record(tmp_path, make, world)
    assert {path.name for path in written} <= {path.name for path in folder.iterdir()}


def test_the_files_hold_every_phase_and_every_state_of_a_step() -> None:
    entries = [Entry.model_validate_json(path.read_bytes()) for path in FOLDER.glob("*/*.json")]
    states: set[str] = set()
    for entry in entries:
        checkpoint = entry.checkpoint()
        info, rows = info_of(checkpoint), rows_of(checkpoint)
        assert info is not None
        assert sum(info.steps.values()) == len(rows) > 0
        states |= {row.state.value for row in rows}
    assert {entry.phase for entry in entries} == PHASES
    assert states >= set(RowState) - {RowState.FAILED}
    assert {entry.status.value for entry in entries} >= {"running", "done", "failed", "cancelled"}


def test_nothing_in_the_files_is_worth_anything() -> None:
    texts = [json.dumps(json.loads(path.read_text())) for path in FOLDER.glob("*/*.json")]
    assert texts
    assert not any("dop_v1" in text for text in texts)
