"""From what the user writes behind `--db` to an open store."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.errors import UnknownActionError
from wallet_actions.ops.failures import CommandError, NoDatabaseError
from wallet_actions.store import Store, open_store

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")
PAGE = 1000


def url_of(db: str) -> str:
    """The URL of a store that is named by a path or by a URL."""
    if "://" in db:
        return db
    return SQLITE + quote(os.fsencode(db), safe="/:~ ")


def check_present(url: str) -> None:
    """Check that a database that is a file is there, since opening it to write would make one.

    Raises:
        NoDatabaseError: it is not, or is no file.
    """
    if not url.startswith(SQLITE):
        return
    path = Path(unquote(url.removeprefix(SQLITE).partition("?")[0]))
    try:
        if path.is_dir():
            raise NoDatabaseError(f"{path} is a directory, not a database")
        if not path.exists():
            raise NoDatabaseError(f"there is no database at {path}")
        if not path.is_file():
            raise NoDatabaseError(f"{path} is no file")
        if path.stat().st_size == 0:
            raise NoDatabaseError(f"{path} is empty, not a database of wallet-actions")
    except (OSError, ValueError) as error:
        raise NoDatabaseError(f"{path} cannot be read ({type(error).__name__})") from None


@asynccontextmanager
async def opened(db: str) -> AsyncIterator[Store]:
    """Open the store that the user named, to be read only.

    Raises:
        NoDatabaseError: there is none; none is made.
        WalletActionError: no store for the URL, not our database, newer than this code, damaged, or in use.
    """
    url = url_of(db)
    check_present(url)
    async with open_store(_read_only(url)) as store:
        yield store


@asynccontextmanager
async def writable(db: str, key: ActionKey | None = None) -> AsyncIterator[Store]:
    """Open the store that the user named, to be written.

    It is opened to be read first, so that what is not ours, of another schema, or does not have the action is not
    touched at all, and an operator never migrates a database under the app that uses it.

    Args:
        key: an action that has to be there.
    Raises:
        UnknownActionError: it is not.
        NoDatabaseError, WalletActionError: see `opened`.
    """
    async with opened(db) as store:
        if key is None:
            await store.list_actions(limit=1)
        elif await store.load(key) is None:
            raise UnknownActionError(*key)
    async with open_store(url_of(db)) as store:
        yield store


def _read_only(url: str) -> str:
    if not url.startswith((SQLITE, *POSTGRES)):
        return url
    address, _, query = url.partition("?")
    options = {name: value for name, value in parse_qsl(query, keep_blank_values=True) if name != "exclusive"}
    return f"{address}?{urlencode({**options, 'read_only': 'true'})}"


def key_of(kind: str, id: str) -> ActionKey:
    """The action that the user named.

    Raises:
        CommandError: it is not text.
    """
    try:
        (kind + id).encode()
    except UnicodeEncodeError:
        raise CommandError("a kind and an id are text in UTF-8") from None
    return ActionKey(kind, id)


async def coins_held(store: Store, key: ActionKey) -> list[Coin]:
    """All coins that an action has reserved, by id."""
    held: list[Coin] = []
    while page := await store.coins(
        holder=key, state=CoinState.RESERVED, after=held[-1].id if held else "", limit=PAGE
    ):
        held.extend(page)
    return held


def totals(coins: Collection[Coin]) -> list[tuple[str, str, int]]:
    """What coins amount to: account, unit and sum, sorted."""
    sums: dict[tuple[str, str], int] = {}
    for coin in coins:
        place = (coin.account, coin.unit)
        sums[place] = sums.get(place, 0) + coin.amount
    return [(account, unit, total) for (account, unit), total in sorted(sums.items())]
