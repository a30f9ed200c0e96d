"""Queues of groups that the publisher does not name, against the real broker: their readers make them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pika
import pytest

from cdcflow.bus.rabbitmq.doubts import PLACE
from cdcflow.bus.rabbitmq.layout import own_key, quorum_arguments
from cdcflow.errors import OperatorError, SourceUnavailable
from tests.integration.rabbit_world import Claims, Exchange, Reader, batch, exchange, pairs, rows
from tests.servers.rabbitmq_server import RabbitMq
from tests.servers.waiting import until

__all__ = ["exchange"]


def half_made(broker: RabbitMq, shop: Exchange, queue: str, *done: str) -> None:
    """Leave a queue as a reader does that is killed while it makes it."""
    with broker._channel("/") as channel:
        channel.queue_declare(queue, durable=True, arguments=quorum_arguments())
        if "bound" in done:
            channel.queue_bind(queue, shop.name, own_key(queue))
        if "begun" in done:
            channel.confirm_delivery()
            properties = pika.BasicProperties(headers={PLACE: "made/0"}, delivery_mode=2)
            channel.basic_publish(shop.name, own_key(queue), b"", properties, mandatory=True)


@pytest.mark.parametrize("done", [(), ("bound",), ("bound", "begun")])
def test_a_group_whose_making_was_interrupted_gets_what_is_published(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq, done: tuple[str, ...]
) -> None:
    shop = exchange(groups=("lake",), partitions=2)
    target = shop.begun()
    for number in range(2):
        half_made(rabbitmq, shop, f"{shop.name}.search.{number}", *done)
    reader = Reader(shop, group="search")
    target.apply(batch(100, rows("I", pairs(1, 20))))
    reader.until(lambda: len(reader.rows) == 20)


def test_a_group_begun_under_an_alarm_gets_what_is_published_behind_it(new_rabbitmq: Callable[[], RabbitMq]) -> None:
    broker = new_rabbitmq()
    shop = Exchange(broker.url(), groups=("lake",))
    target = shop.begun()
    broker.memory_alarm(True)
    with suppress(SourceUnavailable):  # the first message of a connection may be taken all the same
        Reader(shop, group="search").stream.close()
    broker.memory_alarm(False)
    reader = Reader(shop, group="search")
    target.apply(batch(100, rows("I", pairs(1, 3))))
    reader.until(lambda: len(reader.rows) == 3)
    # Who has read of it has nothing to publish when it comes back.
    reader.step(), reader.stream.close()
    broker.memory_alarm(True)
    again = Reader(shop, reader.claims, group="search")
    again.until(lambda: again.stream._held)
    broker.memory_alarm(False)
    shop.close()


@pytest.mark.parametrize("listed", [True, False])
def test_a_group_that_another_target_has_read_begins_in_no_middle(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq, listed: bool
) -> None:
    """Nothing waits in its queue, which is as one whose making was interrupted, but for the rows that are gone."""
    shop = exchange(groups=("lake", "search") if listed else ("lake",))
    target = shop.begun()
    if not listed:
        Reader(shop, group="search").stream.close()
    last = batch(100, rows("I", pairs(1, 3)))
    target.apply(last)
    target.heartbeat(last.end)  # nothing of it may come again: it is acknowledged
    one = Reader(shop, group="search")
    one.to_the_end()
    one.step(), one.stream.close()
    until(lambda: rabbitmq.depth(f"{shop.name}.search.0") == 0, what="everything is acknowledged")
    two = Reader(shop, Claims(), group="search")
    target.apply(batch(200, rows("I", pairs(4, 3))))
    error = two.fails()
    assert isinstance(error, OperatorError)
    assert "missing" in error.what


def test_a_groups_queue_that_was_read_and_deleted_is_told_once(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange(groups=("lake",))
    target = shop.begun()
    reader = Reader(shop, group="search")
    target.apply(batch(100, rows("I", pairs(1, 3))))
    reader.until(lambda: len(reader.rows) == 3)
    reader.stream.close()
    rabbitmq.delete_queue(f"{shop.name}.search.0")
    other = Reader(shop, reader.claims, group="search")
    error = other.fails()
    assert isinstance(error, OperatorError)
    assert "made again" in error.what
    other.stream.close()
    after = Reader(shop, reader.claims, group="search")
    target.apply(batch(200, rows("I", pairs(4, 3))))
    after.until(lambda: len(after.rows) == 3)


def test_instances_that_begin_a_group_together_take_each_others_queues(exchange: Callable[..., Exchange]) -> None:
    shop = exchange(groups=("lake",))
    target = shop.begun()
    maker = Reader(shop, group="search")
    other = Reader(shop, maker.claims, group="search")
    other.until(lambda: any(share.place for share in other.claims.shares.values()))
    other.stream.close()
    target.apply(batch(100, rows("I", pairs(1, 3))))
    maker.until(lambda: len(maker.rows) == 3)
