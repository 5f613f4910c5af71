"""`pending` tells a person of everything that is under way what it waits for, and what to do."""

from __future__ import annotations

import typing
from datetime import UTC, datetime, timedelta

import pytest

from wallet_actions.cashu import KINDS
from wallet_actions.cashu.facts import Transaction, TransactionState
from wallet_actions.cashu_cli.advice import _ASKED, _WAITS, state_of, waits_for
from wallet_actions.cashu_cli.looking import _pending_record, _print_pending
from wallet_actions.checkpoint import Checkpoint, ErrorRecord, Status

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "d5e3045d0b7bb43df71eefc0cd0b38c2"


def checkpoint(kind: str, phase: str, status: Status = Status.PARKED, error: str = "") -> Checkpoint:
    record = ErrorRecord(type="TransientError", message=error) if error else None
    return Checkpoint(
        kind=kind,
        id=ID,
        version=3,
        schema_version=1,
        state="{}",
        phase=phase,
        status=status,
        created_at=NOON,
        updated_at=NOON,
        wake_at=NOON + timedelta(hours=1) if status is Status.PARKED else None,
        error=record,
    )


def phases() -> set[str]:
    tags = set()
    for kind in KINDS:
        annotation = kind.model_fields["phase"].annotation
        tags |= {phase.tag for phase in typing.get_args(annotation) or (annotation,)}
    return tags


def test_there_are_words_for_every_phase_of_every_operation() -> None:
    assert phases() == set(_WAITS)
    assert waits_for(checkpoint("cashu_issue", "of_a_newer_version")) == _ASKED


@pytest.mark.parametrize(
    ("status", "words"),
    [(Status.STUCK, "ask the operator"), (Status.QUARANTINED, "a newer one may"), (Status.PAUSED, "resume KIND ID")],
)
def test_what_does_not_go_on_by_itself_says_so(status: Status, words: str) -> None:
    """G9: whatever its phase."""
    for phase in phases():
        halted = checkpoint("cashu_melt", phase, status)
        assert words in waits_for(halted)
        assert state_of(halted) == status.value


def test_what_is_stuck_is_listed_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "stuck at the mint: it calls the quote pending\x1b[31m"
    row = Transaction(
        operation="cashu_issue",
        id=ID,
        mint="http://mint.test",
        unit="sat",
        amount=21,
        fee=0,
        state=TransactionState.PENDING,
        at=NOON,
    )
    stuck = checkpoint("cashu_issue", "mint_requested", Status.STUCK, reason)
    paid = checkpoint("cashu_melt", "payment_pending")
    _print_pending([(stuck, row), (paid, None), (paid, None)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:5] == ["issue", ID[:16], "21", "sat", "stuck"]
    assert lines[4] == f"issue {ID}: stuck at the mint: it calls the quote pending\\x1b[31m"
    assert [line.partition(":")[0] for line in lines[5:]] == ["payment pending", "stuck"], "once for each state"
    assert "do not pay the invoice in another way" in lines[5]
    record = _pending_record(stuck, row)
    assert (record["status"], record["waits_for"]) == ("stuck", waits_for(stuck))
