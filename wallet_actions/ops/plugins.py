"""Commands that other wings and other packages add.

An entry point of the group `wallet_actions.commands` names the command and loads either a `typer.Typer`, which becomes
a command or a group under that name, or a function, which becomes a command. It is loaded only when it is called for,
or listed in the help. One that cannot be loaded does not disturb the others: it says in one line what it lacks.

    [project.entry-points."wallet_actions.commands"]
    demo = "wallet_actions.testing.demo.cli:app"
"""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

from wallet_actions.ops.failures import PluginError, details_hint
from wallet_actions.step import record

ENTRY_POINT_GROUP = "wallet_actions.commands"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+).*;.*\bextra\s*==\s*['\"]([^'\"]+)['\"]")


def names() -> list[str]:
    """The names of the commands that are installed."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def command(name: str) -> Any:
    """Load a command for the parser; None where none of that name is installed.

    One that cannot be loaded becomes a command that raises `PluginError`.
    """
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            return _parsed(name, point.load())
        except (Exception, SystemExit) as error:  # noqa: BLE001 other people's code must not disturb the rest
            return _parsed(name, _broken(point, error))
    return None


def _parsed(name: str, loaded: Any) -> Any:
    if isinstance(loaded, typer.Typer):
        application = loaded
    elif callable(loaded):
        application = typer.Typer(add_completion=False, rich_markup_mode=None)
        application.command(name)(loaded)
    else:
        raise PluginError(f"it is of type {type(loaded).__name__}, neither a typer.Typer nor a function")
    parsed = typer.main.get_command(application)
    parsed.name = name
    return parsed


def _broken(point: EntryPoint, error: BaseException) -> typer.Typer:
    message = f"the command {point.name} cannot be loaded: {_cause(point, error)}"
    application = typer.Typer(add_completion=False, rich_markup_mode=None)

    @application.command(
        point.name,
        help="Cannot be loaded; call it to see why.",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def fail() -> None:
        raise PluginError(message) from error

    return application


def _cause(point: EntryPoint, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        module = error.name.partition(".")[0]
        distribution = point.dist.name if point.dist is not None else None
        extra = _extra(point, module)
        if extra is not None and distribution is not None:
            return f'the module {module} is not installed; pip install "{distribution}[{extra}]"'
        return f"the module {error.name} is not installed"
    if isinstance(error, PluginError):
        return str(error)
    if isinstance(error, Exception):
        return f"{record(error).message}; {details_hint()}"
    return "it ended the program"


def _extra(point: EntryPoint, module: str) -> str | None:
    """The extra of the plugin's own distribution that brings a module."""
    if point.extras:
        return ",".join(point.extras)
    for requirement in (point.dist.requires if point.dist is not None else None) or ():
        match = _REQUIREMENT.match(requirement)
        if match is not None and _plain(match[1]) == _plain(module):
            return match[2]
    return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
