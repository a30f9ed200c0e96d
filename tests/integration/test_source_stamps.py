"""Fingerprints: what counts as a rewrite and what does not, asked of real servers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cdcflow.model.context import Context
from cdcflow.sources.postgres import Config, PostgresSource
from tests.servers.database import Database

VERSIONS = [14, 16, 18]


@pytest.fixture(params=VERSIONS)
def database(
    request: pytest.FixtureRequest, pg: Callable[..., object], new_database: Callable[..., Database]
) -> Database:
    return new_database(pg(request.param))


@pytest.fixture
def source(database: Database):
    source = PostgresSource(Config(url=database.url), Context("stamps", 256_000_000, 100_000, 64_000_000))
    yield source
    source.close()


def look(source: PostgresSource, database: Database, table: str = "t") -> str:
    oid = database.value("SELECT %s::regclass::oid::bigint", [table])
    return source.stamps([oid])[oid]


def make(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(10), c text);"
        "INSERT INTO t SELECT n, n, n, n FROM generate_series(1, 50) n; CREATE INDEX ON t (a)"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t ALTER a TYPE bigint",
        "ALTER TABLE t ALTER a TYPE int USING a + 1",
        "ALTER TABLE t ALTER c TYPE int USING c::int",
        "ALTER TABLE t ADD COLUMN d float DEFAULT random()",
        "ALTER TABLE t ADD COLUMN d int GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE t ADD COLUMN d serial",
        "ALTER TABLE t DROP COLUMN c, ADD COLUMN c text",
        "ALTER TABLE t DROP COLUMN c, ADD COLUMN c bigint DEFAULT 9",
        "BEGIN; ALTER TABLE t RENAME b TO x; ALTER TABLE t RENAME c TO b; ALTER TABLE t RENAME x TO c; COMMIT",
    ],
)
def test_a_statement_that_changes_rows_without_events_is_a_rewrite(
    source: PostgresSource, database: Database, statement: str
) -> None:
    make(database)
    before = look(source, database)
    database.execute(statement)
    assert source.rewritten(before, look(source, database))


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM FULL t",
        "VACUUM FREEZE pg_attribute",
        "CLUSTER t USING t_a_idx",
        "TRUNCATE t",
        "ANALYZE t",
        "ALTER TABLE t ADD COLUMN d int DEFAULT 7",
        "ALTER TABLE t ADD COLUMN d int",
        "ALTER TABLE t DROP COLUMN c",
        "ALTER TABLE t RENAME COLUMN c TO cc",
        "ALTER TABLE t ALTER b TYPE varchar(20)",
        "ALTER TABLE t ALTER b TYPE text",
        "ALTER TABLE t ALTER c SET NOT NULL",
        "ALTER TABLE t ALTER c SET STATISTICS 50",
        "ALTER TABLE t RENAME TO u; CREATE VIEW t AS SELECT 1; DROP VIEW t; ALTER TABLE u RENAME TO t",
        "INSERT INTO t VALUES (1000); UPDATE t SET a = 0; DELETE FROM t WHERE id < 10",
        "CREATE INDEX ON t (b)",
    ],
)
def test_a_statement_that_leaves_the_rows_alone_or_has_events_is_none(
    source: PostgresSource, database: Database, statement: str
) -> None:
    make(database)
    before = look(source, database)
    database.execute(statement)
    assert not source.rewritten(before, look(source, database))


def test_a_dropped_column_and_a_new_file_between_two_looks_are_no_rewrite(
    source: PostgresSource, database: Database
) -> None:
    make(database)
    before = look(source, database)
    database.execute("ALTER TABLE t DROP COLUMN c")
    database.execute("VACUUM FULL t")
    assert not source.rewritten(before, look(source, database))


def test_a_rewrite_followed_by_other_new_files_is_still_seen(source: PostgresSource, database: Database) -> None:
    make(database)
    before = look(source, database)
    database.execute("ALTER TABLE t ALTER a TYPE bigint")
    database.execute("VACUUM FULL t")
    database.execute("VACUUM FULL pg_attribute")
    assert source.rewritten(before, look(source, database))


def partitioned(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int, a int, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (100) PARTITION BY RANGE (id);"
        "CREATE TABLE t21 PARTITION OF t2 FOR VALUES FROM (10) TO (20);"
        "INSERT INTO t SELECT n FROM generate_series(0, 19) n"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t22 PARTITION OF t2 FOR VALUES FROM (20) TO (30); INSERT INTO t VALUES (25)",
        "CREATE TABLE t22 PARTITION OF t2 (a DEFAULT 3 NOT NULL) FOR VALUES FROM (20) TO (30)",
        "ALTER TABLE t DETACH PARTITION t1",
        "DROP TABLE t21",
        "VACUUM FULL t1",
        "ALTER TABLE t ADD COLUMN b int DEFAULT 3",
    ],
)
def test_ordinary_work_on_partitions_is_no_rewrite(source: PostgresSource, database: Database, statement: str) -> None:
    partitioned(database)
    before = look(source, database)
    database.execute(statement)
    assert not source.rewritten(before, look(source, database))


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t ALTER a TYPE bigint",
        "CREATE TABLE t22 (LIKE t); INSERT INTO t22 VALUES (21, 1);"
        " ALTER TABLE t2 ATTACH PARTITION t22 FOR VALUES FROM (20) TO (30)",
        "CREATE TABLE t22 AS SELECT 21 AS id, 1 AS a; ALTER TABLE t22 ALTER id SET NOT NULL;"
        " ALTER TABLE t2 ATTACH PARTITION t22 FOR VALUES FROM (20) TO (30)",
        "ALTER TABLE t DETACH PARTITION t1; UPDATE t1 SET a = 5;"
        " ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t3 (LIKE t) PARTITION BY RANGE (id);"
        " CREATE TABLE t31 PARTITION OF t3 FOR VALUES FROM (100) TO (110);"
        " INSERT INTO t3 VALUES (100); ALTER TABLE t ATTACH PARTITION t3 FOR VALUES FROM (100) TO (110)",
    ],
)
@pytest.mark.parametrize("one_transaction", [True, False])
def test_rows_that_come_with_a_partition_or_a_rewrite_of_the_root_are_one(
    source: PostgresSource, database: Database, statement: str, one_transaction: bool
) -> None:
    partitioned(database)
    before = look(source, database)
    for part in [statement] if one_transaction else statement.split(";"):
        database.execute(part)
    assert source.rewritten(before, look(source, database))


def test_an_empty_fingerprint_says_nothing(source: PostgresSource, database: Database) -> None:
    make(database)
    now = look(source, database)
    assert not source.rewritten("", now)
    assert not source.rewritten(now, "")


def test_a_table_that_is_gone_has_no_fingerprint(source: PostgresSource) -> None:
    assert source.stamps([999_999_999]) == {}
