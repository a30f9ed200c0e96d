"""Kafka as a target when something is wrong: brokers, privileges, topics, a second instance."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka_world import NewWorld, World, make_world
from tests.servers.commands import Running
from tests.servers.database import Database
from tests.servers.kafka_server import Kafka
from tests.servers.waiting import until

Cdcflow = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]


@pytest.fixture
def new_world(source_db: Database, tmp_path: Path) -> NewWorld:
    """`new_world(kafka)`: a pipeline from the test's database into that Kafka."""
    return lambda kafka: make_world(kafka, source_db, tmp_path)


@pytest.fixture
def world(new_world: NewWorld, kafka: Kafka) -> World:
    return new_world(kafka)


def numbers(world: World) -> list[int]:
    """Return the ids of the created and copied rows of `t`, in order."""
    return sorted(each.after["id"] for each in world.changes("t") if each.after)


def test_a_second_instance_shuts_the_first_one_out(world: World, running: Start) -> None:
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    first = running("run")
    first.until_output("streaming", 60)
    second = running("run", env={"CDCFLOW_TEST": "second"})
    second.until_output("streaming", 60)
    world.source.execute("INSERT INTO t VALUES (2)")
    assert first.wait(60) == 5, first.output()
    assert "another instance" in first.output()
    until(lambda: numbers(world) == [1, 2], limit=60)
    second.terminate()
    assert second.wait() == 0, second.output()


def test_a_message_that_is_too_large_stops_with_table_and_key(world: World, cdcflow: Cdcflow) -> None:
    world.configure(max_message_bytes="20kB")
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    world.source.execute("INSERT INTO t VALUES (1, 'small'); INSERT INTO t VALUES (2, repeat('x', 50000))")
    ended = cdcflow("run", "--until-caught-up", exit_code=5)
    assert "larger than" in ended.stderr
    assert "public.t" in ended.stderr
    assert "key (id)" in ended.stderr
    assert "xxxx" not in ended.stderr


def test_a_message_that_the_broker_refuses_stops_with_table_and_key(world: World, cdcflow: Cdcflow) -> None:
    world.configure(compression="none")
    world.kafka.create_topic(world.topic("t"), 3, max_message_bytes="300000")
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    world.source.execute("INSERT INTO t SELECT n, repeat('y', 9000) FROM generate_series(1, 200) n")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert numbers(world) == list(range(1, 201))
    world.source.execute("INSERT INTO t VALUES (1000, repeat('x', 400000)), (1001, 'small')")
    ended = cdcflow("run", "--until-caught-up", exit_code=5)
    assert "larger than" in ended.stderr
    assert "public.t" in ended.stderr
    assert "1000" in ended.stderr
    assert numbers(world) == list(range(1, 201))


def test_a_broker_that_was_away_is_gone_on_with(
    new_world: NewWorld, new_kafka: Callable[..., Kafka], running: Start
) -> None:
    world = new_world(new_kafka())
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    process = running("run")
    until(lambda: numbers(world) == [1], limit=60)
    world.kafka.brokers[0].stop()
    world.source.execute("INSERT INTO t SELECT generate_series(2, 500)")
    world.kafka.brokers[0].start()
    until(lambda: numbers(world) == list(range(1, 501)), limit=120)
    process.terminate()
    assert process.wait() == 0, process.output()


def test_a_broker_killed_among_three_loses_nothing(
    new_world: NewWorld, kafka_cluster: Kafka, running: Start, cdcflow: Cdcflow
) -> None:
    world = new_world(kafka_cluster).configure(replication=3)
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (0)")
    process = running("run")
    until(lambda: numbers(world) == [0], limit=90)
    for n in range(1, 200):
        world.source.execute(f"INSERT INTO t VALUES ({n})")
        if n == 60:
            victim = kafka_cluster.leader(world.topic("t"))
            victim.kill()
        if n == 120:
            victim.start()
    until(lambda: numbers(world) == list(range(200)), limit=120)
    process.terminate()
    assert process.wait() == 0, process.output()
    assert len(world.changes("t")) == 200


def test_a_topic_that_is_deleted_while_it_is_written_to_stops_and_a_resync_makes_it_again(
    world: World, cdcflow: Cdcflow, running: Start
) -> None:
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    process = running("run")
    until(lambda: numbers(world) == [1], limit=60)
    world.source.execute("INSERT INTO t VALUES (2)")
    until(lambda: numbers(world) == [1, 2], limit=60)
    world.kafka.delete_topic(world.topic("t"))
    world.source.execute("INSERT INTO t VALUES (3)")
    assert process.wait(90) == 5, process.output()
    assert "is gone" in process.output()
    assert "resync" in process.output()
    cdcflow("resync", "public.t", exit_code=0)
    assert numbers(world) == [1, 2, 3]


def test_a_wrong_password_is_told(new_world: NewWorld, new_kafka: Callable[..., Kafka], cdcflow: Cdcflow) -> None:
    kafka = new_kafka(security="sasl_plaintext")
    world = new_world(kafka)
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    world.configure(url=kafka.url("writer", "wrong"), sasl={"mechanism": "PLAIN"})
    ended = cdcflow("run", "--until-caught-up", exit_code=5)
    assert "refuses the login" in ended.stderr
    assert "wrong" not in ended.stderr.replace("wrong?", "")


def test_a_missing_privilege_is_told_with_the_command_that_grants_it(
    new_world: NewWorld, new_kafka: Callable[..., Kafka], cdcflow: Cdcflow
) -> None:
    kafka = new_kafka(security="sasl_plaintext", settings={"allow.everyone.if.no.acl.found": "false"})
    world = new_world(kafka)
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    world.configure(url=kafka.url("writer"), sasl={"mechanism": "PLAIN"})
    found: Any = cdcflow("check", exit_code=3)
    assert "kafka-acls" in found.stdout + found.stderr
    ended = cdcflow("run", "--until-caught-up", exit_code=5)
    assert "does not permit" in ended.stderr
    for kind, name, operations in (
        ("TOPIC", f"{world.name}.", ("WRITE", "READ", "DESCRIBE", "DESCRIBE_CONFIGS", "CREATE")),
        ("TRANSACTIONAL_ID", f"cdcflow.{world.name}", ("WRITE", "DESCRIBE")),
    ):
        for operation in operations:
            kafka.allow("writer", operation, name, kind=kind, prefix=True)
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert numbers(world) == [1]
