"""Install the mint's environment, where it is missing: `python -m wallet_actions.testing.nutshell`."""

import sys

from wallet_actions.testing.nutshell.environment import ensure_environment
from wallet_actions.testing.nutshell.errors import MintError

if __name__ == "__main__":
    try:
        ensure_environment()
    except MintError as error:
        sys.exit(str(error))
