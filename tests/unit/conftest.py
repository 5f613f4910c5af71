"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.actions import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """An engine's parts on an empty memory, with a clock that stands still."""
    async with Rig() as rig:
        yield rig
