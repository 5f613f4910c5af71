# ruff: noqa: S608 - what is put together are constants and a schema's name that was checked; values are parameters
"""The schema: numbered SQL files, run in one transaction under a lock, however many stores open at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

import asyncpg

from wallet_actions.errors import SchemaError
from wallet_actions_storage.postgres.failures import LostError, state_of
from wallet_actions_storage.postgres.session import Session

_FAULT_CLASSES = ("08", "40", "53", "55", "57", "58", "25")


_TABLES = (
    "SELECT c.relname::text FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = $1 AND c.relname IN ('wa_migrations', 'wa_actions')"
)


class Migration(NamedTuple):
    """One step of the schema.

    Attributes:
        version: the schema's version once it has run; the first is 1.
        name: the file's name.
        sql: its text, with `{schema}` for the schema's name.
    """

    version: int
    name: str
    sql: str


def load_migrations(folder: Traversable | None = None) -> Sequence[Migration]:
    """Read the numbered SQL files of a folder, ours by default.

    Raises:
        SchemaError: the numbers are not 1, 2, 3, …
    """
    folder = folder or files("wallet_actions_storage.postgres.migrations")
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    migrations = [Migration(int(entry.name.partition("_")[0]), entry.name, entry.read_text("utf-8")) for entry in found]
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise SchemaError("the migrations are not numbered 0001, 0002, …")
    return migrations


async def schema_version(session: Session, schema: str) -> int:
    """The version of the schema in the database, 0 where it is not there.

    Raises:
        SchemaError: tables of another program have our names.
    """
    # From the catalog's tables: a server's process remembers what it once did not find by name.
    tables = {row[0] for row in await session.fetch(_TABLES, schema)}
    if "wa_migrations" not in tables:
        if "wa_actions" in tables:
            raise SchemaError(f"the schema {schema} has tables of another program; give the store one of its own")
        return 0
    ((version,),) = await session.fetch(f"SELECT coalesce(max(version), 0) FROM {schema}.wa_migrations")
    found: int = version
    return found


def check_version(version: int, newest: int, schema: str, *, is_read_only: bool = False) -> None:
    """Refuse a schema that is newer than this code, or, where nothing may be written, not the newest.

    Raises:
        SchemaError: see above.
    """
    if version > newest:
        raise SchemaError(
            f"the schema {schema} has version {version}, and this code knows versions up to {newest}: use a newer"
            " release"
        )
    if is_read_only and version < newest:
        raise SchemaError(
            f"the schema {schema} has version {version}, and this code needs {newest}: open it with the app once"
        )


async def read_version(session: Session, schema: str, newest: int, *, is_read_only: bool = False) -> int:
    """The same, checked, in a transaction of its own."""
    await session.begin()
    try:
        version = await schema_version(session, schema)
    finally:
        await session.roll_back()
    check_version(version, newest, schema, is_read_only=is_read_only)
    return version


async def migrate(session: Session, schema: str, migrations: Sequence[Migration]) -> None:
    """Bring a database to the present schema: all of the steps that are missing, or none.

    Raises:
        SchemaError: not ours, newer than this code, or a step failed and was rolled back.
        LostError, asyncpg.PostgresError: the database failed.
    """
    newest = len(migrations)
    key = int.from_bytes(hashlib.sha256(f"wallet_actions {schema}".encode()).digest()[:7], "big")
    refusal: SchemaError | None = None
    if await read_version(session, schema, newest) == newest:
        return
    await session.begin()
    try:
        # Another store may be at it: wait for it, and look again.
        await session.fetch("SELECT pg_advisory_xact_lock($1)", key)
        version = await schema_version(session, schema)
        check_version(version, newest, schema)
        for migration in migrations[version:]:
            refusal = await _apply(session, schema, migration)
            if refusal is not None:
                break
        else:
            await session.execute("COMMIT")
    finally:
        await session.roll_back()
    if refusal is not None:
        raise refusal


async def _apply(session: Session, schema: str, migration: Migration) -> SchemaError | None:
    try:
        if migration.version == 1:
            if not await session.fetch("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1", schema):
                await session.execute(f"CREATE SCHEMA {schema}")
            await session.execute(
                f"CREATE TABLE {schema}.wa_migrations ("
                "version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"
            )
        await session.execute(migration.sql.replace("{schema}", schema))
        await session.fetch(
            f"INSERT INTO {schema}.wa_migrations (version, name, applied_at) VALUES ($1, $2, now())",
            migration.version,
            migration.name,
        )
    except LostError:
        raise
    except asyncpg.PostgresError as error:
        if state_of(error).startswith(_FAULT_CLASSES):
            raise
        return SchemaError(
            f"the schema {schema} stays as it was: its migration {migration.name} failed ({state_of(error)})"
        )
    return None
