"""What `cdcflow check` finds of topics: what soon is lost, what brokers would refuse, what compaction removes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Producer

from cdcflow.bus.kafka import check
from cdcflow.model.check import Finding, Level
from cdcflow.model.position import Share
from tests.integration.kafka_members import Group, group  # noqa: F401 - a fixture
from tests.integration.kafka_pairs import through
from tests.integration.kafka_world import World, make_world
from tests.servers.commands import Commands
from tests.servers.database import Database
from tests.servers.kafka_server import Kafka
from tests.unit.bus_double import route_of, table

HOUR = 3_600_000


def of(found: list[Finding], name: str) -> list[tuple[Level, str]]:
    """Return levels and words of the findings of that name."""
    return [(each.level, f"{each.subject}: {each.found}") for each in found if each.name == name]


def aged(group: Group, topic: str, *hours: float) -> None:  # noqa: F811
    """Write messages that are so old into partition 0."""
    producer = Producer(group.kafka.client())
    for each in hours:
        moment = int(time.time() * 1000 - each * HOUR)
        producer.produce(topic, b"x", b"k", partition=0, timestamp=moment)
    assert producer.flush(30) == 0


def test_what_is_not_read_is_compared_with_the_time_for_which_it_is_kept(
    group: Group,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = group.kafka.create_topic(f"{group.name}.public.old", 2, retention_ms=str(100 * HOUR))
    aged(group, topic, 99, 60, 30, 1)
    source = group.source()

    def lost(place: int) -> list[tuple[Level, str]]:
        return of(source.lost({f"{topic}/0": Share(1, place), f"{topic}/1": Share(1, 0)}), "source.retention")

    ((level, words),) = lost(1)
    assert level is Level.WARNING
    assert f"topic {topic}, partition 0: what is read next (offset 1 of 4) is older than half of the 100 hours" in words
    assert [lost(place) for place in (2, 3, 4)] == [[], [], []]
    later = SimpleNamespace(time=lambda: time.time() + 80 * HOUR / 1000)
    monkeypatch.setattr(check, "time", later)  # the brokers remove it only when they come to look
    assert [level for level, _ in lost(3)] == [Level.WARNING]
    ((level, words),) = lost(2)
    assert level is Level.BLOCKER
    assert "may go at any moment" in words
    source.close()


def test_a_topic_that_was_made_anew_is_told_and_its_old_places_say_nothing(group: Group) -> None:  # noqa: F811
    source = group.source()
    found = source.lost({f"{group.topic}/0": Share(1, 500, "the id of another")})
    assert of(found, "source.topics") == [(Level.WARNING, f"topic {group.topic}: it was made anew since it was read")]
    assert of(found, "source.retention") == []
    source.close()


def test_compacted_topics_are_compared_with_the_keys_of_the_rules(group: Group) -> None:  # noqa: F811
    group.kafka.create_topic(f"{group.name}.public.u", cleanup_policy="compact")
    source = group.source()
    keyed = table("id", "v", name="u")
    route = route_of(keyed)
    found = source.check([route, route_of(table("id", "v"))], [])
    assert of(found, "source.compacted") == []
    found = source.check([replace(route, key=("v",))], [])
    ((level, words),) = of(found, "source.compacted")
    assert level is Level.WARNING
    assert "compacted by (id), and the rules' key of public.u is (v)" in words
    found = source.check([], [table("id", "v", name="u", key=())])
    assert of(found, "source.compacted") == [
        (Level.WARNING, f"topic {group.name}.public.u: it is compacted, and public.u has no key")
    ]
    source.close()


@pytest.fixture
def world(source_db: Database, tmp_path: Path, kafka: Kafka) -> World:
    return make_world(kafka, source_db, tmp_path)


def found_by(commands: Commands, exit_code: int) -> dict[str, list[tuple[str, str]]]:
    """Return the findings of a check by their names, as (level, subject and words)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for each in json.loads(commands.call("check", "--json", exit_code=exit_code).stdout)["findings"]:
        found.setdefault(each["name"], []).append((each["level"], f"{each['subject']}: {each['found']}"))
    return found


def test_topics_that_would_take_no_message_or_lose_it_are_named_before_they_are_written_to(
    world: World, commands: Commands
) -> None:
    world.source.execute(
        "CREATE TABLE keyless (v int); ALTER TABLE keyless REPLICA IDENTITY FULL;"
        "CREATE TABLE few (id int PRIMARY KEY); CREATE TABLE short (id int PRIMARY KEY)"
    )
    world.kafka.create_topic(world.topic("keyless"), 3, cleanup_policy="compact")
    world.kafka.create_topic(world.topic("few"), 3, min_insync_replicas="2")
    world.kafka.create_topic(world.topic("short"), 3, retention_ms="60000")
    world.configure(replication=3)
    found = found_by(commands, 3)
    assert found["target.cleanup_policy"] == [
        ("blocker", f"{world.topic('keyless')}: is compacted, and public.keyless has no key: brokers refuse messages"
         " without one")
    ]  # fmt: skip
    assert [each for each in found["target.min_insync"] if each[0] == "blocker"] == [
        ("blocker", f"{world.topic('few')}: min.insync.replicas is 2, and it has 1 replicas on 1 brokers")
    ]
    assert (
        "warning",
        f"{world.topic('short')}: events are deleted after 60 s: a reader that is away longer misses them",
    ) in (found["target.retention"])
    assert found["target.replication"] == [("blocker", "replication: replication is 3, and there are 1 brokers")]


def test_a_compacted_topic_of_another_key_is_told(world: World, commands: Commands) -> None:
    world.configure(compact=True)
    world.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL); ALTER TABLE t REPLICA IDENTITY FULL;"
        "INSERT INTO t VALUES (1, 10)"
    )
    commands.call("run", "--until-caught-up", exit_code=0)
    assert "target.cleanup_policy" not in found_by(commands, 0)
    world.folder.write_rules({"match": "public.t", "key": ["code"]})
    ((level, words),) = found_by(commands, 0)["target.cleanup_policy"]
    assert level == "warning"
    assert "has the key (id), not the rules' (code)" in words


def test_replicas_in_sync_are_compared_also_for_topics_that_are_not_there_and_for_transactions(
    source_db: Database, tmp_path: Path, new_kafka: Callable[..., Kafka], commands: Commands
) -> None:
    kafka = new_kafka(settings={"min.insync.replicas": "2"})
    kafka._topics.create("__transaction_state", 1, 1, {"min_insync_replicas": "2", "cleanup_policy": "compact"})
    world = make_world(kafka, source_db, tmp_path)
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    found = found_by(commands, 3)
    ((level, words),) = found["target.min_insync"]
    assert level == "blocker"
    assert world.topic("t") in words
    assert "will be made with 1 replicas on 1 brokers, and these want 2 in sync" in words
    assert [level for level, _ in found["target.transactions"]] == ["blocker"]


def test_a_topic_that_may_not_be_read_is_named_with_the_command_that_grants_it(
    tmp_path: Path, new_kafka: Callable[..., Kafka], source_db: Database, target_db: Database
) -> None:
    kafka = new_kafka(security="sasl_plaintext")
    login: dict[str, Any] = {"url": kafka.url("reader"), "sasl": {"mechanism": "PLAIN"}}
    way = through(tmp_path, kafka, source_db, target_db, partitions=1, into=login)
    try:
        topic = kafka.create_topic(way.topic("public.t"))
        kafka.allow("reader", "DESCRIBE", topic)
        done = way.applying.call("check", "--json", exit_code=3)
        ((level, do),) = [
            (each["level"], each["do"]) for each in json.loads(done.stdout)["findings"] if each["name"] == "source.acl"
        ]
        assert level == "blocker"
        assert "kafka-acls" in do
        assert f"--operation Read --topic {topic}" in do
        kafka.allow("reader", "READ", topic)
        assert "source.acl" not in way.applying.call("check", "--json", exit_code=0).stdout
    finally:
        way.end()
