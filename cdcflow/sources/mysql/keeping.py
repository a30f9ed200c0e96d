"""How long the source keeps its log, and how much of that is used up for a pipeline that is behind."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from pymysql.connections import Connection

from cdcflow.errors import CdcflowError
from cdcflow.model.check import Finding, Level
from cdcflow.sources.mysql import logevents
from cdcflow.sources.mysql.check_server import Server
from cdcflow.sources.mysql.log import BinlogConnection
from cdcflow.sources.mysql.log_end import log_files, rows
from cdcflow.sources.mysql.position import DOUBT, Binlog

# A pipeline that is down over a weekend must find its place again.
SHORTEST_KEEPING_SECONDS: Final = 3 * 86400

# What MySQL's setting can be at most, and MariaDB's, which counts in seconds or in days.
LONGEST_KEEPING_SECONDS: Final = 4_294_967_295
LONGEST_KEEPING_DAYS: Final = 99

# Of the time that a log file is kept, what may be used up before `check` warns.
MOST_USED: Final = 0.5

_EXPIRY: Final = "binlog_expire_logs_seconds"

# A file begins with its format description, behind a few packets about where it is read.
_LONGEST_LOOK_SECONDS: Final = 5.0


def seconds(server: Server) -> float:
    """Return how long a log file is kept after its end; 0 where nothing removes it by age."""
    if server.settings.get("binlog_expire_logs_auto_purge") == "OFF":
        return 0.0
    kept = server.number(_EXPIRY)
    return kept if kept > 0 else max(0.0, server.number("expire_logs_days")) * 86400


def settings(server: Server) -> Iterator[Finding]:
    """Say what the server's settings mean to a pipeline that is down."""
    name = "source.binlog_expire_logs_seconds"
    kept = seconds(server)
    if kept == 0:
        found = "0: the log is kept until somebody purges it, who must not purge what the pipeline has not read"
        yield Finding(Level.NOTE, name, _EXPIRY, found)
    elif kept < SHORTEST_KEEPING_SECONDS:
        found = f"{kept:.0f} s: a pipeline that is down for longer loses its place and copies everything again"
        yield Finding(Level.WARNING, name, _EXPIRY, found, longer(server, 604800))
    else:
        yield Finding(Level.OK, name, _EXPIRY, f"{_time(kept)} of log are kept for a pipeline that is down")
    limit = server.number("max_binlog_total_size")
    if limit > 0:
        found = f"{limit / 1e6:.0f} MB: a pipeline that falls back further loses its place and copies everything again"
        yield Finding(Level.WARNING, "source.max_binlog_total_size", "max_binlog_total_size", found)


def outlook(
    connection: Connection, server: Server, name: str, url: str, reader: tuple[str, int], position: Binlog
) -> list[Finding]:
    """Say how much longer the log is kept that follows a position from which it can be gone on.

    name: the server's, as `Binlog.server`. reader: under which name and number the log may be looked at.
    """
    kept = seconds(server)
    if kept == 0 or position.server.rstrip(DOUBT) != name:
        return []
    needed, following = _needed(log_files(connection), position)
    if not following:
        return [Finding(Level.OK, "source.expiry", "position", "what follows it is in the log's newest file")]
    ((now,),) = rows(connection, "SELECT UNIX_TIMESTAMP()")
    ended = None
    with suppress(CdcflowError):  # what keeps us from reading the log is a finding of its own
        ended = _began(url, reader, Binlog(following, 4, None, name))
    if ended is None:
        return []
    left = kept - (float(now) - ended)
    if left > kept * (1 - MOST_USED):
        found = f"log file {needed} is needed, and kept for another {_time(left)}"
        return [Finding(Level.OK, "source.expiry", "position", found)]
    when = f"in {_time(left)}" if left > 0 else "at any time now"
    found = f"log file {needed} is needed, and will be purged {when}: {_EXPIRY} is {kept:.0f}"
    do = f"let the pipeline run; or {longer(server, max(kept * 4, SHORTEST_KEEPING_SECONDS))}"
    return [Finding(Level.WARNING, "source.expiry", "position", found, do)]


def _needed(files: Mapping[str, int], position: Binlog) -> tuple[str, str]:
    """Return the oldest file that holds something behind the position, and the one after it, '' for none."""
    file, offset = position.begin
    names = list(files)
    # A file that is gone was read to its end, or the position would be lost.
    at = names.index(file) if file in files else 0
    if file in files and offset >= files[file]:
        at += 1
    return names[min(at, len(names) - 1)], names[at + 1] if at + 1 < len(names) else ""


def _began(url: str, reader: tuple[str, int], head: Binlog) -> float | None:
    """Return when a log file was begun, by the server's clock (seconds since 1970), which is when the one before it
    ended."""
    pipeline, number = reader
    connection = BinlogConnection(url, pipeline, number, head, head.server)
    try:
        until = time.monotonic() + _LONGEST_LOOK_SECONDS
        while time.monotonic() < until:
            connection.receive(_LONGEST_LOOK_SECONDS)
            at, buffer = 0, connection.buffer
            while len(buffer) >= at + 4 + 20:
                if not buffer[at + 4] and buffer[at + 9] == logevents.FORMAT_DESCRIPTION:
                    return float(int.from_bytes(buffer[at + 5 : at + 9], "little"))
                at += 4 + int.from_bytes(buffer[at : at + 3], "little")
        return None
    finally:
        connection.close()


def longer(server: Server, wanted: float) -> str:
    """Return the statement by which the log is kept for so many seconds, or for as many as the server can."""
    if server.number(_EXPIRY) < 0:  # MariaDB before 10.6
        return server.set("expire_logs_days", str(min(math.ceil(wanted / 86400), LONGEST_KEEPING_DAYS)))
    longest = LONGEST_KEEPING_SECONDS if server.mysql else LONGEST_KEEPING_DAYS * 86400
    return server.set(_EXPIRY, str(min(round(wanted), longest)))


def _time(length: float) -> str:
    return f"{length / 86400:.1f} days" if length >= 86400 else f"{length / 3600:.1f} hours"
