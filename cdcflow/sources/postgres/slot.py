"""The replication slot: made with its exported view of the data, compared at each start, dropped at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Literal

import psycopg

from cdcflow.engines.postgres.names import ident
from cdcflow.errors import ConfigError, SourceUnavailable
from cdcflow.sources.postgres.position import Lsn
from cdcflow.sources.postgres.sessions import Walsender

# Parenthesised options came with 15, FAILOVER with 17.
_OPTIONS_VERSION, _FAILOVER_VERSION = 150000, 170000


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot as pg_replication_slots shows it."""

    plugin: str
    database: str
    active_pid: int | None
    confirmed: Lsn | None
    restart: Lsn | None
    lost: str  # why its log is gone, '' where it is not


@dataclass(frozen=True, slots=True)
class Exported:
    """A view that other sessions may import for as long as the walsender lives."""

    position: Lsn
    snapshot: str


def find(connection: psycopg.Connection, name: str) -> Slot | None:
    """Return the slot, None where there is none of that name."""
    row = connection.execute("SELECT to_jsonb(s) FROM pg_replication_slots s WHERE slot_name = %s", [name]).fetchone()
    if row is None:
        return None
    found = row[0]
    lost = ""
    if found.get("wal_status") == "lost":
        lost = found.get("invalidation_reason") or "the server removed log that it still needed"
    elif found.get("invalidation_reason"):
        lost = str(found["invalidation_reason"])
    return Slot(
        found["plugin"] or "",
        found["database"] or "",
        found["active_pid"],
        Lsn.parse(found["confirmed_flush_lsn"]) if found["confirmed_flush_lsn"] else None,
        Lsn.parse(found["restart_lsn"]) if found["restart_lsn"] else None,
        lost,
    )


def create(
    walsender: Walsender,
    name: str,
    version: int,
    *,
    temporary: bool,
    failover: bool | Literal["auto"],
    waiting: Callable[[float], None] | None = None,
    ended: Event | None = None,
) -> Exported:
    """Make a slot and export its view. Waits for every transaction that is running to end.

    Args:
        version: the server's, as in `server_version_num`.
        waiting: told now and then for how many seconds it has waited.
        ended: when set, it is given up, and no slot is left.

    Raises:
        SourceUnavailable: `ended` was set.
        OperatorError, AccessDenied: no free slot, wal_level is not logical, or the privilege is missing.
        ConfigError: a failover slot is wanted of a server that knows none.
    """
    if failover is True and version < _FAILOVER_VERSION:
        raise ConfigError(
            "the source cannot keep a slot across a failover",
            at="source: failover",
            why=f"it is PostgreSQL {version // 10000}; failover slots came with 17",
            do="failover: auto",
        )
    kind = " TEMPORARY" if temporary else ""
    if version >= _OPTIONS_VERSION:
        options = ["SNAPSHOT 'export'"]
        if failover and not temporary and version >= _FAILOVER_VERSION:
            options.append("FAILOVER true")
        tail = f"({', '.join(options)})"
    else:
        tail = "EXPORT_SNAPSHOT"
    (row,) = walsender.command(f"CREATE_REPLICATION_SLOT {ident(name)}{kind} LOGICAL pgoutput {tail}", waiting, ended)
    position, snapshot = row["consistent_point"], row["snapshot_name"]
    assert position is not None
    assert snapshot is not None
    return Exported(Lsn.parse(position), snapshot)


def oldest(connection: psycopg.Connection) -> int | None:
    """Return the process whose open transaction a new slot has to wait for the longest, None where there is none."""
    row = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start LIMIT 1"
    ).fetchone()
    return row[0] if row else None


def drop(connection: psycopg.Connection, name: str, address: str) -> list[str]:
    """Drop the slot where it is there; return what was dropped.

    Raises:
        SourceUnavailable: somebody is still using it.
    """
    slot = find(connection, name)
    if slot is None:
        return []
    if slot.active_pid is not None:
        raise in_use(name, slot.active_pid, address)
    connection.execute("SELECT pg_drop_replication_slot(%s)", [name])
    return [f'replication slot "{name}"']


def in_use(name: str, pid: int, address: str) -> SourceUnavailable:
    """Return the error for a slot that another connection holds."""
    return SourceUnavailable(
        f'replication slot "{name}" is in use by process {pid} of the server',
        at=f"source {address}",
        why="another instance is reading from it, or the server has not noticed that one is gone",
        do=f"stop the other instance; or SELECT pg_terminate_backend({pid}) at the source",
    )
