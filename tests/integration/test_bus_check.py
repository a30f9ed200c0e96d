"""`cdcflow check` of a pipeline that reads a bus: what it has read is compared with what the brokers still hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

from confluent_kafka import TopicPartition

from tests.integration.kafka_pairs import through
from tests.servers.database import Database, same
from tests.servers.kafka_server import Kafka
from tests.servers.waiting import until


def test_what_was_removed_before_it_was_read_is_a_blocker(
    tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database
) -> None:
    way = through(tmp_path, kafka, source_db, target_db, partitions=1)
    try:
        way.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        way.publish()
        assert "removed" not in way.applying.call("check", exit_code=0).stdout
        way.apply()
        way.source.execute("INSERT INTO t VALUES (2)")
        way.publish()
        assert "removed" not in way.applying.call("check", exit_code=0).stdout
        admin = kafka._topics.admin
        (removed,) = admin.delete_records([TopicPartition(way.topic("public.t"), 0, -1)]).values()
        first = removed.result(30).low_watermark
        said = way.applying.call("check", exit_code=3).stdout
        assert f"topic {way.topic('public.t')}, partition 0" in said
        assert f"to {first - 1} were removed before they were read" in said
        assert "cdcflow resync" in said
        assert "were removed" in way.apply(exit_code=5)
    finally:
        way.end()


def test_status_shows_each_share_and_what_waits_behind_it(
    tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database
) -> None:
    way = through(tmp_path, kafka, source_db, target_db, partitions=2)
    try:
        way.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50)")
        way.publish()
        assert "messages in 2 shares" in way.apply()
        said = way.applying.call("status").stdout
        assert re.search(r"position +\d+ messages in 2 shares\n", said), said
        assert re.search(r"lag +0 messages\n", said), said
        for number in range(2):
            assert re.search(rf"{way.topic('public.t')}/{number} .*process \d+ +\d+ +0\n", said), said
        way.source.execute("INSERT INTO t SELECT generate_series(51, 100)")
        way.publish()
        waiting = [share["waiting"] for share in json.loads(way.applying.call("status", "--json").stdout)["shares"]]
        assert sum(waiting) >= 50
    finally:
        way.end()


def test_what_was_removed_of_a_partition_that_was_claimed_empty_is_lost_until_a_truncate_voids_it(
    tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database
) -> None:
    way = through(tmp_path, kafka, source_db, target_db, partitions=1)
    topic = way.topic("public.t")

    def remove() -> int:
        (removed,) = kafka._topics.admin.delete_records([TopicPartition(topic, 0, -1)]).values()
        return int(removed.result(30).low_watermark)

    try:
        kafka.create_topic(topic, 1)
        way.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
        instance = way.instance()
        named = "SELECT place FROM cdcflow.shares WHERE identity <> ''"
        until(lambda: way.target.query(named) == [(0,)], what="the partition is claimed")
        instance.terminate()
        assert instance.wait() == 0, instance.log()
        way.source.execute("INSERT INTO t SELECT generate_series(1, 5)")
        way.publish()
        first = remove()
        way.source.execute("INSERT INTO t VALUES (6)")
        way.publish()
        assert f"offsets 0 to {first - 1} were removed" in way.applying.call("check", exit_code=3).stdout
        assert f"offsets 0 to {first - 1} were removed" in way.apply(exit_code=5)
        assert way.target.query(named) == [(0,)]
        # What is printed first: the tables are copied again.
        remove()
        way.publishing.call("resync", "public.t", exit_code=0)
        way.publish()
        assert "were removed" not in way.applying.call("check", exit_code=0).stdout
        way.apply()
        same(way.source, way.target, "t")
    finally:
        way.end()


def test_a_pipeline_that_is_new_begins_with_what_retention_has_left(
    tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database
) -> None:
    way = through(tmp_path, kafka, source_db, target_db, partitions=2)
    try:
        way.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 20)")
        way.publish()
        there = [TopicPartition(way.topic("public.t"), number, -1) for number in range(2)]
        for removed in kafka._topics.admin.delete_records(there).values():
            removed.result(30)
        way.source.execute("INSERT INTO t SELECT generate_series(21, 40)")
        way.publish()
        assert "removed" not in way.applying.call("check", exit_code=0).stdout
        way.apply()
        assert way.target.value("SELECT array_agg(id ORDER BY id) FROM t") == list(range(21, 41))
        way.apply()
    finally:
        way.end()
