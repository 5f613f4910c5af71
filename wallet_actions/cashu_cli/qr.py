"""QR codes in the terminal: two modules to a character."""

from __future__ import annotations

import sys
from typing import Final

from rich.text import Text

from wallet_actions.ops.failures import CommandError
from wallet_actions.ops.terminal import console, width

QUIET: Final = 2
"""Light modules around the code; half of what the standard asks for, which cameras do with."""

_BLOCKS: Final = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}


def show_qr(text: str, *, is_wanted: bool) -> None:
    """Print a QR code where there is a terminal that it fits, or where it was asked for.

    Args:
        is_wanted: asked for: also into a file, and however wide the terminal is.
    Raises:
        CommandError: it was asked for and cannot be made.
    """
    if not (is_wanted or sys.stdout.isatty()):
        return
    lines = qr_lines(text)
    if lines is None:
        if is_wanted:
            raise CommandError('no QR code: the text is too long for one, or segno is missing ("wallet-actions[cli]")')
        return
    if not is_wanted and len(lines[0]) > width():
        return
    for line in lines:
        # Light on dark, whatever the terminal's colours are: a code with the two exchanged is not read by every camera.
        console().print(Text(line, style="bright_white on black"), soft_wrap=True)


def qr_lines(text: str) -> list[str] | None:
    """The code as lines of half blocks, light modules drawn.

    Returns:
        None where the text is too long for any code, or the package is not installed.
    """
    try:
        import segno
    except ModuleNotFoundError:
        return None
    try:
        matrix = segno.make(text, error="l", micro=False).matrix
    except segno.DataOverflowError:
        return None
    side = len(matrix) + 2 * QUIET

    def is_light(row: int, column: int) -> bool:
        row, column = row - QUIET, column - QUIET
        is_inside = 0 <= row < len(matrix) and 0 <= column < len(matrix)
        return not (is_inside and matrix[row][column])

    return [
        "".join(_BLOCKS[is_light(row, column), row + 1 < side and is_light(row + 1, column)] for column in range(side))
        for row in range(0, side, 2)
    ]
