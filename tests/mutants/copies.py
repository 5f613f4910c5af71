"""Where a mutant runs: a copy of the packages and of the tests, put first on the path and checked to be what runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.mutants.copy_guard import WRONG_CODE

ROOT = Path(__file__).resolve().parents[2]
NO_TESTS = 5
GUARD = "tests.mutants.copy_guard"


class Verdict(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    HUNG = "hung"
    SURVIVED = "survived"


class RunError(Exception):
    """A run says nothing about the code: it could not start, or ran other code."""


@dataclass(frozen=True, slots=True)
class Run:
    """How the tests ended.

    Attributes:
        output: what pytest said last.
    """

    verdict: Verdict
    output: str
    seconds: float


class Copy:
    """A copy of the repository, as far as the engine's tests need it.

    Args:
        folder: where it is made.
        seed: of the property tests.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self._seed = seed
        # The cache of bytecode goes by the seconds of a file's time, so each change takes a time of its own.
        self._clock_s = int(time.time()) - 100_000_000
        for name in ("wallet_actions", "storage", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.pyc"))
        shutil.copy(ROOT / "pyproject.toml", folder)

    def read(self, path: str) -> str:
        """A file's text, without a bug."""
        return (self.folder / path).read_text()

    def run(self, tests: tuple[str, ...], timeout_s: float, *, path: str | None = None, text: str = "") -> Run:
        """Run tests, with other text in one file if a path is given.

        Raises:
            RunError: the tests did not run, or not against the copy.
        """
        if path is None:
            return self._run(tests, timeout_s)
        original = self.read(path)
        try:
            self._write(path, text)
            return self._run(tests, timeout_s)
        finally:
            self._write(path, original)

    def _write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.write_text(text)
        self._clock_s += 1
        os.utime(file, (self._clock_s, self._clock_s))

    def _run(self, tests: tuple[str, ...], timeout_s: float) -> Run:
        files = [name for pattern in tests for name in self._files(pattern)]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            "-p",
            GUARD,
        ]
        command += [f"--timeout={timeout_s / 2:.0f}", f"--hypothesis-seed={self._seed}", "--tb=line", *files]
        path = os.pathsep.join(str(self.folder / name) for name in (".", "storage"))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": str(self._seed % 2**32)}
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._end(process)
            return Run(Verdict.HUNG, "no end", time.monotonic() - began)
        except BaseException:
            self._end(process)
            raise
        seconds = time.monotonic() - began
        if process.returncode == 0:
            return Run(Verdict.SURVIVED, output, seconds)
        if process.returncode in (WRONG_CODE, NO_TESTS):
            raise RunError(output)
        return Run(Verdict.HUNG if "Failed: Timeout" in output else Verdict.KILLED, output, seconds)

    def _files(self, pattern: str) -> list[str]:
        found = sorted(self.folder.glob(pattern))
        if not found:
            raise RunError(f"there are no tests {pattern}")
        return [str(file.relative_to(self.folder)) for file in found]

    def _end(self, process: subprocess.Popen[str]) -> None:
        """End the tests and what they started: all of it is in their own group."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
