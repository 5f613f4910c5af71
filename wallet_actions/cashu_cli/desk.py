"""One command at work on the wallet: opens it, waits with the user, and leaves it so that nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

from wallet_actions.action import Action
from wallet_actions.cashu import Cashu
from wallet_actions.cashu.transport import normalize_mint_url
from wallet_actions.cashu_cli.failures import PENDING, StillUnderWayError, operation_name, told
from wallet_actions.cashu_cli.home import DB_VARIABLE, DEFAULT_DB, MINT_VARIABLE, Home
from wallet_actions.cashu_cli.waiting import Display, showing
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.errors import StoreUnavailableError, UsageError, WalletActionError
from wallet_actions.ops.failures import CommandError, InterruptedCommandError
from wallet_actions.ops.text import clean, counted
from wallet_actions.recovery import RecoveryReport

T = TypeVar("T")
ActionT = TypeVar("ActionT", bound=Action[Any, Any, Any])

UNFINISHED = tuple(status for status in Status if not status.is_terminal)
RECOVERY_PATIENCE = timedelta(seconds=5)
"""How long a command waits for what a crash left behind, before it does its own work beside it."""

POLL = timedelta(seconds=1)
DRAIN = timedelta(seconds=2)
"""How long leaving waits for requests under way; one that is cut off is made again by the next command."""

SHORTEST_ID = 4
INTERRUPTED = f"interrupted; what had been begun by then goes on with the next command (see `{PENDING}`)"


class Desk:
    """What one command has before it.

    Args:
        db, seed_file: as the user wrote them.
        as_json: nothing but JSON is printed, and nothing else is told beside it.

    Attributes:
        home: the wallet's place.
        db_option: what names it in a command that the user is told to give; empty where that is not needed.
    """

    def __init__(self, db: str, seed_file: str | None, *, as_json: bool) -> None:
        self.home = Home.of(db, seed_file)
        is_usual = db == os.environ.get(DB_VARIABLE, DEFAULT_DB)
        self.db_option = "" if is_usual else f" --db {shlex.quote(db)}"
        self.as_json = as_json
        self._mint: str | None = None
        self._if_interrupted = INTERRUPTED

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the command's work to its end.

        Raises:
            CommandError: it went wrong; one line that says what is safe.
            InterruptedCommandError: Ctrl-C; what was committed by then goes on with the next command.
        """
        try:
            return asyncio.run(work)
        except KeyboardInterrupt:
            raise InterruptedCommandError(self._if_interrupted) from None
        except WalletActionError as error:
            shown = told(error, self._mint)
            if shown is error:
                raise
            raise shown from error

    def tell(self, text: str) -> None:
        """Say something beside the output, on stderr."""
        if not self.as_json:
            print(clean(text), file=sys.stderr, flush=True)  # noqa: T201 the command line speaks here

    def line(self, record: dict[str, Any]) -> None:
        """Print one JSON document on a line of its own."""
        print(json.dumps(record), flush=True)  # noqa: T201 the command line speaks here

    def mint(self, given: str | None) -> str:
        """The mint that the user means, in the form that names its account.

        Raises:
            CommandError: there is none, or it is not a mint's address.
        """
        url = given or self.home.default_mint()
        if not url:
            raise CommandError(f"which mint? Name one with --mint URL or in {MINT_VARIABLE}")
        try:
            self._mint = normalize_mint_url(url)
        except UsageError as error:
            raise CommandError(str(error)) from None
        return self._mint

    @asynccontextmanager
    async def wallet(self, *, is_recovery_told: bool = True, watch: bool = False) -> AsyncIterator[Cashu]:
        """Open the wallet, as an app does when it starts: what a crash left behind is taken up.

        Args:
            is_recovery_told: whether the user hears of that.
            watch: hear from the mints at once, for a person who waits for somebody else; see `Cashu`.
        Raises:
            CommandError, WalletActionError: there is no wallet, no phrase, or the file is not one of ours.
        """
        self.home.check_present()
        seed = self.home.seed()
        if (loose := self.home.loose_permissions()) is not None:
            self.tell(loose)
        async with Cashu(self.home.url, seed, poll=POLL, drain=DRAIN, watch=watch) as cashu:
            report = await _recovered(cashu)
            if is_recovery_told:
                self._tell_recovery(report)
            yield cashu

    async def until(
        self,
        cashu: Cashu,
        key: ActionKey,
        ending: Callable[[Display], Awaitable[T]],
        *,
        patience: timedelta | None,
        again: str = PENDING,
        has_bar: bool = False,
    ) -> T:
        """Wait for an operation with the user, and show how far it is.

        Args:
            ending: what waits for its end, given where to show more of it.
            again: the command that comes back to it.
            has_bar: see `showing`.
        Raises:
            StillUnderWayError: the time is over.
            WalletActionError: as `ending`.
        """
        name = f"{operation_name(key.kind)} {key.id}"
        again = f"{again}{self.db_option}"
        self._if_interrupted = f"interrupted; {name} goes on with the next command: `{again}`"
        checkpoint = await cashu.engine.store.load(key)
        phase = "" if checkpoint is None else checkpoint.phase
        try:
            with showing(cashu, key, phase, is_quiet=self.as_json, has_bar=has_bar) as display:
                async with asyncio.timeout(None if patience is None else patience.total_seconds()):
                    return await ending(display)
        except TimeoutError:
            error = await _last_error(cashu, key)
            raise StillUnderWayError(
                f"{name} is still under way{error}; it goes on with the next command: `{again}`"
            ) from None

    def _tell_recovery(self, report: RecoveryReport | None) -> None:
        if report is None:
            self.tell("What was under way is being taken up; it goes on beside this.")
            return
        found = {
            "done": report.completed,
            "failed": report.failed,
            "given up": report.compensated,
            "stuck": report.stuck,
            "that this version cannot read": report.quarantined,
            "put off, since the database was busy": report.deferred,
        }
        parts = [f"{count} {name}" for name, count in found.items() if count]
        if parts:
            waiting = [f"{report.parked} under way"] if report.parked else []
            self.tell(f"Taken up from before: {', '.join(parts + waiting)}.")
        if report.orphans:
            self.tell(f"{counted(len(report.orphans), 'coin')} held by nobody: see `wallet-actions doctor`.")


async def _recovered(cashu: Cashu) -> RecoveryReport | None:
    """None where it takes longer, or the database was too busy; it goes on in the background then."""
    with contextlib.suppress(TimeoutError, StoreUnavailableError):
        async with asyncio.timeout(RECOVERY_PATIENCE.total_seconds()):
            return await cashu.engine.recovered()
    return None


async def _last_error(cashu: Cashu, key: ActionKey) -> str:
    checkpoint = await cashu.engine.store.load(key)
    return "" if checkpoint is None or checkpoint.error is None else f" ({checkpoint.error.message})"


async def find(cashu: Cashu, kinds: tuple[str, ...], id: str) -> Checkpoint:
    """The operation that the user names by its id or the first characters of it.

    Raises:
        CommandError: there is none, or several begin so.
    """
    what = " or ".join(dict.fromkeys(operation_name(kind) for kind in kinds))
    for kind in kinds:
        if (exact := await cashu.engine.store.load(ActionKey(kind, id))) is not None:
            return exact
    found: list[Checkpoint] = []
    after = 0
    while page := await cashu.engine.store.list_actions(kinds=kinds, after=after):
        after = page[-1].row
        found += [checkpoint for checkpoint in page if len(id) >= SHORTEST_ID and checkpoint.id.startswith(id)]
    if not found:
        raise CommandError(f"there is no {what} {id!r} in this wallet; `{PENDING}` shows what is under way")
    if len(found) > 1:
        raise CommandError(f"{len(found)} operations begin with {id!r}; give more of the id")
    return found[0]


async def decoded(cashu: Cashu, key: ActionKey, kind: type[ActionT]) -> ActionT:
    """An operation as it stands.

    Raises:
        CommandError: its details are gone, or this version cannot read them.
    """
    checkpoint = await cashu.engine.store.load(key)
    if checkpoint is not None and checkpoint.state is not None:
        action = cashu.engine.executor.registry.decode(checkpoint)
        if isinstance(action, kind):
            return action
    raise CommandError(f"the details of {operation_name(key.kind)} {key.id} are gone")
