"""One queue or stream that this instance reads: what has come of it, how far it is, what can be acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from cdcflow.bus.formats import OP
from cdcflow.bus.rabbitmq.doubts import (
    LOST,
    MOST_NUMBERS,
    NUMBER_BITS,
    PLACE,
    Doubts,
    Place,
    Session,
    is_place,
    place_of,
    run_of,
    seal_of,
    session_of,
)
from cdcflow.bus.rabbitmq.wire import Event
from cdcflow.codecs.amqpheaders_cy import timestamp_of
from cdcflow.errors import OperatorError

SKIP = "skip"
READ = "read"

# What may be published once more stays at the broker so long, though it is durable: the broker takes its messages back
# from a consumer that acknowledges nothing for half an hour.
DOUBT_SECONDS = 300.0

# What the publisher copies has to come into queues that stay.
ANEW = (
    "cdcflow teardown here, cdcflow run here, which makes the queues again, and behind that cdcflow resync --all at the"
    " publisher"
)


def made_again(queues: Sequence[str], shares: Sequence[str]) -> OperatorError:
    """Return what is told once of queues that took the place of others."""
    names = ", ".join(f'"{queue}"' for queue in queues)
    subject = f"queue {names} was" if len(queues) == 1 else f"queues {names} were"
    return OperatorError(
        f"{subject} deleted and made again",
        at=f"share {', '.join(shares)}",
        why="what it held and was not applied is lost",
        do="cdcflow resync --all at the publisher, unless that was done since; start this again: it goes on",
    )


@dataclass(frozen=True, slots=True)
class Read:
    """A message that was handled. place: behind it. doubt: its own place, where it may be published once more."""

    place: int
    tag: int
    doubt: int


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
    if not seconds or place is None or not is_place(place):
        return float(seconds)
    return seconds + place_of(place).micros / 1e6


@dataclass(slots=True)
class Held:
    """A share of ours.

    place: behind the last message that was read, as the target records it: in a stream the next offset, in a queue one
    more than the session and number of the last message. unread: what has come. unacknowledged: what was handled and is
    not durable; durable: what is, and may be published once more. most_doubted: how many of these are kept at most.
    meeting: nothing is read until `resume`, which moves the place to `behind`.
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
    unacknowledged: deque[Read] = field(default_factory=deque)
    durable: deque[tuple[Read, float]] = field(default_factory=deque)  # and since when
    most_doubted: int = 0
    doubts: Doubts = field(default_factory=Doubts)

    def __post_init__(self) -> None:
        if not self.stream and self.place:
            self.last = ((self.place - 1) >> NUMBER_BITS, (self.place - 1) & MOST_NUMBERS)

    def judge(self, headers: dict[str, bytes], offset: int) -> tuple[str, int, int]:
        """Return whether a message is to be read or skipped, the place behind it, and its own place where it may be
        published once more, else 0.

        Raises:
            OperatorError: messages are missing before it.
            DecodeError: its place cannot be read.
        """
        header = headers.get(PLACE)
        if self.stream and offset < self.place:
            return SKIP, self.place, 0
        if not is_place(header):
            return self._judge_other(header, offset)
        assert header is not None
        place = place_of(header)
        if self.stream:
            self._follows(place)
            return READ, offset + 1, 0
        run = run_of(headers)
        known = place.whole < self.place
        if not known:
            self._follows(place)
        # What comes again was left at the broker because it may be published once more, and tells what would be that.
        doubled = self.doubts.doubled(place, run, copied=headers.get(OP) == b"r")
        doubt = place.whole if run is not None else 0
        return (SKIP, self.place, doubt) if known else (SKIP if doubled else READ, place.whole + 1, doubt)

    def _judge_other(self, header: bytes | None, offset: int) -> tuple[str, int, int]:
        """As `judge`, of a message without a place."""
        behind = offset + 1 if self.stream else self.place
        if header is None:  # somebody else's message
            return READ, behind, 0
        if header == LOST:
            # The place in a stream does not move by an acknowledgement: whoever has read another of its name was told
            # when it was taken (`starts`), and to others nothing is lost.
            if self.stream:
                return SKIP, behind, 0
            raise made_again([self.queue], [self.name])
        session = session_of(header)
        if session is not None:
            return SKIP, self._begins(session, behind), 0
        sealed = seal_of(header)
        if sealed is not None:
            self.doubts.seal(*sealed)
        return SKIP, behind, 0

    def _begins(self, session: Session, behind: int) -> int:
        """Note that a session begins; return the place behind that.

        Raises:
            OperatorError: messages are missing before it.
        """
        if not self.stream:
            if session.whole < self.place:
                return self.place
            behind = session.whole + 1
        if session.floor and self._before(session.floor):
            raise self._missing(session.floor >> NUMBER_BITS, session.floor & MOST_NUMBERS, "the end of")
        self.last = (session.generation, 0)
        return behind

    def _before(self, floor: int) -> bool:
        """Whether what was read last is before what a reader must have had."""
        if self.last is None:
            return not self.stream
        return self.last[0] > 0 and self.last[0] << NUMBER_BITS | self.last[1] < floor

    def _follows(self, place: Place) -> None:
        """Raise OperatorError where the message is not the next one."""
        last = self.last
        # A stream may be read from anywhere. A queue tells first that it was made, in session 0 where a reader did so,
        # and then begins anywhere.
        anywhere = self.stream if last is None else last[0] == 0
        if not anywhere and last != (place.generation, place.number - 1):
            raise self._missing(place.generation, place.number, "")
        self.last = (place.generation, place.number)

    def _missing(self, generation: int, number: int, which: str) -> OperatorError:
        where = f"{self.last[0]}/{self.last[1]}" if self.last is not None else "its beginning"
        others = "" if self.last is not None else ", or another pipeline has read it, or the record of that is gone"
        return OperatorError(
            f'messages are missing in queue "{self.queue}"',
            at=f"share {self.name}, between {where} and {which} {generation}/{number}".replace("  ", " "),
            why=f"it was purged, or a policy limits its length, its messages' age or their deliveries{others};"
            " or `prefetch` differs among instances, or was lowered",
            do=f"remove the policy if there is one (rabbitmqctl list_policies); then {ANEW}",
        )

    def settled(self, upto: int, now: float) -> int | None:
        """Return the delivery tag up to which everything may be acknowledged when what is before `upto` is durable;
        None where there is nothing new.

        What may be published once more is left at the broker for a while: it comes again to whoever has the share next,
        who then knows a repetition of it.
        """
        while self.unacknowledged and self.unacknowledged[0].place <= upto:
            self.durable.append((self.unacknowledged.popleft(), now))
        tag, sealed = None, self.doubts.sealed
        while self.durable:
            read, since = self.durable[0]
            if read.doubt > sealed and len(self.durable) <= self.most_doubted and now - since < DOUBT_SECONDS:
                break
            tag = read.tag
            self.durable.popleft()
        return tag
