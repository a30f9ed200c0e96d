"""One publishing session: the connection that nobody else has, messages with their numbers, and their confirms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

from cdcflow.bus.rabbitmq import claim
from cdcflow.bus.rabbitmq.address import Address
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
    Made,
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
from cdcflow.bus.rabbitmq.refusals import Refused
from cdcflow.bus.rabbitmq.sender import Sender
from cdcflow.bus.rabbitmq.wire import HEARTBEAT_SECONDS, Wire, connect
from cdcflow.codecs.amqpframes_cy import AmqpError
from cdcflow.codecs.amqppack_cy import Counters, pack
from cdcflow.errors import OperatorError, RowRejected, TargetUnavailable
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# How often it is written down how far the partitions are: a publisher that is killed forgets what came since, and so
# does not tell a reader that it misses messages of that time. The notes are read whole whenever a side starts.
FLOORS_EVERY_SECONDS: Final = 600.0


class Publisher:
    """Publishes to one exchange. `publish`, `note` and `settle` may be called by any thread, and take turns."""

    def __init__(self, address: Address, layout: Layout, pipeline: str) -> None:
        self._address, self.layout, self._pipeline = address, layout, pipeline
        self._sender = Sender(address, layout.exchange)
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._floors = [0] * layout.partitions
        self._floors_noted = list(self._floors)
        self._floors_noted_at = 0.0
        self._told: list[bytes] = []
        self._made: list[str] = []  # queues that do not say yet that they were made
        self._streams: dict[str, Made] = {}
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
                raise self._sender.translated(refused) from refused
            try:
                self._take(wire)
            except Refused as refused:
                wire.close()
                self._sender.close()
                raise self._sender.translated(refused) from refused
            except BaseException:
                wire.close()
                self._sender.close()
                raise
            self._ended = threading.Event()
            threading.Thread(target=self._beat, args=(wire, self._ended), name="cdcflow-amqp", daemon=True).start()

    def _renewed(self) -> bool:
        wire = self._sender.wire
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
            self._settle()  # who reads drops the confirms that come meanwhile
            streams = [queue for queue, _ in layout.queues()]
            found = [claim.read_back(wire, self._control, layout.exchange, queue) for queue in streams]
            self.repeated = [Repeated(open_) for open_, _ in found]
            self._raise_floors(last for _, last in found)
        for queue in self._made:
            self._sender.send_one(own_key(queue), [(PLACE, Session(self.generation, None).header)], b"")
        self._settle()
        self._made = []
        self._note_layout()
        for number, floor in enumerate(self._floors):
            self._sender.send_one(session_key(number), [(PLACE, Session(self.generation, floor).header)], b"")
        self._settle()
        self._told = list(self.counters.sealed)
        if self.notes.open_mark is not None:
            self._complete(self.notes.open_mark)

    def _raise_floors(self, known: Iterable[int]) -> None:
        for number, floor in enumerate(known):
            self._floors[number] = max(self._floors[number], floor)

    def _note_layout(self) -> None:
        layout, generation = self.layout, self.generation
        bases, floors = frozenset(layout.bases()), tuple(self._floors)
        self.notes.layout = Noted(layout.kind, layout.partitions, generation, bases, floors, dict(self._streams))
        self._note(LAYOUT, layout.note(generation, self._floors, self._streams))
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
        self._sender.take(wire)
        self.notes.read(wire, self._mark(layout.notes))
        known = self.notes.layout.bases if self.notes.layout is not None else frozenset()
        gone = claim.lost(wire, self.notes.layout, layout, self._address)
        given_up = self.notes.given_up
        lost = [queue for queue, number in layout.queues() if queue in gone and base_of(queue, number) not in given_up]
        if layout.kind == "stream":
            self._name_streams(wire, gone)
        for queue, number in layout.queues():
            declare_queue(wire, control, queue, layout.arguments())
            bind(wire, control, queue, layout.exchange, binding_key(number))
            bind(wire, control, queue, layout.exchange, own_key(queue))
        if layout.kind == "stream":
            declare_super_stream(wire, control, layout)
        for queue in lost:
            # Its readers must not go on as if nothing had happened.
            self._sender.send_one(own_key(queue), [(PLACE, LOST)], b"")
        self._made = [
            queue for queue, number in layout.queues() if queue in gone or base_of(queue, number) not in known
        ]
        self._begin(wire)

    def _name_streams(self, wire: Wire, gone: Sequence[str]) -> None:
        """Have it on record which streams are made once more, before they are: whoever finds one finds that, too."""
        layout, noted = self.layout, self.notes.layout
        if noted is None:  # one that is there all the same was read under no name
            fresh = claim.missing(wire, [queue for queue, _ in layout.queues()])
            self._streams = {queue: Made(int(time.time()), again=False) for queue in fresh}
            return
        self._streams = dict(noted.made)
        if gone:
            generation = max(noted.generation + 1, int(time.time()))
            self._streams.update((queue, Made(generation, again=True)) for queue in gone)
            self.notes.layout = replace(noted, generation=generation, made=dict(self._streams))
            self._note(LAYOUT, layout.note(generation, noted.floors, self._streams))
            self._settle()

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
                number: (*part[:9], [self._sender.method(key) for key in part[9]], part[10])
                for number, part in parts.items()
            }
            self._whole = False
            try:
                sent = pack(
                    order, ready, stamps, self.counters, self._sender.channel, wire.frame_max, self._sender.write, skip
                )
                self._whole = True
                return sent
            except AmqpError as error:
                self.close()  # the numbers of what was not sent would be missing
                raise RowRejected(f"a message cannot be written: {error}", at=self._address.text) from error
            except Refused as refused:
                raise self._sender.translated(refused) from refused

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
                raise self._sender.translated(refused) from refused
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
                raise self._sender.translated(refused) from refused

    def seal(self) -> None:
        """Say that the checkpoint is past everything that was published so far; of a stream, not before everything is
        passed over that an earlier session has published, copied rows come beside that."""
        with self._lock:
            before = self.counters.sealed
            self.counters.seal()
            for number, repeated in enumerate(self.repeated):
                if repeated:
                    self.counters.sealed[number] = before[number]

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
                        self._sender.send_one(session_key(number), [(PLACE, seal(self.generation, sealed))], b"")
            except Refused as refused:
                raise self._sender.translated(refused) from refused

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
        """Write a mark that was interrupted once more, under its name, to all partitions. Those that have it know the
        name. Before another one is written: where two stand in another order in one partition than in the next, readers
        wait for one another for good."""
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
            raise self._sender.translated(refused) from refused
        self.notes.open_mark = mark

    def farewell(self) -> None:
        """Write down how far the partitions are, where the broker takes it. Everything was settled. Never raises."""
        with self._lock:
            wire = self._sender.wire
            if wire is None or wire.blocked or self._floors == self._floors_noted:
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
            self._sender.close()

    def note_large(self, table: str, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """See `Sender.note_large`."""
        with self._lock:
            self._sender.note_large(table, keys, values)

    # -- inside

    def _opened(self, generation: int | None = None) -> Wire:
        if generation is not None and generation != self.counters.generation:
            raise self._sender.closed()
        return self._sender.opened()

    def _mark(self, queue: str) -> bytes:
        """Write a message by which the end of a stream is known, and wait for its confirm; return its name."""
        name = uuid4().hex.encode()
        self._sender.send_one(own_key(queue), [(PLACE, MARK), (KEY, name)], b"")
        self._settle()
        return name

    def _note(self, key: str, value: bytes) -> None:
        self._sender.send_one(NOTES_KEY, [("cdcflow.key", key.encode())], value)

    def _settle(self) -> None:
        self._sender.settle()
        if self._whole:
            generation = self.generation << NUMBER_BITS
            self._raise_floors(generation | number if number else 0 for number in self.counters.numbers)

    def _beat(self, wire: Wire, ended: threading.Event) -> None:
        """Keep an idle connection alive."""
        while not ended.wait(HEARTBEAT_SECONDS / 6):
            if self._lock.acquire(timeout=0.1):
                try:
                    if self._sender.wire is not wire:
                        return
                    wire.pump(0)
                except Exception as error:
                    # Told to whoever publishes next.
                    log.debug("the connection ended while nothing was published", why=str(error))
                    return
                finally:
                    self._lock.release()
