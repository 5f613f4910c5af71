"""States of one action, step after step: the same text as written in full, and proven all the same (L-S8)."""

from __future__ import annotations

from typing import Any, Self
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr, field_serializer, field_validator, model_validator

from wallet_actions.action import Action, Phase
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.clock import EPOCH
from wallet_actions.errors import InvariantError
from wallet_actions.registry import Kind
from wallet_actions.transition import Done, Transition

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


class Waiting(Phase):
    """Nothing is known yet."""


class Under(Phase):
    """As fields come: a secret, a set, something nested."""

    token: SecretStr
    marks: frozenset[str] = frozenset()
    counts: dict[str, int] = Field(default_factory=dict)


class Plain(Phase):
    """Nothing that JSON could change: such a phase is not read back before it is written."""

    text: str
    number: int = 0
    is_on: bool = False
    maybe: str | None = None


class Letter(Action[None, Plain], kind="letter"):
    """Of plain phases only."""

    name: str

    @property
    def id(self) -> str:
        return self.name or "none"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


class Parcel(Action[None, Waiting | Under], kind="parcel"):
    """Its parameters stand before and behind the phase in the text."""

    name: str
    phrase: str = ""
    weight: int = 0
    seal: SecretStr = SecretStr("")

    @property
    def id(self) -> str:
        return self.name or "none"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


class Bare(Action[None, Waiting | Under], kind="bare"):
    """All but the phase is derived: there is no parameter."""

    @property
    def id(self) -> str:
        return "bare"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


PHASES = st.one_of(
    st.just(Waiting()),
    st.builds(
        Under,
        token=TEXT.map(SecretStr),
        marks=st.frozensets(TEXT, max_size=4),
        counts=st.dictionaries(TEXT, st.integers(), max_size=3),
    ),
)


@given(st.lists(PHASES, min_size=1, max_size=5), TEXT, TEXT, st.integers())
def test_each_state_is_the_text_that_writing_it_in_full_gives(
    phases: list[Waiting | Under], name: str, phrase: str, weight: int
) -> None:
    """L-S8."""
    for action in (
        Parcel(name=name, phrase=phrase, weight=weight, seal=SecretStr(phrase), phase=phases[0]),
        Bare(phase=phases[0]),
    ):
        kind = Kind(type(action))
        writer = kind.writer()
        for phase in phases:
            at = action.at(phase)
            text = writer.encode(at)
            assert text == kind.encode(at)
            row = Checkpoint(*action.key, 0, 1, text, phase.tag, Status.RUNNING, EPOCH, EPOCH)
            assert kind.decode(row) == at


class Nested(Action[None, Waiting | Plain], kind="nested"):
    """Its parameters look like a state of its own."""

    a: dict[str, Any]
    z: dict[str, Any]

    @property
    def id(self) -> str:
        return "nested"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


@given(st.lists(PHASES, min_size=2, max_size=4), TEXT, TEXT, st.integers())
def test_what_was_read_back_is_written_on_as_in_full(
    phases: list[Waiting | Under], name: str, phrase: str, weight: int
) -> None:
    """L-S8: the parameters are taken from the text that the action was read from."""
    parcel = Parcel(name=name, phrase=phrase, weight=weight, seal=SecretStr(phrase), phase=phases[0])
    kind = Kind(Parcel)
    state = kind.encode(parcel)
    read = Parcel.model_validate_json(state)
    writer = kind.writer(read, state)

    assert writer.encode(read) == state
    for phase in phases[1:]:
        assert writer.encode(read.at(phase)) == kind.encode(parcel.at(phase))


@given(st.sampled_from(["a", "z"]), st.sampled_from([Waiting(), Plain(text="x")]))
def test_a_parameter_that_looks_like_the_phase_is_left_alone(where: str, phase: Waiting | Plain) -> None:
    """It may hold a copy of the phase, before the phase's own place or behind it."""
    kind = Kind(Nested)
    copy = {"phase": {**phase.model_dump(), "tag": phase.tag}}
    nested = Nested(**{"a": {}, "z": {}, where: copy}, phase=phase)
    state = kind.encode(nested)
    read = Nested.model_validate_json(state)
    writer = kind.writer(read, state)
    for number in range(2):
        moved = read.at(Plain(text="y", number=number))
        assert writer.encode(moved) == kind.encode(moved)


def test_a_text_of_older_code_is_not_cut_up() -> None:
    """The same schema version, but a phase without a field that has a default now, and keys in no order."""
    kind = Kind(Nested)
    state = (
        '{"z":{"phase":{"is_on":false,"maybe":null,"number":0,"tag":"plain","text":"x"}},"phase":{"text":"x"},"a":{}}'
    )
    read = Nested.model_validate_json(state.replace('{"text"', '{"tag":"plain","text"'))
    moved = read.at(Plain(text="y"))
    assert kind.writer(read, state).encode(moved) == kind.encode(moved)


class Drawn(Action[None, Waiting | Plain], kind="drawn"):
    """A parameter came later, with a default that is drawn."""

    nonce: str = Field(default_factory=lambda: uuid4().hex)
    seen: list[int] = Field(default_factory=list)

    @property
    def id(self) -> str:
        return "drawn"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_parameter_that_the_text_lacks_is_written(is_moved: bool) -> None:
    """What a peer was called with is what it is called with after a crash (L-D5)."""
    kind = Kind(Drawn)
    state = '{"phase":{"tag":"waiting"},"seen":[]}'
    read = Drawn.model_validate_json(state)
    following = read.at(Plain(text="x")) if is_moved else read
    text = kind.writer(read, state).encode(following)
    assert text == kind.encode(following)
    assert Drawn.model_validate_json(text) == following


@pytest.mark.parametrize("is_moved", [False, True])
def test_what_was_changed_in_place_is_written(is_moved: bool) -> None:
    kind = Kind(Drawn)
    state = kind.encode(Drawn(phase=Waiting()))
    read = Drawn.model_validate_json(state)
    read.seen.append(5)
    following = read.at(Plain(text="x")) if is_moved else read
    assert kind.writer(read, state).encode(following) == kind.encode(following)


class Around(Phase):
    """Its fields stand before the tag and behind it."""

    a: str
    z: int | None = None


class Before(Phase):
    """Its only field stands before the tag."""

    n: bool


class Placed(Action[None, Around | Before | Waiting], kind="placed"):
    """Of phases whose fields stand around the tag."""

    @property
    def id(self) -> str:
        return "placed"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


@given(st.one_of(st.builds(Around, a=TEXT, z=st.none() | st.integers()), st.builds(Before, n=st.booleans())))
def test_the_tag_stands_in_its_place(phase: Around | Before) -> None:
    """L-S8: keys are sorted."""
    placed = Placed(phase=phase)
    kind = Kind(Placed)
    writer = kind.writer()
    writer.encode(Placed(phase=Waiting()))
    assert writer.encode(placed) == kind.encode(placed)


class Lossy(Phase):
    """A field that does not read back as it was."""

    amount: int

    @field_serializer("amount")
    def _rounded(self, value: int) -> int:
        return value // 10 * 10


class Forgetful(Action[None, Waiting | Lossy], kind="forgetful"):
    """Passes through a phase that cannot be stored."""

    @property
    def id(self) -> str:
        return "one"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


def test_a_phase_that_does_not_read_back_is_found_at_any_step() -> None:
    writer = Kind(Forgetful).writer()
    action = Forgetful(phase=Waiting())
    writer.encode(action)
    writer.encode(action.at(Lossy(amount=20)))
    with pytest.raises(InvariantError, match=r"phase\.amount would not read back"):
        writer.encode(action.at(Lossy(amount=21)))


class Validated(Action[None, Waiting | Under], kind="validated"):
    """Its author checks the action as a whole."""

    limit: int

    @model_validator(mode="after")
    def _is_within(self) -> Self:
        if isinstance(self.phase, Under) and len(self.phase.marks) > self.limit:
            raise ValueError("too many marks")
        return self

    @property
    def id(self) -> str:
        return "one"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


class Watched(Action[None, Waiting | Under], kind="watched"):
    """Its author checks the phase from outside."""

    @field_validator("phase")
    @classmethod
    def _is_short(cls, phase: Waiting | Under) -> Waiting | Under:
        if isinstance(phase, Under) and phase.marks:
            raise ValueError("no marks here")
        return phase

    @property
    def id(self) -> str:
        return "one"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


@pytest.mark.parametrize("action", [Validated(limit=0, phase=Waiting()), Watched(phase=Waiting())], ids=["all", "one"])
def test_what_an_author_checks_from_outside_is_checked_at_every_step(action: Action[Any, Any, Any]) -> None:
    """An action that was put together past its own validators would never be read again."""
    writer = Kind(type(action)).writer()
    writer.encode(action)
    smuggled = action.model_copy(update={"phase": Under(token=SecretStr(""), marks=frozenset("a"))})
    with pytest.raises(InvariantError, match="its state cannot be stored"):
        writer.encode(smuggled)


@given(text=st.text(max_size=8), number=st.integers(), is_on=st.booleans(), maybe=st.none() | TEXT)
def test_a_plain_phase_is_written_as_any_other(text: str, number: int, is_on: bool, maybe: str | None) -> None:
    """L-S8: it reads back as it was, or is refused; the text is the same as written in full."""
    kind = Kind(Letter)
    writer = kind.writer()
    writer.encode(Letter(name="a", phase=Plain(text="")))
    letter = Letter(name="a", phase=Plain(text="")).model_copy(
        update={"phase": Plain.model_construct(text=text, number=number, is_on=is_on, maybe=maybe)}
    )
    try:
        written = kind.encode(letter)
    except InvariantError:
        with pytest.raises(InvariantError):
            writer.encode(letter)
    else:
        assert writer.encode(letter) == written
        assert Letter.model_validate_json(written) == letter


@pytest.mark.parametrize(
    "wrong", [{"text": 5}, {"text": None}, {"number": "5"}, {"number": 0.5}, {"is_on": 2}, {"maybe": 2.5}]
)
def test_a_plain_phase_that_was_made_past_its_checks_is_refused(wrong: dict[str, Any]) -> None:
    """L-S8: it is read back like any other."""
    writer = Kind(Letter).writer()
    letter = Letter(name="a", phase=Plain(text="x"))
    writer.encode(letter)
    fields = {"text": "x", "number": 0, "is_on": False, "maybe": None, **wrong}
    phase = Plain.model_construct(**fields)
    with pytest.raises(InvariantError):
        writer.encode(letter.model_copy(update={"phase": phase}))
