"""What one instance reads of its queues or streams, as batches of changes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from pika import spec

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.asking import Asking, Waiting
from cdcflow.bus.rabbitmq.doubts import END, LOST, PLACE
from cdcflow.bus.rabbitmq.layout import look, queue_name, share_name
from cdcflow.bus.rabbitmq.letters import DeadLetters
from cdcflow.bus.rabbitmq.members import Members
from cdcflow.bus.rabbitmq.notes import KEY, tag_of
from cdcflow.bus.rabbitmq.refusals import NOT_FOUND, Refused, translate
from cdcflow.bus.rabbitmq.share import ANEW, SKIP, Held, Read, committed_at
from cdcflow.bus.rabbitmq.starts import Start, Starts, is_behind
from cdcflow.bus.rabbitmq.wire import Wire, beating
from cdcflow.bus.reading import Alone, Reading
from cdcflow.codecs.amqpframes_cy import DELIVER
from cdcflow.codecs.amqpheaders_cy import headers_of
from cdcflow.errors import CdcflowError, OperatorError, SourceUnavailable
from cdcflow.model.change import ChangeBatch, Heartbeat, Meeting
from cdcflow.model.position import Position, Share, Shares
from cdcflow.model.sharing import Claims
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

_T = TypeVar("_T")

# So many messages are handed over at once at most: a batch of the target is made of several.
_MOST_ROWS: Final = 5000
# More than this at once, and a larger batch is better than an early one.
_LAGGING_MESSAGES: Final = 500
_COUNT_EVERY_SECONDS: Final = 5.0

# What `basic.qos` can say.
_MOST_PREFETCH: Final = 65535

_CANCEL: Final = spec.Basic.Cancel.INDEX
_CHANNEL_CLOSE: Final = spec.Channel.Close.INDEX


@dataclass(frozen=True, slots=True)
class Asked:
    """How a group is read."""

    base: str
    seats: str  # what the names of the instances' locks begin with
    partitions: int
    stream: bool
    made_by_publisher: bool  # the queues
    made: dict[str, int]  # queues that we had to make though they were read up to a place, and have not read yet
    prefetch: int
    unread_bytes: int  # so much may wait in memory


class RabbitStream:
    """A `model.sharing.SharedStream`. `read`, `idle` and `close` by one thread."""

    def __init__(
        self,
        wire: Wire,
        asked: Asked,
        reading: Reading,
        letters: DeadLetters,
        claims: Claims,
        address: Address,
        exchange: str,
        starts: Starts,
    ) -> None:
        self._starts = starts
        self._wire, self._asked, self._reading, self._letters = wire, asked, reading, letters
        self._claims, self._address, self._exchange = claims, address, exchange
        self._held: dict[int, Held] = {}  # by channel
        self._alone: tuple[Held, Read, Alone] | None = None
        self._failure: Exception | None = None
        self._resumed: deque[tuple[str, int]] = deque()
        self._durable: dict[str, int] = {}
        self._lock = threading.Lock()  # of what `ack` leaves
        self._moved = False
        self._newest: tuple[bytes, dict[str, bytes]] | None = None  # the last message that was read
        self._counts: dict[str, int] = {}
        self._counted_at = 0.0
        self._control = wire.channel()
        self._members = Members(wire, asked.seats, asked.partitions)
        self._asking = Asking(wire, address, exchange, asked.base, asked.partitions)

    # -- the port

    def read(self, wait: float) -> ChangeBatch | Heartbeat | None:
        """As `SharedStream.read`."""
        return self._guarded(lambda: self._read(wait))

    def resume(self, share: str, place: int) -> None:
        """As `SharedStream.resume`."""
        self._resumed.append((share, place))

    def ends(self, shares: Collection[str]) -> Mapping[str, int]:
        """As `SharedStream.ends`: not told here. A queue keeps its messages."""
        return {}

    def idle(self) -> None:
        """As `SharedStream.idle`."""
        self._guarded(self._rest)

    def ack(self, upto: Position) -> None:
        """As `SharedStream.ack`: what is durable is acknowledged with the next call of `read` or `idle`."""
        if isinstance(upto, Shares):
            with self._lock:
                for name, share in upto.shares.items():
                    self._durable[name] = max(share.place, self._durable.get(name, 0))

    def reached(self, end: Position, recorded: Mapping[str, Share]) -> bool:
        """As `SharedStream.reached`. A place in another stream of the name does not count; of queues, who reads them is
        asked."""
        if isinstance(end, Shares):
            return all(at.place == 0 or is_behind(recorded.get(name), at) for name, at in end.shares.items())
        assert isinstance(end, Waiting)
        return self._asking.reached(end, recorded)

    def behind(self) -> int | None:
        """As `SharedStream.behind`: by what the broker said in the last seconds."""
        ours = {held.name: len(held.unread) for held in list(self._held.values())}
        return sum(self._counts.get(name, 0) + unread for name, unread in ours.items())

    def close(self) -> None:
        """As `SharedStream.close`. What is not acknowledged is somebody else's then."""
        try:
            self._acknowledge()
        except (Refused, SourceUnavailable) as error:
            log.debug("the last messages were not acknowledged and come again", why=str(error))
        self._held.clear()
        self._wire.close()

    # -- messages

    def _guarded(self, work: Callable[[], _T]) -> _T:
        self._check()
        try:
            return work()
        except Refused as refused:
            told = self._gone(refused) or translate(refused, self._address, self._exchange, SourceUnavailable)
            raise told from refused
        except SourceUnavailable:
            names = [held.name for held in self._held.values()]
            if names:
                self._claims.lost(names)
                self._held.clear()
            raise

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _read(self, wait: float) -> ChangeBatch | Heartbeat | None:
        self._tend()
        if self._alone is not None:
            return self._taken_alone()
        ready = any(held.unread and not held.meeting for held in self._held.values())
        if not ready or self._unread_bytes() < self._asked.unread_bytes:
            self._wire.pump(0 if ready else wait)
            self._receive()
        lagging = sum(len(held.unread) for held in self._held.values()) > _LAGGING_MESSAGES
        for held in list(self._held.values()):
            if not held.meeting and not self._digest(held):
                break
        self._letters.deliver(self._reading.letters)
        self._reading.letters.clear()
        end = self._end()
        batch = self._reading.batch(end, sent=committed_at(self._newest), lagging=lagging)
        if batch is not None:
            self._moved = False
            return batch
        self._check()
        return self._apart(end)

    def _apart(self, end: Shares) -> ChangeBatch | Heartbeat | None:
        if self._alone is not None:
            return self._taken_alone()
        if not self._moved:
            return None
        self._moved = False
        return Heartbeat(end, time.time())

    def _rest(self) -> None:
        """Stay a member while the pipeline is full."""
        self._acknowledge()
        if self._unread_bytes() < self._asked.unread_bytes:
            self._wire.pump(0)
            self._receive()
        else:
            self._wire.beat()

    def _receive(self) -> None:
        for event in self._wire.take():
            held = self._held.get(event[0])
            if event[1] == DELIVER:
                if held is not None:
                    held.unread.append(event)
                    held.unread_bytes += len(event[4])
                else:
                    self._asking.heard(event)
            elif event[1] == _CHANNEL_CLOSE:
                raise self._wire.channel_closed(event)
            elif event[1] == _CANCEL and held is not None:
                raise self._cancelled(held)

    def _cancelled(self, held: Held) -> Exception:
        try:
            look(self._wire, self._control, held.queue)
        except Refused as refused:
            return refused
        why = "its node went away, or the broker waited no longer for what is being applied"
        if held.meeting:
            why = "it waits at a mark for the other shares, longer than the broker waits for acknowledgements"
        at = f"{held.queue}, {self._address.text}"
        return SourceUnavailable("the broker took a queue away from us, and gives it again", at=at, why=why)

    def _gone(self, refused: Refused) -> OperatorError | None:
        """Return what is said where a queue of ours is not there, whoever meets that first."""
        queues = [queue_name(self._asked.base, number) for number in range(self._asked.partitions)]
        queue = next((each for each in queues if f"'{each}'" in refused.text), None)
        if queue is None or refused.code != NOT_FOUND or refused.hard:
            return None
        return OperatorError(
            f'queue "{queue}" was deleted while it was read',
            at=self._address.text,
            why="what was in it and not applied is lost",
            do="cdcflow resync --all at the publisher, which makes it again; start this again then"
            if self._asked.made_by_publisher
            else ANEW,
        )

    def _digest(self, held: Held) -> bool:
        """Read what has come of a share; return whether others may go on."""
        base, add, unread = self._asked.base, self._reading.add, held.unread
        size = 0
        taken = 0
        while unread and taken < _MOST_ROWS and size < self._asked.unread_bytes:
            taken += 1
            event = unread[0]
            assert event[3] is not None
            pairs, offset, _ = headers_of(event[3])
            headers, tag, last = dict(pairs), tag_of(event), held.last
            alone: Alone | str | None = None
            try:
                judged, place, doubt = held.judge(headers, offset)
                if judged is not SKIP:
                    alone = add(base, held.name, place - 1, headers.get(KEY), event[4] or None, pairs)
                    if held.stream and isinstance(alone, Meeting):
                        alone = self._starts.attended(alone, headers.get(PLACE))
            except CdcflowError as error:
                self._failure = error  # raised when what is before it was handed over
                if headers.get(PLACE) == LOST:
                    self._wire.tell(spec.Basic.Ack(tag, False), channel=held.channel)
                return False
            if isinstance(alone, str):  # AGAIN
                held.last = last
                return False
            unread.popleft()
            size += len(event[4])
            held.unread_bytes -= len(event[4])
            if alone is not None:
                self._alone = held, Read(place, tag, doubt), alone
                return False
            held.place = place
            held.unacknowledged.append(Read(place, tag, doubt))
            self._moved = True
            if headers.get(PLACE) == END:
                self._asking.met(held.name, place, headers.get(KEY, b""))
            if judged is not SKIP:  # marks among others, which nobody committed
                self._newest = event[3], headers
        return True

    def _taken_alone(self) -> ChangeBatch:
        assert self._alone is not None
        (held, read, step), self._alone = self._alone, None
        if isinstance(step, Meeting):
            # Whoever sees a place behind the meeting takes it for over, so it is said when that is so.
            held.meeting, held.behind = True, read.place
        else:
            held.place = read.place
        held.unacknowledged.append(read)
        self._moved = False
        return ChangeBatch([step], self._end(), 1)

    def _end(self) -> Shares:
        return Shares({held.name: Share(held.epoch, held.place) for held in self._held.values()})

    def _unread_bytes(self) -> int:
        return sum(held.unread_bytes for held in self._held.values())

    # -- between messages

    def _tend(self) -> None:
        self._check()
        while self._resumed:
            name, place = self._resumed.popleft()
            for held in self._held.values():
                if held.name == name and held.meeting and held.behind == place:
                    held.meeting, held.place = False, held.behind
        self._acknowledge()
        if self._members.due():
            for number in self._members.surplus():
                self._give(number)
            self._take(self._members.take())
        now = time.monotonic()
        if now - self._counted_at >= _COUNT_EVERY_SECONDS:
            self._counted_at = now
            for number in range(self._asked.partitions):
                found = look(self._wire, self._control, queue_name(self._asked.base, number))
                self._counts[share_name(self._asked.base, number)] = int(found.message_count)

    def _acknowledge(self) -> None:
        with self._lock:
            durable = dict(self._durable)
        self._asking.tend(durable)
        now = time.monotonic()
        for held in self._held.values():
            tag = held.settled(durable.get(held.name, 0) if not held.stream else held.place, now)
            if tag is not None:
                self._wire.tell(spec.Basic.Ack(tag, True), channel=held.channel)

    def _take(self, numbers: list[int]) -> None:
        if not numbers:
            return
        base = self._asked.base
        names = {share_name(base, number): number for number in numbers}
        with beating(self._wire):  # an earlier owner's transactions are waited for
            if self._asked.stream:
                streams = {name: queue_name(base, number) for name, number in names.items()}
                begins = self._starts.take(streams, self._claims)
            else:
                begins = {name: Start(share) for name, share in self._claims.take(list(names)).items()}
        for name, number in names.items():
            self._consume(name, number, begins[name])
        self._moved = True

    def _consume(self, name: str, number: int, start: Start) -> None:
        asked, wire = self._asked, self._wire
        queue = queue_name(asked.base, number)
        place = start.share.place
        # Where another instance has gone on since, nothing was missing there.
        if asked.made.pop(queue, 0) == place > 0:
            raise OperatorError(
                f'queue "{queue}" was deleted, and is made again',
                at=self._address.text,
                why="what was in it and not applied is lost",
                do=ANEW,
            )
        arguments = {"x-stream-offset": place or "first"} if asked.stream else {}
        channel = wire.channel()
        # What may be published once more stays at the broker, beside what is read ahead.
        window = min(2 * asked.prefetch, _MOST_PREFETCH)
        wire.call(spec.Basic.Qos(0, asked.prefetch if asked.stream else window, False), channel=channel)
        epoch, last = start.share.epoch, start.last
        held = Held(name, queue, number, channel, epoch, place, asked.stream, last, most_doubted=window // 2)
        self._held[channel] = held
        tag = f"cdcflow.{number}"
        wire.call(spec.Basic.Consume(0, queue, tag, False, False, False, False, arguments), channel=channel)
        log.info("reading a queue", queue=queue, place=place)

    def _give(self, number: int) -> None:
        held = next(each for each in self._held.values() if each.number == number)
        with beating(self._wire):
            self._claims.give([held.name])
        self._acknowledge()
        held.unread.clear()
        held.unread_bytes = 0
        # Not cancelled before: whoever is next would get what is behind the messages that come back, and then these.
        self._wire.ignore(held.channel)
        self._wire.call(spec.Channel.Close(200, "handed on", 0, 0), channel=held.channel)
        self._wire.forget(held.channel)
        del self._held[held.channel]
        if self._alone is not None and self._alone[0] is held:
            self._alone = None
        self._reading.forget(held.name)
        with self._lock:
            durable = self._durable.get(held.name, 0)
        self._asking.gave(held.name, durable)
        self._members.give(number)
        self._moved = True
        log.info("handed a queue on", queue=held.queue)
