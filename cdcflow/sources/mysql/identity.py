"""Who the source is, and whether its binary log can go on from a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.engines.mysql.errors import RESYNC
from cdcflow.errors import OperatorError, PositionLost, SourceChanged
from cdcflow.ops.logs import get_logger
from cdcflow.sources.mysql.gtids import MariadbGtids, MysqlGtids
from cdcflow.sources.mysql.log_end import (
    end_position,
    events,
    has_gtids,
    log_files,
    mariadb_gtids_at,
    next_gtid,
    rows,
    server_name,
    start_position,
)
from cdcflow.sources.mysql.position import Binlog, file_number

__all__ = ["compare", "current", "end_position", "identity", "log_files", "require_rows", "start_position"]

_RESET: Final = "RESET BINARY LOGS AND GTIDS (RESET MASTER), or the server was made anew"
_LIST: Final = re.compile(r"\[(.*)\]", re.DOTALL)
# Characters of a GTID set that a message shows. The log has the rest.
_SHOWN: Final = 1_000

log = get_logger(__name__)


def identity(connection: Connection, flavour: Flavour) -> dict[str, str]:
    """Return what a checkpoint remembers of its source. `server` is what `Binlog.server` holds."""
    return {
        "engine": flavour.engine,
        "server": server_name(connection, flavour),
        "version": ".".join(map(str, flavour.version)),
        "gtid_mode": "ON" if has_gtids(connection, flavour) else "OFF",
    }


current = identity


def require_rows(connection: Connection, at: str) -> None:
    """Raise OperatorError where sessions write statements into the log unless they ask for rows (MariaDB's default)."""
    for _, value in rows(connection, "SHOW GLOBAL VARIABLES LIKE 'binlog_format'"):
        if str(value).upper() != "ROW":
            raise OperatorError(
                f"the source's log holds statements, not rows: binlog_format = {value}",
                at=at,
                why="what a statement did to which rows cannot be known from its text",
                do="SET GLOBAL binlog_format = 'ROW' (and in the server's configuration), and reconnect open sessions",
            )


def compare(
    connection: Connection,
    flavour: Flavour,
    before: Mapping[str, str],
    now: Mapping[str, str],
    position: Binlog,
    at: str,
) -> None:
    """See `model.ports.Source.resume`: nothing is read of the log before this has passed.

    Args:
        before: what the checkpoint remembers of the source; what it lacks is not compared.
        now: who the source is (`identity`).
        position: the checkpoint's.
        at: where, for messages.

    Raises:
        PositionLost, SourceChanged: the log cannot go on from `position`. And pymysql's errors.
    """
    if before.get("engine") and before["engine"] != now["engine"]:
        raise SourceChanged(
            f"the source is not the one that was copied: it is {now['engine']}, ours was {before['engine']}",
            at=at,
            why="positions of one engine mean nothing in the log of another",
            do=f"correct the URL; or copy everything from this server: {RESYNC}",
        )
    same = position.server == now["server"]
    if isinstance(position.gtids, MysqlGtids) and now["gtid_mode"] == "ON":
        _mysql_gtids(connection, position, position.gtids, same, at)
    elif isinstance(position.gtids, MariadbGtids) and flavour.engine == "mariadb":
        _mariadb_gtids(connection, position, position.gtids, same, at)
    elif same:
        _file(connection, position, at)
    else:
        raise SourceChanged(
            f"the source is another server: {now['server']}, ours was {position.server}",
            at=at,
            why="without GTIDs there is no telling where in its log our place would be",
            do=f"correct the URL; or gtid_mode=ON at the source; or copy everything from this server: {RESYNC}",
        )


def _mysql_gtids(connection: Connection, position: Binlog, gtids: MysqlGtids, same: bool, at: str) -> None:
    ((executed, purged),) = rows(connection, "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged")
    missing = gtids.minus(MysqlGtids.parse(str(executed)))
    if missing and same:
        raise PositionLost(
            f"the source's log no longer has what was applied already: {_shown(str(missing))}",
            at=at,
            why=f"its history was reset: {_RESET}; or it lost its last transactions in a crash (sync_binlog)",
            do=RESYNC,
        )
    if missing:
        raise SourceChanged(
            f"the source lacks transactions that were applied already: {_shown(str(missing))}",
            at=at,
            why="it is another server than before: a replica that had not caught up, or one with other data",
            do=f"point source.url at a server that has them; or {RESYNC}",
        )
    gone = MysqlGtids.parse(str(purged)).minus(gtids)
    if gone:
        raise PositionLost(
            f"the source's log no longer has transactions that follow the checkpoint: {_shown(str(gone))}",
            at=at,
            why="they were purged (PURGE BINARY LOGS, binlog_expire_logs_seconds) before they were read",
            do=f"{RESYNC}; and let the source keep its log for longer: SET PERSIST binlog_expire_logs_seconds = ...",
        )
    if same and _began_anew(connection, position):
        raise PositionLost(
            f"the source's log was reset since the last run: {position.file} at {position.offset} is not ours any more",
            at=at,
            why=f"{_RESET}; its transactions have the numbers of others that were applied already",
            do=RESYNC,
        )


def _began_anew(connection: Connection, position: Binlog) -> bool:
    """Return whether the place that we know holds something else now, though the numbers say that all is well.

    A file that is gone says nothing (it may have been purged), unless the numbering began again below it.
    """
    files = log_files(connection)
    if position.file not in files:
        ours = file_number(position.file)
        newest = file_number(list(files)[-1]) if files else None
        return ours is not None and newest is not None and newest[0] == ours[0] and newest[1] < ours[1]
    if files[position.file] < position.offset:
        return True
    found = events(connection, position.file, offset=position.offset)
    if found is None:
        return True
    following = next_gtid(found[0]) if found else None
    assert isinstance(position.gtids, MysqlGtids)
    return following is not None and position.gtids.contains(*following)


def _mariadb_gtids(connection: Connection, position: Binlog, gtids: MariadbGtids, same: bool, at: str) -> None:
    ((state,),) = rows(connection, "SELECT @@GLOBAL.gtid_binlog_state")
    logged = _by_server(str(state))
    missing = [
        f"{domain}-{server}-{number}"
        for domain, (server, number) in sorted(gtids.domains.items())
        if logged.get((domain, server), -1) < number
    ]
    if missing:
        raise (PositionLost if same else SourceChanged)(
            f"the source's log does not hold what was applied already: {_shown(', '.join(missing))}",
            at=at,
            why=f"its history was reset: {_RESET}; or it lost its last transactions in a crash (sync_binlog)"
            if same
            else "it is another server than before, with other data, or one without log_slave_updates",
            do=f"point source.url at a server that has them; or {RESYNC}",
        )
    files = log_files(connection)
    oldest = next(iter(files), "")
    began = _gtid_list(connection, oldest) if oldest else {}
    gone = [
        f"{domain}-{server}-{number}"
        for (domain, server), number in sorted(began.items())
        if gtids.domains.get(domain, (0, -1))[1] < number
    ]
    if gone:
        raise PositionLost(
            f"the source's log no longer has transactions that follow the checkpoint: up to {_shown(', '.join(gone))}",
            at=at,
            why=f"they were purged (PURGE BINARY LOGS, expire_logs_days) before they were read; ours ends at {gtids}",
            do=f"{RESYNC}; and let the source keep its log for longer: SET GLOBAL binlog_expire_logs_seconds = ...",
        )
    if same and position.file in files and mariadb_gtids_at(connection, position.file, position.offset) != gtids:
        raise PositionLost(
            f"the source's log was reset since the last run: {position.file} at {position.offset} is not ours any more",
            at=at,
            why=f"{_RESET}; its transactions have the numbers of others that were applied already",
            do=RESYNC,
        )


def _gtid_list(connection: Connection, file: str) -> dict[tuple[int, int], int]:
    """Return what was logged before a file begins, which its Gtid_list event tells."""
    for event in events(connection, file, limit=4) or ():
        found = _LIST.search(str(event[5])) if event[2] == "Gtid_list" else None
        if found:
            return _by_server(found[1])
    return {}


def _by_server(text: str) -> dict[tuple[int, int], int]:
    """Return the highest number of each domain and server in a list of GTIDs."""
    logged: dict[tuple[int, int], int] = {}
    for part in text.replace(" ", "").split(","):
        if part:
            domain, server, number = map(int, part.split("-"))
            logged[domain, server] = max(number, logged.get((domain, server), 0))
    return logged


def _file(connection: Connection, position: Binlog, at: str) -> None:
    files = log_files(connection)
    if position.file not in files:
        first = next(iter(files), "")
        raise PositionLost(
            f"the source no longer has its log file {position.file}",
            at=at,
            why=f"changes from {position.file}:{position.offset} to {first}:4 were purged, or the log was reset",
            do=f"{RESYNC}; and let the source keep its log for longer: SET GLOBAL binlog_expire_logs_seconds = ...",
        )
    if files[position.file] < position.offset or events(connection, position.file, offset=position.offset) is None:
        raise PositionLost(
            f"the source's log file {position.file} is not the one that was read: it has no event at {position.offset}",
            at=at,
            why=f"it is {files[position.file]} bytes long; {_RESET}, or it lost its last transactions in a crash",
            do=RESYNC,
        )


def _shown(gtids: str) -> str:
    """Return a set as a message shows it: whole, or its beginning, and then the log has all of it."""
    if len(gtids) <= _SHOWN:
        return gtids
    log.warning("all transactions that are missing", gtids=gtids)
    cut = max(gtids.rfind(mark, 0, _SHOWN) for mark in ",:")  # not within a number
    return f"{gtids[:cut]} ... ({len(gtids)} characters; the log line above has all of them)"
