"""Every code block of the README runs as it stands, one after the other, in one folder, as a reader would do it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mnemonic import Mnemonic

from wallet_actions.testing.nutshell import NutshellMint

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.anyio]


@dataclass(frozen=True)
class Block:
    """One fenced block: its language and its text."""

    language: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [Block(language, text) for language, text in found]


def run(block: Block, folder: Path, environment: dict[str, str]) -> str:
    match block.language:
        case "python":
            command = [sys.executable, "-W", "error", "-c", block.text]
        case "sh":
            command = ["sh", "-e", "-c", block.text]
        case other:
            pytest.fail(f"a block of the language {other!r} is not run by anything")
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


async def test_blocks_of_the_readme_run(tmp_path: Path) -> None:
    blocks = blocks_of(ROOT / "README.md")
    async with NutshellMint() as mint:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        words = Mnemonic("english").generate()
        environment = {**os.environ, "PATH": path, "MINT_URL": mint.url, "MNEMONIC": words}
        outputs = [run(block, tmp_path, environment) for block in blocks]
        assert await mint.outstanding() == 100

    own_action, cashu, inside = outputs
    assert own_action.startswith("100 ")
    assert "spendable=100" in cashu
    assert "top_up" in inside
    assert words.split()[0] not in own_action + inside
