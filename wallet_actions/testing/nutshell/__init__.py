"""The real Nutshell mint with its FakeWallet backend, as a server for tests and demos.

It runs in a virtual environment of its own, because it pins versions that no wallet should have to live with, and is
reached over loopback only. POSIX systems.
"""

from wallet_actions.testing.nutshell.environment import ensure_environment
from wallet_actions.testing.nutshell.errors import MintError
from wallet_actions.testing.nutshell.mint import KeysetBalance, MintConfig, NutshellMint

__all__ = ["KeysetBalance", "MintConfig", "MintError", "NutshellMint", "ensure_environment"]
