"""The wallet's commands without a mint: what they make, what they refuse, and what they say."""

from __future__ import annotations

import json
import os
import shutil
import stat
from datetime import timedelta
from pathlib import Path

import pytest
import segno
import typer
from typer.testing import CliRunner

from tests.unit.ops.kit import Ran, assert_one_line, contents
from wallet_actions.cashu_cli import desk
from wallet_actions.cashu_cli.giving import moment
from wallet_actions.cashu_cli.options import amount, denominations
from wallet_actions.cashu_cli.qr import QUIET, qr_lines
from wallet_actions.clock import SystemClock
from wallet_actions.errors import UsageError
from wallet_actions.ops.program import app

DEAD = "http://127.0.0.1:9"
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
OTHER_WORDS = "letter advice cage absurd amount doctor acoustic avoid letter advice cage above"
PUBKEY = "02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
INVOICE = "lnbc10n1p04uyqqdqvv4u8q6tjv4jqpp594c3vs4hy6cygqtz0j5lhtpj7hy9xra3jq7vfkczykr30ys6fzqs"
COMMANDS = (
    ("balance",),
    ("pending",),
    ("pending", "--token", "deadbeef"),
    ("history",),
    ("issue", "10", "--mint", DEAD),
    ("issue", "--resume", "deadbeef"),
    ("send", "10", "--mint", DEAD),
    ("send", "--revoke", "deadbeef"),
    ("receive", "--new-key"),
    ("swap", "--mint", DEAD),
    ("melt", INVOICE, "--yes", "--mint", DEAD),
    ("restore", "--mint", DEAD),
)
SOME = (("balance",), ("pending", "--token", "deadbeef"), ("send", "10", "--mint", DEAD), ("receive", "--new-key"))
ASKING = (
    ("issue", "10"),
    ("send", "10"),
    ("swap",),
    ("melt", INVOICE, "--yes"),
    ("restore",),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, and nothing in the environment."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    for variable in ("WALLET_ACTIONS_MNEMONIC", "WALLET_ACTIONS_MINT", "WALLET_ACTIONS_CASHU_DB"):
        monkeypatch.delenv(variable, raising=False)
    return folder


def cashu(*args: str, given: str = "") -> Ran:
    result = CliRunner().invoke(app, ["cashu", *args], input=given, env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a wallet that has the phrase `WORDS`."""
    folder = tmp_path_factory.mktemp("template")
    ran = cashu("init", "--db", str(folder / "w.db"), "--mint", DEAD, "--mnemonic-stdin", given=WORDS)
    assert ran.status == 0
    return folder


@pytest.fixture
def wallet(tmp_path: Path, template: Path) -> str:
    """The database of a wallet that has the phrase `WORDS`."""
    for path in template.iterdir():
        shutil.copy(path, tmp_path)
    return str(tmp_path / "w.db")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# init


def test_init_makes_a_phrase_shows_it_once_and_keeps_it_for_the_owner_alone(home: Path) -> None:
    os.umask(os.umask(0))  # whatever it is, the mode does not follow from it
    ran = cashu("init", "--mint", f"{DEAD}/")
    assert ran.status == 0
    folder = home / ".wallet-actions"
    seed_file = folder / "cashu.db.seed"
    words = seed_file.read_text().split()
    assert len(words) == 12
    assert all(word in ran.out for word in words)
    assert "Write these words down" in ran.out
    assert (mode(folder), mode(seed_file), mode(folder / "cashu.db")) == (0o700, 0o600, 0o600)
    assert json.loads((folder / "cashu.db.json").read_text()) == {"mint": DEAD}
    assert ran.err == ""
    looked = cashu("balance")
    assert looked.status == 0
    assert not any(word in looked.out.split() + looked.err.split() for word in words)


def test_init_never_overwrites(tmp_path: Path) -> None:
    db = str(tmp_path / "w.db")
    assert cashu("init", "--db", db).status == 0
    before = contents(tmp_path)
    assert_one_line(cashu("init", "--db", db), "there is a wallet at", "not overwritten")
    assert_one_line(cashu("init", "--db", db, "--mnemonic-stdin", given=WORDS), "it is not overwritten")
    assert contents(tmp_path) == before


def test_two_phrases_are_never_the_same(tmp_path: Path) -> None:
    made = {cashu("init", "--db", str(tmp_path / f"{number}.db"), "--json").json["mnemonic"] for number in range(3)}
    assert len(made) == 3


def test_a_phrase_of_ones_own(tmp_path: Path) -> None:
    db = tmp_path / "w.db"
    ran = cashu("init", "--db", str(db), "--mnemonic-stdin", given=f"  {WORDS.upper()}\n")
    assert ran.status == 0
    assert "winner" not in ran.out
    assert "restore" in ran.out
    assert (tmp_path / "w.db.seed").read_text() == f"{WORDS}\n"
    assert mode(tmp_path / "w.db.seed") == 0o600


def test_json_of_a_phrase_that_was_brought_does_not_repeat_it(tmp_path: Path) -> None:
    db = str(tmp_path / "w.db")
    ran = cashu("init", "--db", db, "--mnemonic-stdin", "--json", given=WORDS)
    assert ran.json == {"db": db, "seed_file": f"{db}.seed", "mint": None, "mnemonic": None, "restore_next": True}


def test_a_phrase_in_the_environment_is_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_ACTIONS_MNEMONIC", WORDS)
    db = str(tmp_path / "w.db")
    ran = cashu("init", "--db", db)
    assert ran.status == 0
    assert "winner" not in ran.out
    assert "written nowhere" in ran.out
    assert not any("winner" in path.read_bytes().decode("latin-1") for path in tmp_path.iterdir() if path.is_file())
    assert cashu("balance", "--db", db).status == 0
    assert_one_line(cashu("init", "--db", db), "not overwritten")
    monkeypatch.delenv("WALLET_ACTIONS_MNEMONIC")
    assert_one_line(cashu("balance", "--db", db), "there is no recovery phrase", "WALLET_ACTIONS_MNEMONIC")


@pytest.mark.parametrize("given", ["", "one two three", WORDS.replace("yellow", "zebra"), "\udcff", "legal " * 2000])
def test_what_is_no_phrase_makes_nothing(tmp_path: Path, given: str) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    ran = cashu(
        "init", "--db", str(folder / "w.db"), "--mnemonic-stdin", given=given.encode("utf-8", "replace").decode()
    )
    assert_one_line(ran, "recovery phrase")
    assert "zebra" not in ran.err
    assert list(folder.iterdir()) == []


def test_an_init_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    """The phrase is on disk before the database is; its owner may never have seen it."""
    (tmp_path / "w.db.seed").write_text(f"{WORDS}\n")
    (tmp_path / "w.db.seed").chmod(0o600)
    ran = cashu("init", "--db", str(tmp_path / "w.db"), "--json")
    assert ran.json["mnemonic"] == WORDS
    assert ran.json["restore_next"] is True
    assert cashu("balance", "--db", str(tmp_path / "w.db")).err == ""


def test_a_database_that_lost_its_phrase_takes_none_but_its_own(tmp_path: Path, wallet: str) -> None:
    seed_file = tmp_path / "w.db.seed"
    seed_file.unlink()
    assert_one_line(cashu("init", "--db", wallet), "bring its own", "--mnemonic-stdin")
    ran = cashu("init", "--db", wallet, "--mnemonic-stdin", given=OTHER_WORDS)
    assert_one_line(ran, "belongs to another recovery phrase")
    assert not seed_file.exists()
    assert cashu("init", "--db", wallet, "--mnemonic-stdin", given=WORDS).status == 0
    assert cashu("balance", "--db", wallet).status == 0


def test_places_that_cannot_hold_a_wallet(tmp_path: Path) -> None:
    for db, part in (
        (str(tmp_path / "no" / "w.db"), "there is no folder"),
        ("memory://", "a wallet's database is a file"),
        ("", "names no file"),
        ("bad\0name", "names no file"),
    ):
        assert_one_line(cashu("init", "--db", db), part)
    assert_one_line(cashu("init", "--db", str(tmp_path / "w.db"), "--mint", "ftp://x"), "a mint's address")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_url_names_a_database_too(tmp_path: Path) -> None:
    assert cashu("init", "--db", f"sqlite:///{tmp_path}/my%20wallet.db").status == 0
    assert (tmp_path / "my wallet.db.seed").exists()
    assert cashu("balance", "--db", str(tmp_path / "my wallet.db")).status == 0


# The wallet is not there, or not ours


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_wallet_nothing_is_made(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert_one_line(cashu(*command, "--db", str(tmp_path / "none.db")), "there is no wallet at", "cashu init")
    assert_one_line(cashu(*command, "--db", str(tmp_path)), "is a directory")
    assert_one_line(cashu(*command), "there is no wallet at", ".wallet-actions/cashu.db")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("command", SOME, ids=" ".join)
def test_the_phrase_has_to_be_there_and_right(tmp_path: Path, wallet: str, command: tuple[str, ...]) -> None:
    seed_file = tmp_path / "w.db.seed"
    seed_file.write_text(WORDS.replace("yellow", "zebra"))
    ran = cashu(*command, "--db", wallet)
    assert_one_line(ran, "the recovery phrase is not valid", "w.db.seed")
    assert "zebra" not in ran.err
    seed_file.write_text(OTHER_WORDS)
    assert_one_line(cashu(*command, "--db", wallet), "belongs to another recovery phrase")
    seed_file.unlink()
    assert_one_line(cashu(*command, "--db", wallet), "there is no recovery phrase", "w.db.seed")
    assert_one_line(cashu(*command, "--db", wallet, "--seed-file", "gone"), "there is no recovery phrase at gone")


def test_a_named_file_goes_before_the_environment(tmp_path: Path, wallet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_ACTIONS_MNEMONIC", OTHER_WORDS)
    assert_one_line(cashu("balance", "--db", wallet), "belongs to another recovery phrase")
    assert cashu("balance", "--db", wallet, "--seed-file", f"{wallet}.seed").status == 0


def test_a_phrase_that_others_may_read_is_told(tmp_path: Path, wallet: str) -> None:
    (tmp_path / "w.db.seed").chmod(0o644)
    ran = cashu("balance", "--db", wallet)
    assert ran.status == 0
    assert ran.err == f"others on this machine may read the recovery phrase: chmod 600 {wallet}.seed\n"
    assert cashu("balance", "--db", wallet, "--json").err == ""


@pytest.mark.parametrize("command", SOME, ids=" ".join)
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, command: tuple[str, ...]) -> None:
    path = tmp_path / "notes.db"
    path.write_text("# Shopping\n\n- milk\n" * 500)
    (tmp_path / "notes.db.seed").write_text(WORDS)
    before = contents(tmp_path)
    assert_one_line(cashu(*command, "--db", str(path)), f"{path} is not a database")
    assert contents(tmp_path) == before


# What is asked for


NO_AMOUNTS = ("0", "-1", "abc", "1e30", "1.5", "", " 1", "9223372036854775808", "١", "+1", "1_0")


@pytest.mark.parametrize("command", [("issue", "{}"), ("send", "{}"), ("swap", "--amount", "{}")], ids=" ".join)
def test_what_is_no_amount(wallet: str, command: tuple[str, ...]) -> None:
    for text in NO_AMOUNTS:
        said = "No such option" if text == "-1" and command[0] != "swap" else "an amount is a whole number"
        assert_one_line(cashu(*(part.format(text) for part in command), "--db", wallet), said)


def test_an_amount() -> None:
    assert amount("1") == 1
    assert amount("9223372036854775807") == 2**63 - 1


def test_denominations() -> None:
    assert denominations("1x3, 64x2,8") == (1, 1, 1, 64, 64, 8)
    for text in ("", "1x", "x3", "0x3", "1x0", "-1x3", "1x1001", "1x600,2x600", "a", "1;2", "9223372036854775808"):
        with pytest.raises(typer.BadParameter, match="amount x count"):
            denominations(text)


def test_moments() -> None:
    now = SystemClock().now()
    assert timedelta(hours=23) < moment("24h") - now < timedelta(hours=25)
    assert moment("2031-05-04T12:00+00:00").isoformat().startswith("2031-05-04")
    assert moment("2031-05-04").tzinfo is not None
    for text in ("", "soon", "24", "2031-13-01", "99999999999d"):
        with pytest.raises(typer.BadParameter, match="a time is"):
            moment(text)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["issue"], "either AMOUNT, or --resume"),
        (["issue", "10", "--resume", "x"], "either AMOUNT, or --resume"),
        (["send"], "either AMOUNT, or --revoke"),
        (["receive"], "either TOKEN"),
        (["receive", "cashuB", "--new-key"], "either TOKEN"),
        (["send", "10", "--refund", PUBKEY], "go with --lock or --hash"),
        (["send", "10", "--lock", PUBKEY, "--refund", PUBKEY], "without a locktime"),
        (["send", "10", "--lock", "02ab"], "public keys of 66 hex characters"),
        (["send", "10", "--hash", "02ab"], "a hash of 64"),
        (["send", "10", "--locktime", "soon"], "a time is"),
        (["melt", "lnurl!"], "no Lightning invoice"),
        (["melt", "bitcoin:abc", "--yes"], "no Lightning invoice"),
        (["melt", INVOICE, "--max-fee", "-1"], "--max-fee"),
        (["swap", "--denominations", "1y3"], "amount x count"),
        (["issue", "10", "--timeout", "5"], "an age is a whole number"),
        (["history", "--limit", "0"], "--limit"),
        (["bogus"], "No such command"),
    ],
)
def test_bad_use_is_one_line(wallet: str, arguments: list[str], part: str) -> None:
    assert_one_line(cashu(*arguments, *(["--db", wallet] if arguments != ["bogus"] else [])), part)


def test_without_a_command_the_help_is_shown() -> None:
    ran = cashu()
    assert ran.status == 2
    assert "Usage: wallet-actions cashu" in ran.out
    for name in ("init", "balance", "issue", "send", "receive", "swap", "melt", "pending", "restore", "history"):
        assert name in ran.out


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_a_mint_has_to_be_named_and_to_be_one(tmp_path: Path, wallet: str, command: tuple[str, ...]) -> None:
    assert_one_line(cashu(*command, "--db", wallet, "--mint", "hallo"), "a mint's address must look like")
    (tmp_path / "w.db.json").unlink()
    assert_one_line(cashu(*command, "--db", wallet), "which mint? Name one with --mint")
    (tmp_path / "w.db.json").write_text("{not json")
    assert_one_line(cashu(*command, "--db", wallet), "which mint?")


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_a_mint_that_is_down(wallet: str, command: tuple[str, ...]) -> None:
    said = f"the mint {DEAD} cannot be reached; nothing was begun, and no coin has moved: try again later"
    assert_one_line(cashu(*command, "--db", wallet), said, status=1)
    ran = cashu(*command, "--db", wallet, "--json")
    assert (ran.status, ran.out) == (1, "")
    assert ran.error == {"error": {"type": "MintUnreachableError", "message": said}, "exit_status": 1}


def test_what_there_is_can_be_looked_at_without_a_mint(wallet: str) -> None:
    assert cashu("balance", "--db", wallet).out.startswith("nothing yet")
    assert cashu("pending", "--db", wallet).out == "nothing is under way\n"
    assert cashu("history", "--db", wallet).out == "nothing has happened yet\n"
    assert cashu("balance", "--db", wallet, "--json").json == {"balances": []}
    assert cashu("pending", "--db", wallet, "--json").json == {"pending": []}
    assert cashu("history", "--db", wallet, "--json").json == {"history": []}


def test_receiving_keys_are_new_each_time(wallet: str) -> None:
    keys = {cashu("receive", "--new-key", "--db", wallet).out.strip() for _ in range(2)}
    keys.add(cashu("receive", "--new-key", "--db", wallet, "--json").json["pubkey"])
    assert len(keys) == 3
    assert all(len(bytes.fromhex(key)) == 33 for key in keys)


def test_ids_that_nothing_has(wallet: str) -> None:
    assert_one_line(cashu("issue", "--resume", "deadbeef", "--db", wallet), "there is no issue 'deadbeef'")
    assert_one_line(cashu("send", "--revoke", "", "--db", wallet), "there is no send ''")
    assert_one_line(cashu("pending", "--token", "\x1b[31m", "--db", wallet), "there is no send")


@pytest.mark.parametrize("token", ["cashuBxxx", "cashuA", "cashuC123", "hello", " ", "cashuB" + "A" * 3_000_000, "é"])
def test_malformed_tokens_are_one_line_and_change_nothing(wallet: str, token: str) -> None:
    ran = cashu("receive", "-", "--db", wallet, "--json", given=token)
    assert (ran.status, ran.out) == (2, "")
    assert ran.error["error"]["type"] == "MalformedError"
    assert ran.error["error"]["message"].startswith("this cannot be read: ")
    assert len(ran.err) < 400
    assert cashu("history", "--db", wallet, "--json").json == {"history": []}


# QR codes


def test_a_qr_code_says_what_it_should() -> None:
    text = "LNBC10N1P04UYQQDQVV4U8Q6TJV4JQ"
    lines = qr_lines(text)
    assert lines is not None
    light = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}
    rows = [[light[character][half] for character in line] for line in lines for half in (0, 1)]
    matrix = [list(row) for row in segno.make(text, error="l", micro=False).matrix]
    side = len(matrix) + 2 * QUIET
    read = [[1 - cell for cell in row[QUIET : side - QUIET]] for row in rows[QUIET : side - QUIET]]
    assert read == [[int(bool(cell)) for cell in row] for row in matrix]
    around = [cell for row in rows[:QUIET] for cell in row] + [row[0] for row in rows[:side]]
    assert set(around) == {1}
    assert {len(line) for line in lines} == {side}


def test_a_text_that_is_too_long_has_no_qr_code() -> None:
    assert qr_lines("x" * 3000) is None


@pytest.mark.parametrize(
    ("command", "is_watching"),
    [
        (("issue", "10"), True),
        (("issue", "--resume", "deadbeef"), True),
        (("issue", "10", "--no-wait"), False),
        (("send", "10", "--wait"), True),
        (("send", "10"), False),
        (("balance",), False),
    ],
)
def test_mints_are_listened_to_only_while_a_person_waits(
    command: tuple[str, ...], is_watching: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cashu("init", "--mint", DEAD).status == 0
    watches: list[bool] = []

    def opened(*args: object, watch: bool, **options: object) -> None:
        watches.append(watch)
        raise UsageError("enough")

    monkeypatch.setattr(desk, "Cashu", opened)
    assert cashu(*command).status != 0
    assert watches == [is_watching]
