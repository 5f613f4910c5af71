"""What goes wrong with a mint for tests."""

from __future__ import annotations

from pathlib import Path


class MintError(Exception):
    """The mint could not be installed, started or spoken to; the message says why, with the end of its log."""


def tail(log: Path, lines: int = 20) -> str:
    """The end of a log file, indented; a sentence where there is none."""
    try:
        text = log.read_text(errors="replace").strip()
    except OSError:
        text = ""
    if not text:
        return "  (its log is empty)"
    return "\n".join(f"  {line[:300]}" for line in text.splitlines()[-lines:])
