"""One end of a pipeline whatever its engine is: its tables by name, and their rows as text that compares."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.servers.database import Database
from tests.servers.mysql_database import MysqlDatabase


class Side(Protocol):
    """A database of any engine, of one test."""

    @property
    def url(self) -> str: ...

    @property
    def schema(self) -> str: ...

    def query(self, sql: str) -> list[tuple[Any, ...]]: ...

    def table(self, name: str) -> str: ...

    def columns(self, name: str) -> list[str]: ...


class Rows:
    """A PostgreSQL, MySQL or MariaDB database as a side. `schema` is where its tables are, for rules."""

    def __init__(self, database: Database | MysqlDatabase) -> None:
        self.database = database
        self.mysql = isinstance(database, MysqlDatabase)
        self.url = database.url
        self.schema = database.name if self.mysql else "public"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return self.database.query(sql)

    def table(self, name: str) -> str:
        """Return a table's name for SQL."""
        return f"`{self.schema}`.`{name}`" if self.mysql else f'"{self.schema}"."{name}"'

    def columns(self, name: str) -> list[str]:
        """Return the names of a table's columns, in order of names."""
        found = self.query(
            "SELECT column_name AS c FROM information_schema.columns"
            f" WHERE table_schema = '{self.schema}' AND table_name = '{name}'"
        )
        return sorted(str(column) for (column,) in found)


class File:
    """A SQLite file as a side."""

    schema = "main"

    def __init__(self, path: Path) -> None:
        self.path, self.url = path, f"sqlite:///{path.name}"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        connection = sqlite3.connect(self.path, timeout=20)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def table(self, name: str) -> str:
        """Return a table's name for SQL."""
        return f'"{name}"'

    def columns(self, name: str) -> list[str]:
        """Return the names of a table's columns, in order of names."""
        return sorted(row[1] for row in self.query(f'PRAGMA table_info("{name}")'))


def rows_of(side: Side, table: str, columns: Sequence[str]) -> Counter[tuple[str | None, ...]]:
    """Return a table's rows as text, and how often each is there."""
    mark = "`" if getattr(side, "mysql", False) else '"'
    listed = ", ".join(f"{mark}{column}{mark}" for column in columns)
    found = side.query(f"SELECT {listed} FROM {side.table(table)}")
    return Counter(tuple(None if value is None else str(value) for value in row) for row in found)


def same_sides(source: Side, target: Side, *tables: str) -> None:
    """Assert that tables hold the same rows in the source's columns, each as often.

    Raises:
        AssertionError: names how many differ and the first few of each side.
    """
    for table in tables:
        columns = source.columns(table)
        here, there = rows_of(source, table, columns), rows_of(target, table, columns)
        if here != there:
            missing, extra = list((here - there).elements()), list((there - here).elements())
            raise AssertionError(
                f"{table}: {here.total()} rows at the source, {there.total()} at the target\n"
                f"  missing at the target: {len(missing)} {str(missing[:5])[:1500]}\n"
                f"  only at the target:    {len(extra)} {str(extra[:5])[:1500]}"
            )


def are_same(source: Side, target: Side, *tables: str) -> bool:
    """Return whether `same_sides` holds now: a condition to wait for."""
    try:
        same_sides(source, target, *tables)
    except AssertionError:
        return False
    return True
