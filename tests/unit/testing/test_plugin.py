"""The pytest plugin, in runs of pytest of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import rich.console

# Loaded here once: what is loaded inside of a run of pytest is forgotten with it.
from wallet_actions.testing import double, durable, fault_peer, report, sweep

LOADED = (double, durable, fault_peer, report, sweep, rich.console)

pytest_plugins = ["pytester"]

PLUGIN = "wallet_actions.testing.plugin"
IS_INSTALLED = any(point.value == PLUGIN for point in entry_points(group="pytest11"))

BANK = """
from collections import Counter
from typing import Self

from pydantic import BaseModel

from wallet_actions import Action, Changes, Coin, Done, Next, Phase, Transition
from wallet_actions.testing.world import World


class Bank:
    def __init__(self):
        self.effects = Counter()

    async def collect(self, quote):
        self.effects[quote] = 1
        return [Coin(id=f"{quote}/1", account="bank", unit="sat", amount=100, payload="bearer")]

    async def collect_anew(self, quote):
        self.effects[quote] += 1
        return [Coin(id=f"{quote}/{self.effects[quote]}", account="bank", unit="sat", amount=100, payload="bearer")]


class Wallet:
    def __init__(self, bank):
        self.bank = bank


class Unpaid(Phase): ...


class Paid(Phase): ...


class TopUp(Action[Wallet, Unpaid | Paid], kind="top_up"):
    quote: str

    @property
    def id(self) -> str:
        return self.quote

    async def advance(self, wallet: Wallet) -> Transition[Self, None]:
        match self.phase:
            case Unpaid():
                return Next(self.at(Paid()))
            case Paid():
                return Done(changes=Changes(add=await self.collect(wallet)))

    async def collect(self, wallet):
        return await wallet.bank.collect(self.quote)


class Forgetful(TopUp, kind="forgetful"):
    async def collect(self, wallet):
        return await wallet.bank.collect_anew(self.quote)


class BankWorld(World[Wallet]):
    kinds = [TopUp, Forgetful]

    def __init__(self):
        super().__init__()
        self.bank = Bank()

    def wallet(self, life, store):
        return Wallet(life.peer(self.bank, "bank"))

    async def owed(self):
        return {("bank", "sat"): 100 * self.bank.effects.total()}

    def effects(self):
        return self.bank.effects

    def secrets(self):
        return ["bearer"]
"""


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("WALLET_ACTIONS_CASE", raising=False)
    pytester.makepyfile(bank=BANK)
    pytester.syspathinsert()

    def go(test: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=test)
        plugin = () if IS_INSTALLED else ("-p", PLUGIN)
        return pytester.runpytest_inprocess("-Werror", "--strict-markers", *plugin, *arguments)

    return go


SWEPT = """
    import pytest
    from bank import *

    @pytest.mark.crash_sweep(world=BankWorld)
    def test_top_up():
        return {action}(quote="q", phase=Unpaid())
"""


def test_a_right_action_passes_and_is_told_of(run: Run) -> None:
    result = run(SWEPT.format(action="TopUp"))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*= crash sweeps =*", "test_it.py::test_top_up: top_up: * cases over 8 boundaries, 0 failed"]
    )


def test_a_wrong_action_fails_with_the_report_and_a_page(run: Run, pytester: pytest.Pytester) -> None:
    result = run(SWEPT.format(action="Forgetful"))
    result.assert_outcomes(failed=1)
    assert "Captured log" not in str(result.stdout), "a sweep logs thousands of lines"
    result.stdout.fnmatch_lines(
        [
            "forgetful: * failed",
            "*violated: q had 2 effects at the peer",
            '*run it alone: WALLET_ACTIONS_CASE="exception@*',
            """the first alone: WALLET_ACTIONS_CASE="exception@*" pytest 'test_it.py::test_top_up'""",
            "the timeline: *.html",
        ]
    )
    (page,) = (pytester.path / ".pytest_cache" / "d" / "crash_sweep").glob("*.html")
    text = page.read_text()
    assert "q had 2 effects at the peer" in text
    assert "pytest &#x27;test_it.py::test_top_up&#x27;" in text
    assert "bearer" not in text


def test_the_pages_go_where_they_are_wanted(run: Run, pytester: pytest.Pytester) -> None:
    run(SWEPT.format(action="Forgetful"), "--crash-sweep-pages=pages", "-pno:cacheprovider").assert_outcomes(failed=1)
    assert [page.name for page in (pytester.path / "pages").iterdir()] == ["test_it.py-test_top_up.html"]
    result = run(SWEPT.format(action="Forgetful"), "-pno:cacheprovider")
    result.stdout.fnmatch_lines(["the timeline: */crash_sweep_*/test_it.py-test_top_up.html"])


def test_one_case_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_ACTIONS_CASE", "exception@6+exception@2")
    result = run(SWEPT.format(action="TopUp"))
    result.stdout.fnmatch_lines(["*top_up: 1 cases over 8 boundaries, 0 failed"])
    monkeypatch.setenv("WALLET_ACTIONS_CASE", "earthquake")
    result = run(SWEPT.format(action="TopUp"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UsageError: 'earthquake' is not a case such as*"])


def test_options_fixtures_and_async_functions(run: Run) -> None:
    """anyio's own plugin runs coroutine functions; a swept one is not to be run by it."""
    result = run(
        """
        import pytest
        from bank import *

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture(scope="module")
        def quote():
            return "from a fixture"

        @pytest.mark.crash_sweep(BankWorld, has_pairs=False, has_faults=False, has_incidents=False)
        async def test_async(quote):
            return TopUp(quote=quote, phase=Unpaid())

        @pytest.mark.crash_sweep(BankWorld, has_pairs=False)
        async def test_with_its_world(world, quote):
            assert isinstance(world, BankWorld) and not world.bank.effects
            return [TopUp(quote=quote, phase=Unpaid())]

        async def test_another():
            pass

        class TestClass:
            @pytest.mark.crash_sweep(BankWorld, has_pairs=False)
            def test_method(self):
                return TopUp(quote="q", phase=Unpaid())
        """
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*::test_async: top_up: 16 cases over 8 boundaries, 0 failed"])


def test_a_marker_without_a_world_is_a_mistake(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.crash_sweep
        def test_it():
            return None

        def test_world(world):
            pass
        """
    )
    result.stdout.fnmatch_lines(["*crash_sweep needs a world: @pytest.mark.crash_sweep(world=BankWorld)*"])
    result.stdout.fnmatch_lines(["*the fixture `world` needs a marker: @pytest.mark.world(make=BankWorld)*"])


def test_fixtures_alone(run: Run) -> None:
    result = run(
        """
        import pytest
        from datetime import timedelta
        from bank import *
        from wallet_actions.testing.life import FaultKind

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def test_clock(fake_clock):
            before = fake_clock.now()
            await fake_clock.sleep(timedelta(days=1))
            assert fake_clock.now() - before == timedelta(days=1)

        async def test_peer(fault_peer):
            bank = Bank()
            faulty = fault_peer(bank, FaultKind.ANSWER_LOST, at=2, name="bank")
            await faulty.collect("a")
            with pytest.raises(ConnectionResetError):
                await faulty.collect("b")
            await faulty.collect("c")
            assert sorted(bank.effects) == ["a", "b", "c"]
            late = fault_peer(bank.collect_anew, FaultKind.DUPLICATED_LATE)
            await late("d")
            assert bank.effects["d"] == 1
            await fault_peer.settle()
            assert bank.effects["d"] == 2
            assert [b.name for b in fault_peer.lives[0].boundaries if b.moment == "before"] == ["bank.collect"] * 3

        @pytest.mark.world(make=BankWorld)
        def test_world(world):
            assert world.effects() == {}
        """
    )
    result.assert_outcomes(passed=3)


def test_the_clocks_seed_is_told_and_can_be_set_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """T5, T10: another one each time; a test that fails says which, and with it the clock goes the same way again."""
    test = """
        import asyncio
        import pytest
        from datetime import timedelta

        def test_with_a_clock(fake_clock):
            start = fake_clock.now()
            print("began at", start.isoformat())
            assert not start.microsecond, "tomorrow perhaps"

        @pytest.mark.fake_clock(jump=timedelta(days=2))
        def test_with_a_clock_that_jumps(fake_clock):
            async def run():
                before = fake_clock.now()
                for _ in range(20):
                    await fake_clock.sleep(timedelta(hours=1))
                    assert fake_clock.now() > before
                    before = fake_clock.now()

            asyncio.run(run())

        def test_without():
            assert False
    """

    def told(result: pytest.RunResult) -> list[str]:
        return [line for line in result.outlines if line.startswith(("began at", "its seed was"))]

    first, second = told(run(test)), told(run(test))
    seed = int(first[1].removeprefix("its seed was ").partition(";")[0])
    assert len(first) == 3, "a start, and a seed for each of the two with a clock"
    assert first[1].endswith(f"WALLET_ACTIONS_SEED={seed} pytest 'test_it.py::test_with_a_clock'")
    assert first[0] != second[0]

    monkeypatch.setenv("WALLET_ACTIONS_SEED", str(seed))
    again = told(run(test))
    assert again[:2] == first[:2]
    monkeypatch.setenv("WALLET_ACTIONS_SEED", "seven")
    run(test).stdout.fnmatch_lines(["*UsageError: WALLET_ACTIONS_SEED is a whole number, not 'seven'*"])


def test_processes_that_are_killed(run: Run) -> None:
    """SIGKILL: the test's own function is what other processes import."""
    test = """
        import json
        import pytest
        from bank import *
        from wallet_actions.testing.durable import DurableWorld
        from wallet_actions.testing.life import CrashKind

        class FileBank(Bank):
            def __init__(self, file):
                self.file = file
                self.effects = Counter(json.loads(file.read_text()) if file.exists() else {{}})

            async def collect(self, quote):
                coins = await super().collect(quote)
                self.file.write_text(json.dumps(self.effects))
                return coins

        class FileWorld(DurableWorld):
            kinds = [TopUp]

            def __init__(self, folder=None):
                super().__init__(folder)

            def wallet(self, life, store):
                return Wallet(life.peer(FileBank(self.folder / "bank.json"), "bank"))

            def effects(self):
                return FileBank(self.folder / "bank.json").effects

        @pytest.mark.crash_sweep(FileWorld, crashes=[CrashKind.SIGKILL], sample=4)
        def test_killed({arguments}):
            return TopUp(quote="q", phase=Unpaid())
    """
    run(test.format(arguments="world")).assert_outcomes(passed=1)
    result = run(test.format(arguments="tmp_path"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UsageError: SIGKILL needs a function that makes the actions*"])


def test_every_executor_takes_its_steps_twice_where_the_environment_says_so(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from wallet_actions.executor import Executor

    test = """
        import anyio
        from bank import *
        from wallet_actions.engine import Engine

        def test_engine():
            async def run():
                bank = Bank()
                async with Engine("memory://", Wallet(bank), [Forgetful]) as engine:
                    await engine.start(Forgetful(quote="q", phase=Unpaid()))
                    await engine.drive(Forgetful, "q")
                    print("effects:", bank.effects["q"])

            anyio.run(run)
    """
    before = Executor.__init__
    for value, effects in (("1", 2), ("0", 1), ("", 1)):
        monkeypatch.setenv("WALLET_ACTIONS_DOUBLE_DRIVE", value)
        run(test, "-s").stdout.fnmatch_lines([f"*effects: {effects}*"])
        assert Executor.__init__ is before


def test_it_is_light_and_says_nothing_where_nobody_asks(tmp_path: Path) -> None:
    """No module of the kit is imported, but for the plugin's own."""
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n"
        "def test_nothing():\n"
        "    kit = {name for name in sys.modules if name.startswith('wallet_actions.testing.')}\n"
        f"    assert kit == {{{PLUGIN!r}}}, kit\n"
        "    assert not {'httpx', 'h11', 'rich', 'hypothesis', 'wallet_actions_storage'} & set(sys.modules)\n"
    )
    plugin = [] if IS_INSTALLED else ["-p", PLUGIN]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-Werror",
            "-pno:anyio",
            "-pno:hypothesispytest",
            *plugin,
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
    assert "crash sweeps" not in done.stdout
