"""A real PostgreSQL for tests: of the machine, of a URL, or of PyPI."""

from wallet_actions.testing.postgres.binaries import PostgresMissingError, find_binaries
from wallet_actions.testing.postgres.server import PostgresServer

__all__ = ["PostgresMissingError", "PostgresServer", "find_binaries"]
