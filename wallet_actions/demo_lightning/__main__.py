"""`make demo-lightning`: watch a wallet being killed while it pays, and count its money afterwards."""

from __future__ import annotations

import asyncio
import sys

from wallet_actions.demo_lightning.process import ChildError
from wallet_actions.demo_lightning.scenario import Demo, Row


def _show(row: Row) -> None:
    how = "killed" if row.kills == 1 else f"killed {row.kills}×" if row.kills else "not killed"
    what = ", ".join(row.recovery) or "nothing was left to do"
    _say(f"{row.point.ending:6} {how}: {row.point.label} → {what}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the demo.

    Returns:
        The exit status: 0 only if nothing was lost and nothing is left unfinished.
    """
    _say("Each line is one wallet process killed with SIGKILL while it paid, and the processes that came after it.")
    try:
        report = asyncio.run(Demo(on_row=_show).run())
    except ChildError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    _say(f"the wallet owns {report.owned} msat, {report.reserved} of it held; the node says {report.balance} msat")
    for label in report.missed:
        _say(f"Nothing was killed at this point, so it proves nothing: {label}")
    _say(f"demo: {report.kills} kills, {report.lost_sat} sat lost, {report.unfinished} actions unfinished")
    return 0 if report.lost_sat == 0 and report.unfinished == 0 and not report.missed else 1


if __name__ == "__main__":
    sys.exit(main())
