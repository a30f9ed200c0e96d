"""What the tests of a MySQL table's initial copy share: a database, routes, and chunks as lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.model.schema import TableName
from cdcflow.sources.mysql import catalog
from cdcflow.sources.mysql.sessions import Sessions
from cdcflow.sources.mysql.snapshot import MysqlSnapshot
from tests.servers.fleet import Fleet, MysqlLike
from tests.servers.mysql_database import MysqlDatabase

SERVERS = ("mysql-9.7", "mysql-8.0", "mariadb-11.8")


def database(server: str, fleet: Fleet, new_mysql_database: Callable[..., MysqlDatabase]) -> MysqlDatabase:
    """Return a new database on one of `SERVERS`."""
    flavour, _, version = server.partition("-")
    of: MysqlLike = fleet.mysql(version, "source") if flavour == "mysql" else fleet.mariadb("source")
    return new_mysql_database(of, "copy")


@contextmanager
def opened(db: MysqlDatabase) -> Iterator[Sessions]:
    with closing(Sessions(db.url)) as sessions:
        yield sessions


def route_of(db: MysqlDatabase, table: str = "t", **changes: Any) -> Route:
    with opened(db) as sessions, sessions.sql() as connection:
        found = catalog.shape_of(connection, sessions.flavour, TableName(db.name, table))
    assert found is not None
    columns = tuple((column, column.name) for column in found.columns if not column.generated)
    return replace(Route(found, found.name, columns, found.key), **changes)


def fresh(route: Route, **changes: Any) -> Route:
    """The same with other estimates, as another server's statistics would have them."""
    return replace(route, source=replace(route.source, **changes))


def read(snapshot: MysqlSnapshot, route: Route, done: Sequence[DoneChunk] = ()) -> list[tuple[Chunk, list[str]]]:
    """Plan and read what is left of a table: each chunk with its lines."""
    return [(chunk, lines(snapshot, route, chunk)) for chunk in snapshot.plan(route, done)]


def lines(snapshot: MysqlSnapshot, route: Route, chunk: Chunk) -> list[str]:
    return b"".join(snapshot.read(route, chunk)).decode().split("\n")[:-1]


def whole(db: MysqlDatabase, table: str = "t", **options: Any) -> list[str]:
    route = route_of(db, table)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, **options)) as snapshot:
        return [line for _, found in read(snapshot, route) for line in found]


def finished(snapshot: MysqlSnapshot, chunk: Chunk) -> DoneChunk:
    return DoneChunk(chunk, str(snapshot.position), snapshot.token, 0, 0)
