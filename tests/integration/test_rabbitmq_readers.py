"""What readers of RabbitMQ do where notes are late, queues change hands or are gone, or the broker has an alarm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from cdcflow.bus.rabbitmq.doubts import PLACE, is_place, place_of
from cdcflow.bus.rabbitmq.wire import HEARTBEAT_SECONDS
from cdcflow.errors import OperatorError, SourceUnavailable
from cdcflow.model.position import Share
from tests.integration.rabbit_world import (
    Claims,
    Exchange,
    Reader,
    batch,
    begun_and_read,
    exchange,
    late_notes,
    pairs,
    route,
    rows,
    table,
    truncate,
)
from tests.servers.rabbitmq_server import RabbitMq
from tests.servers.waiting import until

__all__ = ["exchange", "late_notes"]


def test_queues_are_read_while_the_broker_takes_no_messages(new_rabbitmq: Callable[[], RabbitMq]) -> None:
    """What waits in them may be what it has no room for."""
    broker = new_rabbitmq()
    shop = Exchange(broker.url())
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, 3))))
    early = Reader(shop)
    early.until(lambda: len(early.events) == 3)
    users = route(table("users"))
    target.apply(batch(200, rows("I", pairs(4, 3), users)))
    broker.memory_alarm(True)
    early.until(lambda: len(early.events) == 6)
    early.step()
    early.stream.close()
    later = Reader(shop, early.claims)
    later.until(lambda: later.stream._held)
    broker.memory_alarm(False)
    shop.close()


def test_a_shape_is_known_however_late_the_notes_come(
    exchange: Callable[..., Exchange], late_notes: Callable[[], None]
) -> None:
    shop = exchange()
    target, reader = begun_and_read(shop, 3)
    late_notes()
    target.apply(batch(200, rows("I", pairs(4, 3), route(table("users")))))
    reader.until(lambda: len(reader.events) == 6)


def test_a_deleted_queue_is_told_with_what_to_do_also_where_it_is_missed_while_messages_are_counted(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange()
    _, reader = begun_and_read(shop, 3)
    rabbitmq.delete_queue(f"{shop.name}.0")
    reader.stream._counted_at = -math.inf
    with pytest.raises(OperatorError, match="was deleted while it was read") as gone:
        reader.step()
    assert "resync --all" in gone.value.do


def test_a_queue_that_is_taken_away_at_a_mark_is_told_as_that(exchange: Callable[..., Exchange]) -> None:
    shop = exchange(partitions=2)
    target = shop.begun()
    target.apply(batch(100, truncate()))
    reader = Reader(shop)
    reader._apply = lambda _: None  # type: ignore[method-assign]
    reader.until(lambda: any(held.meeting for held in reader.stream._held.values()))
    held = next(held for held in reader.stream._held.values() if held.meeting)
    # As since RabbitMQ 4.3 where nothing is acknowledged for half an hour.
    error = reader.stream._cancelled(held)
    assert isinstance(error, SourceUnavailable)
    assert "waits at a mark" in error.why


def test_who_gets_a_queue_next_begins_with_what_comes_back(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange()
    target = shop.begun()
    reader = Reader(shop, prefetch=5)
    target.apply(batch(100, rows("I", pairs(1, 100))))
    reader.until(lambda: len(reader.events) >= 5, ack=False)
    with rabbitmq._channel("/") as channel:
        came: list[bytes] = []
        channel.basic_consume(
            f"{shop.name}.0", lambda _, __, properties, ___: came.append(properties.headers[PLACE].encode())
        )
        reader.stream._give(0)
        until(lambda: (channel.connection.process_data_events(0.1), any(map(is_place, came)))[1], what="it has rows")
    assert place_of(next(filter(is_place, came))).number == 1


def test_who_waits_for_a_target_while_shares_change_hands_lives_at_the_broker(
    exchange: Callable[..., Exchange],
) -> None:
    class Slow(Claims):
        def take(self, names: Sequence[str]) -> dict[str, Share]:
            waits()
            return super().take(names)

        def give(self, names: Sequence[str]) -> None:
            waits()
            super().give(names)

    def waits() -> None:
        wire = reader.stream._wire
        since = wire._sent_at = wire._sent_at - HEARTBEAT_SECONDS
        until(lambda: wire._sent_at > since, what="a heartbeat is sent")

    shop = exchange()
    shop.begun().apply(batch(100, rows("I", pairs(1, 3))))
    reader = Reader(shop, Slow())
    reader.until(lambda: len(reader.events) == 3)
    reader.stream._give(0)
    assert reader.claims.given == [f"{shop.name}/0"]


def test_what_comes_back_in_another_order_where_prefetch_was_lowered_is_told_as_that(
    exchange: Callable[..., Exchange],
) -> None:
    shop = exchange()
    shop.begun().apply(batch(100, rows("I", pairs(1, 50))))
    for prefetch, count in ((50, 50), (5, 5)):
        reader = Reader(shop, prefetch=prefetch)  # each records what it read somewhere else, so that nothing is durable
        reader.until(lambda: len(reader.events) >= count, ack=False)  # noqa: B023 - called within the turn
        reader.stream.close()
    error = Reader(shop, prefetch=50).fails()
    assert isinstance(error, OperatorError)
    assert "prefetch" in error.why
