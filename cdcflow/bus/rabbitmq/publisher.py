"""One publishing session: the connection that nobody else has, messages with their numbers, and their confirms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import uuid4

from pika import spec

from cdcflow.bus.rabbitmq import claim
from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.confirms import Confirms
from cdcflow.bus.rabbitmq.doubts import (
    LOST,
    MARK,
    MOST_NUMBERS,
    NUMBER_BITS,
    PLACE,
    Repeated,
    Session,
    seal,
)
from cdcflow.bus.rabbitmq.layout import (
    LAYOUT,
    NOTES_KEY,
    Layout,
    Noted,
    base_of,
    bind,
    binding_key,
    declare_exchange,
    declare_queue,
    declare_super_stream,
    own_key,
    session_key,
)
from cdcflow.bus.rabbitmq.marks import FIRST, OpenMark
from cdcflow.bus.rabbitmq.notes import KEY, OPEN_MARK, Notes
from cdcflow.bus.rabbitmq.refusals import PRECONDITION_FAILED, Large, Refused, too_large, translate
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
# A broker's smallest limit that makes sense; one that was set lower is told without the row.
LARGE_BYTES: Final = 65536
# How often it is written down how far the partitions are: a publisher that is killed forgets what came since, and so
# does not tell a reader that it misses messages of that time. The notes are read whole whenever a side starts.
FLOORS_EVERY_SECONDS: Final = 600.0

_CHANNEL_CLOSE: Final = spec.Channel.Close.INDEX
_PUBLISH: Final = spec.Basic.Publish.INDEX


class Publisher:
    """Publishes to one exchange. `publish`, `note` and `settle` may be called by any thread, and take turns."""

    def __init__(self, address: Address, layout: Layout, pipeline: str) -> None:
        self._address, self.layout, self._pipeline = address, layout, pipeline
        self._wire: Wire | None = None
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._floors = [0] * layout.partitions
        self._floors_noted = list(self._floors)
        self._floors_noted_at = 0.0
        self._told: list[bytes] = []
        self._large: list[Large] = []  # not confirmed yet
        self._made: list[str] = []  # queues that do not say yet that they were made
        self.counters = Counters(0, layout.partitions)
        self._whole = True  # everything that has a number was sent

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
        if wire is None or not self._whole:
            return False
        try:
            self._settle()
            self._begin(wire)
        except (Refused, TargetUnavailable):
            return False
        return True

    def _begin(self, wire: Wire) -> None:
        """Begin a session: new numbers, and what an earlier one may have published."""
        layout, noted = self.layout, self.notes.layout
        before = noted.generation if noted is not None else 0
        self.counters = Counters(max(before + 1, int(time.time())), layout.partitions)
        if noted is not None:
            self._raise_floors(noted.floors)
        self.repeated = [Repeated({}) for _ in range(layout.partitions)]
        if layout.kind == "stream":
            found = [claim.read_back(wire, queue, self._mark(queue)) for queue, _ in layout.queues()]
            self.repeated = [Repeated(open_) for open_, _ in found]
            self._raise_floors(last for _, last in found)
        for queue in self._made:
            self._send_one(own_key(queue), [(PLACE, Session(self.generation, None).header)], b"")
        self._settle()
        self._made = []
        self._note_layout()
        for number, floor in enumerate(self._floors):
            self._send_one(session_key(number), [(PLACE, Session(self.generation, floor).header)], b"")
        self._settle()
        self._told = list(self.counters.sealed)
        mark = self.notes.open_mark
        if mark is not None and not mark.repeated:
            self._complete(mark)

    def _raise_floors(self, known: Iterable[int]) -> None:
        for number, floor in enumerate(known):
            self._floors[number] = max(self._floors[number], floor)

    def _note_layout(self) -> None:
        layout, generation = self.layout, self.generation
        bases, floors = frozenset(layout.bases()), tuple(self._floors)
        self.notes.layout = Noted(layout.kind, layout.partitions, generation, bases, floors)
        self._note(LAYOUT, layout.note(generation, self._floors))
        self._floors_noted, self._floors_noted_at = list(self._floors), time.monotonic()

    def _take(self, wire: Wire) -> None:
        layout = self.layout
        self.counters = Counters(0, layout.partitions)  # what those of an earlier connection count is in doubt
        self._whole = True
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
        known = self.notes.layout.bases if self.notes.layout is not None else frozenset()
        gone = claim.lost(wire, self.notes.layout, layout, self._address)
        given_up = self.notes.given_up
        lost = [queue for queue, number in layout.queues() if queue in gone and base_of(queue, number) not in given_up]
        for queue, number in layout.queues():
            declare_queue(wire, control, queue, layout.arguments())
            bind(wire, control, queue, layout.exchange, binding_key(number))
            bind(wire, control, queue, layout.exchange, own_key(queue))
        if layout.kind == "stream":
            declare_super_stream(wire, control, layout)
        for queue in lost:
            # Its readers must not go on as if nothing had happened.
            self._send_one(own_key(queue), [(PLACE, LOST)], b"")
        self._made = [
            queue for queue, number in layout.queues() if queue in gone or base_of(queue, number) not in known
        ]
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
            self._whole = False
            try:
                sent = pack(order, ready, stamps, self.counters, self._channel, wire.frame_max, self._write, skip)
                self._whole = True
                return sent
            except AmqpError as error:
                self.close()  # the numbers of what was not sent would be missing
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
                due = time.monotonic() - self._floors_noted_at > FLOORS_EVERY_SECONDS
                if due and self._floors != self._floors_noted:
                    self._note_layout()
            except Refused as refused:
                raise self._translated(refused) from refused

    def seal(self) -> None:
        """Say that the checkpoint is past everything that was published so far."""
        with self._lock:
            self.counters.seal()

    def tell_sealed(self) -> None:
        """Tell readers of queues what `seal` says, where no message will do so for now. Raises as `publish`."""
        with self._lock:
            self._opened()
            if self.layout.kind == "stream" or self._told == self.counters.sealed:
                return
            self._told = list(self.counters.sealed)
            try:
                for number, sealed in enumerate(self._told):
                    if sealed != b"0":
                        self._send_one(session_key(number), [(PLACE, seal(self.generation, sealed))], b"")
            except Refused as refused:
                raise self._translated(refused) from refused

    @contextmanager
    def marking(self, mark: OpenMark) -> Iterator[None]:
        """Have it on record that a mark is being written to all partitions: where that is interrupted, some have it and
        others not. Raises as `publish`."""
        with self._lock:
            self._opened()
            self._note_mark(mark)
            yield
            self._note_mark(None)

    def complete(self, table: str) -> None:
        """Let nobody wait for a mark of this table that only some partitions have. Raises as `publish`."""
        with self._lock:
            self._opened()
            mark = self.notes.open_mark
            if mark is not None and mark.table == table:
                self._complete(mark)

    def _complete(self, mark: OpenMark) -> None:
        """Write a mark that was interrupted once more, under its name, to all partitions: nothing happens there. Those
        that have it know the name."""
        log.info("a mark that only some partitions may have is written again", mark=mark.name)
        for parts in mark.parts(self.layout.partitions):
            self.publish(FIRST, parts, [(b"", b"", 0)])
        self._note_mark(None)

    def _note_mark(self, mark: OpenMark | None) -> None:
        try:
            self._settle()
            self._note(OPEN_MARK, mark.note() if mark is not None else b"")
            self._settle()
        except Refused as refused:
            raise self._translated(refused) from refused
        self.notes.open_mark = mark

    def farewell(self) -> None:
        """Write down how far the partitions are, where the broker takes it. Everything was settled. Never raises."""
        with self._lock:
            if self._wire is None or self._wire.blocked or self._floors == self._floors_noted:
                return
            try:
                self._note_layout()
                self._settle()
            except (Refused, TargetUnavailable, OperatorError) as error:
                log.debug("how far the partitions are was not written down", why=str(error))

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
        self._large.clear()
        if self._whole:
            generation = self.generation << NUMBER_BITS
            self._raise_floors(generation | number if number else 0 for number in self.counters.numbers)

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
                    do="cdcflow resync --all, which makes the queues again; without a loss, start again",
                )
            elif event[1] == _CHANNEL_CLOSE:
                refused = wire.channel_closed(event)
                self.close()
                raise refused

    def note_large(self, table: str, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """Note whose messages are large, before they are published: the broker does not say which it refuses."""
        if max(map(len, filter(None, values)), default=0) > LARGE_BYTES:
            each = zip(keys, values, strict=True)
            with self._lock:
                self._large += [(table, key, len(value)) for key, value in each if value and len(value) > LARGE_BYTES]

    def _translated(self, refused: Refused) -> Exception:
        if refused.code == PRECONDITION_FAILED and "larger than" in refused.text:
            large, self._large = self._large, []
            return too_large(self._address.text, refused.text, large)
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
