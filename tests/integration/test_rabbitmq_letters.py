"""`unreadable: dead_letter` behind RabbitMQ, against the real broker."""

from __future__ import annotations

from collections.abc import Callable

import pika

from cdcflow.bus.rabbitmq.letters import NUMBER, REASON, SHARE
from cdcflow.errors import SourceUnavailable
from tests.integration.rabbit_world import Exchange, Reader, batch, exchange, pairs, rows
from tests.servers.rabbitmq_server import RabbitMq

__all__ = ["exchange"]


def write(broker: RabbitMq, shop: Exchange, *bodies: bytes) -> None:
    """Publish what nobody can read."""
    with broker._channel("/") as channel:
        channel.confirm_delivery()
        for body in bodies:
            properties = pika.BasicProperties(headers={"ce_source": "a stranger"}, delivery_mode=2)
            channel.basic_publish(shop.name, "public.t.0", body, properties, mandatory=True)


def letters(broker: RabbitMq, shop: Exchange) -> dict[bytes, dict[str, str]]:
    """Take all dead letters; return their headers by what they say."""
    found: dict[bytes, dict[str, str]] = {}
    with broker._channel("/") as channel:
        while True:
            method, properties, body = channel.basic_get(f"{shop.name}.dead_letters", auto_ack=True)
            if method is None:
                return found
            found[body] = properties.headers


def test_what_cannot_be_read_is_put_aside_and_the_rest_applied(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange()
    target = shop.begun()
    large = b"x" * 300_000  # several frames
    write(rabbitmq, shop, b"{nonsense", large)
    target.apply(batch(100, rows("I", pairs(1, 3))))
    reader = Reader(shop, unreadable="dead_letter")
    reader.until(lambda: len(reader.rows) == 3)
    found = letters(rabbitmq, shop)
    assert set(found) == {b"{nonsense", large}
    headers = found[b"{nonsense"]
    assert headers["ce_source"] == "a stranger"
    assert headers[SHARE] == f"{shop.name}/0"
    assert headers[REASON]
    assert headers[NUMBER].isdigit()


def test_a_letter_long_after_another_is_delivered(exchange: Callable[..., Exchange], rabbitmq: RabbitMq) -> None:
    """The broker closes what was silent for two heartbeats."""
    shop = exchange()
    target = shop.begun()
    reader = Reader(shop, unreadable="dead_letter")
    for number, body in enumerate((b"one", b"two"), 1):
        write(rabbitmq, shop, body)
        target.apply(batch(100 * number, rows("I", pairs(number, 1))))
        reader.until(lambda number=number: len(reader.rows) == number)
        listed = rabbitmq.ctl("list_connections", "pid", "client_properties").splitlines()
        for connection in (line.split()[0] for line in listed if '"cdcflow dead letters"' in line):
            rabbitmq.ctl("close_connection", connection, "silent")
    assert set(letters(rabbitmq, shop)) == {b"one", b"two"}


def test_under_an_alarm_the_reader_says_that_letters_are_not_taken(new_rabbitmq: Callable[[], RabbitMq]) -> None:
    broker = new_rabbitmq()
    shop = Exchange(broker.url())
    shop.begun()
    bodies = {b"letter %d" % number for number in range(5)}
    write(broker, shop, *bodies)
    broker.memory_alarm(True)
    reader = Reader(shop, unreadable="dead_letter")
    error = reader.fails()
    assert isinstance(error, SourceUnavailable)
    assert "takes no messages" in error.what
    assert error.why
    reader.stream.close()
    broker.memory_alarm(False)
    again = Reader(shop, reader.claims, unreadable="dead_letter")
    again.to_the_end()
    assert set(letters(broker, shop)) == bodies
    shop.close()
