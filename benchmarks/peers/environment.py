"""The peers' virtual environment."""

from __future__ import annotations

from pathlib import Path

from wallet_actions.testing.environments import EnvironmentMissingError, ensure

REQUIREMENTS = Path(__file__).parent / "requirements.txt"

PeersMissingError = EnvironmentMissingError


def ensure_environment() -> Path:
    """Build the peers' environment unless it is there already; about a minute and 600 MB the first time.

    Returns:
        Its interpreter.

    Raises:
        PeersMissingError: see there.
    """
    return ensure("peers", REQUIREMENTS)
