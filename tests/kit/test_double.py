"""Each step taken twice (T6): silent on a step that can run again, and exact on one that cannot."""

from __future__ import annotations

import uuid
from typing import Any, Self

import pytest

from wallet_actions import Action, Changes, Coin, Done, Engine, Executor, Next, Phase, Store, Transition
from wallet_actions.checkpoint import Status
from wallet_actions.errors import NotFinishedError
from wallet_actions.testing.double import double_drive, install, is_switched_on
from wallet_actions.testing.life import Life
from wallet_actions.testing.twice import VARIABLE
from wallet_actions.testing.world import World
from wallet_actions_storage import MemoryStore

pytestmark = pytest.mark.anyio


class Asked(Phase): ...


class Sent(Phase):
    key: str


class Collect(Action[Store, Asked | Sent], kind="collect"):
    """Allocates in one step, and collects in the next; or draws a key that is new each time."""

    name: str
    is_random: bool = False

    @property
    def id(self) -> str:
        return self.name

    async def advance(self, wallet: Store) -> Transition[Self]:
        match self.phase:
            case Asked():
                number = await wallet.allocate("numbers", 2)
                key = uuid.uuid4().hex if self.is_random else f"{self.name}-{number}"
                return Next(self.at(Sent(key=key)))
            case Sent(key=key):
                coin = Coin(id=f"{key}/1", account="bank", unit="sat", amount=5, payload="secret-payload")
                return Done(changes=Changes(add=[coin]))


class Desk(World[Store]):
    kinds = (Collect,)

    def wallet(self, life: Life, store: Store) -> Store:
        return store


def well() -> Collect:
    return Collect(name="a", phase=Asked())


def badly() -> Collect:
    return Collect(name="a", is_random=True, phase=Asked())


async def test_a_step_that_can_run_again_is_passed_over() -> None:
    report = await double_drive(well, Desk)

    assert report.is_ok, report
    assert report.steps == 2


async def test_a_key_that_is_drawn_anew_is_found_in_its_step() -> None:
    """L-S6."""
    report = await double_drive(badly, Desk)

    assert [difference.step for difference in report.differences] == ["Collect in asked"]
    assert "key=" in str(report)
    assert "the second time" in str(report)


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("yes", True), ("0", False), ("false", False), ("", False)])
async def test_the_environment_switches_it_on_for_every_world(
    value: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    world = Desk()

    async with world.process(Life()) as executor:
        await executor.start(badly())
        result = await executor.drive(badly().key)

    assert is_switched_on() is is_on
    assert result.status is (Status.STUCK if is_on else Status.DONE)


async def test_every_engine_of_the_process_can_be_made_to_do_it() -> None:
    """Concurrent actions keep their allocations apart, and a second store does too."""
    take_back = install()
    try:
        async with MemoryStore() as store, Engine(store, store, [Collect]) as engine:
            names = [f"n{number}" for number in range(20)]
            for name in names:
                await engine.start(Collect(name=name, phase=Asked()))
            for name in names:
                await engine.result(Collect, name)
            await engine.start(badly())
            with pytest.raises(NotFinishedError, match="Collect in asked came to two different ends"):
                await engine.result(Collect, "a")
            coins: list[Any] = list(await store.coins())
    finally:
        take_back()

    assert len({coin.id.rsplit("-", 1)[-1] for coin in coins}) == len(names)
    assert Executor.__init__.__qualname__ == "Executor.__init__"
