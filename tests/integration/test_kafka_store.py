"""Taking a publisher's lease in its state topic: begun and given up, and beside a holder that goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from cdcflow.bus.kafka.config import Config
from cdcflow.bus.kafka.connection import address
from cdcflow.bus.kafka.fence import Lease, applier_id
from cdcflow.bus.kafka.statetopic import value_of
from cdcflow.bus.kafka.store import KafkaStore
from cdcflow.errors import Fenced, TargetUnavailable
from cdcflow.model.position import Checkpoint
from tests.servers.kafka_server import Kafka

OWNER = {"host": "here", "process": "1"}
Another = Callable[[], KafkaStore]


@pytest.fixture
def pipeline(kafka: Kafka) -> Iterator[str]:
    name = f"lease{uuid4().hex[:8]}"
    yield name
    kafka.delete_topic(f"{name}.state")


@pytest.fixture
def another(kafka: Kafka, pipeline: str) -> Iterator[Another]:
    opened: list[KafkaStore] = []

    def make() -> KafkaStore:
        config = Config(url=kafka.url())
        opened.append(KafkaStore(config.client, address(config.url), pipeline, None))
        return opened[-1]

    yield make
    for store in opened:
        store._session = None  # what some tests leave cannot be released
        store.close()


def test_a_takeover_that_does_not_come_to_its_lease_is_no_reason_for_the_holder_to_end(
    another: Another, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, other = another(), another()
    epoch = holder.acquire(pipeline, OWNER)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(other, "_shut_out", killed)
    with pytest.raises(KeyboardInterrupt):
        other.acquire(pipeline, OWNER)
    holder._renewed_at = datetime.min.replace(tzinfo=UTC)
    with pytest.raises(TargetUnavailable):
        holder.held()
    again = holder.acquire(pipeline, OWNER)
    assert again == epoch + 1
    holder.save(Checkpoint(pipeline, "0/5", {}, again))
    assert holder.held()
    monkeypatch.undo()
    newest = other.acquire(pipeline, OWNER)
    with pytest.raises(Fenced):
        holder.save(Checkpoint(pipeline, "0/6", {}, again))
    assert not holder.held()
    assert other.checkpoint(pipeline) == Checkpoint(pipeline, "0/5", {}, newest)


def test_a_producer_that_an_earlier_holder_opens_within_a_takeover_writes_nothing(
    another: Another, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, other = another(), another()
    epoch = holder.acquire(pipeline, OWNER)
    late = holder._new_session(applier_id(pipeline))
    shut_out = other._shut_out
    begun: list[object] = []

    def then_the_holder_begins(*arguments: Any) -> None:
        shut_out(*arguments)
        if not begun:
            begun.append(late)
            late.open()
            Lease(holder._view(pipeline), holder.address, epoch).verify()

    monkeypatch.setattr(other, "_shut_out", then_the_holder_begins)
    other.acquire(pipeline, OWNER)
    assert begun
    late.begin()
    late.send(f"{pipeline}.state", value_of({}), b"position", 0)
    with pytest.raises(Fenced):
        late.commit()
    late.close()
    assert other.checkpoint(pipeline) == Checkpoint(pipeline, "", {}, epoch + 1)
