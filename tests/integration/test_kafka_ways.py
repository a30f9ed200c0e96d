"""Ways through Kafka that a person takes with the command: other targets, formats, topics that grow, late appliers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions

from tests.integration.kafka_pairs import Through, through
from tests.servers.commands import Running
from tests.servers.database import Database, is_same, same
from tests.servers.kafka_server import Kafka
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.sides import File, Rows, Side, same_sides
from tests.servers.waiting import until

Make = Callable[..., Through]

TABLE = (
    "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(10,2), at timestamptz);"
    "INSERT INTO t SELECT n, 'row ' || n, n / 7.0, '2024-02-29 12:00:00+00' FROM generate_series(1, 200) n"
)
CHANGES = (
    "UPDATE t SET v = NULL WHERE id % 3 = 0; DELETE FROM t WHERE id % 5 = 0;"
    "UPDATE t SET id = id + 1000 WHERE id % 7 = 0;"
    "INSERT INTO t SELECT n, 'é \"new\" ' || n, -n, NULL FROM generate_series(300, 340) n"
)


@pytest.fixture
def between(tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database) -> Iterator[Make]:
    """`between(target)`: the pipelines of this test, ended with it; into the test's PostgreSQL where none is named."""
    made: list[Through] = []

    def make(target: Any = target_db, **options: Any) -> Through:
        made.append(through(tmp_path / str(len(made)), kafka, source_db, target, **{"partitions": 2, **options}))
        return made[-1]

    yield make
    for one in made:
        one.end()


def equal(way: Through, *processes: Running) -> None:
    """Wait until the target's `t` is the source's; fail at once where a process has ended."""

    def reached() -> bool:
        for process in processes:
            assert not process.ended, process.log()
        return is_same(way.source, way.target, "t")

    until(reached, limit=90, what="the target equals the source")


@pytest.mark.parametrize(
    ("out", "into"),
    [
        ({"envelope": "flat", "compression": "zstd"}, {"envelope": "flat"}),
        ({"envelope": "cloudevents", "mode": "structured"}, {"envelope": "cloudevents"}),
        ({"envelope": "cloudevents", "mode": "binary", "compression": "gzip"}, {"envelope": "cloudevents"}),
    ],
    ids=["flat", "structured", "binary"],
)
def test_other_envelopes_than_debezium_s_bring_the_same_rows(
    between: Make, out: dict[str, str], into: dict[str, str]
) -> None:
    way = between(out=out, into=into)
    way.source.execute(TABLE)
    way.publish()
    way.source.execute(CHANGES)
    way.publish()
    way.apply()
    same(way.source, way.target, "t")


@pytest.mark.parametrize("engine", ["mysql", "sqlite"])
def test_rows_go_through_kafka_into_other_databases(
    request: pytest.FixtureRequest, between: Make, tmp_path: Path, engine: str
) -> None:
    side: Side = File(tmp_path / "0" / "into" / "copy.db")
    if engine == "mysql":
        database: MysqlDatabase = request.getfixturevalue("mysql_target_db")
        database.execute("DROP DATABASE IF EXISTS cdcflow")
        side = Rows(database)
    way = between(side)
    if engine == "mysql":
        way.into.write_rules({"match": "public.*", "to": f"{side.schema}.{{table}}"})
    way.source.execute(TABLE.replace(", at timestamptz", "").replace(", '2024-02-29 12:00:00+00'", ""))
    way.publish()
    way.apply()
    way.source.execute("TRUNCATE t; INSERT INTO t SELECT n, 'behind', n FROM generate_series(5, 100) n")
    way.source.execute(CHANGES.replace(", NULL FROM", " FROM"))
    way.source.execute("ALTER TABLE t ADD added int DEFAULT 3; UPDATE t SET added = id WHERE id % 2 = 0")
    way.publish()
    way.apply()
    same_sides(Rows(way.source), side, "t")


def test_an_applier_that_comes_later_builds_its_target_from_what_compaction_has_left(between: Make) -> None:
    way = between(partitions=1, out={"compact": True})
    way.kafka.create_topic(
        way.topic("public.t"),
        cleanup_policy="compact",
        segment_ms="50",
        min_cleanable_dirty_ratio="0.01",
        delete_retention_ms="0",
        min_compaction_lag_ms="0",
    )

    def copied() -> int:
        return sum(each.header("cdcflow.op") == b"r" for each in way.kafka.read(way.topic("public.t")))

    way.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT generate_series(1, 30), 0")
    way.publish()
    assert copied() == 30  # compaction takes none while each key is there once
    way.source.execute("UPDATE t SET v = 1; DELETE FROM t WHERE id % 3 = 0")
    way.source.execute("UPDATE t SET v = 2 WHERE id % 2 = 0")
    way.publish()
    numbers = itertools.count(100)

    def compacted() -> bool:
        # The newest segment is never compacted: each message begins another.
        way.source.execute(f"INSERT INTO t VALUES ({next(numbers)}, 0)")
        way.publish()
        return not copied()

    until(compacted, limit=60, what="the copied rows are compacted away")
    way.apply()
    same(way.source, way.target, "t")


def test_an_applier_s_wish_for_a_new_copy_is_followed_by_the_publisher_that_runs(between: Make) -> None:
    way = between()
    way.source.execute(TABLE)
    publisher, applier = way.publishing.start("run"), way.instance()
    equal(way, publisher, applier)
    way.target.execute("DELETE FROM t WHERE id < 50; UPDATE t SET v = 'somebody was here' WHERE id = 60")
    said = way.applying.call("resync", "public.t", exit_code=0).stdout
    assert f'pipeline "{way.name}" will publish it once more' in said
    equal(way, publisher, applier)
    way.source.execute(CHANGES)
    equal(way, publisher, applier)
    told = [each for each in way.kafka.read(way.topic("public.t")) if each.header("cdcflow.op") == b"t"]
    assert len(told) == 2, "one truncate, in each partition"
    refused = way.applying.call("resync", "public.nothing", exit_code=2)
    assert "no pipeline of cdcflow publishes public.nothing" in refused.stderr


def test_partitions_that_are_added_while_both_sides_run_are_read_and_written_from_the_next_start_on(
    between: Make,
) -> None:
    way = between()
    way.source.execute(TABLE)
    publisher, applier = way.publishing.start("run"), way.instance()
    equal(way, publisher, applier)
    topic, admin = way.topic("public.t"), way.kafka._topics.admin
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
    way.source.execute(CHANGES)
    equal(way, publisher, applier)
    until(
        lambda: way.target.value("SELECT count(*) FROM cdcflow.shares") == 5, limit=60, what="five shares are claimed"
    )
    publisher.terminate()
    assert publisher.wait() == 0, publisher.log()
    assert {each.partition for each in way.kafka.read(topic)} == {0, 1}
    publisher = way.publishing.start("run")
    way.source.execute("UPDATE t SET v = 'spread'")
    equal(way, publisher, applier)
    assert {each.partition for each in way.kafka.read(topic)} == {0, 1, 2, 3, 4}
