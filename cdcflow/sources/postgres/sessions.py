"""Connections to the source: a few kept for SQL, and the walsender's few commands."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import pq

from cdcflow.engines.postgres.connect import connect, connect_raw, safe_url
from cdcflow.engines.postgres.errors import from_connection, from_result, translate
from cdcflow.errors import SourceUnavailable

# Looking at a catalogue waits for whoever changes a table. Longer than this the caller had better try again.
LOCK_TIMEOUT_SECONDS = 10

# Connections that are kept open between calls: the poll for new tables and the lag for status may coincide.
KEPT_CONNECTIONS = 2

# How often somebody who waits for a slot hears what it waits for.
WAIT_REPORT_SECONDS = 10.0

# How often somebody who waits looks whether it is still wished.
WAIT_LOOK_SECONDS = 0.25


class Sessions:
    """Hands out SQL connections to any thread and takes them back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[psycopg.Connection] = []
        self._lock = threading.Lock()
        self.address = safe_url(url)

    @contextmanager
    def sql(self) -> Iterator[psycopg.Connection]:
        """Lend a connection in autocommit mode. What psycopg raises inside comes out translated."""
        connection = self._take()
        try:
            yield connection
        except psycopg.Error as error:
            raise translate(error, side="source", at=self.address) from error
        finally:
            self._give(connection)

    @contextmanager
    def view(self) -> Iterator[psycopg.Connection]:
        """Lend a connection inside a read-only transaction that sees one state of the catalogue throughout."""
        with self.sql() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection
            connection.execute("COMMIT")

    def raw(self) -> pq.abc.PGconn:
        """Open a libpq connection that the caller finishes."""
        return connect_raw(self._url, side="source")

    def walsender(self) -> Walsender:
        """Open a replication connection that the caller closes."""
        return Walsender(connect_raw(self._url, side="source", replication=True), self.address)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> psycopg.Connection:
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                break
            if _alive(kept):
                return kept
            kept.close()
        connection = connect(self._url, side="source")
        try:
            connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
        except psycopg.Error as error:
            connection.close()
            raise translate(error, side="source", at=self.address) from error
        return connection

    def _give(self, connection: psycopg.Connection) -> None:
        clean = connection.info.transaction_status == pq.TransactionStatus.IDLE
        with self._lock:
            if clean and len(self._idle) < KEPT_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()


class Walsender:
    """A replication connection used for commands, not for streaming."""

    def __init__(self, pgconn: pq.abc.PGconn, address: str) -> None:
        self._pgconn = pgconn
        self._address = address

    def command(
        self, text: str, waiting: Callable[[float], None] | None = None, ended: threading.Event | None = None
    ) -> list[dict[str, str | None]]:
        """Run one command and return its rows by column name.

        `waiting(seconds)` is called now and then while the server has not answered. When `ended` is set, the
        command is cancelled.

        Raises:
            SourceUnavailable: it was cancelled, or the connection was lost.
        """
        started = told = time.monotonic()
        cancelled = False
        try:
            poll = select.poll()
            poll.register(self._pgconn.socket, select.POLLIN)
            self._pgconn.send_query(text.encode())
            self._pgconn.flush()
            while self._pgconn.is_busy():
                if poll.poll(WAIT_LOOK_SECONDS * 1000):
                    self._pgconn.consume_input()
                    continue
                now = time.monotonic()
                if ended is not None and ended.is_set() and not cancelled:
                    cancelled = True
                    self._pgconn.get_cancel().cancel()
                elif waiting is not None and now - told >= WAIT_REPORT_SECONDS:
                    told = now
                    waiting(now - started)
            rows: list[dict[str, str | None]] = []
            while (result := self._pgconn.get_result()) is not None:
                if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
                    if cancelled:
                        raise SourceUnavailable("stopped while the source was asked", at=self._address)
                    raise from_result(result, side="source", at=self._address)
                rows.extend(_rows(result))
        except psycopg.Error as error:
            raise translate(error, side="source", at=self._address) from error
        if self._pgconn.status != pq.ConnStatus.OK:
            raise from_connection(self._pgconn, side="source", at=self._address)
        return rows

    def close(self) -> None:
        """Close the connection; what was temporary on it goes with it. Safe to call twice."""
        with suppress(psycopg.Error):
            self._pgconn.finish()


def _rows(result: pq.abc.PGresult) -> list[dict[str, str | None]]:
    names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
    rows: list[dict[str, str | None]] = []
    for row in range(result.ntuples):
        values = (result.get_value(row, column) for column in range(result.nfields))
        rows.append(
            {name: None if value is None else value.decode() for name, value in zip(names, values, strict=True)}
        )
    return rows


def _alive(connection: psycopg.Connection) -> bool:
    """Return whether a kept connection may be used again: one that the server closed has its last words waiting."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
