"""One publishing session: the connection that nobody else has, messages with their numbers, and their confirms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import uuid4

from pika import spec

from cdcflow.bus.rabbitmq import claim
from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.confirms import Confirms
from cdcflow.bus.rabbitmq.doubts import LOST, MARK, MOST_NUMBERS, PLACE, Repeated
from cdcflow.bus.rabbitmq.layout import (
    LAYOUT,
    NOTES_KEY,
    Layout,
    Noted,
    bind,
    binding_key,
    declare_exchange,
    declare_queue,
    declare_super_stream,
    own_key,
)
from cdcflow.bus.rabbitmq.notes import KEY, Notes
from cdcflow.bus.rabbitmq.refusals import Refused, translate
from cdcflow.bus.rabbitmq.wire import HEARTBEAT_SECONDS, Wire, connect, decoded
from cdcflow.codecs.amqpframes_cy import ACK, NACK, RETURN, AmqpError, entry, frame
from cdcflow.codecs.amqpframes_cy import short as short_string
from cdcflow.codecs.amqppack_cy import Counters, pack
from cdcflow.errors import OperatorError, RowRejected, TargetUnavailable
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# A broker that takes no messages for so long (memory, disk) is away: the pipeline says that it waits, and asks again.
BLOCKED_SECONDS: Final = 10.0
# Confirms that do not come for so long never will: a queue without a majority.
CONFIRM_SECONDS: Final = 60.0

_CHANNEL_CLOSE: Final = spec.Channel.Close.INDEX
_PUBLISH: Final = spec.Basic.Publish.INDEX


class Publisher:
    """Publishes to one exchange. `publish`, `note` and `settle` may be called by any thread, and take turns."""

    def __init__(self, address: Address, layout: Layout, pipeline: str) -> None:
        self._address, self.layout, self._pipeline = address, layout, pipeline
        self._wire: Wire | None = None
        self._lock = threading.RLock()
        self._ended = threading.Event()

    # -- opening

    @property
    def generation(self) -> int:
        """Which session this is."""
        return self.counters.generation

    def open(self) -> None:
        """Connect, shut out everybody else who publishes, make what is missing, and learn what is there.

        Where that was done before and the connection lives, a new session begins on it: what comes may have been
        published already.

        Raises:
            TargetUnavailable: the broker is away, or another publisher is connected.
            OperatorError: what is there has another layout, or other settings.
            AccessDenied: login or permissions.
        """
        with self._lock:
            if self._renewed():
                return
            self.close()
            try:
                wire = connect(self._address, f"cdcflow {self._pipeline} publisher", TargetUnavailable)
            except Refused as refused:
                raise self._translated(refused) from refused
            try:
                self._take(wire)
            except Refused as refused:
                wire.close()
                raise self._translated(refused) from refused
            except BaseException:
                wire.close()
                raise
            self._wire = wire
            self._ended = threading.Event()
            threading.Thread(target=self._beat, args=(wire, self._ended), name="cdcflow-amqp", daemon=True).start()

    def _renewed(self) -> bool:
        wire = self._wire
        if wire is None:
            return False
        try:
            self._settle()
            self._begin(wire)
        except (Refused, TargetUnavailable):
            return False
        return True

    def _begin(self, wire: Wire) -> None:
        """Begin a session: new numbers, and what an earlier one may have published."""
        layout = self.layout
        before = self.notes.layout.generation if self.notes.layout is not None else 0
        self.counters = Counters(max(before + 1, int(time.time())), layout.partitions)
        self.notes.layout = Noted(layout.kind, layout.partitions, self.counters.generation, frozenset(layout.bases()))
        self.repeated = [Repeated({}) for _ in range(layout.partitions)]
        if layout.kind == "stream":
            self.repeated = [Repeated(claim.read_back(wire, queue, self._mark(queue))) for queue, _ in layout.queues()]
        self._note(LAYOUT, layout.note(self.counters.generation))
        self._settle()

    def _take(self, wire: Wire) -> None:
        layout = self.layout
        control = self._control = claim.locked(wire, layout, self._address)
        declare_exchange(wire, control, layout.exchange)
        declare_queue(wire, control, layout.notes, {"x-queue-type": "stream", "x-max-age": "100Y"})
        bind(wire, control, layout.notes, layout.exchange, NOTES_KEY)
        self.notes = Notes(self._address, layout.exchange, layout.notes, TargetUnavailable)
        bind(wire, control, layout.notes, layout.exchange, own_key(layout.notes))
        self._channel = wire.channel()
        wire.call(spec.Confirm.Select(), channel=self._channel)
        self._methods: dict[str, bytes] = {}
        self._confirms = Confirms()
        self._wire = wire
        self.notes.read(wire, self._mark(layout.notes))
        lost = claim.lost(wire, self.notes.layout, layout, self._address)
        for queue, number in layout.queues():
            declare_queue(wire, control, queue, layout.arguments())
            bind(wire, control, queue, layout.exchange, binding_key(number))
            bind(wire, control, queue, layout.exchange, own_key(queue))
        if layout.kind == "stream":
            declare_super_stream(wire, control, layout)
        for queue in lost:
            # Its readers must not go on as if nothing had happened.
            self._send_one(own_key(queue), [(PLACE, LOST)], b"")
        self._begin(wire)

    # -- publishing

    def publish(
        self,
        order: bytes,
        parts: Mapping[int, tuple[Any, ...]],
        stamps: list[tuple[bytes, bytes, int]],
        skip: Callable[..., bool] | None = None,
        generation: int | None = None,
    ) -> int:
        """Send the messages of some rows; return how many. They are durable after `settle`.

        Args:
            order, parts, stamps, skip: as `codecs.amqppack_cy.pack`, but with routing keys in place of methods.
            generation: of the session that this belongs to, None for whichever it is.

        Raises:
            TargetUnavailable: the broker is away, or takes nothing now.
            OperatorError: it refuses a message, or no queue is bound.
            RowRejected: the headers of a message do not fit into a frame.
        """
        with self._lock:
            wire = self._opened(generation)
            if max(self.counters.numbers) > MOST_NUMBERS - 50_000_000:
                raise TargetUnavailable("a new publishing session is due", at=self._address.text)
            ready = {
                number: (*part[:9], [self._method(key) for key in part[9]], part[10]) for number, part in parts.items()
            }
            try:
                return pack(order, ready, stamps, self.counters, self._channel, wire.frame_max, self._write, skip)
            except AmqpError as error:
                raise RowRejected(f"a message cannot be written: {error}", at=self._address.text) from error
            except Refused as refused:
                raise self._translated(refused) from refused

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else publishes meanwhile."""
        with self._lock:
            yield

    def note(self, key: str, value: bytes) -> None:
        """Write a note, unless it is there, and wait until it is durable. Raises as `publish`."""
        with self._lock:
            self._opened()
            if self.notes.has(key):
                return
            try:
                self._note(key, value)
                self._settle()
            except Refused as refused:
                raise self._translated(refused) from refused
            self.notes.add(key)

    def settle(self, generation: int | None = None) -> None:
        """Wait until everything that was sent is confirmed. Raises as `publish`."""
        with self._lock:
            self._opened(generation)
            try:
                self._settle()
            except Refused as refused:
                raise self._translated(refused) from refused

    def seal(self) -> None:
        """Say that the checkpoint is past everything that was published so far."""
        with self._lock:
            self.counters.seal()

    def close(self) -> None:
        """Let go of the exchange. What is not confirmed is in doubt."""
        self._ended.set()
        with self._lock:
            if self._wire is not None:
                self._wire.close()
                self._wire = None

    # -- inside

    def _opened(self, generation: int | None = None) -> Wire:
        if self._wire is None or (generation is not None and generation != self.counters.generation):
            # Messages of an earlier connection may be lost without a word here.
            raise TargetUnavailable("the connection to RabbitMQ was closed", at=self._address.text)
        return self._wire

    def _method(self, key: str) -> bytes:
        known = self._methods.get(key)
        if known is None:
            known = self._methods[key] = _publish(self._channel, self.layout.exchange, key)
        return known

    def _mark(self, queue: str) -> bytes:
        """Write a message by which the end of a stream is known, and wait for its confirm; return its name."""
        name = uuid4().hex.encode()
        self._send_one(own_key(queue), [(PLACE, MARK), (KEY, name)], b"")
        self._settle()
        return name

    def _note(self, key: str, value: bytes) -> None:
        self._send_one(NOTES_KEY, [("cdcflow.key", key.encode())], value)

    def _send_one(self, key: str, headers: list[tuple[str, bytes]], body: bytes) -> None:
        wire = self._opened()
        table = b"".join(entry(name, value) for name, value in headers)
        properties = (0x8000 | 0x2000 | 0x1000).to_bytes(2, "big") + short_string(b"application/json")
        properties += len(table).to_bytes(4, "big") + table + b"\x02"
        head = b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + properties
        frames = [self._method(key), frame(2, self._channel, head)]
        room = wire.frame_max - 8
        frames += [frame(3, self._channel, body[at : at + room]) for at in range(0, len(body), room)]
        self._write(b"".join(frames), 1)

    def _write(self, data: bytes, messages: int) -> None:
        wire = self._opened()
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
        self._hear()

    def _settle(self) -> None:
        """Wait for the confirms, as long as some come."""
        wire = self._opened()
        since, left = time.monotonic(), self._confirms.waiting
        said = False
        while self._confirms.waiting:
            wire.pump(0.5)
            self._hear()
            now = time.monotonic()
            if self._confirms.waiting != left:
                since, left = now, self._confirms.waiting
            if wire.blocked and not said:
                said = True
                log.warning("the broker takes no messages, waiting", why=wire.blocked, at=self._address.text)
            if now - since > (BLOCKED_SECONDS if wire.blocked else CONFIRM_SECONDS):
                raise self._no_room()
        self._hear()

    def _no_room(self) -> TargetUnavailable:
        assert self._wire is not None
        why = self._wire.blocked
        # What is in doubt is not sent twice through one connection.
        self.close()
        return TargetUnavailable(
            "RabbitMQ takes no messages now" if why else "RabbitMQ does not confirm messages",
            at=self._address.text,
            why=why or "a queue may have lost the majority of its nodes",
            do="rabbitmq-diagnostics alarms; rabbitmq-queues check_if_node_is_quorum_critical",
        )

    def _hear(self) -> None:
        """Take in what has come: confirms, and what is wrong."""
        wire = self._opened()
        for event in wire.take():
            if event[1] == ACK or event[1] == NACK:
                tag, multiple = int.from_bytes(event[2][4:12], "big"), bool(event[2][12] & 1)
                if event[1] == NACK:
                    self.close()
                    raise TargetUnavailable(
                        "a queue of RabbitMQ did not take a message",
                        at=self._address.text,
                        why="it is full and its policy says reject-publish, or it is not there for now",
                    )
                self._confirms.confirm(tag, multiple=multiple)
            elif event[1] == RETURN:
                self.close()
                said = decoded(event)
                raise OperatorError(
                    "no queue takes a message: it was returned",
                    at=f'exchange "{self.layout.exchange}", routing key "{said.routing_key}", {self._address.text}',
                    why="a queue or its binding was deleted; what a deleted queue held is lost",
                    do="start again, which makes the queues again; then cdcflow resync --all where one was deleted",
                )
            elif event[1] == _CHANNEL_CLOSE:
                refused = wire.channel_closed(event)
                self.close()
                raise refused

    def _translated(self, refused: Refused) -> Exception:
        return translate(refused, self._address, self.layout.exchange, TargetUnavailable)

    def _beat(self, wire: Wire, ended: threading.Event) -> None:
        """Keep an idle connection alive."""
        while not ended.wait(HEARTBEAT_SECONDS / 6):
            if self._lock.acquire(timeout=0.1):
                try:
                    if self._wire is not wire:
                        return
                    wire.pump(0)
                except Exception as error:
                    # Told to whoever publishes next.
                    log.debug("the connection ended while nothing was published", why=str(error))
                    return
                finally:
                    self._lock.release()


def _publish(channel: int, exchange: str, key: str) -> bytes:
    method = spec.Basic.Publish(0, exchange, key, True, False)
    return frame(1, channel, _PUBLISH.to_bytes(4, "big") + b"".join(method.encode()))
