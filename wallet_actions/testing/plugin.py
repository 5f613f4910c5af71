"""The pytest plugin, found by pytest through its entry point: sweeps as tests, and fixtures for tests of actions.

    @pytest.mark.crash_sweep(world=BankWorld)
    def test_top_up():
        return TopUp(quote="q-1", amount=100, phase=Unpaid())

The function makes what is to be started; see `wallet_actions.testing.sweep.sweep` for what happens then, and for the
other arguments of the marker. One case alone is run with WALLET_ACTIONS_CASE in the environment.

Nothing but pytest is imported before somebody uses it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wallet_actions.testing.case import SweepReport
    from wallet_actions.testing.clock import FakeClock
    from wallet_actions.testing.fault_peer import FaultPeer
    from wallet_actions.testing.world import World

MARKER = "crash_sweep"
WORLD = "world"
FAKE_CLOCK = "fake_clock"
DOUBLE_DRIVE = "WALLET_ACTIONS_DOUBLE_DRIVE"
SEED = "WALLET_ACTIONS_SEED"

_reports = pytest.StashKey[list[tuple[str, "SweepReport", "Path | None"]]]()
_undo = pytest.StashKey[Callable[[], None]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say where the pages of failed sweeps go."""
    parser.getgroup("wallet_actions").addoption(
        "--crash-sweep-pages",
        metavar="DIR",
        default=None,
        help="where to write the HTML pages of crash sweeps that fail; by default into pytest's cache",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; with WALLET_ACTIONS_DOUBLE_DRIVE, have every executor take its steps twice."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(world, **options): crash what the function returns at every boundary, in fresh worlds; the options "
        "are those of wallet_actions.testing.sweep.sweep",
    )
    config.addinivalue_line("markers", f"{WORLD}(make=…): which world the fixture `world` makes")
    config.addinivalue_line(
        "markers",
        f"{FAKE_CLOCK}(seed, latency, jump, …): how the clock of the fixture `fake_clock` goes; see "
        "wallet_actions.testing.clock.FakeClock",
    )
    config.stash[_reports] = []
    if os.environ.get(DOUBLE_DRIVE):
        from wallet_actions.testing.double import install, is_switched_on

        if is_switched_on():
            config.stash[_undo] = install()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take back what was done to the executor."""
    undo = config.stash.get(_undo, None)
    if undo is not None:
        undo()


# Before the plugins that run coroutine functions look at them: a swept one is not to be run by them.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the sweep in place of each function that is marked."""
    for item in items:
        marker = item.get_closest_marker(MARKER)
        if marker is not None and isinstance(item, pytest.Function):
            item.obj = _swept(item, marker)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Tell of all sweeps, and show those that failed as tables."""
    reports = config.stash.get(_reports, [])
    if not reports:
        return
    terminalreporter.section("crash sweeps")
    for test, report, page in reports:
        head = str(report).partition("\n")[0]
        terminalreporter.write_line(f"{test}: {head}", red=not report.is_ok, green=report.is_ok)
        if page is not None:
            terminalreporter.write_line(_table(report, terminalreporter))
            terminalreporter.write_line(f"the timeline: {page}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where a test with a clock failed, tell the clock's seed and how to set it again."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined] # what pluggy sends
    seed = getattr(getattr(item, "funcargs", {}).get(FAKE_CLOCK), "seed", None)
    if report.failed and seed is not None:
        again = f"{SEED}={seed} pytest '{item.nodeid}'"
        report.sections.append((FAKE_CLOCK, f"its seed was {seed}; the same clock again: {again}"))


@pytest.fixture
def fake_clock(request: pytest.FixtureRequest) -> FakeClock:
    """A clock that steps on by itself once everybody waits; `set_wall` steps it back.

    Its seed is that in the environment's WALLET_ACTIONS_SEED, else another one each time; a test that fails tells it.
    The marker `fake_clock` takes what `FakeClock` takes, to have a clock that is late, or jumps.
    """
    from wallet_actions.testing.clock import FakeClock

    marker = request.node.get_closest_marker(FAKE_CLOCK)
    options: dict[str, Any] = dict(marker.kwargs) if marker is not None else {}
    if "seed" not in options:
        options["seed"] = _seed()
    return FakeClock(**{"auto": True, **options})


def _seed() -> int:
    chosen = os.environ.get(SEED, "").strip()
    try:
        return int(chosen) if chosen else secrets.randbelow(2**32)
    except ValueError:
        raise pytest.UsageError(f"{SEED} is a whole number, not {chosen!r}") from None


@pytest.fixture
def fault_peer() -> FaultPeer:
    """Wraps a peer so that one call goes wrong: `fault_peer(bank, FaultKind.ANSWER_LOST, at=2)`."""
    from wallet_actions.testing.fault_peer import FaultPeer

    return FaultPeer()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World[Any]]:
    """A fresh world, of the marker `world` or `crash_sweep`; closed afterwards, in an event loop of its own."""
    named = request.node.get_closest_marker(WORLD)
    swept = request.node.get_closest_marker(MARKER)
    if named is not None and "make" in named.kwargs:
        make = named.kwargs["make"]
    elif swept is not None:
        make = _world_of(swept)
    else:
        raise pytest.UsageError("the fixture `world` needs a marker: @pytest.mark.world(make=BankWorld)")
    made: World[Any] = make()
    yield made
    asyncio.run(made.close())


def _swept(item: pytest.Function, marker: pytest.Mark) -> Callable[..., None]:
    function = item.obj

    @functools.wraps(function)
    def run(**arguments: Any) -> None:
        from wallet_actions.testing.sweep import sweep

        # The world of the fixture is another one than those that are swept.
        takes_world = arguments.pop(WORLD, None) is not None
        options = {name: value for name, value in marker.kwargs.items() if name != WORLD}
        make = _maker(function, arguments, takes_world=takes_world)
        report = asyncio.run(sweep(make, _world_of(marker), **options))
        page = None if report.is_ok else _page(item, report)
        item.config.stash[_reports].append((item.nodeid, report, page))
        if page is not None:
            from wallet_actions.testing.report import command_for

            alone = command_for(report.failures[0].case, item.nodeid)
            pytest.fail(f"{report}\n\nthe first alone: {alone}\nthe timeline: {page}", pytrace=False)

    return run


def _maker(function: Callable[..., Any], arguments: dict[str, Any], *, takes_world: bool) -> Callable[..., Any]:
    if not arguments:
        return function  # as it is: another process can import it
    if takes_world:
        return lambda world: function(world=world, **arguments)
    return lambda: function(**arguments)


def _world_of(marker: pytest.Mark) -> Callable[[], World[Any]]:
    make = marker.kwargs.get(WORLD, marker.args[0] if marker.args else None)
    if not callable(make):
        raise pytest.UsageError("crash_sweep needs a world: @pytest.mark.crash_sweep(world=BankWorld)")
    found: Callable[[], World[Any]] = make
    return found


def _page(item: pytest.Function, report: SweepReport) -> Path:
    from wallet_actions.testing.report import write_page

    name = re.sub(r"[^\w.-]+", "-", item.nodeid).strip("-") + ".html"
    return write_page(report, _folder(item.config) / name, test=item.nodeid)


def _folder(config: pytest.Config) -> Path:
    chosen: str | None = config.getoption("--crash-sweep-pages")
    if chosen:
        return Path(chosen)
    cache = getattr(config, "cache", None)  # not there without pytest's cache provider
    if cache is not None:
        return Path(cache.mkdir(MARKER))
    return Path(tempfile.mkdtemp(prefix=f"{MARKER}_"))


def _table(report: SweepReport, terminalreporter: Any) -> str:
    try:
        from rich.console import Console
    except ImportError:
        return str(report)
    from wallet_actions.testing.report import print_report

    text = StringIO()
    print_report(report, Console(file=text, width=terminalreporter._tw.fullwidth))  # noqa: SLF001 it has no other
    return text.getvalue().rstrip()
