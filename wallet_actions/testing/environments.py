"""Virtual environments of their own for what must not come into the product's: built once, kept in the cache."""

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


class EnvironmentMissingError(Exception):
    """An environment could not be built; the message ends with what the installer said."""


def ensure(name: str, requirements: Path) -> Path:
    """Build an environment unless it is there already. Processes that ask at the same time wait for one to build it.

    Args:
        name: of it, for people and for its folder.
        requirements: all that is to be installed, with exact versions: nothing that they depend on is added.
    Returns:
        Its interpreter.
    Raises:
        EnvironmentMissingError: see there.
    """
    digest = hashlib.sha256(f"{sys.version_info[:2]} {platform.machine()}".encode() + requirements.read_bytes())
    folder = cache_folder() / f"{name}-{digest.hexdigest()[:16]}"
    interpreter, stamp = folder / "bin" / "python", folder / "ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The stamp holds the path, because the scripts of an environment that was moved point at its old place.
        if not (stamp.is_file() and stamp.read_text() == str(folder) and interpreter.exists()):
            sys.stderr.write(f"Installing {name} into {folder} (once, about a minute) …\n")
            shutil.rmtree(folder, ignore_errors=True)
            _build(name, folder, interpreter, requirements)
            stamp.write_text(str(folder))
    return interpreter


def _build(name: str, folder: Path, interpreter: Path, requirements: Path) -> None:
    # Constraints in the user's own configuration of pip were made for other projects; the variable displaces them.
    environment = os.environ | {"PIP_CONSTRAINT": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(interpreter), "-I", "-m", "pip", "install", "-q", "--no-deps", "-r", str(requirements)],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 fixed
        if done.returncode != 0:
            said = (done.stdout + done.stderr)[-800:]
            raise EnvironmentMissingError(f"{name} could not be installed into {folder}:\n{said}")
