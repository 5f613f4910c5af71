"""Commands that other packages add, and what becomes of one that cannot be loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.ops.kit import Ran, assert_one_line, cli

CODE = '''
import sys
import typer

one = typer.Typer()

@one.command()
def anything(name: str, json: bool = typer.Option(False, "--json")):
    """Greet somebody."""
    print(f"hello {name}")

many = typer.Typer(help="A group.")

@many.command()
def first():
    print("the first")

@many.command()
def second():
    raise typer.Exit(1)

def function(count: int = 1):
    """A function is a command."""
    print("x" * count)

def failing():
    raise RuntimeError("seed words here")

def leaving():
    sys.exit(4)

number = 3
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install a package that adds commands."""

    def install(entry_points: str, requires: str = "") -> None:
        info = tmp_path / "greetings-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n{requires}")
        (info / "entry_points.txt").write_text(f"[wallet_actions.commands]\n{entry_points}\n")
        (tmp_path / "ops_greetings.py").write_text(CODE)
        (tmp_path / "ops_lacking.py").write_text("import not_installed_at_all.part\n")
        (tmp_path / "ops_broken.py").write_text("raise RuntimeError('seed words here')\n")
        (tmp_path / "ops_leaves.py").write_text("raise SystemExit(3)\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        for name in ("ops_greetings", "ops_lacking", "ops_broken", "ops_leaves"):
            monkeypatch.delitem(sys.modules, name, raising=False)

    return install


def test_a_typer_or_a_function_becomes_a_command(plugin: Callable[[str], None]) -> None:
    plugin("greet = ops_greetings:one\ngroup = ops_greetings:many\nrepeat = ops_greetings:function")
    assert cli("greet", "you").out == "hello you\n"
    assert cli("group", "first").out == "the first\n"
    assert cli("group", "second").status == 1
    assert cli("repeat", "--count", "3").out == "xxx\n"
    assert "Greet somebody" in cli("greet", "--help").out
    overview = [" ".join(line.split()) for line in cli("--help").out.splitlines()]
    for line in ("greet Greet somebody.", "group A group.", "repeat A function is a command."):
        assert line in overview


def test_an_own_command_is_not_taken_over(plugin: Callable[[str], None]) -> None:
    plugin("list = ops_greetings:one")
    assert "List actions, oldest first." in cli("list", "--help").out
    assert cli("--help").out.count("\n  list ") == 1


def test_what_a_plugin_raises_is_one_line(plugin: Callable[[str], None]) -> None:
    plugin("fail = ops_greetings:failing\nleave = ops_greetings:leaving\ngreet = ops_greetings:one")
    ran = cli("fail")
    assert_one_line(ran, "an unexpected RuntimeError at ops_greetings.py:", "WALLET_ACTIONS_DEBUG=1")
    assert "seed words" not in ran.err
    assert cli("leave").status == 4
    assert_one_line(cli("greet"), "Missing argument")
    assert cli("greet", "--json").error["error"]["type"] == "UsageError"


@pytest.mark.parametrize(
    ("entry_point", "requires", "part"),
    [
        (
            "bad = ops_lacking:app",
            "Requires-Dist: Not.Installed-at_all>=2; extra == 'speech'\n",
            'the module not_installed_at_all is not installed; pip install "greetings[speech]"',
        ),
        ("bad = ops_lacking:app [deep]", "", 'pip install "greetings[deep]"'),
        ("bad = ops_lacking:app", "", "the module not_installed_at_all is not installed"),
        ("bad = ops_broken:app", "", "an unexpected RuntimeError at ops_broken.py:1"),
        ("bad = ops_leaves:app", "", "it ended the program"),
        ("bad = ops_greetings:missing", "", "an unexpected AttributeError"),
        ("bad = ops_greetings:number", "", "it is of type int, neither a typer.Typer nor a function"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_disturbs_nobody(
    plugin: Callable[[str, str], None], entry_point: str, requires: str, part: str
) -> None:
    plugin(f"{entry_point}\ngreet = ops_greetings:one", requires)
    ran = cli("bad", "--any", "option", "here")
    assert_one_line(ran, "the command bad cannot be loaded: ", part)
    assert "seed words" not in ran.err
    assert cli("bad", "--json").error["error"]["type"] == "PluginError"
    overview = cli("--help")
    assert overview.status == 0
    assert "Cannot be loaded; call it to see why." in overview.out
    assert cli("greet", "you").out == "hello you\n"
    assert cli("list", "--help").status == 0


def test_plugins_are_not_imported_for_other_commands(plugin: Callable[[str], None]) -> None:
    plugin("greet = ops_greetings:one")
    ran: Ran = cli("list", "--db", "nowhere.db")
    assert ran.status == 2
    assert "ops_greetings" not in sys.modules
