"""A crash-tolerant engine for operations that move money.

An operation is an `Action`, a small state machine whose every transition is on disk before the next step runs. An
`Engine` starts actions, drives them, and takes them up again after a crash. Errors live in `wallet_actions.errors`.
"""

from wallet_actions.action import Action, Phase
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.classify import classify
from wallet_actions.coins import Coin, Fact
from wallet_actions.engine import Engine
from wallet_actions.errors import ConfigurationError, RejectedError, TransientError, WalletActionError
from wallet_actions.executor import Executor
from wallet_actions.outcome import DriveMode, DriveResult
from wallet_actions.retry import RetryPolicy
from wallet_actions.runner import Runner
from wallet_actions.store import Statement, Store, open_store
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

__all__ = [
    "Action",
    "Changes",
    "Checkpoint",
    "Coin",
    "ConfigurationError",
    "Done",
    "DriveMode",
    "DriveResult",
    "Engine",
    "Executor",
    "Fact",
    "Failed",
    "Next",
    "Park",
    "Phase",
    "RejectedError",
    "RetryPolicy",
    "Runner",
    "Statement",
    "Store",
    "TransientError",
    "Transition",
    "WalletActionError",
    "classify",
    "open_store",
]
