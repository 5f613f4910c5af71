"""The mint's own virtual environment: built once, found again by a hash of what is in it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from wallet_actions.testing.nutshell.errors import MintError, tail

PACKAGE = Path(__file__).parent
REQUIREMENTS = "requirements.txt"
COMPLETE = ("--no-deps", "--ignore-requires-python")


def cache_folder() -> Path:
    """Where environments are kept: `WALLET_ACTIONS_CACHE`, else `~/.cache/wallet_actions`."""
    named = os.environ.get("WALLET_ACTIONS_CACHE")
    return Path(named).absolute() if named else Path.home() / ".cache" / "wallet_actions"


def ensure_environment(cache: Path | None = None, *, say: Callable[[str], object] | None = None) -> Path:
    """Build the mint's environment unless it is there already.

    Takes about half a minute and 200 MB the first time. Processes that ask at the same time wait for one of them to
    build it; a build that was interrupted is begun anew.

    Args:
        cache: the folder to keep it in; default `cache_folder()`.
        say: is given a line before the wait begins; default standard error.
    Returns:
        The interpreter that can import `cashu`.
    Raises:
        MintError: the environment cannot be built; the message ends with what the installer said.
    """
    folder = (cache or cache_folder()) / f"nutshell-{_digest()}"
    interpreter = folder / "bin" / "python"
    if _is_ready(folder, interpreter):
        return interpreter
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_ready(folder, interpreter):
            (say or _to_stderr)(f"Installing the Nutshell mint into {folder} (once, about half a minute) …")
            _build(folder, interpreter)
    return interpreter


def _digest() -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]} {platform.machine()}".encode())
    digest.update((PACKAGE / REQUIREMENTS).read_bytes())
    return digest.hexdigest()[:16]


def _is_ready(folder: Path, interpreter: Path) -> bool:
    # The stamp holds the path, because the scripts of an environment that was moved point at its old place.
    stamp = folder / "ready"
    return stamp.is_file() and stamp.read_text() == str(folder) and interpreter.exists()


def _build(folder: Path, interpreter: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    log = folder.with_suffix(".log")
    # Constraints in the user's own configuration of pip were made for other projects; the variable displaces them.
    environment = os.environ | {"PIP_CONSTRAINT": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(interpreter), "-I", "-m", "pip", "install", "-q", *COMPLETE, "-r", REQUIREMENTS],
    ):
        with log.open("w") as output:
            done = subprocess.run(  # noqa: S603 - a fixed command of ours
                command,
                cwd=PACKAGE,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        if done.returncode != 0:
            raise MintError(f"The mint's environment could not be installed into {folder}:\n{tail(log)}")
    (folder / "ready").write_text(str(folder))


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
