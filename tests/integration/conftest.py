"""A real mint for every test that wants one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from wallet_actions.testing.nutshell import MintConfig, MintError, NutshellMint

# As `make` does: what is installed for the tests of a checkout stays in it.
os.environ.setdefault("WALLET_ACTIONS_CACHE", str(Path(__file__).parents[2] / ".cache"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for the session, as the shared mint lives through it."""
    return "asyncio"


@pytest.fixture(scope="session")
async def shared_mint() -> AsyncIterator[NutshellMint]:
    """The session's mint, without input fees. Ask for `mint` instead, unless a fixture needs the wider scope."""
    async with NutshellMint() as mint:
        yield mint


@pytest.fixture
async def mint(shared_mint: NutshellMint) -> AsyncIterator[NutshellMint]:
    """The session's mint; its settings are put back afterwards, and it runs again if the test left it dead."""
    yield shared_mint
    try:
        await shared_mint.reset()
    except MintError:
        await shared_mint.restart()


@pytest.fixture(scope="session")
async def shared_dear_mint() -> AsyncIterator[NutshellMint]:
    """Another mint of the session's. Ask for `dear_mint` instead."""
    async with NutshellMint(MintConfig(input_fee_ppk=100, keyset_version=1)) as mint:
        yield mint


@pytest.fixture
async def dear_mint(shared_dear_mint: NutshellMint) -> AsyncIterator[NutshellMint]:
    """With input fees, and keyset ids of version 1; its settings are put back afterwards."""
    yield shared_dear_mint
    await shared_dear_mint.reset()


@pytest.fixture
async def http(mint: NutshellMint) -> AsyncIterator[httpx.AsyncClient]:
    """A plain client of `mint`."""
    async with httpx.AsyncClient(base_url=mint.url, trust_env=False, timeout=10) as client:
        yield client
