"""`init`: make a wallet, or bring one back from its recovery phrase."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Annotated

import typer
from mnemonic import Mnemonic

from wallet_actions.cashu import Cashu, Seed
from wallet_actions.cashu.transport import normalize_mint_url
from wallet_actions.cashu_cli.desk import Desk
from wallet_actions.cashu_cli.home import (
    DEFAULT_DB,
    LONGEST_PHRASE,
    MNEMONIC_VARIABLE,
    Home,
    NoPhraseError,
    WalletExistsError,
)
from wallet_actions.cashu_cli.options import DbOption, JsonOption, MintOption, SeedFileOption
from wallet_actions.errors import UsageError
from wallet_actions.ops.failures import CommandError
from wallet_actions.ops.terminal import emit, say

STRENGTH_BITS = 128  # twelve words
COLUMNS = 4


@dataclass(frozen=True, slots=True)
class _Phrase:
    """The recovery phrase to make a wallet of.

    Attributes:
        is_shown: the user may never have seen it.
        is_to_be_written: it belongs into the file, and is not there yet.
        is_used: there may be coins of it already.
    """

    words: str
    is_shown: bool
    is_to_be_written: bool
    is_used: bool

    def __repr__(self) -> str:
        return "_Phrase(…)"


def init(
    mint: MintOption = None,
    db: DbOption = DEFAULT_DB,
    seed_file: SeedFileOption = None,
    mnemonic_stdin: Annotated[
        bool, typer.Option("--mnemonic-stdin", help="Read a recovery phrase that exists from the standard input.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a wallet: a database, and a recovery phrase of twelve words, shown once.

    The phrase is kept beside the database in FILE.seed, readable by its owner alone. One that exists is brought with
    --mnemonic-stdin; or in WALLET_ACTIONS_MNEMONIC, and then it is written nowhere. Nothing is ever overwritten.

    JSON: {db, seed_file: null where the environment has the phrase, mint, mnemonic: null where it was brought,
    restore_next: whether there may be coins to bring back with `restore`}.
    """
    desk = Desk(db, seed_file, as_json=as_json)
    home = desk.home
    url = None if mint is None else _mint(mint)
    phrase = _phrase(home, from_stdin=mnemonic_stdin)
    seed = _seed(phrase.words)
    home.make_folder()

    async def found() -> None:
        async with Cashu(home.url, seed, poll=None):
            pass

    if home.has_database:
        desk.run(found())  # before anything is written beside it: it may belong to another phrase
    if url is not None:
        home.remember_mint(url)
    if phrase.is_to_be_written:
        home.write_phrase(phrase.words)
    desk.run(found())
    if as_json:
        emit(
            {
                "db": str(home.db),
                "seed_file": str(home.seed_file) if home.seed_file.exists() else None,
                "mint": url,
                "mnemonic": phrase.words if phrase.is_shown else None,
                "restore_next": phrase.is_used,
            }
        )
    else:
        _print(desk, phrase, url)


def _mint(url: str) -> str:
    try:
        return normalize_mint_url(url)
    except UsageError as error:
        raise CommandError(str(error)) from None


def _phrase(home: Home, *, from_stdin: bool) -> _Phrase:
    """Find or make the phrase.

    Raises:
        WalletExistsError: it, or the database, would be written over. NoPhraseError: there is none where one shall be.
    """
    is_kept = home.seed_file.exists()
    brought = os.environ.get(MNEMONIC_VARIABLE, "") if not home.is_seed_file_named else ""
    if from_stdin:
        if is_kept:
            raise WalletExistsError(f"there is a recovery phrase at {home.seed_file}; it is not overwritten")
        return _Phrase(_read(), is_shown=False, is_to_be_written=True, is_used=True)
    if home.has_database:
        if is_kept or brought.strip():
            raise WalletExistsError(f"there is a wallet at {home.db}; it is not overwritten")
        raise WalletExistsError(
            f"there is a database at {home.db} without a recovery phrase beside it: bring its own, --mnemonic-stdin"
        )
    if brought.strip():
        return _Phrase(brought, is_shown=False, is_to_be_written=False, is_used=True)
    if is_kept:  # of an `init` that was cut short, or of a database that is gone
        return _Phrase(home.phrase(), is_shown=True, is_to_be_written=False, is_used=True)
    words = Mnemonic("english").generate(STRENGTH_BITS)
    return _Phrase(words, is_shown=True, is_to_be_written=True, is_used=False)


def _read() -> str:
    if sys.stdin.isatty():
        print("The recovery phrase, then Enter:", file=sys.stderr)  # noqa: T201 the command line speaks here
        text = sys.stdin.readline(LONGEST_PHRASE)
    else:
        text = sys.stdin.read(LONGEST_PHRASE)
    if not text.strip():
        raise NoPhraseError("the standard input has no recovery phrase")
    return " ".join(text.lower().split())


def _seed(words: str) -> Seed:
    try:
        return Seed.from_mnemonic(words)
    except UsageError as error:
        raise NoPhraseError(str(error)) from None


def _print(desk: Desk, phrase: _Phrase, url: str | None) -> None:
    home = desk.home
    say(f"The wallet is at {home.db}.")
    if phrase.is_shown:
        say()
        words = phrase.words.split()
        for first in range(0, len(words), COLUMNS):
            say(
                "  ".join(f"{place + 1:3} {words[place]:9}" for place in range(first, min(first + COLUMNS, len(words))))
            )
        say()
        say("Write these words down on paper, in this order, and keep them where nobody finds them. They are shown")
        say("this once. Whoever has them has the money, and without them a lost device is lost money.")
    if home.seed_file.exists():
        say(f"The recovery phrase is kept in {home.seed_file}, for you alone to read.")
    else:
        say(f"The recovery phrase stays in {MNEMONIC_VARIABLE}; it was written nowhere.")
    if url is not None:
        say(f"The mint is {url} where none is named.")
    if phrase.is_used:
        say(f"If there are coins of this phrase, bring them back: wallet-actions cashu restore{desk.db_option}")
