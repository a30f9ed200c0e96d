"""Consistent views of the source and where in the log they stand, without a lock on the whole server.

- MySQL writes a transaction into the log before the storage engine makes it visible. So the log's end may be behind
  rows that nobody sees yet, and a view that is opened then would miss them. Where every transaction has a GTID,
  `gtid_owned` names those that are between the two: `settle` waits until they are through. Elsewhere a table is
  locked for a moment before it is read: the lock waits for every transaction that has changed it.
- MariaDB (and Percona Server) tell for START TRANSACTION WITH CONSISTENT SNAPSHOT the exact place in the log.
"""

from __future__ import annotations

import re
import threading
import time
from typing import Final

import pymysql
from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.engines.mysql.names import ident, qualified
from cdcflow.engines.mysql.rowfaults import code
from cdcflow.errors import AccessDenied, SourceUnavailable
from cdcflow.model.ports import Turn
from cdcflow.model.schema import TableName
from cdcflow.sources.mysql import log_end
from cdcflow.sources.mysql.gtids import MysqlGtids
from cdcflow.sources.mysql.position import Binlog
from cdcflow.sources.mysql.sessions import LOCK_TIMEOUT_SECONDS, query

BEGIN: Final = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"

# Whoever waits for a table's lock makes all others wait behind it: so not for long, and again later.
LOCK_SECONDS: Final = 1
BETWEEN_LOCKS_SECONDS: Final = 2.0
LOCK_ATTEMPTS: Final = 60

# How long transactions that are in the log may take until they are visible. On a replica one is owned from its
# beginning on.
SETTLE_SECONDS: Final = 600.0
_SETTLE_LOOK_SECONDS: Final = 0.005

_LOCK_TIMEOUT: Final = 1205
_DENIED: Final = (1044, 1142, 1143, 1227)


def position_of_view(connection: Connection, flavour: Flavour) -> Binlog | None:
    """Return where the view stands that the connection has just opened; None where the server does not tell."""
    told = {str(name).lower(): value for name, value in query(connection, "SHOW STATUS LIKE 'binlog\\_snapshot\\_%'")}
    file, offset = str(told.get("binlog_snapshot_file") or ""), int(told.get("binlog_snapshot_position") or 0)
    if not file or not offset:
        return None
    server = log_end.server_name(connection, flavour)
    if flavour.engine == "mariadb":
        return Binlog(file, offset, log_end.mariadb_gtids_at(connection, file, offset), server)
    gtids = MysqlGtids.parse(str(told.get("binlog_snapshot_gtid_executed") or ""))
    return Binlog(file, offset, gtids if log_end.has_gtids(connection, flavour) else None, server)


def settle(connection: Connection, flavour: Flavour, ended: threading.Event | None, address: str) -> bool:
    """Wait until every transaction that is in MySQL's log by now can be seen; return False where that is not told.

    Raises:
        SourceUnavailable: it takes too long, or `ended` was set.
    """
    if not log_end.has_gtids(connection, flavour):
        return False
    waiting = _owned(connection)
    until = time.monotonic() + SETTLE_SECONDS
    while waiting := waiting & _owned(connection) if waiting else waiting:
        if (ended is not None and ended.wait(_SETTLE_LOOK_SECONDS)) or time.monotonic() > until:
            raise SourceUnavailable(
                "a transaction that is in the source's log did not become visible",
                at=f"source {address}",
                why="on a replica it may be a large one that is still being applied",
            )
        if ended is None:
            time.sleep(_SETTLE_LOOK_SECONDS)
    return True


def _owned(connection: Connection) -> set[str]:
    """Return the GTIDs that are being committed: `uuid:23#5:24#6, other:7#8`, each number with its thread's."""
    ((text,),) = query(connection, "SELECT @@GLOBAL.gtid_owned")
    found = set()
    for part in re.sub(r"\s", "", text or "").split(","):
        source = ""
        for word in part.split(":"):
            if "#" in word:
                found.add(f"{source}:{word}")
            else:
                source += f":{word}"
    return found


def lock(connection: Connection, name: TableName, ended: threading.Event | None, address: str, turn: Turn) -> None:
    """Lock one table against writes. `unlock` ends it, and so does closing the connection.

    Raises:
        SourceUnavailable: a long transaction holds the table, or `ended` was set.
        AccessDenied: the user may not.
        pymysql.Error: the server refuses it.
    """
    query(connection, f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}")
    for _ in range(LOCK_ATTEMPTS):
        turn()
        try:
            query(connection, f"LOCK TABLES {qualified(name)} READ")
            return
        except pymysql.Error as error:
            if code(error) in _DENIED:
                raise AccessDenied(
                    f"the user may not lock table {name} for a moment",
                    at=f"source {address}",
                    why="its copy needs a view whose place in the log is known, and the server tells that of none",
                    do=f"GRANT SELECT, LOCK TABLES ON {ident(name.schema)}.* to the source's user"
                    ", or leave the table out of the rules",
                ) from None
            if code(error) != _LOCK_TIMEOUT:
                raise
        if ended is None:
            time.sleep(BETWEEN_LOCKS_SECONDS)
        elif ended.wait(BETWEEN_LOCKS_SECONDS):
            break
    raise SourceUnavailable(
        f"table {name} could not be locked for a moment",
        at=f"source {address}",
        why="a transaction that has changed it is open for a long time",
        do="end that transaction: SELECT * FROM information_schema.innodb_trx ORDER BY trx_started",
    )


def unlock(connection: Connection) -> None:
    """End what `lock` began."""
    query(connection, "UNLOCK TABLES")
    query(connection, f"SET SESSION lock_wait_timeout = {LOCK_TIMEOUT_SECONDS}")
