"""Rows that come later must not be overtaken by rows in other partitions: more partitions, names that come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from cdcflow.bus.formats import MEETING, SCHEMA
from tests.integration.kafka_pairs import Through, through
from tests.servers.database import Database, is_same, same
from tests.servers.kafka_server import Kafka
from tests.servers.kafka_topics import Message
from tests.servers.waiting import until

Make = Callable[[int], Through]


def marks(way: Through) -> list[Message]:
    """Return the marks in the topic of `t` at which readers wait, by partition."""
    found = way.kafka.read(way.topic("public.t"))
    return [message for message in found if message.header(MEETING) is not None]


def six_partitions(way: Through) -> None:
    """Give the topic of `t` six partitions."""
    topic, admin = way.topic("public.t"), way.kafka._topics.admin
    admin.create_partitions([NewPartitions(topic, 6)])[topic].result(30)
    until(lambda: len(admin.list_topics(topic).topics[topic].partitions) == 6, what="the topic has six partitions")


@contextmanager
def later(kafka: Kafka, topic: str, headers: list[tuple[str, str | bytes | None]], partition: int) -> Iterator[None]:
    """Write a message that is in its partition from now on, and read by nobody before the block ends."""
    producer = Producer({**kafka.client(), "transactional.id": f"{topic}.later", "transaction.timeout.ms": 300_000})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, headers=headers, partition=partition)
    assert producer.flush(30) == 0
    yield
    producer.commit_transaction(30)


@pytest.fixture
def between(tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database) -> Iterator[Make]:
    """`between(4)`: two pipelines with a topic of so many partitions between them, ended with the test."""
    made: list[Through] = []

    def make(partitions: int) -> Through:
        made.append(through(tmp_path, kafka, source_db, target_db, partitions=partitions))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_partitions_that_are_added_do_not_let_newer_rows_pass_older_ones(between: Make) -> None:
    """The first partition holds a long history, and the new ones, which hold the newest rows, are read beside it."""
    way = between(1)
    way.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    way.publish()
    way.source.execute("INSERT INTO t SELECT n, 0 FROM generate_series(1, 2000) n")
    for number in range(1, 21):
        way.source.execute(f"UPDATE t SET v = {number}")
    way.publish()
    six_partitions(way)
    way.source.execute("UPDATE t SET v = 100 WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0")
    way.publish()
    assert sorted(mark.partition for mark in marks(way)) == [0, 1, 2, 3, 4, 5]
    assert all(mark.value is None for mark in marks(way))
    way.apply()
    same(way.source, way.target, "t")
    way.source.execute("UPDATE t SET v = 200; INSERT INTO t SELECT n, 0 FROM generate_series(3000, 3100) n")
    way.publish()
    assert len(marks(way)) == 6, "once for each time that partitions are added"
    way.apply()
    same(way.source, way.target, "t")


def test_rows_of_a_copy_do_not_pass_what_was_changed_since_either(between: Make) -> None:
    """Nothing but the copy was published before the partitions came."""
    way = between(1)
    way.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int, pad text)")
    way.source.execute("INSERT INTO t SELECT n, 0, repeat(md5(n::text), 20) FROM generate_series(1, 20000) n")
    way.publish()
    six_partitions(way)
    way.source.execute("UPDATE t SET v = 1 WHERE id > 19900; DELETE FROM t WHERE id % 199 = 0")
    way.publish()
    assert sorted(mark.partition for mark in marks(way)) == [0, 1, 2, 3, 4, 5]
    way.apply()
    same(way.source, way.target, "t")


def test_a_mark_that_was_removed_from_some_partitions_is_waited_for_by_nobody(between: Make) -> None:
    way = between(3)
    way.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int, gone int)")
    way.publish()
    way.source.execute("INSERT INTO t SELECT n, n, n FROM generate_series(1, 300) n")
    way.source.execute("ALTER TABLE t DROP gone; UPDATE t SET v = 0")
    way.publish()
    assert sorted(mark.partition for mark in marks(way)) == [0, 1, 2]
    removed = way.kafka._topics.admin.delete_records(
        [TopicPartition(way.topic("public.t"), each, -1) for each in (0, 2)]
    )
    for each in removed.values():
        each.result(30)
    way.source.execute("UPDATE t SET v = id + 1")
    way.publish()
    way.apply()
    same(way.source, way.target, "t")


def test_a_column_name_that_is_given_away_is_not_used_again_before_all_have_come_so_far(between: Make) -> None:
    way = between(4)
    way.source.execute("CREATE TABLE t (id int PRIMARY KEY, a text)")
    way.publish()
    way.source.execute("INSERT INTO t SELECT n, 'old' FROM generate_series(1, 500) n")
    way.publish()
    way.source.execute("ALTER TABLE t RENAME a TO b")
    way.source.execute("UPDATE t SET b = 'older' WHERE id % 2 = 0")
    way.publish()  # a name that went to another column between two looks has the table copied again
    way.source.execute("ALTER TABLE t ADD a text")
    way.source.execute("UPDATE t SET a = 'newer' WHERE id % 3 = 0")
    way.publish()
    shapes: dict[int, list[bytes | None]] = {}
    for message in way.kafka.read(way.topic("public.t")):
        shape = None if message.header(MEETING) is not None else message.header(SCHEMA)
        seen = shapes.setdefault(message.partition, [])
        if not seen or seen[-1] != shape:
            seen.append(shape)
    assert shapes.keys() == set(range(4))
    for seen in shapes.values():
        assert seen[1] is None
        assert len({*seen[:3]}) == 3
    one, other = way.instance(), way.instance()

    until(lambda: one.ended or other.ended or is_same(way.source, way.target, "t"), limit=120, what="equal")
    for each in (one, other):
        assert not each.ended, each.log()
    same(way.source, way.target, "t")


def test_columns_that_are_added_need_no_waiting(between: Make) -> None:
    way = between(4)
    way.source.execute("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'x')")
    way.publish()
    way.source.execute("ALTER TABLE t ADD b int; UPDATE t SET b = 1")
    way.publish()
    assert marks(way) == []
    way.apply()
    same(way.source, way.target, "t")


@pytest.mark.timeout(600)
def test_who_is_away_at_a_mark_for_too_long_does_not_set_back_what_another_has_read_since(
    tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database
) -> None:
    """An instance stops at a mark; another passes it, reads on and leaves; then the first one wakes."""
    quick = {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}
    into = {"protocol": "classic", "properties": quick}
    way = through(tmp_path, kafka, source_db, target_db, partitions=2, into=into)

    def places() -> dict[str, int]:
        return dict(way.target.query("SELECT share, place FROM cdcflow.shares"))

    def owners() -> dict[str, str]:
        return dict(way.target.query("SELECT share, owner ->> 'process' FROM cdcflow.shares"))

    def of_sleeper() -> str:
        held = owners()
        mine = [share for share, owner in held.items() if owner == str(sleeper.pid)]
        return mine[0] if len(held) == 2 and len(mine) == 1 else ""

    def come() -> list[object]:
        return [share for (share,) in way.target.query("SELECT share FROM cdcflow.meetings")]

    try:
        way.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT generate_series(1, 40), 0")
        way.publish()
        sleeper = way.instance()
        until(lambda: is_same(way.source, way.target, "t"), limit=60)
        other = way.instance()
        topic = way.topic("public.t")
        mine = until(of_sleeper, limit=60, what="each has a share")
        number = int(mine.rpartition("/")[2])
        # Both marks are there before one can be seen, as a publisher writes them: a partition that was read to its end
        # would be waited for by nobody.
        with later(kafka, topic, [(MEETING, "m1/2")], 1 - number):
            kafka.produce(topic, None, None, [(MEETING, "m1/2")], number)
            until(lambda: come() == [mine] and of_sleeper() == mine, what="it waits at the mark")
            sleeper.pause()
            # Longer than the locks of a transaction that it may have been stopped in.
            until(lambda: owners()[mine] == str(other.pid), limit=150, what="its share is taken over")
        until(lambda: come() == [""], limit=60, what="it is over")
        way.source.execute("UPDATE t SET v = 1")
        way.publish()
        until(lambda: is_same(way.source, way.target, "t"), limit=60)
        other.terminate()
        assert other.wait() == 0, other.log()
        before = places()
        sleeper.resume()
        until(lambda: set(owners().values()) == {str(sleeper.pid)}, limit=60, what="the first one has both")
        way.source.execute("UPDATE t SET v = 2 WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0")
        way.publish()
        until(lambda: is_same(way.source, way.target, "t"), limit=60)
        assert all(places()[share] > place for share, place in before.items())
        assert not sleeper.ended, sleeper.log()
    finally:
        for each in way.running:
            each.resume()
        way.end()
