"""A schema read from a real source and made at a real target: nothing is lost between the two catalogs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cdcflow.model.check import Level
from cdcflow.model.context import Context
from cdcflow.model.route import Route
from cdcflow.sources.postgres import Config
from cdcflow.sources.postgres import open as open_source
from cdcflow.targets.postgres import PostgresTarget
from tests.conftest import MakeDatabase
from tests.integration.target_shapes import route
from tests.servers.database import Database
from tests.servers.fleet import PostgresServer

SHOP = """
CREATE SCHEMA "My Shop";
CREATE SCHEMA other;
CREATE TYPE "My Shop".mood AS ENUM ('sad', 'it''s', 'a,"b"', '🐘');
CREATE TYPE other.mood AS ENUM ('x');
CREATE DOMAIN "My Shop".percent AS numeric(5,2) DEFAULT 0 CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE "My Shop"."Pair" AS ("from" "My Shop".percent, m "My Shop".mood[], t text COLLATE "C");
CREATE TYPE other.span AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi);
CREATE TABLE "My Shop"."Order ""50%"" :x" (
    id bigint GENERATED ALWAYS AS IDENTITY (START 100) PRIMARY KEY,
    "Select" varchar(10) NOT NULL DEFAULT 'a''b%s',
    mood "My Shop".mood DEFAULT '🐘',
    moods "My Shop".mood[],
    other other.mood,
    pair "My Shop"."Pair",
    spans other.span[],
    multi nummultirange,
    price numeric(12,2), share "My Shop".percent,
    bits bit varying(7), fixed char(3), stamp timestamp(3) with time zone DEFAULT now(),
    document jsonb NOT NULL DEFAULT '{}', words tsvector, place point, net cidr,
    twice bigint GENERATED ALWAYS AS (id * 2) STORED,
    parent bigint REFERENCES "My Shop"."Order ""50%"" :x" ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    place_box box,
    EXCLUDE USING gist (place_box WITH &&),
    UNIQUE ("Select", mood) DEFERRABLE
);
CREATE INDEX "Expr; --" ON "My Shop"."Order ""50%"" :x" (lower("Select") DESC, (document ->> 'a,(b'))
    WHERE price > 0 AND "Select" <> 'it''s (odd';
CREATE INDEX ON "My Shop"."Order ""50%"" :x" USING gin (document jsonb_path_ops);
CREATE UNIQUE INDEX covering ON "My Shop"."Order ""50%"" :x" (price, share NULLS FIRST) INCLUDE (bits);
CREATE TABLE serials (id serial PRIMARY KEY, small smallserial, big bigserial);
CREATE TABLE keyless (a int, b text[] DEFAULT '{1,"x y"}');
CREATE TABLE parts (id int, day date NOT NULL, "of" text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE INDEX ON parts ("of");
CREATE TABLE lines (id int PRIMARY KEY, part int, day date, FOREIGN KEY (part, day) REFERENCES parts ON DELETE CASCADE);
COMMENT ON TABLE serials IS 'it''s 100%';
"""

COLUMNS = """
SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated,
       CASE WHEN a.attidentity = '' THEN pg_get_expr(d.adbin, d.adrelid) END, a.attidentity <> ''
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname IN ('public', 'My Shop', 'other')
  AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2, a.attnum
"""
INDEXES = """
SELECT n.nspname, c.relname, x.indisunique, split_part(replace(pg_get_indexdef(x.indexrelid), ' ONLY ', ' '), ' ON ', 2)
FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT c.relispartition AND n.nspname IN ('public', 'My Shop', 'other') ORDER BY 1, 2, 3, 4
"""
CONSTRAINTS = """
SELECT n.nspname, c.relname, k.contype::text, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype IN ('p', 'u', 'f', 'x') AND k.conparentid = 0 AND NOT c.relispartition
  AND n.nspname IN ('public', 'My Shop', 'other') ORDER BY 1, 2, 3, 4
"""
SEQUENCES = (
    "SELECT schemaname, sequencename, data_type::text FROM pg_sequences WHERE schemaname <> 'cdcflow' ORDER BY 1, 2"
)


def routes_of(database: Database) -> list[Route]:
    source = open_source(Config(url=database.url), Context("shop", 1 << 28, 100_000, 1 << 26))
    try:
        return [route(each, key=each.key) for each in source.tables() if each.partition_of is None]
    finally:
        source.close()


@pytest.mark.parametrize(("source", "target"), [(14, 18), (18, 14), (15, 17), (18, 18)])
def test_the_targets_schema_is_the_sources(
    pg: Callable[..., PostgresServer], new_database: MakeDatabase, source: int, target: int
) -> None:
    here, there = new_database(pg(source)), new_database(pg(target))
    here.execute(SHOP)
    writer = PostgresTarget(there.url, "shop")
    routes = routes_of(here)
    assert {each.level for each in writer.check(routes)} == {Level.OK}
    for each in routes:
        writer.create(each)
    writer.finish(routes)
    writer.finish(routes)
    for look in (COLUMNS, INDEXES, CONSTRAINTS, SEQUENCES):
        assert there.query(look) == here.query(look)
    assert not [each for each in writer.check(routes) if each.level is not Level.OK]
    assert there.value("SELECT obj_description('serials'::regclass)").startswith("it's 100%\n[made by cdcflow")


def test_a_column_added_with_a_default_brings_the_value_that_older_rows_have(
    source_db: Database, target_db: Database
) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    source_db.execute(
        "ALTER TABLE t ADD COLUMN at timestamptz DEFAULT now(), ADD COLUMN l int[] DEFAULT '{1,NULL}',"
        " ADD COLUMN x text DEFAULT 'a\"b,{}\\'"
    )
    (made,) = routes_of(source_db)
    missing = {column.name: column.missing for column, _ in made.columns}
    assert missing["x"] == 'a"b,{}\\'
    assert missing["at"] == source_db.value("SELECT at::text FROM t")
    assert missing["l"] == "{1,NULL}"
