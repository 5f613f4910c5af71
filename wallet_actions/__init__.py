"""A crash-tolerant engine for operations that move money.

An operation is an `Action`, a small state machine whose every transition is on disk before the next step runs. An
`Engine` starts actions, drives them, and takes them up again after a crash. Errors live in `wallet_actions.errors`.

What is named here is imported when it is first used, so that an app pays for what it uses, when it uses it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wallet_actions.action import Action, Phase
    from wallet_actions.checkpoint import Checkpoint
    from wallet_actions.classification import classify
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

_HOMES = {
    "Action": "action",
    "Changes": "transition",
    "Checkpoint": "checkpoint",
    "Coin": "coins",
    "ConfigurationError": "errors",
    "Done": "transition",
    "DriveMode": "outcome",
    "DriveResult": "outcome",
    "Engine": "engine",
    "Executor": "executor",
    "Fact": "coins",
    "Failed": "transition",
    "Next": "transition",
    "Park": "transition",
    "Phase": "action",
    "RejectedError": "errors",
    "RetryPolicy": "retry",
    "Runner": "runner",
    "Statement": "store",
    "Store": "store",
    "TransientError": "errors",
    "Transition": "transition",
    "WalletActionError": "errors",
    "classify": "classification",
    "open_store": "store",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home (PEP 562)."""
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
