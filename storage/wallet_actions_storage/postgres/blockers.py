"""Ends connections that died in the middle of a message while they held rows of ours.

A server that has been told to execute and not yet to finish (a segment of a batch was lost, a process was stopped as
it sent) waits for the rest with its transaction open, and its time-outs do not run then: none for an idle transaction,
which begins only after the message, and none for a statement, since that is done. Its rows stay locked until TCP gives
the connection up, hours later, or never behind a proxy that answers. So whoever is locked out ends it: whatever it
wrote is rolled back, and its writer, should it live, finds that out as with any other lost connection.
"""

from __future__ import annotations

from contextlib import suppress

import asyncpg

from wallet_actions_storage.postgres.failures import LostError
from wallet_actions_storage.postgres.session import Session

_END = """
SELECT pg_terminate_backend(b.pid)
FROM pg_stat_activity AS b
WHERE b.datname = current_database() AND b.usename = current_user AND b.pid <> pg_backend_pid()
  AND b.state = 'active' AND b.wait_event = 'ClientRead' AND b.query NOT ILIKE 'copy%'
  AND b.query_start < clock_timestamp() - make_interval(secs => $1::float8)
  AND EXISTS (
    SELECT 1 FROM pg_locks AS l
    JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE l.pid = b.pid AND l.granted AND l.mode = 'RowExclusiveLock'
      AND n.nspname = $2 AND c.relname IN ('wa_actions', 'wa_writers'))
"""


async def end_blockers(session: Session, schema: str, patience_s: float) -> int:
    """End what has waited for the rest of its message longer than anybody's patience, with rows of ours in hand.

    Never an app's open transaction, which waits between messages, nor one that is at work. A server that does not let
    us, or knows no such views, is left as it is.

    Returns:
        How many were ended.
    """
    with suppress(LostError, asyncpg.PostgresError):
        return sum(bool(row[0]) for row in await session.fetch(_END, patience_s, schema))
    return 0
