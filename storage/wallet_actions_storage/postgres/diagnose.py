"""Looking a database over; writes nothing."""

from __future__ import annotations

from wallet_actions.store import Diagnosis
from wallet_actions_storage.postgres.reads import Read
from wallet_actions_storage.postgres.settings import Settings

OLDEST_SERVER = 140000
_SERVER = (
    "SELECT current_setting('server_version_num')::integer, current_setting('server_version'),"
    " current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on'"
)
_INDEXES = (
    "SELECT count(*) FROM pg_index JOIN pg_class AS c ON c.oid = indrelid"
    " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = '{schema}' AND NOT indisvalid"
)
_VERSION = "SELECT max(version) FROM {schema}.wa_migrations"
_PAST = (
    "SELECT count(*) FROM (SELECT 1 FROM {schema}.wa_coins WHERE state = 'reserved' AND NOT EXISTS ("
    " SELECT 1 FROM {schema}.wa_actions AS a WHERE a.kind = holder_kind AND a.id = holder_id AND a.ended_at IS NULL)"
    " LIMIT 1000) AS orphans"
)


async def diagnose(read: Read, settings: Settings, newest: int) -> list[Diagnosis]:
    """See `Store.diagnose`."""
    ((number, version, is_flushing, is_whole),) = await read(_SERVER)
    ((broken,),) = await read(_INDEXES)
    ((schema_version,),) = await read(_VERSION)
    ((orphans,),) = await read(_PAST)
    return [
        Diagnosis(number >= OLDEST_SERVER, "server", f"PostgreSQL {version}", "" if number >= OLDEST_SERVER else "14"),
        _durability(is_flushing, is_whole),
        Diagnosis(
            schema_version == newest,
            "schema",
            f"schema {settings.schema}, version {schema_version} of {newest}",
            "" if schema_version == newest else "open it with the newest release once",
        ),
        Diagnosis(
            broken == 0,
            "integrity",
            "every index is valid" if broken == 0 else f"{broken} indexes are not valid",
            "" if broken == 0 else f"REINDEX SCHEMA CONCURRENTLY {settings.schema}",
        ),
        Diagnosis(
            orphans == 0,
            "coins",
            "every reserved coin has its action" if orphans == 0 else f"{orphans} reserved coins have no action",
            "" if orphans == 0 else "look at them, then release them",
        ),
    ]


def _durability(is_flushing: bool, is_whole: bool) -> Diagnosis:
    if is_flushing and is_whole:
        return Diagnosis(True, "durability", "commits are flushed")
    # Not this store's to judge: it is the server's, and may be meant, as for tests.
    return Diagnosis(
        True,
        "durability",
        "the server does not flush: a crash of its machine may lose commits, or all",
        "for money, set fsync and full_page_writes on",
    )
