"""What a connection keeps of what the broker sends, without a broker."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pika import spec

from cdcflow.bus.rabbitmq.address import parse
from cdcflow.bus.rabbitmq.wire import HEARTBEAT_SECONDS, Wire, beating
from cdcflow.codecs.amqpframes_cy import DELIVER, frame
from cdcflow.errors import SourceUnavailable


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    """A connection, and the broker's end of it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield Wire(ours, parse("amqp://broker/"), SourceUnavailable), theirs
    ours.close()
    theirs.close()


def method(channel: int, one: Any) -> bytes:
    return frame(1, channel, one.INDEX.to_bytes(4, "big") + b"".join(one.encode()))


def delivery(channel: int, number: int, body: bytes) -> bytes:
    header = (60).to_bytes(2, "big") + bytes(2) + len(body).to_bytes(8, "big") + bytes(2)
    return (
        method(channel, spec.Basic.Deliver("tag", number, False, "exchange", "key"))
        + frame(2, channel, header)
        + frame(3, channel, body)
    )


def test_messages_of_a_channel_that_is_given_up_are_not_kept(ends: tuple[Wire, socket.socket]) -> None:
    wire, broker = ends
    broker.sendall(delivery(1, 1, b"first") + delivery(2, 1, b"other"))
    wire.pump(5)
    wire.ignore(1)
    broker.sendall(delivery(1, 2, b"late") + delivery(2, 2, b"another") + method(1, spec.Basic.CancelOk("tag")))
    wire.call(spec.Basic.Cancel("tag"), channel=1)
    assert [(event[0], event[1], event[4]) for event in wire.take()] == [
        (2, DELIVER, b"other"),
        (2, DELIVER, b"another"),
    ]
    wire.forget(1)
    broker.sendall(delivery(1, 1, b"of the next"))
    wire.pump(5)
    assert [event[4] for event in wire.take()] == [b"of the next"]


def test_a_connection_lives_while_its_thread_waits_for_something_else(ends: tuple[Wire, socket.socket]) -> None:
    wire, broker = ends
    broker.settimeout(60)
    wire._sent_at -= HEARTBEAT_SECONDS
    with beating(wire):
        assert broker.recv(8) == frame(8, 0, b"")


def test_a_connection_that_is_gone_while_its_thread_waits_is_told_behind_that(
    ends: tuple[Wire, socket.socket],
) -> None:
    wire, broker = ends
    broker.close()
    wire._sent_at -= HEARTBEAT_SECONDS
    with beating(wire):
        pass
    with pytest.raises(SourceUnavailable, match="gone"):
        wire.pump(0)


def test_a_broker_that_is_silent_while_it_takes_nothing_is_gone(ends: tuple[Wire, socket.socket]) -> None:
    wire, _ = ends

    def waits() -> None:
        raise AssertionError("still waits")

    wire._heard_at -= 3 * HEARTBEAT_SECONDS
    with pytest.raises(SourceUnavailable, match="gone") as gone:
        wire.send(bytes(64 << 20), while_blocked=waits)
    assert "silent" in gone.value.why
