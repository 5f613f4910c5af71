"""Where a person's wallet lies: its database, its recovery phrase and its settings, side by side.

    cashu.db        coins and operations
    cashu.db.seed   the recovery phrase, mode 0600
    cashu.db.json   settings: the mint to use where none is named

The phrase may stand elsewhere: in the file that `--seed-file` names, or in `WALLET_ACTIONS_MNEMONIC`. It never gets
into the database, a log or an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, ValidationError

from wallet_actions.cashu import Seed
from wallet_actions.errors import UsageError
from wallet_actions.ops.failures import CommandError
from wallet_actions.ops.target import SQLITE, url_of

MNEMONIC_VARIABLE = "WALLET_ACTIONS_MNEMONIC"
MINT_VARIABLE = "WALLET_ACTIONS_MINT"
DB_VARIABLE = "WALLET_ACTIONS_CASHU_DB"
DEFAULT_DB = "~/.wallet-actions/cashu.db"
LONGEST_PHRASE = 4096
HEADER = b"SQLite format 3\0"
INIT = "wallet-actions cashu init"


class NoWalletError(CommandError):
    """There is no wallet where the user says."""


class NoPhraseError(CommandError):
    """There is no recovery phrase, or what stands in its place is none."""


class WalletExistsError(CommandError):
    """There is a wallet already, and it is not overwritten."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    mint: str | None = None


@dataclass(frozen=True, slots=True)
class Home:
    """One wallet's place.

    Attributes:
        db: the database.
        url: what opens it.
        seed_file: the recovery phrase, where no environment variable holds it.
        is_seed_file_named: whether the user named that file.
    """

    db: Path
    url: str
    seed_file: Path
    is_seed_file_named: bool

    @classmethod
    def of(cls, db: str, seed_file: str | None) -> Home:
        """The place that the user names.

        Args:
            db: a path, or a URL of a SQLite store.
        Raises:
            CommandError: not a file.
        """
        if "://" in db and not db.startswith(SQLITE):
            raise CommandError("a wallet's database is a file: --db takes a path, or sqlite:///wallet.db")
        text = unquote(db.removeprefix(SQLITE).partition("?")[0]) if db.startswith(SQLITE) else db
        try:
            path = Path(text).expanduser()
            named = None if seed_file is None else Path(seed_file).expanduser()
        except RuntimeError:
            raise CommandError(
                "there is no home directory to keep the wallet in: name the database with --db"
            ) from None
        if path.name in {"", ":memory:"} or "\0" in text:
            raise CommandError("--db names no file")
        beside = path.with_name(f"{path.name}.seed")
        return cls(path, db if "://" in db else url_of(str(path)), named or beside, named is not None)

    @property
    def has_database(self) -> bool:
        """Whether there is one, with something in it."""
        try:
            return self.db.is_file() and self.db.stat().st_size > 0
        except OSError:
            return False

    def check_present(self) -> None:
        """Check that the wallet was made.

        Raises:
            NoWalletError: it was not, or its place is no file.
        """
        try:
            if self.db.is_dir():
                raise NoWalletError(f"{self.db} is a directory, not a wallet's database")
            if self.db.exists() and not self.db.is_file():
                raise NoWalletError(f"{self.db} is no file")
        except OSError as error:
            raise NoWalletError(f"{self.db} cannot be read ({type(error).__name__})") from None
        if self.has_database and not self._has_header():
            raise NoWalletError(f"{self.db} is not a database")
        if not self.has_database:
            raise NoWalletError(f"there is no wallet at {self.db}; make one with `{INIT}`, or name another with --db")

    def _has_header(self) -> bool:
        try:
            with self.db.open("rb") as file:
                return file.read(len(HEADER)) == HEADER
        except OSError as error:
            raise NoWalletError(f"{self.db} cannot be read ({_why(error)})") from None

    # The recovery phrase

    def seed(self) -> Seed:
        """The wallet's seed: from the file that was named, the environment, or the file beside the database.

        Raises:
            NoPhraseError: it is missing or not valid; one line that says where it was looked for.
        """
        words, place = self._found()
        try:
            return Seed.from_mnemonic(words)
        except UsageError as error:
            raise NoPhraseError(f"{error} (read from {place})") from None

    def phrase(self) -> str:
        """The recovery phrase as it was found; sensitive.

        Raises:
            NoPhraseError: it is missing.
        """
        return " ".join(self._found()[0].lower().split())

    def _found(self) -> tuple[str, str]:
        """The phrase, and where it was found."""
        in_environment = os.environ.get(MNEMONIC_VARIABLE, "")
        if in_environment.strip() and not self.is_seed_file_named:
            return in_environment, MNEMONIC_VARIABLE
        try:
            with self.seed_file.open(encoding="utf-8") as file:
                return file.read(LONGEST_PHRASE), str(self.seed_file)
        except FileNotFoundError:
            raise NoPhraseError(
                f"there is no recovery phrase: neither {self.seed_file} nor {MNEMONIC_VARIABLE} has one"
                if not self.is_seed_file_named
                else f"there is no recovery phrase at {self.seed_file}"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise NoPhraseError(f"the recovery phrase at {self.seed_file} cannot be read ({_why(error)})") from None

    def loose_permissions(self) -> str | None:
        """What is wrong with who may read the file with the phrase; None where nothing is, or there is no file."""
        try:
            mode = self.seed_file.stat().st_mode
        except OSError:
            return None
        if os.name != "posix" or not mode & (stat.S_IRWXG | stat.S_IRWXO):
            return None
        return f"others on this machine may read the recovery phrase: chmod 600 {self.seed_file}"

    def write_phrase(self, words: str) -> None:
        """Put the phrase into its file, readable by nobody else; never over another one.

        Raises:
            WalletExistsError: there is a file. CommandError: it cannot be written.
        Durability: on disk when it returns.
        """
        try:
            handle = os.open(self.seed_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(f"{words}\n")
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(self.seed_file.parent)
        except FileExistsError:
            raise WalletExistsError(f"there is a recovery phrase at {self.seed_file}; it is not overwritten") from None
        except OSError as error:
            raise CommandError(f"the recovery phrase cannot be written to {self.seed_file} ({_why(error)})") from None

    def make_folder(self) -> None:
        """Make the folder of the default place; any other has to be there.

        Raises:
            CommandError: it is not.
        """
        folder = self.db.parent
        try:
            if folder == Path(DEFAULT_DB).expanduser().parent:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"the folder {folder} cannot be made ({_why(error)})") from None
        if not folder.is_dir():
            raise CommandError(f"there is no folder {folder}")

    # The settings

    @property
    def settings_file(self) -> Path:
        """The file with what the wallet remembers for the user."""
        return self.db.with_name(f"{self.db.name}.json")

    def default_mint(self) -> str | None:
        """The mint that `init` was told."""
        try:
            return _Settings.model_validate_json(self.settings_file.read_bytes()).mint
        except (OSError, ValidationError):
            return None

    def remember_mint(self, url: str) -> None:
        """Keep the mint to use where none is named.

        Raises:
            CommandError: it cannot be written.
        """
        try:
            self.settings_file.write_text(json.dumps({"mint": url}) + "\n", encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{self.settings_file} cannot be written ({_why(error)})") from None


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
