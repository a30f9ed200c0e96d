"""What a MySQL or MariaDB error means for the pipeline: by its number, and by words where the number says too little.

Numbers: https://dev.mysql.com/doc/mysql-errors/9.4/en/server-error-reference.html and
https://mariadb.com/kb/en/mariadb-error-code-reference/.
"""

from __future__ import annotations

import re
from typing import Final

import pymysql

from cdcflow.engines.mysql.denials import DENIED, Side, denied_words
from cdcflow.engines.mysql.rowfaults import RowFault, code, message_of, one_line, row_fault
from cdcflow.errors import (
    AccessDenied,
    CdcflowError,
    Fenced,
    OperatorError,
    PositionLost,
    RowRejected,
    SourceChanged,
    SourceUnavailable,
    TargetUnavailable,
)

RESYNC: Final = "cdcflow resync --all"

# Numbers after which the same work, started again, can succeed.
_TEMPORARY: Final = {
    1020: "the transaction conflicted with another one",  # MariaDB, innodb_snapshot_isolation
    1021: "the server's disk is full",
    1026: "the server could not write a file",
    1037: "the server is out of memory",
    1038: "the server is out of memory",
    1040: "the server has no connection left",
    1041: "the server is out of memory",
    1053: "the server is shutting down",
    1077: "the server is shutting down",
    1079: "the server is shutting down",
    1104: "the server limits how much one statement may look at",
    1114: "a table or the server's disk is full",
    1129: "the server has blocked this host after failed connections",
    1135: "the server could not start a thread",
    1180: "the server could not commit",
    1203: "the user has no connection left",
    1205: "a lock could not be had in time",
    1206: "the server has no room for more locks",
    1213: "the transaction was in a deadlock with another one",
    1226: "the user has used up a resource limit",
    1290: "the server runs with an option that forbids this, such as read_only",
    1317: "the server cancelled the statement",
    1412: "a table's definition changed while it was read",
    1613: "the transaction was rolled back, as it took too long or was in a deadlock",
    1614: "the transaction was in a deadlock with another one",
    1637: "the server has too many open transactions",
    1836: "the server is read-only now",
    1927: "the server ended the session",
    1969: "the server cancelled the statement, as it took too long",
    3024: "the server cancelled the statement, as it took too long",
    3032: "the server is offline now",
    3058: "the transaction was in a deadlock with another one",
    3100: "a plugin of the server refused to commit now",
    3101: "a plugin of the server rolled the transaction back",
    3168: "the server is offline now",
    3169: "the server ended the session",
    3572: "a lock is held by another session",
    3675: "the server's disk is full",
    3905: "the server is offline now",
    4031: "the server closed an idle session",
}
_HOW_TO_WAIT: Final = {
    1021: "free space on the server's disk; cdcflow goes on by itself",
    1114: "free space on the server's disk; cdcflow goes on by itself",
    3675: "free space on the server's disk; cdcflow goes on by itself",
    1040: "raise max_connections or close other sessions; cdcflow goes on by itself",
    1203: "raise max_user_connections or close other sessions; cdcflow goes on by itself",
    1129: "FLUSH HOSTS, or TRUNCATE TABLE performance_schema.host_cache; cdcflow goes on by itself",
    1290: "see that the URL leads to the primary; cdcflow goes on by itself",
    1836: "see that the URL leads to the primary; cdcflow goes on by itself",
}
# The connection broke: the client's own numbers, and the server's for packets that did not come through.
_LOST: Final = (1042, 1043, 1152, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1189, 1190)
_CLIENT_LOST: Final = (2002, 2003, 2004, 2006, 2011, 2012, 2013, 2027, 2055)
# The server ended a dump of its log. 4052 is MariaDB's, for two readers with one server id.
_DUMP_ENDED: Final = (1236, 1789, 4052, 13114)
_TOO_LARGE: Final = (1153, 1301, 2020)

_NO_ROUTE: Final = ("Name or service not known", "nodename nor servname", "name resolution", "No address associated")


def translate(exc: Exception, *, side: Side, at: str, relation: str = "", user: str = "") -> CdcflowError:
    """Return the error that a driver's error stands for. Never raises; one of ours is returned as it is.

    Errors about a row become RowRejected naming table, column and constraint. A caller that can do better with them
    (the exact-order retry, the key of the row) looks at `rowfaults.row_fault` first.

    Args:
        side: which end of the pipeline the connection leads to.
        at: the URL without password (`safe_url`).
        relation: the table that the statement was about, quoted and qualified, where the server's words may not
            name it.
        user: the account's name, for GRANTs, where the server's words may not name it; else it is taken from `at`.
    """
    if isinstance(exc, CdcflowError):
        return exc
    if isinstance(exc, OSError):
        return _lost(side, at, str(exc))
    if not isinstance(exc, pymysql.Error):
        return CdcflowError(str(exc), at=at)
    number, message = code(exc), message_of(exc)
    fault = row_fault(exc)
    if fault is not None:
        return _rejected(fault, side, at, relation)
    if number in _DUMP_ENDED:
        return log_error(message, at=at)
    if number in _TOO_LARGE:
        return OperatorError(
            f"the {side} takes no packet as large as this one",
            at=at,
            why=message,
            do="SET GLOBAL max_allowed_packet = 1073741824 (and in the server's configuration)",
        )
    if number in _LOST or number in _CLIENT_LOST:
        return _lost(side, at, message)
    if (number in _TEMPORARY and (number != 1290 or "read" in message)) or _disk_is_full(number, message):
        words = _TEMPORARY.get(number, "the server's disk is full")
        do = _HOW_TO_WAIT.get(number, _HOW_TO_WAIT[1021] if _disk_is_full(number, message) else "")
        return _unavailable(side)(f"the {side} cannot go on now: {words}", at=at, why=message, do=do)
    if number in DENIED:
        what, do = denied_words(number, message, side, at, relation, user)
        return AccessDenied(what, at=at, why=message, do=do)
    if number == 2026 or number == 3159:
        return AccessDenied(
            f"the {side} and cdcflow do not agree on TLS",
            at=at,
            why=message,
            do="set ssl-mode, ssl-ca, ssl-cert or ssl-key in the URL",
        )
    if number == 0 and isinstance(exc, pymysql.InterfaceError):
        return _lost(side, at, "the connection is closed")
    # A SIGNAL of the user may put anything into its message, and a syntax error repeats a piece of the statement:
    # neither may leak a value, so only the number is told.
    silent = number in (1064, 1149, 1644, 1645, 1647, 0) or not message
    why = f"error {number}" if silent else f"{message} (error {number})"
    return OperatorError(f"the {side} refused a statement", at=at, why=why)


def fenced(at: str, why: str) -> Fenced:
    """Return the error for a write that found another epoch than ours in the target."""
    return Fenced(
        "this instance no longer holds the lease of the pipeline",
        at=at,
        why=f"{why}; nothing of ours was written",
        do="let one instance of a pipeline run: `cdcflow status` says which one holds the lease",
    )


def log_error(message: str, *, at: str) -> CdcflowError:
    """Return the error for a binlog dump that the source ended (error 1236), by the server's words."""
    if re.search(r"same server_(uuid|id)", message):
        return OperatorError(
            "another reader of the source's binary log has our server id",
            at=at,
            why=message,
            do="set source.server_id in the configuration to a number that no replica of this source has",
        )
    if "more GTIDs than the" in message:
        return SourceChanged(
            "the source lacks transactions that were applied already",
            at=at,
            why=message,
            do=RESYNC,
        )
    if "max_allowed_packet" in message:
        return OperatorError(
            "the source's binary log holds an event larger than it may send",
            at=at,
            why=message,
            do="SET GLOBAL max_allowed_packet = 1073741824 at the source (and in its configuration)",
        )
    if any(words in message for words in _PURGED):
        return PositionLost(
            "the source no longer has the binary log that follows the checkpoint", at=at, why=message, do=RESYNC
        )
    if "not in the master's binlog" in message or "alternate history" in message or "diverged" in message:
        return SourceChanged(
            "the source's binary log does not hold what was applied already", at=at, why=message, do=RESYNC
        )
    if "Binary log is not open" in message:
        return OperatorError(
            "the source writes no binary log",
            at=at,
            why=message,
            do="set log_bin in the server's configuration and restart it",
        )
    if "impossible position" in message or "position > file size" in message:
        return PositionLost(
            "the source's binary log ends before the checkpoint: it was cut or made anew",
            at=at,
            why=message,
            do=RESYNC,
        )
    return OperatorError("the source cannot read its binary log", at=at, why=message)


_PURGED: Final = (
    "purged required",
    "Could not find first log file",
    "could not find next log",
    "required binary logs",
    "Could not find GTID state",
    "is missing the GTID",
    "Could not find target log",
    "has been purged",
    "which is not in the master's binlog. Since the master's binlog contains GTIDs with higher",
)


def _disk_is_full(number: int, message: str) -> bool:
    return number in (3, 1004, 1005, 1026, 1030, 1180) and ("No space left" in message or "rrno: 28" in message)


def _rejected(fault: RowFault, side: Side, at: str, relation: str) -> RowRejected:
    place = fault.table or relation
    parts = [f"table {place}"] if place else []
    if fault.column:
        parts.append(f"column {fault.column}")
    if fault.constraint:
        parts.append(f"constraint {fault.constraint}")
    return RowRejected(
        f"the {side} rejects a row: {fault.words}",
        at=", ".join([*parts, at] if at else parts),
        why=f"error {fault.code}",
    )


def _lost(side: Side, at: str, why: str) -> SourceUnavailable | TargetUnavailable:
    if any(words in why for words in _NO_ROUTE):
        return _unavailable(side)(f"the {side}'s host name cannot be found", at=at, why=one_line(why))
    do = "see that the server runs and can be reached, and that host and port in the URL are right; `run` waits for it"
    return _unavailable(side)(f"the connection to the {side} failed", at=at, why=one_line(why), do=do)


def _unavailable(side: Side) -> type[SourceUnavailable] | type[TargetUnavailable]:
    return SourceUnavailable if side == "source" else TargetUnavailable
