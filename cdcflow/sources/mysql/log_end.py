"""Where the source's binary log ends now, which files it has, and under whose name."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import pymysql
from pymysql.connections import Connection

from cdcflow.engines.mysql import servers
from cdcflow.engines.mysql.connect import Flavour
from cdcflow.engines.mysql.names import literal
from cdcflow.errors import OperatorError, SourceUnavailable
from cdcflow.sources.mysql.gtids import MariadbGtids, MysqlGtids
from cdcflow.sources.mysql.position import Binlog

Row = tuple[Any, ...]

# How long an exact position is looked for on a server whose log never rests.
_LONGEST_SEARCH_SECONDS: Final = 10.0

_NEXT_GTID: Final = re.compile(r"GTID_NEXT\s*=\s*'([0-9a-fA-F-]{36}(?::[a-z_][a-z0-9_]*)?):(\d+)'")
_BETWEEN_LOOKS_SECONDS: Final = 0.005
# A thousandth of a second of a busy server's log, many times over.
_MOST_EVENTS: Final = 5000


def server_name(connection: Connection, flavour: Flavour) -> str:
    """Return whose log it is."""
    return servers.name(lambda statement: rows(connection, statement), flavour)


def has_gtids(connection: Connection, flavour: Flavour) -> bool:
    """Return whether every transaction of the log has a GTID."""
    if flavour.engine == "mariadb":
        return True
    ((mode,),) = rows(connection, "SELECT @@GLOBAL.gtid_mode")
    return str(mode) == "ON"


def end_position(connection: Connection, flavour: Flavour) -> Binlog:
    """Return the log's end: every transaction that was committed before the call is behind it.

    Cheap, and good for comparing on one server. Its GTIDs may lack a transaction that was being committed, so a
    stream must not start here: see `start_position`.

    Raises:
        OperatorError: the server writes no log. And pymysql's errors.
    """
    server = server_name(connection, flavour)
    if flavour.engine == "mariadb":
        ((gtids,),) = rows(connection, "SELECT @@GLOBAL.gtid_binlog_pos")
        file, offset, _ = _status(connection, flavour)
        return Binlog(file, offset, MariadbGtids.parse(str(gtids)), server)
    file, offset, executed = _status(connection, flavour)
    return Binlog(file, offset, executed if has_gtids(connection, flavour) else None, server)


def start_position(connection: Connection, flavour: Flavour) -> Binlog:
    """Return a position at the log's end whose GTIDs are exactly those of the transactions before its offset.

    Raises:
        SourceUnavailable: the log moved all the time. And as `end_position`.
    """
    end = end_position(connection, flavour)
    if end.gtids is None:
        return end
    if isinstance(end.gtids, MariadbGtids):
        return Binlog(end.file, end.offset, mariadb_gtids_at(connection, end.file, end.offset), end.server)
    deadline = time.monotonic() + _LONGEST_SEARCH_SECONDS
    while True:
        exact = _exact(connection, end.server, flavour, deadline)
        if exact is not None:
            return exact
        if time.monotonic() > deadline:
            raise SourceUnavailable(
                "the source could not tell which transactions are in its binary log",
                why="some were being committed, or applied from a source of its own, all the time",
                do="start when that has ended: SELECT @@GLOBAL.gtid_owned names those transactions",
            )


def mariadb_gtids_at(connection: Connection, file: str, offset: int) -> MariadbGtids | None:
    """Return the GTIDs before an offset of MariaDB's log; None where the file has no event that begins there."""
    ((text,),) = rows(connection, f"SELECT BINLOG_GTID_POS({literal(file)}, {offset})")
    return None if text is None else MariadbGtids.parse(str(text))


def log_files(connection: Connection) -> dict[str, int]:
    """Return the log's files, oldest first, with their bytes. The server opens each one to tell."""
    return {str(row[0]): int(row[1]) for row in rows(connection, "SHOW BINARY LOGS")}


def events(connection: Connection, file: str, *, offset: int = 4, limit: int = 1) -> list[Row] | None:
    """Return what SHOW BINLOG EVENTS says: file, offset, type, server id, end, words. None where no event begins
    there, or the file is gone."""
    try:
        return rows(connection, f"SHOW BINLOG EVENTS IN {literal(file)} FROM {offset} LIMIT {limit}")
    except pymysql.Error as error:
        if error.args and error.args[0] == 1220:  # ER_ERROR_WHEN_EXECUTING_COMMAND
            return None
        raise


def next_gtid(event: Row) -> tuple[str, int] | None:
    """Return source and number of the transaction that an event of `events` begins; None of another event."""
    found = _NEXT_GTID.search(str(event[5]))
    return (found[1].lower(), int(found[2])) if found else None


def rows(connection: Connection, statement: str) -> list[Row]:
    """Run one statement and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _status(connection: Connection, flavour: Flavour) -> tuple[str, int, MysqlGtids]:
    newer = flavour.engine == "mysql" and flavour.version >= (8, 2)
    found = rows(connection, "SHOW BINARY LOG STATUS" if newer else "SHOW MASTER STATUS")
    if not found:
        raise OperatorError(
            "the source writes no binary log",
            why="log_bin is OFF",
            do="set log_bin in the server's configuration and restart it",
        )
    gtids = str(found[0][4]) if flavour.engine == "mysql" else ""
    return str(found[0][0]), int(found[0][1]), MysqlGtids.parse(gtids)


def _exact(connection: Connection, server: str, flavour: Flavour, deadline: float) -> Binlog | None:
    """Find out which transactions are before what is the log's end at the call; None where it cannot be told.

    A transaction that is in the log is in gtid_owned until it is in gtid_executed. So all that is before an offset is
    executed as soon as nothing is owned any more that was owned when the offset was seen; or, where transactions are
    committed in the log's order (binlog_order_commits), as soon as one that is behind it is executed. What else is
    executed by then is behind the offset, where the log names it.

    (performance_schema.log_status does not tell: it may give an offset that is ahead of its GTIDs by those
    transactions that are being synced to disk; seen with 8.0.)
    """
    file, offset, _ = _status(connection, flavour)
    before, ordered = _owned(connection)
    while True:
        still = before.minus(before.minus(_owned(connection)[0])) if before else before
        file_now, offset_now, executed = _status(connection, flavour)
        if file != file_now:
            return None
        if offset_now == offset:
            if not still:
                return Binlog(file, offset, executed, server)
        else:
            found = events(connection, file, offset=offset, limit=_MOST_EVENTS)
            if not found or int(found[-1][4]) < offset_now:
                return None
            after = MysqlGtids()
            settled = not still
            for gtid in map(next_gtid, found):
                if gtid is not None:
                    after = after.add(*gtid)
                    settled = settled or (ordered and executed.contains(*gtid))
            if settled:
                return Binlog(file, offset, executed.minus(after), server)
        if time.monotonic() > deadline:
            return None
        time.sleep(_BETWEEN_LOOKS_SECONDS)


def _owned(connection: Connection) -> tuple[MysqlGtids, bool]:
    """Return the GTIDs of transactions that are not committed yet, and whether commits keep the log's order."""
    ((owned, ordered),) = rows(connection, "SELECT @@GLOBAL.gtid_owned, @@GLOBAL.binlog_order_commits")
    # `uuid:number#thread#thread:number#thread, ..`
    return MysqlGtids.parse(re.sub(r"#\d+", "", str(owned))), bool(ordered)
