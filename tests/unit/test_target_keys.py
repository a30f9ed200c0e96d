"""Keys that a table of one's own would hold for equal though the source tells them apart."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName
from cdcflow.targets.postgres import catalog as pg_catalog
from cdcflow.targets.postgres import compare as pg_compare
from cdcflow.targets.sqlite import catalog, compare

TEXT = Column("k", NativeType("text", 25), Logical.TEXT, nullable=False, number=1)
CITEXT = replace(TEXT, type=NativeType('"ext".citext', 16400))
CI = replace(TEXT, type=NativeType("varchar(20)", charset="utf8mb4", collation="utf8mb4_0900_as_ci"))
CS = replace(TEXT, type=NativeType("varchar(20)", charset="utf8mb4", collation="utf8mb4_cs_0900_as_cs"))


def _route(column: Column) -> Route:
    engine = "mysql" if column.type.collation else "postgresql"
    source = Table(TableName("public", "t"), 7, (column,), ("k",), ("k",), engine=engine)
    return Route(source, source.name, ((column, "k"),), ("k",))


@pytest.mark.parametrize(
    ("column", "looser"),
    [(TEXT, True), (CS, True), (CI, False), (CITEXT, False), (replace(TEXT, number=0), False)],
    ids=["text", "with case", "without case", "citext", "of messages"],
)
def test_a_column_without_case_is_refused_where_the_sources_key_has_it(column: Column, looser: bool) -> None:
    route = _route(column)
    key = pg_catalog.UniqueKey("t_pkey", ("k",), True)
    there = pg_catalog.TargetTable(route.target, 1, "r", (pg_catalog.TargetColumn("k", "ext.citext", True),), (key,))
    wanted = ['ALTER TABLE "public"."t" ALTER COLUMN "k" TYPE text'] * looser
    assert [each.do for each in pg_compare.problems(route, there)] == wanted
    for made in ("k TEXT COLLATE NOCASE PRIMARY KEY", "k TEXT, UNIQUE (k COLLATE nocase)"):
        with sqlite3.connect(":memory:") as connection:
            connection.execute(f"CREATE TABLE t ({made})")
            table = catalog.table(connection, "t")
        assert table is not None
        assert [each.name for each in compare.problems(route, table)] == ["target.key"] * looser


@pytest.mark.parametrize(("column", "looser"), [(TEXT, True), (CS, False)], ids=["exact", "with case"])
def test_trailing_spaces_count_where_bytes_do(column: Column, looser: bool) -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (k TEXT COLLATE RTRIM PRIMARY KEY)")
        table = catalog.table(connection, "t")
    assert table is not None
    assert [each.name for each in compare.problems(_route(column), table)] == ["target.key"] * looser


def test_a_table_that_tells_apart_what_the_source_does_is_taken() -> None:
    route = _route(TEXT)
    key = pg_catalog.UniqueKey("t_pkey", ("k",), True)
    there = pg_catalog.TargetTable(route.target, 1, "r", (pg_catalog.TargetColumn("k", "text", True),), (key,))
    assert not pg_compare.problems(route, there)
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY) WITHOUT ROWID")
        table = catalog.table(connection, "t")
    assert table is not None
    assert not compare.problems(route, table)
