"""Phases that read back as they were by themselves: their fields are texts, integers and truth values, or are missing.

Most phases are such. To write one takes neither pydantic nor a proof, only a look at each value's type.
"""

from __future__ import annotations

from collections.abc import Callable
from json.encoder import encode_basestring
from types import NoneType, UnionType
from typing import Any, Self, get_args

from wallet_actions.action import Phase
from wallet_actions.codec import canonical_json

_LARGEST = 2**63 - 1
_WORDS = {True: "true", False: "false", None: "null"}


def _text(value: Any) -> str | None:
    return encode_basestring(value) if value.isascii() else None


def _integer(value: Any) -> str | None:
    return str(value) if -_LARGEST <= value <= _LARGEST else None


_WRITERS: dict[type, Callable[[Any], str | None]] = {
    str: _text,
    int: _integer,
    bool: _WORDS.__getitem__,
    NoneType: _WORDS.__getitem__,
}
"""By the type of a value that is the same once it was JSON, what writes it; None where it is too long, or not ASCII."""


class EvidentPhase:
    """How a class of such phases is written, as canonical JSON."""

    def __init__(self, tag: str, fields: dict[str, frozenset[type]]) -> None:
        self._size = len(fields)
        self._fields: list[tuple[str, str, dict[type, Callable[[Any], str | None]]]] = []
        before = "{"
        for name in sorted((*fields, "tag")):
            if name == "tag":
                before += f'"tag":{canonical_json(tag)}'
            else:
                before += f"{canonical_json(name)}:"
                self._fields.append((before, name, {one: _WRITERS[one] for one in fields[name]}))
                before = ""
            before += ","
        self._end = f"{before[:-1]}}}"

    @classmethod
    def of(cls, phase: type[Phase]) -> Self | None:
        """How a class is written; None where its phases hold more, or an author's code has a say."""
        authors = phase.__pydantic_decorators__
        checks = authors.model_validators.keys() - Phase.__pydantic_decorators__.model_validators.keys()
        groups = (authors.validators, authors.root_validators, authors.field_validators, authors.field_serializers)
        groups_of_all = (*groups, authors.model_serializers, authors.computed_fields)
        if checks or any(groups_of_all) or phase.model_config != Phase.model_config or phase.__private_attributes__:
            return None
        if phase.model_dump is not Phase.model_dump or phase.model_post_init is not Phase.model_post_init:
            return None
        known: dict[str, frozenset[type]] = {}
        for name, field in phase.model_fields.items():
            types: tuple[Any, ...] = (field.annotation,)
            if isinstance(field.annotation, UnionType):
                types = get_args(field.annotation)
            is_special = field.metadata or field.alias or field.validation_alias or field.exclude or field.discriminator
            if is_special or len(set(types) - {NoneType}) != 1 or not set(types) <= _WRITERS.keys():
                return None
            known[name] = frozenset(types)
        return cls(phase.tag, known)

    def encode(self, phase: Phase) -> str | None:
        """Write a phase; None where a value is none of which it is evident that it reads back."""
        fields = phase.__dict__
        if len(fields) != self._size:
            return None
        text = ""
        for before, name, writers in self._fields:
            value = fields[name]
            write = writers.get(type(value))
            written = None if write is None else write(value)
            if written is None:
                return None
            text += before + written
        return text + self._end
