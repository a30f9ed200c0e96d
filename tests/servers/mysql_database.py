"""One fresh MySQL or MariaDB database for one test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pymysql
from pymysql.connections import Connection

from tests.servers.mysql_session import connect_to, rows

# Dropping waits for whoever holds a metadata lock; by default for a year.
DROP_LIMIT_SECONDS = 60
_numbers = itertools.count(1)


class Server(Protocol):
    """A MySQL or MariaDB server of the tests, wherever it runs."""

    flavour: str
    version: str

    def url(self, database: str = "", *, user: str = "root", password: str = "") -> str: ...


class MysqlDatabase:
    """A database that belongs to one test."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        self._connection: Connection[Any] | None = None

    def __repr__(self) -> str:
        return f"<database {self.name} of {self.server!r}>"

    @property
    def url(self) -> str:
        """The URL that a person would put into the config."""
        return self.server.url(self.name)

    @property
    def version(self) -> str:
        """The server's version: `9.7`."""
        return self.server.version

    def connect(self, *, autocommit: bool = True, **arguments: Any) -> Connection[Any]:
        """Return a new connection of the test's own, which reads and writes UTC and utf8mb4."""
        return connect_to(self.url, autocommit=autocommit, **arguments)

    def execute(self, sql: str, params: Any = None) -> None:
        """Run one or several statements, each in a transaction of its own unless `BEGIN` stands before them.

        With parameters a percent sign in the text is written twice.
        """
        rows(self._own(), sql, params)

    def query(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return rows(self._own(), sql, params)

    def value(self, sql: str, params: Any = None) -> Any:
        """Return the one value of a query of one row and one column."""
        ((value,),) = self.query(sql, params)
        return value

    def close(self) -> None:
        """Close the test's own connection."""
        if self._connection is not None and self._connection.open:
            self._connection.close()
        self._connection = None

    def _own(self) -> Connection[Any]:
        if self._connection is not None:
            try:  # the server may have been restarted since
                self._connection.ping(reconnect=False)
            except (pymysql.err.Error, OSError):
                self.close()
        if self._connection is None:
            self._connection = self.connect()
        return self._connection


def make_mysql_database(server: Server, *, charset: str = "utf8mb4", label: str = "db") -> MysqlDatabase:
    """Create a database with a name of its own."""
    name = f"{label}_{os.getpid()}_{next(_numbers)}"
    with connect_to(server.url()) as connection:
        rows(connection, f"CREATE DATABASE {name} CHARACTER SET {charset}")
    return MysqlDatabase(server, name)


def drop_mysql_database(database: MysqlDatabase) -> None:
    """Drop it with whoever is still connected."""
    database.close()
    with connect_to(database.server.url()) as connection:
        rows(connection, f"SET lock_wait_timeout = {DROP_LIMIT_SECONDS}")
        connected = "SELECT id FROM information_schema.processlist WHERE db = %s"
        for (session,) in rows(connection, connected, [database.name]):
            try:
                rows(connection, f"KILL {session}")
            except pymysql.err.OperationalError:
                continue  # it has gone by itself
        rows(connection, f"DROP DATABASE IF EXISTS {database.name}")


@contextmanager
def compression_put_back(database: Any) -> Iterator[None]:
    """At the end a MariaDB compresses nothing in its log, as by default: other tests use the server after this one."""
    try:
        yield
    finally:
        if getattr(database.server, "flavour", "") == "mariadb":
            database.execute("SET GLOBAL log_bin_compress = OFF, GLOBAL log_bin_compress_min_len = 256")
