"""How a command ends when it does not end well, and the one line that is said of it.

Exit status: 0 all is well; 1 the command did its work, and the outcome is bad or needs a person; 2 it could not be
carried out (bad use, a database that cannot be read); 130 interrupted. With 2 nothing was written.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import dataclass
from typing import ClassVar

from wallet_actions.errors import WalletActionError
from wallet_actions.ops.text import clean
from wallet_actions.step import record

NEEDS_A_PERSON = 1
BAD_USE = 2
INTERRUPTED = 130
DEBUG_VARIABLE = "WALLET_ACTIONS_DEBUG"


class CommandError(Exception):
    """A command cannot be carried out; nothing was written. The message is one line for the user.

    Attributes:
        told_as: the name that scripts are told, where it is not this class's: of what lies behind it.
    """

    exit_status: ClassVar[int] = BAD_USE
    told_as: str | None = None


class NoDatabaseError(CommandError):
    """There is no database where the user says."""


class AppError(CommandError):
    """What `--app` names cannot be used."""


class NotConfirmedError(CommandError):
    """A person has to say yes, and nobody did."""


class ChangedMeanwhileError(CommandError):
    """What the user was asked about is not what is there now."""


class PluginError(CommandError):
    """A command that another package adds cannot be loaded."""


class InterruptedCommandError(CommandError):
    """The user pressed Ctrl-C."""

    exit_status = INTERRUPTED


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the user is told of an error.

    Attributes:
        type: the error's class, for scripts.
        message: one line without secrets.
        exit_status: see the module's docstring.
    """

    type: str
    message: str
    exit_status: int


def explain(error: BaseException) -> Explanation:
    """Find the line and the exit status for whatever a command raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    name = type(error).__name__
    if isinstance(error, CommandError):
        return Explanation(error.told_as or name, str(error), error.exit_status)
    if isinstance(error, WalletActionError):
        return Explanation(name, str(error), BAD_USE)
    if isinstance(error, KeyboardInterrupt) or name == "Abort":
        return Explanation("InterruptedCommandError", "interrupted", INTERRUPTED)
    # The parser's own errors: click is vendored by some versions of typer, so their class has no stable address.
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        path = getattr(getattr(error, "ctx", None), "command_path", "wallet-actions")
        return Explanation("UsageError", f"{str(format_message()).rstrip('.')} (see {path} --help)", BAD_USE)
    return Explanation(name, f"{record(_as_exception(error)).message}; {details_hint()}", BAD_USE)


def details_hint() -> str:
    """How to get at a traceback."""
    return f"set {DEBUG_VARIABLE}=1 for the details"


def is_debugging() -> bool:
    """Whether the user wants tracebacks and logs."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def tell_failure(error: BaseException, *, as_json: bool) -> int:
    """Say on stderr what went wrong: one line, or one JSON object.

    Returns:
        The exit status.
    """
    said = explain(error)
    if is_debugging():
        traceback.print_exception(error)
    if as_json:
        body = {"error": {"type": said.type, "message": said.message}, "exit_status": said.exit_status}
        line = json.dumps(body)
    else:
        line = f"wallet-actions: {clean(said.message)}"
    print(line, file=sys.stderr, flush=True)  # noqa: T201 the command line speaks here
    return said.exit_status


def _as_exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    raise error
