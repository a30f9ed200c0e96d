"""A table read through a view of a PostgreSQL source."""

from __future__ import annotations

from collections.abc import Iterable

from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.sources.postgres import PostgresSource
from cdcflow.sources.postgres.snapshot import PostgresSnapshot


def route_of(source: PostgresSource, name: str = "t") -> Route:
    """Return the route of a table as it is."""
    table = next(table for table in source.tables() if table.name.table == name)
    return Route(table, table.name, tuple((c, c.name) for c in table.columns if not c.generated), table.key)


def lines(snapshot: PostgresSnapshot, route: Route, chunks: Iterable[Chunk]) -> list[bytes]:
    """Return the lines that some chunks have."""
    return [line for chunk in chunks for line in b"".join(snapshot.read(route, chunk)).splitlines()]


def finish(snapshot: PostgresSnapshot, chunks: Iterable[Chunk]) -> list[DoneChunk]:
    """Return chunks as they are noted when the target has them."""
    return [DoneChunk(chunk, str(snapshot.position), snapshot.token, 0, 0) for chunk in chunks]
