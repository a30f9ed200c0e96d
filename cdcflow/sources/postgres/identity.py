"""Who the source is, and whether a checkpoint still belongs to it: server, history, publication and slot."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from cdcflow.errors import CdcflowError, OperatorError, PositionLost, SourceChanged
from cdcflow.sources.postgres import publication, slot
from cdcflow.sources.postgres.config import Config
from cdcflow.sources.postgres.position import Lsn
from cdcflow.sources.postgres.sessions import Sessions
from cdcflow.sources.postgres.slot import Slot

_RESYNC = "cdcflow resync --all"


def current(sessions: Sessions, config: Config) -> dict[str, str]:
    """Return what a checkpoint remembers of its source.

    `publications` are object numbers: a publication that was dropped and made again has another one.
    """
    walsender = sessions.walsender()
    try:
        (row,) = walsender.command("IDENTIFY_SYSTEM")
    finally:
        walsender.close()
    with sessions.sql() as connection:
        numbers = _numbers(connection, config)
    return {
        "engine": "postgresql",
        "system": row["systemid"] or "",
        "database": row["dbname"] or "",
        "timeline": row["timeline"] or "",
        "slot": config.slot_name,
        "publications": numbers,
    }


def compare(
    sessions: Sessions, config: Config, before: Mapping[str, str], now: Mapping[str, str], position: Lsn
) -> None:
    """See `model.ports.Source.resume`.

    Args:
        before: what the checkpoint remembers of the source; what it lacks is not compared.
        now: who the source is (`current`).

    Raises:
        PositionLost, SourceChanged, OperatorError: the log cannot go on from `position`.
    """
    at = f"source {sessions.address}"
    for what, words in (("system", "system identifier"), ("database", "database")):
        if before.get(what) and before[what] != now.get(what):
            raise SourceChanged(
                f"the source is not the one that was copied: its {words} is {now.get(what)}, ours was {before[what]}",
                at=at,
                why="positions of one server mean nothing in the log of another",
                do=f"correct the URL; or copy everything from this server: {_RESYNC}",
            )
    with sessions.sql() as connection:
        end = _end(connection)
        if not end.covers(position):
            raise SourceChanged(
                f"the source's log ends at {end}, before our checkpoint {position}",
                at=at,
                why="the server was restored or failed over to a copy that lacks what we have applied already",
                do=_RESYNC,
            )
        found = slot.find(connection, config.slot_name)
        if found is None:
            raise PositionLost(
                f'replication slot "{config.slot_name}" does not exist',
                at=at,
                why=f"changes from {position} to {end} may no longer be in the log",
                do=_RESYNC,
            )
        _same_history(sessions, before, now, position, found)
        _usable(config, found, now, position, at)
        _same_publications(connection, config, before, at)


def _usable(config: Config, found: Slot, now: Mapping[str, str], position: Lsn, at: str) -> None:
    name = config.slot_name
    if found.plugin != "pgoutput" or found.database != now.get("database"):
        raise OperatorError(
            f'replication slot "{name}" is not ours',
            at=at,
            why=f"its plugin is {found.plugin or 'none'}, its database {found.database or 'none'}",
            do=f"name another slot in the configuration (`source: {{slot: ..}}`), or drop it; then {_RESYNC}",
        )
    if found.lost:
        raise PositionLost(
            f'replication slot "{name}" was invalidated: {found.lost}',
            at=at,
            why=f"changes behind {position} are no longer in the log; max_slot_wal_keep_size may be too small",
            do=_RESYNC,
        )
    if found.confirmed is not None and not position.covers(found.confirmed):
        raise PositionLost(
            f'replication slot "{name}" was recreated or moved since the last run'
            f" (its position {found.confirmed} is past our checkpoint {position})",
            at=at,
            why="changes between the two are no longer in the log",
            do=_RESYNC,
        )


def _same_history(
    sessions: Sessions, before: Mapping[str, str], now: Mapping[str, str], position: Lsn, found: Slot
) -> None:
    """Raise SourceChanged where a failover left out what was applied already.

    A promoted standby begins a new timeline at a switch point. What we applied from behind that point of the old
    one has never happened here. A slot that was confirmed behind the point was so by us, on the new timeline.
    """
    then, today = before.get("timeline", ""), now.get("timeline", "")
    if not then or then == today:
        return
    ended = _history(sessions, today).get(then)
    if ended is not None and ended.covers(position):
        return
    if ended is not None and found.confirmed is not None and not ended.covers(found.confirmed):
        return
    where = f"left it at {ended}, before our checkpoint {position}" if ended else f"never was on timeline {then}"
    raise SourceChanged(
        f"the source has another history: it is on timeline {today} and {where}",
        at=f"source {sessions.address}",
        why="a failover lost transactions that were applied to the target already",
        do=_RESYNC,
    )


def _history(sessions: Sessions, timeline: str) -> dict[str, Lsn]:
    """Return where the server left each earlier timeline (lines of `timeline <tab> position <tab> reason`)."""
    walsender = sessions.walsender()
    try:
        rows = walsender.command(f"TIMELINE_HISTORY {int(timeline)}")
    except CdcflowError:
        return {}  # its file is gone from pg_wal
    finally:
        walsender.close()
    ended = {}
    for line in (rows[0].get("content") or "").splitlines() if rows else ():
        parts = line.split()
        if len(parts) >= 2 and parts[0].isdigit():
            ended[parts[0]] = Lsn.parse(parts[1])
    return ended


def _same_publications(connection: psycopg.Connection, config: Config, before: Mapping[str, str], at: str) -> None:
    there = publication.existing(connection, config)
    for name in config.publications:
        if name not in there:
            raise PositionLost(
                f'publication "{name}" does not exist',
                at=at,
                why="changes that are made without it are not in what the slot sends",
                do=_RESYNC,
            )
    then, now = before.get("publications"), _numbers(connection, config)
    if then and then != now:
        raise PositionLost(
            f'publication "{config.publications[0]}" was dropped and made again since the last run',
            at=at,
            why="changes that were made while it was not there are not in what the slot sends",
            do=_RESYNC,
        )


def _numbers(connection: psycopg.Connection, config: Config) -> str:
    return " ".join(map(str, publication.numbers(connection, config)))


def _end(connection: psycopg.Connection) -> Lsn:
    row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return Lsn.parse(row[0])
