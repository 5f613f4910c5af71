"""The peers' virtual environment: built once, found again by a hash of what is in it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from wallet_actions.testing.nutshell.environment import cache_folder

REQUIREMENTS = Path(__file__).parent / "requirements.txt"


class PeersMissingError(Exception):
    """The environment could not be built; the message ends with what the installer said."""


def ensure_environment() -> Path:
    """Build the peers' environment unless it is there already; about a minute and 600 MB the first time.

    Returns:
        Its interpreter.

    Raises:
        PeersMissingError: see there.
    """
    digest = hashlib.sha256(f"{sys.version_info[:2]} {platform.machine()}".encode() + REQUIREMENTS.read_bytes())
    folder = cache_folder() / f"peers-{digest.hexdigest()[:16]}"
    interpreter, stamp = folder / "bin" / "python", folder / "ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.is_file() and stamp.read_text() == str(folder) and interpreter.exists()):
            print(f"Installing the peers into {folder} (once, about a minute) …", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            # Constraints in the user's own configuration of pip were made for other projects.
            environment = os.environ | {"PIP_CONSTRAINT": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            for command in (
                [sys.executable, "-m", "venv", str(folder)],
                [str(interpreter), "-I", "-m", "pip", "install", "-q", "--no-deps", "-r", str(REQUIREMENTS)],
            ):
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    raise PeersMissingError(f"the peers could not be installed:\n{(done.stdout + done.stderr)[-800:]}")
            stamp.write_text(str(folder))
    return interpreter
