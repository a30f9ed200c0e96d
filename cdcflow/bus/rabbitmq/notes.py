"""The stream of notes beside an exchange: its layout, and every shape of every table, written before its first row."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

from pika import spec

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.doubts import MARK, PLACE
from cdcflow.bus.rabbitmq.layout import LAYOUT, Noted, own_key, read_layout
from cdcflow.bus.rabbitmq.marks import OpenMark, read_mark
from cdcflow.bus.rabbitmq.refusals import NOT_FOUND, Refused, translate
from cdcflow.bus.rabbitmq.sender import Sender
from cdcflow.bus.rabbitmq.wire import Event, Wire, short
from cdcflow.bus.shapes import Shapes
from cdcflow.codecs.amqpframes_cy import DELIVER, entry, frame
from cdcflow.codecs.amqpheaders_cy import headers_of
from cdcflow.errors import Unavailable
from cdcflow.model.schema import Table

KEY: Final = "cdcflow.key"

# The key of the note that names a mark before it goes to the partitions, and is empty when all have it.
OPEN_MARK: Final = "mark"

# What the key begins with of the note that a group's queues are deleted by who reads them.
GIVEN_UP: Final = b"given up/"

# Messages of a stream that may be on their way at once while it is read by itself.
_PREFETCH: Final = 1000
_ANSWER_SECONDS: Final = 30.0
# A stream whose reader hears nothing for so long is taken to be at its end, by who only looks.
_QUIET_SECONDS: Final = 0.3
_CANCEL: Final = spec.Basic.Cancel.INDEX
_CHANNEL_CLOSE: Final = spec.Channel.Close.INDEX


def read_stream(
    wire: Wire,
    queue: str,
    start: int | str,
    quiet: float | None = None,
    *,
    begun: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, dict[str, bytes], bytes]]:
    """Yield the messages of a stream from an offset on (or `first`, `last`): (offset, headers, body).

    Where a stream ends cannot be asked. With `quiet` this ends when nothing came for so many seconds; without it, the
    caller knows a message that has to come, and leaves there. On a channel of its own, while nothing else is expected
    on the connection. `last` begins with the last chunk that was written. `begun` is called when the broker has agreed:
    what is written from then on is read.

    Raises:
        Refused: the stream is not there, or may not be read.
        Unavailable: the connection is gone, or nothing comes for long.
    """
    channel = wire.channel()
    wire.call(spec.Basic.Qos(0, _PREFETCH, False), channel=channel)
    wanted = {"x-stream-offset": start}
    wire.call(spec.Basic.Consume(0, queue, "notes", False, False, False, False, wanted), channel=channel)
    try:
        begun()
        yield from _arriving(wire, channel, queue, start if isinstance(start, int) else 0, quiet)
    finally:
        if wire.lives(channel):
            wire.call(spec.Channel.Close(200, "done", 0, 0), channel=channel)
            wire.forget(channel)


def _arriving(
    wire: Wire, channel: int, queue: str, start: int, quiet: float | None
) -> Iterator[tuple[int, dict[str, bytes], bytes]]:
    unacknowledged = 0
    heard = time.monotonic()
    while True:
        for event in wire.take():
            if event[0] != channel:
                continue
            if event[1] == _CHANNEL_CLOSE:
                raise wire.channel_closed(event)
            if event[1] == _CANCEL:
                # It was deleted, which the next look tells, or its node is away.
                raise wire.unavailable("the broker took a stream away from us", at=queue)
            if event[1] != DELIVER:
                continue
            assert event[3] is not None
            headers, offset, _ = headers_of(event[3])
            unacknowledged += 1
            if unacknowledged >= _PREFETCH // 2:
                wire.tell(spec.Basic.Ack(tag_of(event), True), channel=channel)
                unacknowledged = 0
            heard = time.monotonic()
            if offset >= start:  # the chunk that holds the start begins before it
                yield offset, dict(headers), event[4]
        waited = time.monotonic() - heard
        if quiet is not None and waited >= quiet:
            return
        if waited > _ANSWER_SECONDS:
            raise wire.unavailable("a stream does not give what it holds", at=queue)
        wire.pump(0.5 if quiet is None else quiet - waited)


def stream_end(wire: Wire, channel: int, exchange: str, queue: str) -> int:
    """Return the offset behind a stream's last message: a mark is written to tell it.

    Raises:
        Refused, Unavailable: as `read_stream`.
    """
    name = uuid4().hex.encode()

    # Written before, it might stand in another chunk than the last by now, where somebody else writes.
    def write() -> None:
        post(wire, channel, exchange, own_key(queue), [(PLACE, MARK), (KEY, name)])

    for offset, headers, _ in read_stream(wire, queue, "last", begun=write):
        if headers.get(KEY) == name:
            return offset
    raise wire.unavailable("a stream does not tell its end", at=queue)


def post(wire: Wire, channel: int, exchange: str, key: str, headers: list[tuple[str, bytes]]) -> None:
    """Publish a message without a body, and do not wait for its confirm. Raises Unavailable."""
    table = b"".join(entry(name, value) for name, value in headers)
    # Headers, and the delivery mode: a broker that is started again has it still.
    head = b"\x00\x3c" + bytes(10) + (0x3000).to_bytes(2, "big") + len(table).to_bytes(4, "big") + table + b"\x02"
    method = spec.Basic.Publish(0, exchange, key, False, False)
    payload = spec.Basic.Publish.INDEX.to_bytes(4, "big") + b"".join(method.encode())
    wire.send(frame(1, channel, payload) + frame(2, channel, head))


def tag_of(event: Event) -> int:
    """Return the delivery tag of basic.deliver."""
    at = 5 + event[2][4]
    return int.from_bytes(event[2][at : at + 8], "big")


class Notes:
    """What has been read of the notes so far. A `bus.shapes.Catalogue` for any thread.

    Every look opens a connection of its own, and reads what was written since the last.
    """

    def __init__(self, address: Address, exchange: str, queue: str, unavailable: type[Unavailable]) -> None:
        self._address, self._exchange, self._queue = address, exchange, queue
        self._unavailable = unavailable
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._shapes = Shapes()
        self._latest: dict[str, str] = {}  # by table, the key of its newest shape
        self._next: int | str = "first"
        self.layout: Noted | None = None
        self.open_mark: OpenMark | None = None
        self.given_up: set[str] = set()  # bases whose readers have deleted their queues, on purpose

    def refresh(self) -> None:
        """Read what is new.

        Raises:
            Unavailable, AccessDenied, OperatorError: the broker cannot be asked.
        """
        with self._lock, self._connected() as (wire, _):
            self.catch_up(wire)

    def catch_up(self, wire: Wire) -> None:
        """Read all that is confirmed by now, through an open connection.

        A replica may lag, and a disk stall, so that is told by a note that is written behind it. Through a connection
        of its own: under an alarm the broker reads nothing more of one that publishes.

        Raises:
            Refused: as `read`.
            Unavailable, AccessDenied, OperatorError: as `refresh`.
        """
        name = uuid4().hex.encode()
        with self._there():
            end = self._end(wire, name)
            if isinstance(self._next, int) and self._next > end:
                self._forget()  # the stream was made again
            if self._next != end:
                self.read(wire, name)

    def read(self, wire: Wire, mark: bytes | None = None) -> None:
        """Read what is new through an open connection: up to a note that was written for that, or until it is quiet,
        where a late answer does no harm.

        Raises:
            Refused: the broker refuses.
        """
        with self._there():
            for offset, headers, body in read_stream(wire, self._queue, self._next, None if mark else _QUIET_SECONDS):
                key = headers.get(KEY, b"")
                self._next = offset + 1
                if key == LAYOUT.encode():
                    self.layout = read_layout(body, self._address)
                    self.given_up.clear()
                elif key.startswith(GIVEN_UP):
                    self.given_up.add(key.removeprefix(GIVEN_UP).decode("utf-8", "replace"))
                elif key == OPEN_MARK.encode():
                    self.open_mark = read_mark(body)
                elif b"#" in key:
                    self._shapes.put(key, body or None, offset + 1, at=f"{self._queue}, offset {offset}")
                    self.add(key.decode("utf-8", "replace"))
                elif mark is not None and key == mark:
                    return

    def _end(self, wire: Wire, name: bytes) -> int:
        """Write a note that says nothing, and return its offset."""
        found = read_stream(wire, self._queue, "last", begun=lambda: self._mark(name))
        return next(offset for offset, headers, _ in found if headers.get(KEY) == name)

    @contextmanager
    def _there(self) -> Iterator[None]:
        try:
            yield
        except Refused as refused:
            if refused.code != NOT_FOUND or refused.hard:
                raise
            self._forget()  # nobody has published yet

    def _mark(self, name: bytes) -> None:
        """Write a note that says nothing, and wait for its confirm. Raises as `refresh`."""
        with self._connected() as (wire, _):
            sender = Sender(self._address, self._exchange, self._unavailable, self._unbound)
            sender.send_alone(wire, own_key(self._queue), [(PLACE, MARK), (KEY, name)])

    def _unbound(self, key: str) -> Unavailable:
        what = "the stream of notes is not bound to the exchange: a publisher that starts binds it"
        return self._unavailable(what, at=f"{key}, {self._address.text}")

    def has(self, key: str) -> bool:
        """Return whether a shape is written down, and none of its table behind it."""
        return self._latest.get(key.rpartition("#")[0]) == key

    def add(self, key: str) -> None:
        """Note that a shape is written down."""
        self._latest[key.rpartition("#")[0]] = key

    def find(self, fingerprint: str) -> Table | None:
        """As `bus.shapes.Catalogue.find`. A shape is confirmed before its first row is published."""
        found = self._shapes.find(fingerprint)
        if found is None:
            self.refresh()
            found = self._shapes.find(fingerprint)
        if found is None:  # the stream was made again perhaps
            with self._lock:
                self._forget()
            self.refresh()
            found = self._shapes.find(fingerprint)
        return found

    def newest(self) -> list[Table]:
        """As `bus.shapes.Catalogue.newest`."""
        return self._shapes.newest()

    def between(self, old: Table, new: Table) -> list[Table]:
        """As `bus.shapes.Catalogue.between`."""
        return self._shapes.between(old, new)

    def placed(self, table: Table) -> Table:
        """As `bus.shapes.Catalogue.placed`."""
        return self._shapes.placed(table)

    @contextmanager
    def _connected(self) -> Iterator[tuple[Wire, int]]:
        with (
            translated(self._address, self._exchange, self._unavailable),
            short(self._address, "cdcflow notes", self._unavailable) as opened,
        ):
            yield opened


@contextmanager
def translated(address: Address, exchange: str, unavailable: type[Unavailable]) -> Iterator[None]:
    """Raise what the broker refuses as our own errors."""
    try:
        yield
    except Refused as refused:
        raise translate(refused, address, exchange, unavailable) from refused


__all__ = [
    "GIVEN_UP",
    "KEY",
    "OPEN_MARK",
    "Notes",
    "post",
    "read_stream",
    "stream_end",
    "tag_of",
    "translated",
]
