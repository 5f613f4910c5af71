"""The app's code, for the commands that drive or decode: `--app module:factory`.

    def app(store):  # in shop/actions.py; wallet-actions drive top_up q-1 --db wallet.db --app shop.actions:app
        return ShopWallet(store), [TopUp, Payout]

`factory(store)` is called with the open store, inside a running event loop. It returns one of

* a pair `(wallet, kinds)`: what the steps act on, and the classes of actions;
* an object with the attributes `wallet` and `kinds`;
* an `Engine` on that same store, or an object that has one as its attribute `engine`, such as `Cashu(store, seed)`;
  neither is entered, so nothing but what the command names is driven. Of such an object, the `wallet` is entered where
  it is an async context manager: it checks its store then, and closes its connections afterwards.

It may be a coroutine function, or return an async context manager (`contextlib.asynccontextmanager`) that yields one
of these; that is left when the command has done its work.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wallet_actions.action import Action
from wallet_actions.engine import Engine
from wallet_actions.errors import UsageError, WalletActionError
from wallet_actions.executor import Executor
from wallet_actions.ops.failures import AppError, details_hint
from wallet_actions.registry import Registry
from wallet_actions.step import record
from wallet_actions.store import Store

SHAPES = "(wallet, kinds), an object with .wallet and .kinds, or an Engine"


@dataclass(frozen=True, slots=True)
class Factory:
    """What `--app` names.

    Attributes:
        spec: `module:factory`, for messages.
    """

    spec: str
    function: Callable[[Store], object]


@asynccontextmanager
async def loaded(factory: Factory, store: Store) -> AsyncIterator[Executor]:
    """Call the app's factory and make an executor of what it returns.

    Args:
        store: open; handed to the factory.
    Raises:
        AppError: it raised, or it returned something else; one line that says which.
    """
    async with AsyncExitStack() as stack:
        try:
            made = factory.function(store)
            if inspect.isawaitable(made):
                made = await made
            if isinstance(made, AbstractAsyncContextManager) and _engine_executor(made) is None:
                made = await stack.enter_async_context(made)
            own = _engine_executor(made)
            executor = own or _executor(made, factory.spec, store)
            if executor.store is not store:
                raise AppError(f"--app: {factory.spec} returned an Engine on another store than the one it was given")
            wallet = getattr(made, "wallet", None)
            if own is not None and isinstance(wallet, AbstractAsyncContextManager):
                await stack.enter_async_context(wallet)
        except AppError:
            raise
        except (Exception, SystemExit) as error:
            raise _raised(f"--app: {factory.spec}", error) from error
        try:
            yield executor
        finally:
            if executor.leases is not None:  # others need not wait for what this command held
                await executor.leases.end()


def find(spec: str) -> Factory:
    """Import what `--app` names. Done before the database is opened, so that a slip of the pen touches nothing.

    Args:
        spec: `module:factory`.
    Raises:
        AppError: there is no such module or name, or importing it raised; one line that says which.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise AppError(f"--app: {spec!r} is not of the form module:factory")
    _search_here()
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise AppError(
                f"--app: there is no module {error.name}, neither in the current directory nor installed"
            ) from error
        raise AppError(f"--app: {module_name} needs the module {error.name}, which is not installed") from error
    except (Exception, SystemExit) as error:
        raise _raised(f"--app: importing {module_name}", error) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise AppError(f"--app: the module {module_name} has no {name}") from None
    if not callable(found):
        raise AppError(f"--app: {spec} is of type {type(found).__name__}, not a function that takes the store")
    return Factory(spec, found)


def _search_here() -> None:
    try:
        here = str(Path.cwd())
    except OSError:
        return
    if here not in sys.path:
        sys.path.insert(0, here)


def _raised(what: str, error: Exception | SystemExit) -> AppError:
    if isinstance(error, SystemExit):
        return AppError(f"{what} ended the program")
    if isinstance(error, SyntaxError):
        return AppError(f"{what} found a syntax error at {Path(error.filename or '?').name}:{error.lineno}")
    said = record(error)
    if isinstance(error, WalletActionError):
        return AppError(f"{what} raised {said.type}: {said.message}")
    # A foreign exception's text may quote a secret (a settings model shows its input): tell what and where.
    return AppError(f"{what} raised {said.message}; {details_hint()}")


def _engine_executor(made: object) -> Executor | None:
    engine = made if isinstance(made, Engine) else getattr(made, "engine", None)
    executor = getattr(engine, "executor", None)
    return executor if isinstance(executor, Executor) else None


def _executor(made: object, spec: str, store: Store) -> Executor:
    if isinstance(made, tuple) and len(made) == 2:
        wallet, kinds = made
    elif hasattr(made, "wallet") and hasattr(made, "kinds"):
        wallet, kinds = made.wallet, made.kinds
    else:
        raise AppError(f"--app: {spec} returned what is of type {type(made).__name__}, not {SHAPES}")
    try:
        classes = list(kinds)
    except TypeError:
        raise AppError(
            f"--app: the kinds of {spec} are of type {type(kinds).__name__}, not a list of actions' classes"
        ) from None
    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, Action)):
            what = getattr(kind, "__name__", type(kind).__name__)
            raise AppError(f"--app: among the kinds of {spec} is {what}, which is no class of actions")
    try:
        return Executor(store, wallet, Registry(classes))
    except UsageError as error:
        raise AppError(f"--app: {spec}: {error}") from error
