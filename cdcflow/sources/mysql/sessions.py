"""Connections to the source: a few kept for SQL, and one for each chunk that is being read."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour, connect, flavour, safe_url
from cdcflow.engines.mysql.errors import translate

# Looking at a table's definition waits for whoever changes it. Longer than this the caller had better try again.
LOCK_TIMEOUT_SECONDS = 10

# Connections that are kept open between calls: the workers of a copy, the poll for new tables and the lag for status.
KEPT_CONNECTIONS = 8


class Sessions:
    """Hands out connections to any thread and takes them back: in autocommit mode."""

    def __init__(self, url: str, *, application: str = "cdcflow") -> None:
        self._url, self._application = url, application
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._flavour: Flavour | None = None
        self.address = safe_url(url)

    @contextmanager
    def sql(self) -> Iterator[Connection]:
        """Lend a connection. What the driver raises inside comes out translated."""
        connection = self.take()
        try:
            yield connection
        except (pymysql.Error, OSError) as error:
            close(connection)
            raise translate(error, side="source", at=self.address) from error
        except BaseException:
            close(connection)
            raise
        self.give(connection)

    def take(self) -> Connection:
        """Return a connection that the caller gives back, or closes. Raises what `connect` does."""
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                break
            if _alive(kept):
                return kept
            close(kept)
        connection = connect(self._url, side="source", application=self._application)
        try:
            query(connection, f"SET SESSION lock_wait_timeout = {LOCK_TIMEOUT_SECONDS}")
        except (pymysql.Error, OSError) as error:
            close(connection)
            raise translate(error, side="source", at=self.address) from error
        self._flavour = flavour(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """Take a connection back that is outside of a transaction and holds no lock."""
        with self._lock:
            if connection.open and len(self._idle) < KEPT_CONNECTIONS:
                self._idle.append(connection)
                return
        close(connection)

    @property
    def flavour(self) -> Flavour:
        """Which server it is. Connects where nobody has yet."""
        if self._flavour is None:
            self.give(self.take())
        assert self._flavour is not None
        return self._flavour

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            close(connection)


def query(connection: Connection, statement: str) -> Sequence[tuple[Any, ...]]:
    """Run one statement and return its rows. Raises the driver's errors."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def close(connection: Connection) -> None:
    """Close a connection in whatever state it is; the server rolls back what is open."""
    with suppress(pymysql.Error, OSError):
        connection.close()
    with suppress(Exception):
        connection._force_close()  # type: ignore[attr-defined]


def _alive(connection: Connection) -> bool:
    """Return whether a kept connection may be used again: one that the server closed has its last words waiting."""
    sock = getattr(connection, "_sock", None) if connection.open else None  # the driver's types leave it out
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)
