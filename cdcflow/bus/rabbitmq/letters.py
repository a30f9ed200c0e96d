"""Messages that could not be read, put aside in a queue of their own."""

from __future__ import annotations

from collections.abc import Sequence

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.layout import bind, declare_queue, own_key
from cdcflow.bus.rabbitmq.notes import translated
from cdcflow.bus.rabbitmq.sender import Sender
from cdcflow.bus.rabbitmq.wire import short
from cdcflow.bus.reading import Letter
from cdcflow.codecs.amqpframes_cy import entry, frame
from cdcflow.errors import SourceUnavailable
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

REASON, SHARE, NUMBER = "cdcflow.reason", "cdcflow.share", "cdcflow.number"


class DeadLetters:
    """Writes to the queue of dead letters. One thread; each delivery through a connection of its own: letters are rare,
    and one that was kept for the next would have to be kept alive."""

    def __init__(self, address: Address, exchange: str, queue: str) -> None:
        self._address, self._exchange, self._queue = address, exchange, queue

    def deliver(self, letters: Sequence[Letter]) -> None:
        """Return when the broker has confirmed every letter. One that came before may come again after a crash.

        Raises:
            SourceUnavailable: the broker does not take them now.
        """
        if not letters:
            return
        with (
            translated(self._address, self._exchange, SourceUnavailable),
            short(self._address, "cdcflow dead letters", SourceUnavailable) as (wire, channel),
        ):
            declare_queue(wire, channel, self._queue, {"x-queue-type": "quorum"})
            bind(wire, channel, self._queue, self._exchange, own_key(self._queue))
            sender = Sender(self._address, self._exchange, SourceUnavailable, self._returned)
            sender.take(wire)
            for letter in letters:
                log.warning("a message cannot be read and is put aside", queue=self._queue, **letter.reason.fields())
                sender.write(self._framed(sender, wire.frame_max, letter), 1)
            sender.settle()

    def _framed(self, sender: Sender, frame_max: int, letter: Letter) -> bytes:
        headers: list[tuple[str, bytes]] = [
            *((name, value) for name, value in letter.headers if isinstance(value, bytes) and name != "content-type"),
            (REASON, letter.reason.what.encode()[:1000]),
            (SHARE, letter.share.encode()),
            (NUMBER, str(letter.place).encode()),
        ]
        table = b"".join(entry(name, value) for name, value in headers)
        body = letter.value or b""
        properties = (0x2000 | 0x1000).to_bytes(2, "big") + len(table).to_bytes(4, "big") + table + b"\x02"
        room = frame_max - 8
        frames = [
            sender.method(own_key(self._queue)),
            frame(2, sender.channel, b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + properties),
            *(frame(3, sender.channel, body[at : at + room]) for at in range(0, len(body), room)),
        ]
        return b"".join(frames)

    def _returned(self, _: str) -> SourceUnavailable:
        return SourceUnavailable("the dead letters are not taken", at=f"{self._queue}, {self._address.text}")
