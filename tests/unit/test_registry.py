"""Kinds, and reading what older code wrote (G9, L-U1, L-U2)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, Generic, Self, TypeVar

import pytest
from pydantic import BaseModel, Field, SecretBytes, SecretStr

from tests.actions import SECRET, Chore, Desk, Job, Open, Receipt, Sent, job, key_of
from wallet_actions.action import PERSISTED, Action, Phase, Upgrade
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.errors import CheckpointDecodeError, InvariantError, UsageError
from wallet_actions.registry import Kind, Registry
from wallet_actions.transition import Done, Transition

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def row(state: str | None, *, kind: str = "job", id: str = "a", schema_version: int = 1) -> Checkpoint:
    return Checkpoint(kind, id, 0, schema_version, state, "open", Status.RUNNING, NOW, NOW)


class Size(Enum):
    LARGE = 3


class Part(BaseModel):
    model_config = PERSISTED
    token: SecretStr
    raw: bytes


class Full(Phase):
    token: SecretStr
    seed: SecretBytes
    raw: bytes
    at: datetime
    after: timedelta
    fee: Decimal
    size: Size
    ids: frozenset[str]
    parts: tuple[Part, ...]
    by_name: dict[str, Part]
    maybe: Part | None = None


class Everything(Action[None, Open | Full], kind="everything"):
    name: str

    @property
    def id(self) -> str:
        return self.name

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


def full(ids: str = "abc") -> Everything:
    part = Part(token=SecretStr(SECRET), raw=b"\xfb\xff")
    return Everything(
        name="a",
        phase=Full(
            token=SecretStr(SECRET),
            seed=SecretBytes(bytes(range(200, 232))),
            raw=b"\x00\xff",
            at=datetime(2030, 1, 2, 3, 4, 5, 6, UTC),
            after=timedelta(seconds=1.5),
            fee=Decimal("0.10"),
            size=Size.LARGE,
            ids=frozenset(ids),
            parts=(part, part),
            by_name={"x": part},
        ),
    )


def test_every_sort_of_field_reads_back_as_it_was() -> None:
    kind = Kind(Everything)

    text = kind.encode(full())
    restored = kind.decode(row(text, kind="everything"))

    assert restored == full()
    assert isinstance(restored, Everything)
    assert isinstance(restored.phase, Full)
    assert restored.phase.token.get_secret_value() == SECRET
    assert kind.encode(restored) == text


def test_equal_actions_have_equal_text() -> None:
    kind = Kind(Everything)

    assert kind.encode(full("cab")) == kind.encode(full("abc"))


def test_the_state_names_its_phase() -> None:
    assert json.loads(Kind(Job).encode(job())) == {"amount": 1, "name": "a", "phase": {"tag": "open"}}


class Loose(Phase):
    """Fields whose first values survive, and whose later ones do not."""

    count: int | None = None
    raw: Any = None
    hidden: str = Field(default="", exclude=True)


class Careless(Action[None, Loose], kind="careless"):
    @property
    def id(self) -> str:
        return "a"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


@pytest.mark.parametrize(
    "fields",
    [
        {"raw": b"\xff"},
        {"raw": (1, 2)},
        {"raw": SecretStr(SECRET)},
        {"raw": NOW},
        {"raw": {1: 2}},
        {"raw": float("nan")},
        {"raw": object()},
        {"hidden": SECRET},
    ],
)
def test_a_field_that_does_not_survive_is_refused_at_once_also_when_it_comes_later(fields: dict[str, Any]) -> None:
    kind = Kind(Careless)
    kind.encode(Careless(phase=Loose()))

    with pytest.raises(InvariantError, match="careless a") as caught:
        kind.encode(Careless(phase=Loose(**fields)))

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("phase", [None, "sent", 5, SECRET, Receipt(amount=1), Loose(raw=SECRET)])
def test_a_phase_that_was_smuggled_in_is_refused_without_showing_it(phase: Any) -> None:
    smuggled = job().model_copy(update={"phase": phase})

    with warnings.catch_warnings(record=True, action="always") as told:  # noqa: SIM117 two subjects
        with pytest.raises(InvariantError) as caught:
            Kind(Job).encode(smuggled)

    assert SECRET not in str(caught.value)
    assert [str(warning.message) for warning in told if SECRET in str(warning.message)] == []


def test_a_parameter_that_was_smuggled_in_is_refused() -> None:
    with pytest.raises(InvariantError, match="job a"):
        Kind(Job).encode(job().model_copy(update={"amount": "many"}))


# Reading


@pytest.mark.parametrize(
    "state",
    [
        "",
        "{",
        "null",
        "[]",
        '{"name":"a","amount":1}',
        '{"name":"a","amount":1,"phase":{"tag":"nowhere"}}',
        '{"name":"a","amount":1,"phase":{"tag":"open"},"more":1}',
        '{"name":"a","amount":"tell-nobody","phase":{"tag":"open"}}',
        None,
    ],
)
def test_a_broken_state_is_kept_and_told_without_its_content(state: str | None) -> None:
    with pytest.raises(CheckpointDecodeError, match=r"job a .*kept as it is") as caught:
        Registry([Job]).decode(row(state))

    assert (caught.value.kind, caught.value.id) == ("job", "a")
    assert SECRET not in str(caught.value) + repr(caught.value)


def test_a_state_that_says_that_it_is_another_action_is_not_believed() -> None:
    state = Kind(Job).encode(job("b"))

    with pytest.raises(CheckpointDecodeError, match="says b"):
        Registry([Job]).decode(row(state, id="a"))


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(CheckpointDecodeError, match="not registered"):
        Registry([Job]).decode(row("{}", kind="lost"))


def test_newer_code_is_left_to_newer_code() -> None:
    with pytest.raises(CheckpointDecodeError, match="newer code"):
        Registry([Job]).decode(row(Kind(Job).encode(job()), schema_version=2))


class Fussy(Job, kind="fussy"):
    """Its id cannot always be told."""

    @property
    def id(self) -> str:
        return {"a": "a"}[self.name]


def test_an_id_that_raises_is_isolated_like_any_broken_state() -> None:
    """L-D12."""
    with pytest.raises(CheckpointDecodeError, match="fussy b"):
        Registry([Fussy]).decode(row('{"amount":1,"name":"b","phase":{"tag":"open"}}', kind="fussy", id="b"))


# Upgrades


class Third(Action[None, Open], kind="grown", schema_version=3):
    upgrades: ClassVar[Mapping[int, Upgrade]] = {
        1: lambda fields: {**fields, "name": fields["name"].lower()},
        2: lambda fields: {"title": fields["name"], "phase": fields["phase"]},
    }
    title: str

    @property
    def id(self) -> str:
        return self.title

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


@pytest.mark.parametrize(
    ("schema_version", "state"),
    [
        (1, '{"name":"A","phase":{"tag":"open"}}'),
        (2, '{"name":"a","phase":{"tag":"open"}}'),
        (3, '{"phase":{"tag":"open"},"title":"a"}'),
    ],
)
def test_every_legacy_shape_is_read(schema_version: int, state: str) -> None:
    """L-U1."""
    stored = row(state, kind="grown", schema_version=schema_version)

    assert Registry([Third]).decode(stored) == Third(title="a", phase=Open())


@pytest.mark.parametrize("state", ['{"phase":{"tag":"open"}}', "5", '{"name":5,"phase":{"tag":"open"}}', "{"])
def test_an_upgrade_that_raises_is_isolated(state: str) -> None:
    with pytest.raises(CheckpointDecodeError, match="grown a could not be upgraded"):
        Registry([Third]).decode(row(state, kind="grown", schema_version=1))


@pytest.mark.parametrize("schema_version", [0, -1])
def test_a_schema_version_that_never_was_is_told(schema_version: int) -> None:
    with pytest.raises(CheckpointDecodeError):
        Registry([Third]).decode(row("{}", kind="grown", schema_version=schema_version))


# Registering


def test_a_registry_knows_its_kinds() -> None:
    registry = Registry([Job, Chore])

    assert "job" in registry
    assert "lost" not in registry
    assert registry.of(job()).action_class is Job
    assert registry.named(key_of("a", "chore")).action_class is Chore


def test_two_classes_of_one_kind_are_refused() -> None:
    class Twin(Job):
        pass

    with pytest.raises(UsageError, match="two classes"):
        Registry([Job, Twin])
    with pytest.raises(UsageError, match="Twin is not registered"):
        Registry([Job]).of(Twin(name="a", phase=Open()))


@pytest.mark.parametrize("value", [5, None, "job", Open()])
def test_what_is_no_action_is_not_registered(value: Any) -> None:
    with pytest.raises(UsageError, match="not registered"):
        Registry([Job]).of(value)


def test_a_kind_without_a_name_is_refused() -> None:
    class Nameless(Action[None, Open]):
        @property
        def id(self) -> str:
            return "a"

        async def advance(self, wallet: None) -> Transition[Self]:
            return Done()

    with pytest.raises(UsageError, match="Nameless needs a kind"):
        Kind(Nameless)


def test_phases_that_cannot_be_told_apart_or_are_none_are_refused() -> None:
    def open_again() -> type[Phase]:
        class Open(Phase):
            note: int = 0

        return Open

    with warnings.catch_warnings(action="ignore"):

        class Tagged(Phase):
            tag: str = "x"  # type: ignore[misc]

    for phases, complaint in (
        (Open | open_again(), "two phases are called open"),
        (Open | int, "int is not a Phase"),
        (Receipt, "Receipt is not a Phase"),
        (Tagged, "tag"),
    ):
        bad = type("Bad", (Action[None, phases],), {}, kind="bad")  # type: ignore[valid-type]
        with pytest.raises(UsageError, match=complaint):
            Kind(bad)


def test_an_action_without_its_types_is_refused() -> None:
    PhaseT = TypeVar("PhaseT")

    class Untyped(Action):  # type: ignore[type-arg]
        kind = "untyped"

    class Open_(Action[Desk, PhaseT], Generic[PhaseT]):  # noqa: N801
        kind = "half"

    for bad in (Untyped, Open_):
        with pytest.raises(UsageError, match=r"needs its types|is not a Phase"):
            Kind(bad)


def test_a_gap_in_the_upgrades_is_refused() -> None:
    class Gap(Job, kind="gap", schema_version=3):
        upgrades: ClassVar[Mapping[int, Upgrade]] = {2: lambda fields: fields}

    with pytest.raises(UsageError, match=r"no upgrade from \[1\]"):
        Kind(Gap)


def test_a_schema_version_below_one_is_refused() -> None:
    class Zeroth(Job, kind="zeroth", schema_version=0):
        pass

    with pytest.raises(UsageError, match="schema version"):
        Kind(Zeroth)


def test_result_types_are_taken_from_the_class_line() -> None:
    assert Kind(Job).result.decode('{"amount":3,"token":""}') == Receipt(amount=3)
    assert Kind(Everything).result.decode("null") is None
    assert list(Kind(Job).phases) == ["open", "sent"]
    assert Kind(Job).phases["sent"] is Sent
