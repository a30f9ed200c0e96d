"""What readers of RabbitMQ do where notes are late, queues change hands or are gone, or the broker has an alarm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cdcflow.bus.rabbitmq.doubts import PLACE, is_place, place_of
from cdcflow.bus.rabbitmq.wire import HEARTBEAT_SECONDS
from cdcflow.model.position import Share
from tests.integration.rabbit_world import (
    Claims,
    Exchange,
    Reader,
    batch,
    exchange,
    late_notes,
    pairs,
    route,
    rows,
    table,
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
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, 3))))
    reader = Reader(shop)
    reader.until(lambda: len(reader.events) == 3)
    late_notes()
    target.apply(batch(200, rows("I", pairs(4, 3), route(table("users")))))
    reader.until(lambda: len(reader.events) == 6)


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
