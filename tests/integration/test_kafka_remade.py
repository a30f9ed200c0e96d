"""A topic is deleted and made anew under its name: whoever follows the advice that is printed has equal tables then."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka_pairs import Through, through
from tests.servers.database import Database, is_same, same
from tests.servers.kafka_server import Kafka
from tests.servers.waiting import until

Make = Callable[..., Through]

ROWS = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'first' FROM generate_series(1, 60) n"


@pytest.fixture
def between(tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database) -> Iterator[Make]:
    made: list[Through] = []

    def make(**options: Any) -> Through:
        made.append(through(tmp_path / str(len(made)), kafka, source_db, target_db, partitions=2, **options))
        return made[-1]

    yield make
    for one in made:
        one.end()


def advised(said: str) -> str:
    """Return what an error tells a person to do."""
    found = re.findall(r"do: +(.*)", said)
    assert found, said
    return str(found[-1])


def places(way: Through) -> dict[str, tuple[int, str]]:
    """Return place and topic id of each share on record."""
    return {
        share: (place, identity)
        for share, place, identity in way.target.query("SELECT share, place, identity FROM cdcflow.shares")
    }


def test_a_topic_that_is_made_anew_while_nobody_runs_is_read_from_its_start(between: Make) -> None:
    way = between()
    way.source.execute(ROWS)
    way.publish()
    way.apply()
    before = places(way)
    way.kafka.delete_topic(way.topic("public.t"))
    # Longer than the one before, so that each place in that is also one in this.
    way.source.execute("DELETE FROM t; INSERT INTO t SELECT n + 40, 'second' FROM generate_series(1, 400) n")
    said = way.publishing.call("run", "--until-caught-up", exit_code=5)
    assert "cdcflow resync" in advised(said.stderr)
    way.publishing.call("resync", "public.t", exit_code=0)
    way.apply()
    same(way.source, way.target, "t")
    after = places(way)
    assert {share: bool(at[1]) for share, at in after.items()} == dict.fromkeys(before, True)
    assert all(after[share][1] != before[share][1] for share in before)


def test_both_sides_stop_when_a_topic_is_deleted_and_what_they_advise_makes_the_tables_equal(between: Make) -> None:
    way = between()
    way.source.execute(ROWS)
    publisher, applier = way.publishing.start("run"), way.instance()
    until(lambda: way.target.value("SELECT count(*) FROM t") == 60, limit=60)
    way.kafka.delete_topic(way.topic("public.t"))
    way.source.execute(
        "DELETE FROM t WHERE id <= 30; INSERT INTO t SELECT n, 'second' FROM generate_series(100, 300) n"
    )
    assert publisher.wait(90) == 5, publisher.output()
    assert applier.wait(90) == 5, applier.output()
    assert "cdcflow resync" in advised(publisher.output())
    assert "start once more" in advised(applier.output())
    way.publishing.call("resync", "public.t", exit_code=0)
    publisher, applier = way.publishing.start("run"), way.instance()
    way.source.execute("INSERT INTO t VALUES (1000, 'last')")
    until(lambda: is_same(way.source, way.target, "t"), limit=60, what="all is there")
    assert not publisher.ended
    assert not applier.ended


def test_a_publisher_does_not_write_into_a_topic_that_lacks_what_it_wrote_before(between: Make) -> None:
    way = between()
    way.source.execute(ROWS)
    way.publish()
    way.kafka.delete_topic(way.topic("public.t"))
    way.kafka.create_topic(way.topic("public.t"), 2)
    way.source.execute(
        "DELETE FROM t WHERE id <= 30; INSERT INTO t SELECT n, 'second' FROM generate_series(100, 300) n"
    )
    said = way.publishing.call("run", "--until-caught-up", exit_code=5).stderr
    assert "deleted and made anew" in said
    assert "cdcflow resync public.t" in advised(said)
    assert way.kafka.read(way.topic("public.t")) == []
    way.publishing.call("resync", "public.t", exit_code=0)
    way.apply()  # for the first time: the table's first message is a truncate
    same(way.source, way.target, "t")


def test_a_topic_that_does_not_begin_with_a_truncate_is_not_read_in_place_of_the_one_before(between: Make) -> None:
    way = between()
    way.source.execute(ROWS)
    way.publish()
    way.apply()
    topic = way.topic("public.t")
    messages = way.kafka.read(topic)
    way.kafka.delete_topic(topic)
    way.kafka.create_topic(topic, 2)
    for each in messages[1:]:
        way.kafka.produce(topic, each.key, each.value, each.headers, each.partition)
    held = places(way)
    said = way.apply(exit_code=5)
    assert "was made anew since it was read" in said
    assert "cdcflow resync" in advised(said)
    assert places(way) == held
    same(way.source, way.target, "t")
    # As is advised.
    way.source.execute("DELETE FROM t WHERE id <= 30")
    way.kafka.delete_topic(topic)
    way.publishing.call("resync", "public.t", exit_code=0)
    way.apply()
    same(way.source, way.target, "t")


def test_a_record_from_before_topics_had_ids_takes_the_one_that_is_there(between: Make) -> None:
    way = between()
    way.source.execute(ROWS)
    way.publish()
    way.apply()
    held = places(way)
    way.target.execute("UPDATE cdcflow.shares SET identity = ''")
    way.source.execute("INSERT INTO t VALUES (100, 'later')")
    way.publish()
    way.apply()
    same(way.source, way.target, "t")
    assert {share: at[1] for share, at in places(way).items()} == {share: at[1] for share, at in held.items()}
    assert sum(at[0] for at in places(way).values()) > sum(at[0] for at in held.values())


def test_each_table_of_a_topic_that_several_share_is_to_be_published_again(between: Make) -> None:
    way = between(out={"topic": "{pipeline}.public.all"})
    way.source.execute(ROWS)
    way.source.execute("CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(1, 20)")
    way.publish()
    way.apply()
    way.kafka.delete_topic(way.topic("public.all"))
    way.source.execute("DELETE FROM t WHERE id <= 55")
    said = way.publishing.call("resync", "public.t", exit_code=0).stderr
    assert "cdcflow resync public.other" in said
    way.source.execute("DELETE FROM other WHERE id <= 15")
    said = way.publishing.call("run", "--until-caught-up", exit_code=5).stderr
    assert "cdcflow resync public.other" in advised(said)
    way.publishing.call("resync", "public.other", exit_code=0)
    way.apply()
    same(way.source, way.target, "t")
    same(way.source, way.target, "other")
