"""Batches fed to a MySQL or MariaDB target by hand: which rows arrive, together with what, and how often."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cdcflow.model.change import ChangeBatch, Receipt, Rows, Step
from cdcflow.model.frame import Cell, RowBatch, image
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName
from cdcflow.sources.postgres.position import Lsn
from cdcflow.state.store import open_store
from cdcflow.targets.mysql import MysqlTarget
from tests.conftest import MakeMysqlDatabase
from tests.servers.fleet import Fleet
from tests.servers.mysql_database import MysqlDatabase

Changes = Sequence[tuple[str, Sequence[Cell] | None, Sequence[Cell] | None]]

_ids = itertools.count(40_000)

# What a source calls the types of the tests' columns.
LOGICAL = {
    "boolean": Logical.BOOL, "smallint": Logical.INT2, "integer": Logical.INT4, "int": Logical.INT4,
    "int unsigned": Logical.INT8, "bigint": Logical.INT8,
    "bigint unsigned": Logical.UINT8, "numeric": Logical.DECIMAL, "decimal": Logical.DECIMAL,
    "real": Logical.FLOAT4, "float": Logical.FLOAT4, "double": Logical.FLOAT8, "double precision": Logical.FLOAT8,
    "text": Logical.TEXT, "longtext": Logical.TEXT, "varchar": Logical.TEXT, "char": Logical.TEXT,
    "character varying": Logical.TEXT, "character": Logical.TEXT, "bytea": Logical.BYTES, "blob": Logical.BYTES,
    "varbinary": Logical.BYTES, "binary": Logical.BYTES, "date": Logical.DATE, "datetime": Logical.TIMESTAMP,
    "timestamp": Logical.TIMESTAMPTZ, "timestamp without time zone": Logical.TIMESTAMP,
    "timestamp with time zone": Logical.TIMESTAMPTZ, "time": Logical.INTERVAL, "year": Logical.INT2,
    "time without time zone": Logical.TIME, "interval": Logical.INTERVAL, "uuid": Logical.UUID, "json": Logical.JSON,
    "jsonb": Logical.JSON, "bit": Logical.BIT, "bit varying": Logical.BIT, "enum": Logical.ENUM, "set": Logical.SET,
    "geometry": Logical.GEOMETRY, "point": Logical.GEOMETRY, "vector": Logical.ARRAY, "text[]": Logical.ARRAY,
    "inet": Logical.OTHER, "tinyint": Logical.INT2, "int4range": Logical.OTHER,
}  # fmt: skip


def column(name: str, kind: str = "text", number: int = 0, *, logical: Logical | None = None, **more: Any) -> Column:
    """Return a column; `kind` is its type as its engine writes it."""
    native = {key: more.pop(key) for key in ("charset", "collation", "srid", "labels") if key in more}
    plain = kind.split("(")[0].strip() + (kind.split(")", 1)[1] if ")" in kind else "")
    return Column(name, NativeType(kind, **native), logical or LOGICAL[plain.strip()], number=number, **more)


def table(*columns: Column, key: tuple[str, ...] = ("id",), name: str = "t", schema: str = "d", **more: Any) -> Table:
    """Return a table whose primary key is `key`, its columns numbered by place where a test does not say."""
    numbered = tuple(replace(c, number=c.number or at) for at, c in enumerate(columns, 1))
    more.setdefault("primary_key", key)
    return Table(TableName(schema, name), more.pop("id", next(_ids)), numbered, key, **more)


ID, V = column("id", "integer", 1, nullable=False), column("v", "text", 2)


class Fed:
    """A target that gets its batches from the test."""

    def __init__(self, database: MysqlDatabase, *, infile: bool = True) -> None:
        self.database = database
        self.name = f"p_{database.name}"[:40]
        self.store = open_store(database.url)
        self.store.migrate()
        self.epoch = self.store.acquire(self.name, {"host": "here", "process": "1"})
        self.target = MysqlTarget(database.url, self.name)
        self.target.begin(self.name, self.epoch)
        self.infile = infile
        self._position = 0

    def route(self, source: Table, rename: dict[str, str] | None = None, to: str = "", **more: Any) -> Route:
        """Return the route of a table into the test's own database."""
        names = rename or {}
        more.setdefault("key", source.key)
        columns = tuple((c, names.get(c.name, c.name)) for c in source.columns if not c.generated)
        return Route(source, TableName(self.database.name, to or source.name.table), columns, **more)

    def made(self, *columns: Column, rename: dict[str, str] | None = None, **more: Any) -> Route:
        """Make a table (by default `id`, `v` of PostgreSQL) at the target; return its route."""
        routed = {k: more.pop(k) for k in ("on_delete", "on_truncate", "mode", "schema_changes") if k in more}
        made = self.route(table(*(columns or (ID, V)), **more), rename, **routed)
        self.target.create(made)
        return made

    def rows(self, of: Route, changes: Changes, *, replayed: bool = False) -> Rows:
        ops = "".join(op for op, _, _ in changes).encode()
        before = [image(list(cells)) if cells is not None else b"" for _, cells, _ in changes]
        after = [image(list(cells)) if cells is not None else b"" for _, _, cells in changes]
        frame = RowBatch(
            of,
            tuple(each.name for each in of.source.columns if not each.generated),
            ops,
            b"".join(after),
            b"".join(struct.pack("=i", len(each)) for each in after),
            b"".join(before),
            b"".join(struct.pack("=i", len(each)) for each in before),
            replayed,
        )
        return Rows({0: frame}, bytes(4 * len(changes)))

    def batch(self, *steps: Step, large: bool = False, complete: bool = True) -> ChangeBatch:
        self._position += 100
        rows = sum(len(step) for step in steps if isinstance(step, Rows)) + (1000 if large else 0)
        return ChangeBatch(list(steps), Lsn(self._position), 1, complete=complete, rows=rows)

    def send(self, *steps: Step, large: bool = False, complete: bool = True) -> Receipt:
        batch = self.batch(*steps, large=large, complete=complete)
        if not self.infile:
            self._without_infile()
        return self.target.apply(batch)

    def _without_infile(self) -> None:
        applier = self.target._applier
        assert applier is not None
        applier._connected().infile = False

    def apply(self, of: Route, changes: Changes, *, replayed: bool = False, large: bool = False) -> Receipt:
        return self.send(self.rows(of, changes, replayed=replayed), large=large)

    def position(self) -> str:
        found = self.store.checkpoint(self.name)
        assert found is not None
        return found.position

    def again(self) -> None:
        """Go on as a new process would: with another epoch and other connections."""
        self.target.close()
        self.epoch = self.store.acquire(self.name, {"host": "here", "process": "2"})
        self.target = MysqlTarget(self.database.url, self.name)
        self.target.begin(self.name, self.epoch)

    def close(self) -> None:
        self.target.close()
        self.store.forget(self.name)
        self.store.release()
        self.store.close()


def found(fed: Fed, query: str = "SELECT id, v FROM t ORDER BY 1") -> list[tuple[object, ...]]:
    return fed.database.query(query)


def after(fed: Fed, old: Route, *columns: Column, **more: Any) -> Route:
    """Return the route of the same table in its next shape."""
    source = replace(table(*columns, key=old.key), id=old.source.id, engine=old.source.engine)
    return fed.route(source, **more)


@pytest.fixture(params=["mysql", "mariadb"])
def fed(request: pytest.FixtureRequest, fleet: Fleet, new_mysql_database: MakeMysqlDatabase) -> Iterator[Fed]:
    """A target that gets its batches from the test, on both servers."""
    server = fleet.mysql(role="target") if request.param == "mysql" else fleet.mariadb("target")
    made = Fed(new_mysql_database(server, "fed"))
    yield made
    made.close()
