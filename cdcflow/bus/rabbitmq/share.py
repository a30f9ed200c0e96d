"""One queue or stream that this instance reads: what has come of it, how far it is, what can be acknowledged."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from cdcflow.bus.formats import OP
from cdcflow.bus.rabbitmq.doubts import LOST, MARK, MOST_NUMBERS, NUMBER_BITS, PLACE, Doubts, Place, place_of, run_of
from cdcflow.bus.rabbitmq.wire import Event
from cdcflow.codecs.amqpheaders_cy import timestamp_of
from cdcflow.errors import OperatorError

SKIP = "skip"
READ = "read"


def committed_at(message: tuple[bytes, dict[str, bytes]] | None) -> float:
    """Return when a message's change was committed at its source, seconds since 1970; 0 where it does not say.

    message: its content header's payload, and what `headers_of` found there.

    Raises:
        DecodeError, AmqpError: as `place_of`, `timestamp_of`.
    """
    if message is None:
        return 0.0
    header, headers = message
    seconds, place = timestamp_of(header), headers.get(PLACE)
    if not seconds or place is None or place in (MARK, LOST):
        return float(seconds)
    return seconds + place_of(place).micros / 1e6


@dataclass(slots=True)
class Held:
    """A share of ours.

    place: behind the last message that was read, as the target records it: in a stream the next offset, in a queue one
    more than the session and number of the last message. unread: what has come. unacknowledged: (place behind it,
    delivery tag). read: messages handled since we have it. meeting: nothing is read until `resume`, which moves the
    place to `behind`.
    """

    name: str
    queue: str
    number: int
    channel: int
    epoch: int
    place: int
    stream: bool
    last: tuple[int, int] | None = None
    meeting: bool = False
    behind: int = 0
    unread: deque[Event] = field(default_factory=deque)
    unread_bytes: int = 0
    unacknowledged: deque[tuple[int, int]] = field(default_factory=deque)
    acked_tag: int = 0
    read: int = 0
    doubts: Doubts = field(default_factory=Doubts)

    def __post_init__(self) -> None:
        if not self.stream and self.place:
            self.last = ((self.place - 1) >> NUMBER_BITS, (self.place - 1) & MOST_NUMBERS)

    def judge(self, headers: dict[str, bytes], offset: int) -> tuple[str, int]:
        """Return whether a message is to be read or skipped, and the place behind it.

        Raises:
            OperatorError: messages are missing before it.
            DecodeError: its place cannot be read.
        """
        header = headers.get(PLACE)
        if self.stream and offset < self.place:
            return SKIP, self.place
        if header == LOST:
            raise OperatorError(
                f'queue "{self.queue}" was deleted and made again',
                at=f"share {self.name}",
                why="what it held and was not applied is lost",
                do="cdcflow resync --all at the publisher; this instance goes on when it is started again",
            )
        if header == MARK:
            return SKIP, offset + 1 if self.stream else self.place
        if header is None:  # somebody else's message
            return READ, offset + 1 if self.stream else self.place
        place = place_of(header)
        if self.stream:
            self._follows(place)
            return READ, offset + 1
        if place.whole < self.place:
            return SKIP, self.place
        self._follows(place)
        doubled = self.doubts.doubled(place, run_of(headers), copied=headers.get(OP) == b"r")
        return SKIP if doubled else READ, place.whole + 1

    def _follows(self, place: Place) -> None:
        """Raise OperatorError where the message is not the next one."""
        last = self.last
        if last is not None and not (
            (place.generation == last[0] and place.number == last[1] + 1)
            or (place.generation > last[0] and place.number == 1)
        ):
            raise OperatorError(
                f'messages are missing in queue "{self.queue}"',
                at=f"share {self.name}, between {last[0]}/{last[1]} and {place.generation}/{place.number}",
                why="it was purged, or a policy limits its length, its messages' age or their deliveries",
                do="remove the policy (rabbitmqctl list_policies), then cdcflow resync --all at the publisher,"
                " and cdcflow teardown and run here",
            )
        self.last = (place.generation, place.number)

    def settled(self, upto: int) -> int | None:
        """Return the delivery tag up to which everything may be acknowledged when what is before `upto` is durable;
        None where there is nothing new."""
        tag = None
        while self.unacknowledged and self.unacknowledged[0][0] <= upto:
            tag = self.unacknowledged.popleft()[1]
        return tag
