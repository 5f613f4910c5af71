"""The entry point: missing extras, the last resort, streams, and what the help documents."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.ops import kit
from tests.unit.ops.kit import ROOT, assert_one_line, cli, make, spawn
from wallet_actions.errors import StoreUnavailableError
from wallet_actions.ops import program, reading
from wallet_actions.ops.failures import explain

LOOKING = ("list", "show", "history", "doctor")
COMMANDS = (*LOOKING, "drive", "recover", "cancel", "stop", "pause", "resume", "retry", "prune")

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from wallet_actions.ops.cli import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_its_extra_it_says_what_to_install(module: str) -> None:
    ran = spawn("list", "--db", "x", code=WITHOUT.format(module=module))
    assert_one_line(ran, 'pip install "wallet-actions[cli]"')


def test_another_missing_module_is_not_called_an_extra() -> None:
    ran = spawn("list", "--db", "x", code=WITHOUT.format(module="pydantic"))
    assert ran.status != 0
    assert "wallet-actions[cli]" not in ran.err


def test_an_unexpected_error_is_one_line_and_debug_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("the seed is abandon abandon")

    monkeypatch.setattr(reading, "opened", fail)
    ran = cli("list", "--db", "x")
    assert_one_line(ran, "an unexpected ZeroDivisionError at test_ops_cli.py:", "set WALLET_ACTIONS_DEBUG=1")
    assert "abandon" not in ran.err
    as_json = cli("list", "--db", "x", "--json")
    assert as_json.error["error"]["type"] == "ZeroDivisionError"


def test_debug_shows_the_traceback_of_an_app(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "park-1")
    arguments = ("recover", "--db", str(path), "--app", "tests.unit.ops.kit:raising")
    ran = spawn(*arguments, env={"WALLET_ACTIONS_DEBUG": "1"})
    assert ran.status == 2
    assert "Traceback" in ran.err
    assert "RuntimeError" in ran.err
    assert_one_line(spawn(*arguments, env={"WALLET_ACTIONS_DEBUG": "0"}), "--app")


def test_debug_shows_no_payloads(tmp_path: Path) -> None:
    """aiosqlite logs what it binds; nobody wants to see that, not even then."""
    path = make(tmp_path / "shop.db", "park-1")
    ran = spawn(
        *("drive", "pay", "park-1", "--db", str(path), "--app", "tests.unit.ops.kit:down"),
        env={"WALLET_ACTIONS_DEBUG": "1"},
    )
    assert ran.status == 0
    kit.assert_silent_about_secrets(ran)


def test_the_first_of_a_group_of_errors_is_told() -> None:
    error = BaseExceptionGroup("two", [ExceptionGroup("one", [StoreUnavailableError("it is busy")]), ValueError()])
    assert (explain(error).message, explain(error).exit_status) == ("it is busy", 2)


def test_the_librarys_log_stays_off_the_terminal(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "config-1")
    ran = spawn("drive", "pay", "config-1", "--db", str(path), "--app", "tests.unit.ops.kit:down")
    assert (ran.status, ran.err) == (0, "")
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("wallet_actions").handlers)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", *(f"park-{number}" for number in range(30)))
    child = subprocess.Popen(
        [sys.executable, "-c", kit.MAIN, "list", "--db", str(path), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    told = child.stderr.read()
    child.stderr.close()
    assert (child.wait(timeout=60), told) == (1, b"")


def test_a_terminal_that_cannot_show_a_character_shows_its_number(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "park-ö")
    ran = spawn("list", "--db", str(path), env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert (ran.status, "park-\\xf6" in ran.out) == (0, True)
    as_json = spawn("list", "--db", str(path), "--json", env={"PYTHONIOENCODING": "ascii"}).json
    assert as_json["actions"][0]["id"] == "park-ö"


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1", "TERM": "xterm-256color"}])
def test_there_is_no_colour_off_a_terminal(tmp_path: Path, environment: dict[str, str]) -> None:
    path = make(tmp_path / "shop.db", "park-1", "stuck-1")
    for command in (["list"], ["doctor"], ["show", "pay", "stuck-1"]):
        assert "\x1b" not in spawn(*command, "--db", str(path), env=environment).out


def test_the_overview_names_every_command() -> None:
    ran = cli("--help")
    assert ran.status == 0
    for command in COMMANDS:
        told = next(line for line in ran.out.splitlines() if line.startswith(f"  {command} "))
        assert not told.endswith("...")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_documents_the_json(command: str) -> None:
    ran = cli(command, "--help")
    assert ran.status == 0
    assert "JSON: {" in ran.out or "JSON: the keys" in ran.out
    assert "--json" in ran.out
    assert "--db FILE" in ran.out
    assert max(len(line) for line in ran.out.splitlines()) <= 80


def test_the_parser_and_the_entry_point_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.app(["list", "--db", "nowhere.db"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "wallet-actions: there is no database at nowhere.db\n"
