"""The replication slot: made with its exported view of the data, compared at each start, dropped at the end."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from cdcflow.engines.postgres.names import ident
from cdcflow.errors import OperatorError, PositionLost, SourceChanged, SourceUnavailable
from cdcflow.model.position import Checkpoint
from cdcflow.ops.logs import get_logger
from cdcflow.sources.postgres.config import Config
from cdcflow.sources.postgres.position import Lsn
from cdcflow.sources.postgres.sessions import Walsender

log = get_logger(__name__)

_RESYNC = "cdcflow resync --all"

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


def create(walsender: Walsender, name: str, version: int, *, temporary: bool, failover: bool) -> Exported:
    """Make a slot and export its view. Waits for every transaction that is running to end.

    Raises:
        OperatorError, AccessDenied: no free slot, wal_level is not logical, or the privilege is missing.
    """
    kind = " TEMPORARY" if temporary else ""
    if version >= _OPTIONS_VERSION:
        options = ["SNAPSHOT 'export'"]
        if failover and not temporary and version >= _FAILOVER_VERSION:
            options.append("FAILOVER true")
        tail = f"({', '.join(options)})"
    else:
        tail = "EXPORT_SNAPSHOT"
    (row,) = walsender.command(
        f"CREATE_REPLICATION_SLOT {ident(name)}{kind} LOGICAL pgoutput {tail}",
        lambda seconds: log.info(
            "waiting for transactions that were open before the slot", seconds=round(seconds), slot=name
        ),
    )
    position, snapshot = row["consistent_point"], row["snapshot_name"]
    assert position is not None
    assert snapshot is not None
    return Exported(Lsn.parse(position), snapshot)


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


def compare(
    connection: psycopg.Connection, config: Config, identity: dict[str, str], checkpoint: Checkpoint, address: str
) -> None:
    """See `model.ports.Source.resume`."""
    at = f"source {address}"
    name, position = config.slot_name, Lsn.parse(checkpoint.position)
    for what, words in (("system", "system identifier"), ("database", "database")):
        before, now = checkpoint.source.get(what), identity.get(what)
        if before and before != now:
            raise SourceChanged(
                f"the source is not the one that was copied: its {words} is {now}, the checkpoint's is {before}",
                at=at,
                why="positions of one server mean nothing in the log of another",
                do=f"correct the URL; or copy everything from this server: {_RESYNC}",
            )
    (end_text,) = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or ("0/0",)
    end = Lsn.parse(end_text)
    if not end.covers(position):
        raise SourceChanged(
            f"the source's log ends at {end}, before our checkpoint {position}",
            at=at,
            why="the server was restored or failed over to a copy that lacks what we have applied already",
            do=_RESYNC,
        )
    slot = find(connection, name)
    if slot is None:
        raise PositionLost(
            f'replication slot "{name}" does not exist',
            at=at,
            why=f"changes from {position} to {end} may no longer be in the log",
            do=_RESYNC,
        )
    if slot.plugin != "pgoutput" or slot.database != identity.get("database"):
        raise OperatorError(
            f'replication slot "{name}" is not ours',
            at=at,
            why=f"its plugin is {slot.plugin or 'none'}, its database {slot.database or 'none'}",
            do="name another slot in the configuration (`source: {slot: ..}`), or drop it; then " + _RESYNC,
        )
    if slot.lost:
        raise PositionLost(
            f'replication slot "{name}" was invalidated: {slot.lost}',
            at=at,
            why=f"changes behind {position} are no longer in the log; max_slot_wal_keep_size may be too small",
            do=_RESYNC,
        )
    if slot.confirmed is not None and not position.covers(slot.confirmed):
        raise PositionLost(
            f'replication slot "{name}" was recreated or moved since the last run'
            f" (its position {slot.confirmed} is past our checkpoint {position})",
            at=at,
            why="changes between the two are no longer in the log",
            do=_RESYNC,
        )
