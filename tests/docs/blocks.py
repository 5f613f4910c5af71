"""The code blocks of a page, run as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Block:
    """One fenced block: its language and its text."""

    language: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [Block(language, text) for language, text in found]


def run(block: Block, folder: Path, extra: Mapping[str, str] | None = None) -> str:
    """Run a block in a folder; what it prints.

    Python that begins with `# name.py` is saved under that name. A `console` block is a command after `$`, and what it
    prints, in order; … stands for anything, and the status is what the words say it is.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **(extra or {})}
    if block.language == "python" and (name := re.match(r"# (\w+\.py)\n", block.text)):
        (folder / name[1]).write_text(block.text)
        return ""
    if block.language == "console":
        return _talk(block, folder, environment)
    match block.language:
        case "python":
            command = [sys.executable, "-W", "error", "-c", block.text]
        case "sh":
            command = ["sh", "-e", "-c", block.text]
        case other:
            pytest.fail(f"a block of the language {other!r} is not run by anything")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _talk(block: Block, folder: Path, environment: Mapping[str, str]) -> str:
    command, *expected = block.text.splitlines()
    done = subprocess.run(
        ["sh", "-c", command.removeprefix("$ ")],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    rest = done.stdout
    for line in expected:
        for words in filter(None, (part.strip() for part in line.split("…"))):
            assert words in rest, f"{command}\ndoes not say: {line}\n{done.stdout}\n{done.stderr}"
            rest = rest.partition(words)[2]
    return done.stdout
