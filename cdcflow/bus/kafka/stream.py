"""One member of a consumer group: what arrives in its partitions, as batches of changes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from cdcflow.bus.kafka.errors import UNKNOWN_TOPIC, error_of, passes, translate
from cdcflow.bus.kafka.held import AWAY_SECONDS, Held
from cdcflow.bus.kafka.letters import DeadLetters
from cdcflow.bus.kafka.partitions import partition_of, share_name
from cdcflow.bus.kafka.starts import Starts
from cdcflow.bus.kafka.waiting import Noted
from cdcflow.bus.kafka.watch import TopicWatch
from cdcflow.bus.reading import Alone, Reading
from cdcflow.errors import AccessDenied, CdcflowError, SourceUnavailable
from cdcflow.model.change import ChangeBatch, Heartbeat, Meeting
from cdcflow.model.position import Position, Share, Shares
from cdcflow.model.sharing import Claims
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# Messages taken from the client's queue at once. More does not make a message cheaper.
_TAKEN: Final = 4000
# With so many at once, or so many more at the broker, a larger batch is better than an early one.
_LAGGING_MESSAGES: Final = 500
_COMMIT_EVERY_SECONDS: Final = 1.0
_MEASURE_EVERY_SECONDS: Final = 1.0


class KafkaStream:
    """A `model.sharing.SharedStream`. `read`, `idle` and `close` by one thread."""

    def __init__(
        self,
        consumer: Callable[[Callable[[KafkaError], None]], Consumer],
        watch: TopicWatch,
        starts: Starts,
        reading: Reading,
        letters: DeadLetters,
        claims: Claims,
        at: str,
    ) -> None:
        self._watch, self._starts, self._reading, self._letters = watch, starts, reading, letters
        self._claims, self._at = claims, at
        self._held: dict[tuple[str, int], Held] = {}
        self._ready: deque[Message] = deque()  # taken from the client, not read yet
        self._alone: tuple[Held, int, Alone] | None = None  # goes with the next call, and the place behind it
        self._paused: list[TopicPartition] = []
        self._resumed: deque[tuple[str, int]] = deque()
        self._failure: CdcflowError | None = None
        self._moved = False
        self._sent = 0.0
        self._away_since = 0.0
        self._noted = Noted()
        self._committed_at = 0.0
        self._measured_at = 0.0
        self._behind = 0
        self._durable: dict[str, int] = {}
        self._uncommitted: set[str] = set()
        self._lock = threading.Lock()  # of what `ack` leaves
        self._closed = False
        try:
            self._consumer = consumer(self._heard)
            self._subscribe(watch.begin())
        except KafkaException as error:
            raise translate(error, at=at, reading=True) from None

    # -- the port

    def read(self, wait: float) -> ChangeBatch | Heartbeat | None:
        """As `SharedStream.read`."""
        self._tend()
        if self._alone is not None:
            return self._taken_alone()
        try:
            if not self._ready:
                first = self._consumer.poll(wait)
                if first is not None:
                    self._ready.append(first)
                    # With a time to wait it would wait for so many. `_drop`, when called within, makes another queue.
                    more = self._consumer.consume(_TAKEN, timeout=0)
                    self._ready.extend(more)
        except KafkaException as error:
            raise translate(error, at=self._at, reading=True) from None
        self._check()
        taken = len(self._ready)
        self._digest()
        self._measure()
        self._letters.deliver(self._reading.letters)
        self._reading.letters.clear()
        end = self._end()
        batch = self._reading.batch(end, sent=self._sent, lagging=self._lags(taken))
        if batch is not None:
            self._moved = False
            return batch
        self._check()
        return self._taken_alone() if self._alone is not None else self._beat(end)

    def _beat(self, end: Shares) -> Heartbeat | None:
        if not self._moved:
            return None
        self._moved = False
        return Heartbeat(end, time.time())

    def resume(self, share: str, place: int) -> None:
        """As `SharedStream.resume`."""
        self._resumed.append((share, place))

    def ends(self, shares: Collection[str]) -> Mapping[str, int]:
        """As `SharedStream.ends`: open transactions included."""
        return self._starts.ends(shares)

    def idle(self) -> None:
        """As `SharedStream.idle`: the partitions are paused, so that the client serves the group alone."""
        try:
            waiting = [held.at(held.place) for held in self._held.values() if not held.meeting]
            if waiting:
                self._consumer.pause(waiting)
                self._paused = waiting
            late = self._consumer.poll(0)
        except KafkaException as error:
            raise translate(error, at=self._at, reading=True) from None
        if late is not None:
            self._ready.append(late)
        self._commit()
        self._look()
        self._check()

    def ack(self, upto: Position) -> None:
        """As `SharedStream.ack`: the group's committed offsets are for tools that show its lag."""
        if not isinstance(upto, Shares):
            return
        with self._lock:
            for name, share in upto.shares.items():
                if share.place > self._durable.get(name, 0):
                    self._durable[name] = share.place
                    self._uncommitted.add(name)

    def reached(self, end: Position, recorded: Mapping[str, Share]) -> bool:
        """As `SharedStream.reached`. A place in another topic of the same name does not count."""
        assert isinstance(end, Shares)

        def passed(name: str, at: Share) -> bool:
            here = recorded.get(name)
            if here is None or here.place < at.place:
                return False
            return "" in (here.identity, at.identity) or here.identity == at.identity

        return all(at.place == 0 or passed(name, at) for name, at in end.shares.items())

    def behind(self) -> int | None:
        """As `SharedStream.behind`: by what the last fetches said when the reading thread looked.

        The client must not be asked here: while it is in a callback (`Claims.give`), other threads' calls wait for that
        to end, and the callback waits for the thread that applies.
        """
        return None if self._closed else self._behind

    def close(self) -> None:
        """As `SharedStream.close`. What was read is made durable first (`Claims.give`), and committed for lag tools.

        Where no broker answers there is nobody to be left, and the client would wait for that as long as the group
        waits for us: it is let go as it is.
        """
        if self._closed:
            return
        try:
            # Brokers of which nothing bad was heard may be slow, and the group had to wait for who has not left it.
            if self._watch.answers(patient=not self._away_since):
                self._away_since = 0.0
                self._consumer.close()
        except (KafkaException, RuntimeError) as error:
            log.debug("leaving the group failed", error=str(error))
        self._closed = True
        # The client waits for a commit that is under way, also when it is let go.
        last = [self._consumer]
        del self._consumer
        threading.Thread(target=last.clear, daemon=True, name="cdcflow-kafka-end").start()

    # -- messages

    def _digest(self) -> None:
        """Read what is ready, up to a meeting."""
        ready, held_of, add = self._ready, self._held, self._reading.add
        last: Message | None = None
        while ready:
            message = ready.popleft()
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            held = held_of.get((topic, partition))  # type: ignore[arg-type]
            if message.error() is not None:
                self._event(message, held)
                continue
            # What was fetched before a partition was taken from us, or before a seek, is not ours.
            if held is None or offset < held.place or held.meeting:  # type: ignore[operator]
                continue
            try:
                alone = add(topic, held.name, offset, message.key(), message.value(), message.headers())  # type: ignore[arg-type]
            except CdcflowError as error:
                self._failure = error  # raised when what is before it was handed over
                break
            if alone is not None:
                if isinstance(alone, str):  # AGAIN
                    ready.appendleft(message)
                else:
                    self._alone = (held, offset + 1, alone)  # type: ignore[operator]
                break
            held.place = offset + 1  # type: ignore[operator]
            last = message
        if last is not None:
            self._moved = True
            self._sent = last.timestamp()[1] / 1000

    def _event(self, message: Message, held: Held | None) -> None:
        error = message.error()
        assert error is not None
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            offset = message.offset()
            if held is not None:
                held.refused_at = -1, 0.0
            if held is not None and not held.meeting and offset is not None and offset > held.place:
                held.place = offset  # behind markers of transactions, which are no messages
                self._moved = True
        elif code == KafkaError._AUTO_OFFSET_RESET and held is not None:
            self._failure = self._starts.lost(held.name, held.place)
        elif code in UNKNOWN_TOPIC:
            self._watch.hurry()
        elif held is not None and passes(error) and not held.refused(time.monotonic()):
            log.debug("a fetch was refused, the client asks again", share=held.name, error=str(error))
        else:
            self._failure = translate(error, at=self._at, topic=message.topic() or "", reading=True)
        self._check()

    def _taken_alone(self) -> ChangeBatch:
        """Return the step that goes alone. Behind a meeting nothing more of its share is read."""
        assert self._alone is not None
        (held, place, step), self._alone = self._alone, None
        held.place = place
        if isinstance(step, Meeting):
            held.meeting = True
            self._consumer.pause([held.at(place)])
        self._moved = False
        return ChangeBatch([step], self._end(), 1)

    def _end(self) -> Shares:
        # Who waits at a meeting stands before its mark: a place behind it on record says that the meeting is over.
        return Shares(
            {
                held.name: Share(held.epoch, held.place - 1 if held.meeting else held.place)
                for held in self._held.values()
            }
        )

    def _lags(self, taken: int) -> bool:
        if taken >= _LAGGING_MESSAGES or self._ready:
            return True
        return sum(map(self._waiting, self._held.values())) > _LAGGING_MESSAGES

    def _measure(self) -> None:
        clock = time.monotonic()
        if clock - self._measured_at >= _MEASURE_EVERY_SECONDS:
            self._measured_at = clock
            self._behind = sum(map(self._waiting, self._held.values()))

    def _waiting(self, held: Held) -> int:
        try:
            known = self._consumer.get_watermark_offsets(held.at(held.place), cached=True)
        except (KafkaException, RuntimeError):
            return 0
        return max(0, known[1] - held.place) if known is not None else 0

    # -- what is to be done between messages

    def _tend(self) -> None:
        self._check()
        try:
            while self._resumed:
                self._go_on(*self._resumed.popleft())
            if self._paused:
                paused, self._paused = self._paused, []
                self._consumer.resume([one for one in paused if (one.topic, one.partition) in self._held])
        except KafkaException as error:
            raise translate(error, at=self._at, reading=True) from None
        self._commit()
        self._look()
        self._check()

    def _go_on(self, share: str, place: int) -> None:
        held = self._held.get(partition_of(share))
        if held is not None and held.meeting and held.place == place:
            held.meeting = False
            # What is at hand of it is brought again: some of it was passed over, and it must not be taken to be next.
            one = held.topic, held.partition
            self._ready = deque(each for each in self._ready if (each.topic(), each.partition()) != one)
            self._consumer.seek(held.at(held.place))
            self._consumer.resume([held.at(held.place)])

    def _look(self) -> None:
        """Look for topics that are new or gone, and for brokers that stay away."""
        try:
            found = self._watch.look(urgent=bool(self._away_since))
        except SourceUnavailable as error:
            now = time.monotonic()
            self._away_since = self._away_since or now
            if now - self._away_since > AWAY_SECONDS:
                self._failure = self._noted.told(at=self._at, reading=True) or error
            return
        if found is not None:
            self._away_since = 0.0
            self._noted.forget()
            if found.changed:
                self._subscribe(found.topics)

    def _subscribe(self, topics: Sequence[str]) -> None:
        if not topics:
            return
        try:
            self._consumer.subscribe(
                list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        except KafkaException as error:
            if error_of(error).code() != KafkaError._FATAL:  # what that was, a message says
                raise translate(error, at=self._at, reading=True) from None

    def _commit(self, *, now: bool = False) -> None:
        clock = time.monotonic()
        if not self._uncommitted or (not now and clock - self._committed_at < _COMMIT_EVERY_SECONDS):
            return
        if self._away_since:  # the client would keep it, and wait for it in `close`
            return
        self._committed_at = clock
        with self._lock:
            names, self._uncommitted = self._uncommitted, set()
            places = [(partition_of(name), self._durable[name]) for name in names]
        offsets = [TopicPartition(*one, place) for one, place in places if one in self._held]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except (KafkaException, RuntimeError) as error:
            log.debug("offsets are not committed, so lag tools show old ones", error=str(error))

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    # -- the group's word: called by the client within `poll`, `consume` and `close`

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._failure is not None:
            return
        try:
            places = dict(self._begun(partitions))
        except CdcflowError as error:
            self._failure = error.with_traceback(None)  # or its frames would keep the client when it is let go
            return
        consumer.incremental_assign([held.at(held.place) for held in places.values()])
        self._held.update(places)
        self._moved = True
        log.debug("partitions are ours", partitions=len(partitions), all=len(self._held))

    def _begun(self, partitions: Sequence[TopicPartition]) -> Iterator[tuple[tuple[str, int], Held]]:
        claimed = self._starts.take([share_name(one.topic, one.partition) for one in partitions], self._claims)
        for name, at in claimed.items():
            topic, partition = partition_of(name)
            yield (topic, partition), Held(name, topic, partition, at.epoch, at.place)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = self._names(partitions)
        try:
            if names:
                self._claims.give(names)
                self._commit(now=True)
        except CdcflowError as error:
            self._failure = self._failure or error.with_traceback(None)
        self._drop(consumer, partitions)
        log.debug("partitions were handed on", partitions=len(partitions), all=len(self._held))

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = self._names(partitions)
        if names:
            self._claims.lost(names)
        self._drop(consumer, partitions)
        log.debug("partitions were lost to another instance", partitions=len(partitions), all=len(self._held))

    def _names(self, partitions: Sequence[TopicPartition]) -> list[str]:
        return [held.name for one in partitions if (held := self._held.get((one.topic, one.partition))) is not None]

    def _drop(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            held = self._held.pop((one.topic, one.partition), None)
            if held is not None:
                self._moved = True  # whoever applies has to know, though nothing follows
                self._reading.forget(held.name)
                if self._alone is not None and self._alone[0] is held:
                    self._alone = None
        gone = {(one.topic, one.partition) for one in partitions}
        self._ready = deque(one for one in self._ready if (one.topic(), one.partition()) not in gone)
        self._paused = [one for one in self._paused if (one.topic, one.partition) not in gone]
        try:
            # The client remembers a pause, also of a partition that goes and comes back.
            consumer.resume(partitions)
            consumer.incremental_unassign(partitions)
        except KafkaException as error:
            log.debug("partitions could not be given back", error=str(error))

    def _heard(self, error: KafkaError) -> None:
        """Take what the client says of itself."""
        code = error.code()
        if code == KafkaError._ALL_BROKERS_DOWN:
            self._away_since = self._away_since or time.monotonic()
        elif code in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
            found = translate(error, at=self._at, reading=True)
            if isinstance(found, AccessDenied):
                self._failure = found
            else:
                self._noted(error)  # the client tries again by itself
