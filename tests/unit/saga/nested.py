"""A saga with another one as its step."""

from __future__ import annotations

from tests.unit.saga.kit import A, B, C, D, E, Job, Shop, Work
from wallet_actions.saga import ChildStep, Context, Saga, SagaResult


class Inner(ChildStep[Shop, Job, SagaResult], name="inner"):
    def child(self, context: Context[Shop, Job]) -> Work:
        return Work.new(f"{context.saga_id}.inner", context.input, steps=["b", "c"])


class Outer(Saga[Shop, Job], kind="outer", steps=[A, Inner, D, E]):
    """Makes a, has b and c made, and makes d."""


def outer(job: Job) -> Outer:
    return Outer.new("s", job, steps=[A, Inner, D])


__all__ = ["B", "C", "Inner", "Outer", "outer"]
