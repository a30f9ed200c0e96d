"""The topics of shapes: what is looked for while the transaction that holds it becomes visible."""

from __future__ import annotations

import threading

from confluent_kafka import Producer

from cdcflow.bus.kafka.catalogue import TopicsOfShapes
from cdcflow.bus.kafka.partitions import Cluster
from tests.integration.kafka_members import Group, group  # noqa: F401 - a fixture
from tests.servers.waiting import until
from tests.unit.bus_double import record, table


def catalogue(group: Group) -> TopicsOfShapes:  # noqa: F811
    client = group.kafka.client()
    return TopicsOfShapes(client, Cluster(client, "here"), lambda: [f"{group.name}.schema_changes"], "here")


def opened(group: Group, fingerprint: str) -> Producer:  # noqa: F811
    """Write a shape in a transaction that stays open."""
    producer = Producer({**group.kafka.client(), "transactional.id": group.name})
    producer.init_transactions(30)
    producer.begin_transaction()
    key, value = record(table("id", "w"), fingerprint)
    producer.produce(f"{group.name}.schema_changes", value, key, partition=0)
    assert producer.flush(30) == 0
    return producer


def test_a_shape_in_an_open_transaction_is_waited_for(group: Group) -> None:  # noqa: F811
    """Rows may be visible before the shape that was written in the same transaction is."""
    producer = opened(group, "wanted")
    found = catalogue(group)
    seen: list[object] = []
    looking = threading.Thread(target=lambda: seen.append(found.find("wanted")))
    looking.start()
    # It has looked by the time it has read what is visible already.
    until(lambda: found._shapes.find("two"), what="the first look")
    assert looking.is_alive()
    assert seen == []
    producer.commit_transaction(30)
    looking.join(60)
    assert not looking.is_alive()
    assert [one.column_names for one in seen] == [("id", "w")]  # type: ignore[attr-defined]


def test_a_shape_that_was_taken_back_is_not_there(group: Group) -> None:  # noqa: F811
    producer = opened(group, "wanted")
    found = catalogue(group)
    producer.abort_transaction(30)
    assert found.find("wanted") is None
    assert found.find("two") is not None


def test_a_topic_that_was_made_anew_is_read_from_its_start_and_its_shapes_are_newer(group: Group) -> None:  # noqa: F811
    topic = f"{group.name}.schema_changes"
    found = catalogue(group)
    before = found.find("two")
    assert before is not None
    group.kafka.delete_topic(topic)
    group.kafka.create_topic(topic, cleanup_policy="compact")
    key, value = record(table("id", "w"), "wanted")
    group.kafka.produce(topic, key, value)
    after = found.find("wanted")
    assert after is not None
    assert after.version > before.version
    assert found.placed(before).version < after.version
