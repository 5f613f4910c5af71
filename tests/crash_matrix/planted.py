"""Wallets that are broken, to see that the matrix finds it: each function breaks this process, with `--plant`."""

from __future__ import annotations

import dataclasses
from typing import Any

from wallet_actions.cashu import Cashu, Issue, Melt, MintClient, Restore, Send, Swap, facts, issue
from wallet_actions.cashu.errors import MintError
from wallet_actions.cashu.restore import BATCH
from wallet_actions.coins import Fact
from wallet_actions.errors import InvariantError, TransientError
from wallet_actions.transition import Failed, Next


def gives_up_an_issue() -> None:
    """A request to sign that was not answered counts as refused."""
    _gives_up(Issue, "mint")


def frees_coins_on_no_answer() -> None:
    """A payment that was not answered counts as failed, and its coins as free."""
    _gives_up(Melt, "melt")


def takes_tokens_back() -> None:
    """At its start the wallet takes back whatever is out."""
    enter = Cashu.__aenter__

    async def broken(self: Cashu) -> Cashu:
        await enter(self)
        for row in await self.engine.store.list_actions(kinds=[Send.kind]):
            if not row.status.is_terminal:
                await self.revoke(row.id)
        return self

    setattr(Cashu, "__aenter__", broken)  # noqa: B010 mypy does not like it otherwise


def never_swaps() -> None:
    """A swap waits for a person once its request may have left."""
    advance = Swap.advance

    async def broken(self: Swap, wallet: Any) -> Any:
        if self.phase.tag == "swap_requested":
            raise InvariantError("no answer", rule="mints answer")
        return await advance(self, wallet)

    setattr(Swap, "advance", broken)  # noqa: B010


def forgets_its_history() -> None:
    """Issued ecash leaves no row."""
    make = facts.transaction_fact

    def broken(*args: Any, **kwargs: Any) -> Fact:
        return dataclasses.replace(make(*args, **kwargs), kind="something_else")

    setattr(issue, "transaction_fact", broken)  # noqa: B010


def passes_over_what_it_was_not_told() -> None:
    """A restore takes a batch whose answer did not come for an empty one."""

    async def broken(self: Restore, wallet: Any, failure: Any) -> Any:
        phase = self.phase
        passed = {**phase.__dict__, "next_counter": phase.next_counter + BATCH, "empty": phase.empty + 1}
        return Next(self.at(type(phase).model_validate(passed)))

    setattr(Restore, "on_retry", broken)  # noqa: B010


class _GivenUpError(Exception):
    pass


def _gives_up(action: type[Issue | Melt], request: str) -> None:
    ask, advance = getattr(MintClient, request), action.advance

    async def asked(self: MintClient, *args: Any, **kwargs: Any) -> Any:
        try:
            return await ask(self, *args, **kwargs)
        except (MintError, TransientError) as error:
            raise _GivenUpError from error

    async def broken(self: Any, wallet: Any) -> Any:
        try:
            return await advance(self, wallet)
        except _GivenUpError:
            return Failed("the mint did not answer")

    setattr(MintClient, request, asked)
    setattr(action, "advance", broken)  # noqa: B010
