"""PostgreSQL through Kafka into PostgreSQL, with the command as a person runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka_pairs import Through, through
from tests.servers.commands import Running
from tests.servers.database import Database, same
from tests.servers.kafka_server import Kafka
from tests.servers.waiting import until

Make = Callable[..., Through]


@pytest.fixture
def between(tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database) -> Iterator[Make]:
    """`between(partitions=4)`: the pipelines of this test, ended with it."""
    made: list[Through] = []

    def make(**options: Any) -> Through:
        made.append(through(tmp_path / str(len(made)), kafka, source_db, target_db, **options))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_what_is_copied_and_what_changes_arrives(between: Make) -> None:
    way = between()
    way.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(10,2));"
        "INSERT INTO t SELECT n, 'row ' || n, n / 7.0 FROM generate_series(1, 2000) n"
    )
    way.publish()
    way.apply()
    same(way.source, way.target, "t")
    way.source.execute("UPDATE t SET v = NULL WHERE id % 3 = 0")
    way.source.execute("DELETE FROM t WHERE id % 5 = 0")
    way.source.execute("UPDATE t SET id = id + 10000 WHERE id % 7 = 0")
    way.source.execute("INSERT INTO t SELECT n, 'new' FROM generate_series(5000, 5200) n")
    way.publish()
    way.apply()
    same(way.source, way.target, "t")


def test_two_instances_follow_changes_of_shape_moved_keys_and_a_truncate(between: Make) -> None:
    way = between(partitions=6)
    way.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text, gone int);"
        "INSERT INTO t SELECT n, 'row ' || n, n FROM generate_series(1, 300) n"
    )
    publisher = way.publishing.start("run")
    one, other = way.instance(), way.instance()
    run = way.source.execute
    equal(way, publisher, one, other)
    run(
        "ALTER TABLE t RENAME COLUMN a TO renamed; ALTER TABLE t DROP COLUMN gone;ALTER TABLE t ADD added int DEFAULT 7"
    )
    run("INSERT INTO t SELECT n, 'later', n FROM generate_series(1000, 1300) n")
    run("UPDATE t SET renamed = 'changed', added = id WHERE id % 4 = 0")
    run("UPDATE t SET id = id + 100000 WHERE id % 5 = 0")
    equal(way, publisher, one, other)
    run("TRUNCATE t")
    run("INSERT INTO t SELECT n, 'behind', n FROM generate_series(1, 50) n")
    equal(way, publisher, one, other)
    way.source.execute("INSERT INTO t SELECT n, 'last', n FROM generate_series(100, 150) n")
    equal(way, publisher, one, other)


def test_a_truncate_that_is_no_event_for_others_empties_the_target_all_the_same(between: Make) -> None:
    way = between(out={"signals": "marks"})
    way.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, n FROM generate_series(1, 50) n"
    )
    way.publish()
    way.apply()
    way.source.execute("TRUNCATE t; INSERT INTO t VALUES (7, 'behind')")
    way.publish()
    marks = [each for each in way.kafka.read(way.topic("public.t")) if each.header("cdcflow.op") == b"t"]
    assert [(each.partition, each.key, each.value) for each in marks] == [(n, None, None) for n in range(4)]
    way.apply()
    same(way.source, way.target, "t")


def equal(way: Through, *processes: Running) -> None:
    """Wait until the target's `t` is the source's; fail at once where a process has ended."""

    def reached() -> bool:
        for process in processes:
            if process.ended:
                return True
        same(way.source, way.target, "t")
        return True

    until(reached, limit=90, what="the target equals the source")
    for process in processes:
        assert not process.ended, process.log()


def test_a_poison_message_stops_the_command_after_what_is_before_it_or_is_put_aside(between: Make) -> None:
    way = between(partitions=1)
    way.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    way.publish()
    way.kafka.produce(way.topic("public.t"), "k", "{")
    way.source.execute("INSERT INTO t VALUES (2, 'b')")
    way.publish()
    said = way.apply(exit_code=5)
    assert f"topic {way.topic('public.t')}, partition 0, offset" in said
    assert way.target.query("SELECT id FROM t ORDER BY id") == [(1,)]
    way.into.write_config(source={**way.into.settings["source"], "unreadable": "dead_letter"})
    way.apply()
    same(way.source, way.target, "t")
    (letter,) = way.kafka.read(f"{way.into.name}.dead_letters")
    assert letter.value == b"{"


def test_all_tables_in_one_topic_in_the_order_of_transactions_are_applied_and_are_not_published_again(
    between: Make,
) -> None:
    way = between(partitions=2, out={"order": "transaction", "topic": "{pipeline}.all"})
    way.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY, v int)")
    way.publish()
    way.source.execute(
        "INSERT INTO t SELECT n, 0 FROM generate_series(1, 50) n; INSERT INTO u SELECT * FROM t; UPDATE t SET v = 1;"
        "TRUNCATE u; INSERT INTO u SELECT * FROM t WHERE id > 20"
    )
    way.publish()
    assert {each.partition for each in way.kafka.read(way.topic("all")) if each.header("cdcflow.op") != b"t"} == {0}
    way.apply()
    same(way.source, way.target, "t")
    same(way.source, way.target, "u")
    way.into.target_url = way.kafka.url()
    way.into.write_config(source=way.into.settings["source"])
    assert "from a bus, rows can go into a database only" in way.apply(exit_code=2)
