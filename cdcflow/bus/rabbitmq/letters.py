"""Messages that could not be read, put aside in a queue of their own."""

from __future__ import annotations

from collections.abc import Sequence

from pika import spec

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.layout import bind, declare_queue, own_key
from cdcflow.bus.rabbitmq.notes import translated
from cdcflow.bus.rabbitmq.wire import Wire, connect
from cdcflow.bus.reading import Letter
from cdcflow.codecs.amqpframes_cy import ACK, NACK, RETURN, entry, frame
from cdcflow.errors import SourceUnavailable
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

REASON, SHARE, NUMBER = "cdcflow.reason", "cdcflow.share", "cdcflow.number"


class DeadLetters:
    """Writes to the queue of dead letters. One thread; connects when there is a first letter."""

    def __init__(self, address: Address, exchange: str, queue: str) -> None:
        self._address, self._exchange, self._queue = address, exchange, queue
        self._wire: Wire | None = None
        self._channel = 0

    def deliver(self, letters: Sequence[Letter]) -> None:
        """Return when the broker has confirmed every letter. One that came before may come again after a crash.

        Raises:
            SourceUnavailable: the broker does not take them now.
        """
        if not letters:
            return
        with translated(self._address, self._exchange, SourceUnavailable):
            wire = self._wire or self._begin()
            for letter in letters:
                log.warning("a message cannot be read and is put aside", queue=self._queue, **letter.reason.fields())
                self._send(wire, letter)
            left = len(letters)
            while left:
                wire.pump(1.0)
                for event in wire.take():
                    if event[1] in (NACK, RETURN):
                        raise SourceUnavailable("the dead letters are not taken", at=self._queue)
                    if event[1] == ACK:
                        tag = int.from_bytes(event[2][4:12], "big")
                        left = min(left - 1, self._sent - tag) if event[2][12] & 1 else left - 1

    def close(self) -> None:
        """Close the connection."""
        if self._wire is not None:
            self._wire.close()

    def _begin(self) -> Wire:
        wire = connect(self._address, "cdcflow dead letters", SourceUnavailable)
        self._channel = wire.channel()
        declare_queue(wire, self._channel, self._queue, {"x-queue-type": "quorum"})
        bind(wire, self._channel, self._queue, self._exchange, own_key(self._queue))
        wire.call(spec.Confirm.Select(), channel=self._channel)
        self._wire, self._sent = wire, 0
        return wire

    def _send(self, wire: Wire, letter: Letter) -> None:
        headers: list[tuple[str, bytes]] = [
            *((name, value) for name, value in letter.headers if isinstance(value, bytes) and name != "content-type"),
            (REASON, letter.reason.what.encode()[:1000]),
            (SHARE, letter.share.encode()),
            (NUMBER, str(letter.place).encode()),
        ]
        table = b"".join(entry(name, value) for name, value in headers)
        body = letter.value or b""
        properties = (0x2000 | 0x1000).to_bytes(2, "big") + len(table).to_bytes(4, "big") + table + b"\x02"
        method = spec.Basic.Publish(0, self._exchange, own_key(self._queue), True, False)
        room = wire.frame_max - 8
        frames = [
            frame(1, self._channel, spec.Basic.Publish.INDEX.to_bytes(4, "big") + b"".join(method.encode())),
            frame(2, self._channel, b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + properties),
            *(frame(3, self._channel, body[at : at + room]) for at in range(0, len(body), room)),
        ]
        wire.send(b"".join(frames))
        self._sent += 1
