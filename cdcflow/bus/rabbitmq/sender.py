"""The channel that messages are sent through: their frames, their confirms, and what the broker says against them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from pika import spec

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.confirms import Confirms
from cdcflow.bus.rabbitmq.refusals import PRECONDITION_FAILED, Large, Refused, too_large, translate
from cdcflow.bus.rabbitmq.wire import Wire, decoded
from cdcflow.codecs.amqpframes_cy import ACK, NACK, RETURN, entry, frame
from cdcflow.codecs.amqpframes_cy import short as short_string
from cdcflow.errors import OperatorError, TargetUnavailable, Unavailable
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# A broker that takes no messages for so long (memory, disk) is away: the pipeline says that it waits, and asks again.
BLOCKED_SECONDS: Final = 10.0
# Confirms that do not come for so long never will: a queue without a majority.
CONFIRM_SECONDS: Final = 60.0
# A broker's smallest limit that makes sense; one that was set lower is told without the row.
LARGE_BYTES: Final = 65536

_CHANNEL_CLOSE: Final = spec.Channel.Close.INDEX
_PUBLISH: Final = spec.Basic.Publish.INDEX


class Sender:
    """A channel in confirm mode to one exchange, on a connection that it is given. One thread at a time.

    Whatever goes wrong closes the connection: what is in doubt is not sent twice through one.
    """

    def __init__(
        self,
        address: Address,
        exchange: str,
        unavailable: type[Unavailable] = TargetUnavailable,
        returned: Callable[[str], Exception] | None = None,
    ) -> None:
        """unavailable: what is raised where the broker is away. returned: gives the error for a message that no queue
        took, of its routing key; None for that of a row."""
        self._address, self._exchange = address, exchange
        self._unavailable, self._returned = unavailable, returned or self._row_returned
        self.wire: Wire | None = None
        self.channel = 0
        self._confirms = Confirms()
        self._methods: dict[str, bytes] = {}
        self._large: list[Large] = []  # not confirmed yet

    def take(self, wire: Wire) -> None:
        """Open the channel. Raises Refused."""
        self.channel = wire.channel()
        wire.call(spec.Confirm.Select(), channel=self.channel)
        self._methods = {}
        self._confirms = Confirms()
        self.wire = wire

    def opened(self) -> Wire:
        """Return the connection. Raises Unavailable where it was closed."""
        if self.wire is None:
            raise self.closed()
        return self.wire

    def closed(self) -> Unavailable:
        """Return the error for messages of an earlier connection, which may be lost without a word here."""
        return self._unavailable("the connection to RabbitMQ was closed", at=self._address.text)

    def close(self) -> None:
        """Let the connection go. What is not confirmed is in doubt."""
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.close()

    def method(self, key: str) -> bytes:
        """Return the frame that publishes with a routing key."""
        known = self._methods.get(key)
        if known is None:
            known = self._methods[key] = _publish(self.channel, self._exchange, key)
        return known

    def send_one(self, key: str, headers: list[tuple[str, bytes]], body: bytes) -> None:
        """Send one message of JSON. Raises as `write`."""
        wire = self.opened()
        table = b"".join(entry(name, value) for name, value in headers)
        properties = (0x8000 | 0x2000 | 0x1000).to_bytes(2, "big") + short_string(b"application/json")
        properties += len(table).to_bytes(4, "big") + table + b"\x02"
        head = b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + properties
        frames = [self.method(key), frame(2, self.channel, head)]
        room = wire.frame_max - 8
        frames += [frame(3, self.channel, body[at : at + room]) for at in range(0, len(body), room)]
        self.write(b"".join(frames), 1)

    def send_alone(self, wire: Wire, key: str, headers: list[tuple[str, bytes]]) -> None:
        """Send one message without a body through a connection that is used for nothing else, and wait for its confirm.
        Raises as `write`."""
        self.take(wire)
        self.send_one(key, headers, b"")
        self.settle()

    def write(self, data: bytes, messages: int) -> None:
        """Send frames that hold so many messages.

        Raises:
            Unavailable: the broker is away, or takes nothing now.
            OperatorError: an earlier message was returned.
            Refused: it closed the channel.
        """
        wire = self.opened()
        since = time.monotonic()
        said = False

        def blocked() -> None:
            nonlocal said
            if wire.blocked and not said:
                said = True
                log.warning("the broker takes no messages, waiting", why=wire.blocked, at=self._address.text)
            if time.monotonic() - since > (BLOCKED_SECONDS if wire.blocked else CONFIRM_SECONDS):
                raise self._no_room()

        wire.send(data, while_blocked=blocked)
        self._confirms.sent += messages
        self.hear()

    def settle(self) -> None:
        """Wait for the confirms, as long as some come. Raises as `write`."""
        wire = self.opened()
        since, left = time.monotonic(), self._confirms.waiting
        said = False
        while self._confirms.waiting:
            wire.pump(0.5)
            self.hear()
            now = time.monotonic()
            if self._confirms.waiting != left:
                since, left = now, self._confirms.waiting
            if wire.blocked and not said:
                said = True
                log.warning("the broker takes no messages, waiting", why=wire.blocked, at=self._address.text)
            if now - since > (BLOCKED_SECONDS if wire.blocked else CONFIRM_SECONDS):
                raise self._no_room()
        self.hear()
        self._large.clear()

    def _no_room(self) -> Unavailable:
        assert self.wire is not None
        why = self.wire.blocked
        self.close()
        return self._unavailable(
            "RabbitMQ takes no messages now" if why else "RabbitMQ does not confirm messages",
            at=self._address.text,
            why=why or "a queue may have lost the majority of its nodes",
            do="rabbitmq-diagnostics alarms; rabbitmq-queues check_if_node_is_quorum_critical",
        )

    def hear(self) -> None:
        """Take in what has come: confirms, and what is wrong."""
        wire = self.opened()
        for event in wire.take():
            if event[1] == ACK or event[1] == NACK:
                tag, multiple = int.from_bytes(event[2][4:12], "big"), bool(event[2][12] & 1)
                if event[1] == NACK:
                    self.close()
                    raise self._unavailable(
                        "a queue of RabbitMQ did not take a message",
                        at=self._address.text,
                        why="it is full and its policy says reject-publish, or it is not there for now",
                    )
                self._confirms.confirm(tag, multiple=multiple)
            elif event[1] == RETURN:
                self.close()
                raise self._returned(decoded(event).routing_key)
            elif event[1] == _CHANNEL_CLOSE:
                refused = wire.channel_closed(event)
                self.close()
                raise refused

    def note_large(self, table: str, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """Note whose messages are large, before they are published: the broker does not say which it refuses."""
        if max(map(len, filter(None, values)), default=0) > LARGE_BYTES:
            each = zip(keys, values, strict=True)
            self._large += [(table, key, len(value)) for key, value in each if value and len(value) > LARGE_BYTES]

    def translated(self, refused: Refused) -> Exception:
        """Return our error for what the broker refused."""
        if refused.code == PRECONDITION_FAILED and "larger than" in refused.text:
            large, self._large = self._large, []
            return too_large(self._address.text, refused.text, large)
        return translate(refused, self._address, self._exchange, self._unavailable)

    def _row_returned(self, key: str) -> OperatorError:
        return OperatorError(
            "no queue takes a message: it was returned",
            at=f'exchange "{self._exchange}", routing key "{key}", {self._address.text}',
            why="a queue or its binding was deleted; what a deleted queue held is lost",
            do="cdcflow resync --all, which makes the queues again; without a loss, start again",
        )


def _publish(channel: int, exchange: str, key: str) -> bytes:
    method = spec.Basic.Publish(0, exchange, key, True, False)
    return frame(1, channel, _PUBLISH.to_bytes(4, "big") + b"".join(method.encode()))
