"""Sagas: steps that are done one after the other, and undone in reverse when one of them fails.

A `Saga` is an action like any other, driven by the same engine. Its author writes steps, each with `execute` and
`compensate`; the saga keeps a ledger of them in its checkpoint and does the rest:

    pending ─▶ running ─▶ done ─────────┐
                  │  ╲                  ▼
                  │   ▶ failed ─▶ compensating ─▶ compensated
                  └──────────────▶      │  ╲
                      (cancelled)       └── ▶ compensation_failed

Each arrow is on disk before what follows it happens. So a step that a crash cut off is known to have been begun, and
is undone too (L-D10). A saga ends `done` with the results of all its steps; `failed` or `cancelled` when all that was
begun is undone; and it is `stuck`, never ended, as long as a compensation fails.
"""

from wallet_actions.saga.child import ChildStep
from wallet_actions.saga.context import Context, SagaWallet
from wallet_actions.saga.desk import SagaInfo, list_sagas, start_reversal, start_saga
from wallet_actions.saga.rows import Row, RowState, SagaResult, ledger
from wallet_actions.saga.saga import Saga
from wallet_actions.saga.step import Record, Step, Wait

__all__ = [
    "ChildStep",
    "Context",
    "Record",
    "Row",
    "RowState",
    "Saga",
    "SagaInfo",
    "SagaResult",
    "SagaWallet",
    "Step",
    "Wait",
    "ledger",
    "list_sagas",
    "start_reversal",
    "start_saga",
]
