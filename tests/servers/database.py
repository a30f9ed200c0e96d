"""One fresh database for one test, and the comparison of two."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any, Protocol

import psycopg
from psycopg.rows import TupleRow

from tests.servers.waiting import until

# What a test reads must not depend on the servers' odd defaults (see cluster.SETTINGS).
SESSION = " ".join(
    f"-c {setting}"
    for setting in (
        "timezone=UTC",
        "datestyle=ISO",
        "intervalstyle=postgres",
        "bytea_output=hex",
        "extra_float_digits=1",
        "client_min_messages=warning",
    )
)
# Up to here two tables are compared row by row in the test; above, by a sum of row hashes first.
FULL_COMPARISON_ROWS = 50_000
_numbers = itertools.count(1)


class Server(Protocol):
    """A PostgreSQL server of the tests, wherever it runs."""

    version: int

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str = "") -> str: ...


class Database:
    """A database that belongs to one test."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        self._connection: psycopg.Connection[TupleRow] | None = None

    def __repr__(self) -> str:
        return f"<database {self.name} of {self.server!r}>"

    @property
    def url(self) -> str:
        """The URL that a person would put into the config."""
        return self.server.url(self.name)

    @property
    def version(self) -> int:
        """The server's major version."""
        return self.server.version

    def connect(self, *, autocommit: bool = True, **arguments: Any) -> psycopg.Connection[TupleRow]:
        """Return a new connection of the test's own."""
        connection = psycopg.connect(self.url, autocommit=autocommit, options=SESSION, **arguments)
        # A query that a test repeats while the table is altered must not be a prepared one.
        connection.prepare_threshold = None
        return connection

    def execute(self, sql: str, params: Sequence[Any] | None = None) -> None:
        """Run SQL and commit; without parameters several statements may follow one another in one transaction."""
        self._own().execute(sql.encode(), params)

    def query(self, sql: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return self._own().execute(sql.encode(), params).fetchall()

    def value(self, sql: str, params: Sequence[Any] | None = None) -> Any:
        """Return the one value of a query of one row and one column."""
        ((value,),) = self.query(sql, params)
        return value

    def slots(self) -> list[str]:
        """Return the replication slots on this database."""
        return [
            name
            for (name,) in self.query("SELECT slot_name FROM pg_replication_slots WHERE database = %s", [self.name])
        ]

    def drop_slots(self) -> None:
        """Drop every replication slot on this database, ending who holds it."""
        for slot in self.slots():
            until(lambda slot=slot: self._drop_slot(slot), limit=60, what=f"slot {slot} can be dropped")  # type: ignore[misc]

    def close(self) -> None:
        """Close the test's own connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _drop_slot(self, slot: str) -> bool:
        self.query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", [slot])
        self.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [slot])
        return slot not in self.slots()

    def _own(self) -> psycopg.Connection[TupleRow]:
        if self._connection is not None and not self._connection.closed:
            try:  # the server may have been restarted since
                self._connection.execute("SELECT 1")
            except psycopg.OperationalError:
                self.close()
        if self._connection is None or self._connection.closed:
            self._connection = self.connect()
        return self._connection


def make_database(server: Server, *, encoding: str = "UTF8", label: str = "db") -> Database:
    """Create a database with a name of its own."""
    name = f"{label}_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'".encode()
        )
    return Database(server, name)


def drop_database(database: Database) -> None:
    """Drop its slots, then the database with whoever is still connected."""

    def dropped() -> bool:
        """Whoever is about to end may make one more slot in between."""
        database.drop_slots()
        database.close()
        with psycopg.connect(database.server.url(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)".encode())
        return True

    until(dropped, limit=60, what=f"{database} can be dropped")


def rows_of(database: Database, table: str, columns: Sequence[str] | None = None) -> list[str]:
    """Return every row of a table as ordered text; `table` and `columns` are written as in SQL.

    Without `columns` the table's own are taken in the order of their names, so that two tables whose columns
    stand in different order compare.
    """
    text = _row_text(database, table, columns)
    return [row for (row,) in database.query(f'SELECT {text} COLLATE "C" AS r FROM {table} t ORDER BY r')]


def same(
    source: Database,
    target: Database,
    table: str,
    *,
    target_table: str | None = None,
    columns: Sequence[str] | None = None,
    target_columns: Sequence[str] | None = None,
) -> None:
    """Assert that both tables hold the same rows, each as often.

    Raises:
        AssertionError: names how many differ and the first few of each side.
    """
    other = target_table or table
    other_columns = target_columns or columns
    counts = source.value(f"SELECT count(*) FROM {table}"), target.value(f"SELECT count(*) FROM {other}")
    if max(counts) > FULL_COMPARISON_ROWS and (
        _fingerprint(source, table, columns) == _fingerprint(target, other, other_columns)
    ):
        return
    here, there = rows_of(source, table, columns), rows_of(target, other, other_columns)
    if here != there:
        missing, extra = _difference(here, there), _difference(there, here)
        raise AssertionError(
            f"{table}: {len(here)} rows at the source, {len(there)} at the target\n"
            f"  missing at the target: {len(missing)} {[row[:300] for row in missing[:5]]}\n"
            f"  only at the target:    {len(extra)} {[row[:300] for row in extra[:5]]}"
        )


def is_same(source: Database, target: Database, table: str, **how: Any) -> bool:
    """Return whether `same` holds now: a condition to wait for."""
    try:
        same(source, target, table, **how)
    except AssertionError:
        return False
    return True


def _difference(left: list[str], right: list[str]) -> list[str]:
    rest: dict[str, int] = {}
    for row in right:
        rest[row] = rest.get(row, 0) + 1
    missing = []
    for row in left:
        if rest.get(row, 0):
            rest[row] -= 1
        else:
            missing.append(row)
    return missing


def _row_text(database: Database, table: str, columns: Sequence[str] | None) -> str:
    if columns is None:
        named = database.query(
            "SELECT quote_ident(attname) FROM pg_attribute"
            ' WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname COLLATE "C"',
            [table],
        )
        columns = [f"t.{name}" for (name,) in named]
    return f"ROW({', '.join(columns)})::text"


def _fingerprint(database: Database, table: str, columns: Sequence[str] | None) -> Any:
    text = _row_text(database, table, columns)
    return database.query(f"SELECT count(*), sum(hashtextextended({text}, 0)::numeric) FROM {table} t")
