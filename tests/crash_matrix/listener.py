"""Two lives for tests of the zygote: one that dies before it listens, and one that listens."""

from __future__ import annotations

import os
import signal
from typing import Any

from tests.crash_matrix.zygote import Link


async def leave(order: dict[str, Any], link: Link) -> None:
    link.say("here")
    await link.hear()
    os.kill(os.getpid(), signal.SIGKILL)


async def listen(order: dict[str, Any], link: Link) -> None:
    link.say("here")
    link.say("heard", line=await link.hear())
