"""Which of a table's shapes is its newest: one that comes back, and those of other publishers' topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka_pairs import Through, through
from tests.servers.commands import Commands, PipelineFolder
from tests.servers.database import Database, same
from tests.servers.kafka_server import Kafka
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.waiting import until

Make = Callable[..., Through]


@pytest.fixture
def between(tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database) -> Iterator[Make]:
    """`between(partitions=1)`: two pipelines, ended with the test."""
    made: list[Through] = []

    def make(**options: Any) -> Through:
        made.append(through(tmp_path, kafka, source_db, target_db, **options))
        return made[-1]

    yield make
    for one in made:
        one.end()


def columns(database: Database) -> list[str]:
    """Return the names of the columns of `t`."""
    return [
        name
        for (name,) in database.query(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass('t') AND attnum > 0"
            " AND NOT attisdropped ORDER BY attnum"
        )
    ]


def test_a_shape_that_comes_back_is_applied_by_an_instance_that_read_other_rows_with_it(between: Make) -> None:
    way = between(partitions=1)
    way.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE other (id int PRIMARY KEY);"
        "INSERT INTO t VALUES (1, 'x')"
    )
    way.publish()
    one = way.instance()
    until(lambda: columns(way.target) == ["id", "a"], what="the table is there")
    one.pause()
    way.source.execute("ALTER TABLE t RENAME a TO b; INSERT INTO t VALUES (2, 'y')")
    way.source.execute("INSERT INTO other SELECT generate_series(1, 500)")
    way.source.execute("ALTER TABLE t RENAME b TO a; INSERT INTO t VALUES (3, 'z')")
    way.publish()
    one.resume()
    until(lambda: one.ended or way.target.value("SELECT count(*) FROM t") == 3, what="the last row is there")
    assert not one.ended, one.log()
    assert columns(way.target) == ["id", "a"]
    same(way.source, way.target, "t")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("engine", ["postgres", "mysql"])
def test_rows_of_an_older_shape_that_come_late_get_what_older_rows_have_in_an_added_column(
    request: pytest.FixtureRequest, tmp_path: Path, kafka: Kafka, source_db: Database, engine: str
) -> None:
    """Whatever its default is at the source by then: one partition brings the new shape before the other's old rows."""
    target: Any = request.getfixturevalue("target_db" if engine == "postgres" else "mysql_target_db")
    if engine == "mysql":
        target.execute("DROP DATABASE IF EXISTS cdcflow")
    way = through(tmp_path, kafka, source_db, target, partitions=2)
    schema = "public" if engine == "postgres" else target.name
    way.into.write_rules({"match": "public.*", "to": f"{schema}.{{table}}"})
    has_x = f"SELECT count(*) FROM information_schema.columns WHERE table_schema = '{schema}' AND column_name = 'x'"

    def rows(count: int) -> bool:
        assert not one.ended, one.log()
        assert not other.ended, other.log()
        return bool(target.value("SELECT count(*) FROM t") == count)

    try:
        way.source.execute(
            "CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT n, 'x' FROM generate_series(1, 40) n"
        )
        way.publish()
        one, other = way.instance(), way.instance()
        owners = "SELECT count(DISTINCT owner) FROM cdcflow.shares"
        until(lambda: rows(40) and target.value(owners) == 2, limit=60, what="both read, and the first rows are there")
        one.pause()
        way.source.execute("INSERT INTO t SELECT n, 'y' FROM generate_series(41, 80) n")
        way.source.execute(
            "ALTER TABLE t ADD x int NOT NULL DEFAULT 7, ADD y text DEFAULT 'then', ADD z int DEFAULT 3;"
            "ALTER TABLE t ALTER x DROP DEFAULT, ALTER y SET DEFAULT 'now';"
            "INSERT INTO t SELECT n, 'z', n, 'own', n FROM generate_series(81, 120) n"
        )
        way.publish()
        until(lambda: other.ended or target.value(has_x) == 1, limit=150, what="the new shape is there")
        one.resume()
        until(lambda: rows(120), limit=60, what="the late rows are there")
        all_rows = "SELECT id, a, x, y, z FROM t ORDER BY id"
        assert list(target.query(all_rows)) == list(way.source.query(all_rows))
    finally:
        way.end()


@pytest.mark.parametrize("beside", [True, False], ids=["beside the other's", "in place of the other's"])
def test_the_shapes_of_another_publisher_are_newer_than_what_the_first_one_told(
    between: Make, tmp_path: Path, beside: bool
) -> None:
    way = between(partitions=1)
    way.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'x'); CREATE SEQUENCE n START 2"
    )
    way.publish()
    for column in ("b", "c"):
        way.source.execute(f"ALTER TABLE t ADD {column} text; INSERT INTO t (id, {column}) VALUES (nextval('n'), 'y')")
    way.publish()
    way.apply()
    assert columns(way.target) == ["id", "a", "b", "c"]
    way.source.execute("ALTER TABLE t ADD d text; UPDATE t SET d = 'z'")
    (tmp_path / "later").mkdir()
    later = PipelineFolder(tmp_path / "later", f"{way.name}x", way.source.url, way.kafka.url())
    later.write_config(target={"url": way.kafka.url(), "partitions": 1}).write_rules("public.*")
    commands = Commands(tmp_path / "later")
    commands.call("run", "--until-caught-up", exit_code=0)
    topics = [f"{way.name}*"] if beside else [f"{way.name}x.*"]
    way.into.write_config(source={"url": way.kafka.url(), "topics": topics})
    way.apply()
    same(way.source, way.target, "t")
    way.source.execute("ALTER TABLE t ADD e text; UPDATE t SET e = 'w'")
    commands.call("run", "--until-caught-up", exit_code=0)
    way.apply()
    same(way.source, way.target, "t")


def test_a_column_that_is_dropped_and_added_again_has_none_of_its_old_values(
    tmp_path: Path, kafka: Kafka, mysql_source_db: MysqlDatabase, target_db: Database
) -> None:
    """No row had the shape in between, so no message tells of it but its record."""
    source, wanted = mysql_source_db, [(1, None), (2, 6), (3, None), (4, None)]
    way = through(tmp_path, kafka, source, target_db, partitions=3, match=f"{source.name}.*")
    try:
        source.execute("CREATE TABLE t (id int PRIMARY KEY, c int)")
        source.execute("INSERT INTO t VALUES (1, 5), (3, 5), (4, 5)")
        way.publish()
        source.execute("ALTER TABLE t DROP c")
        source.execute("ALTER TABLE t ADD c int")
        source.execute("INSERT INTO t VALUES (2, 6)")
        way.publish()
        way.apply()
        assert [tuple(row) for row in source.query("SELECT id, c FROM t ORDER BY id")] == wanted
        assert target_db.query(f'SELECT id, c FROM "{source.name}".t ORDER BY id') == wanted
    finally:
        way.end()
