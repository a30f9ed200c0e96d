"""Where a stream goes on: at its recorded place, where it is the stream that was read then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.doubts import PLACE, is_place, place_of, session_of
from cdcflow.bus.rabbitmq.layout import Noted, look, queue_name, share_name, share_of
from cdcflow.bus.rabbitmq.notes import Notes, read_stream, stream_end
from cdcflow.bus.rabbitmq.share import ANEW, made_again
from cdcflow.bus.rabbitmq.wire import Wire, short
from cdcflow.errors import PositionLost, SourceUnavailable
from cdcflow.model.change import Meeting
from cdcflow.model.position import Share
from cdcflow.model.sharing import Claims

# The name that a stream which was read gets, where none was known then, when another has taken its place.
_NAMELESS = "0"


@dataclass(frozen=True, slots=True)
class Start:
    """A share that was taken. last: session and number of the message before its place, where a stream tells them."""

    share: Share
    last: tuple[int, int] | None = None


def is_another(noted: Noted, queue: str, share: Share) -> bool:
    """Whether the stream is another than that in which the share's place was recorded."""
    made = noted.made.get(queue)
    if not share.place or made is None:
        return False
    return share.identity != noted.identity(queue) if share.identity else made.again


def is_behind(recorded: Share | None, end: Share) -> bool:
    """Whether a recorded place is that far, in the stream whose end it is."""
    if recorded is None or recorded.place < end.place:
        return False
    return "" in (recorded.identity, end.identity) or recorded.identity == end.identity


class Starts:
    """Finds where streams are begun. `start`: where those are that were never read, `first` or `next`."""

    def __init__(self, address: Address, exchange: str, notes: Notes, start: str) -> None:
        self._address, self._exchange, self._notes, self._start = address, exchange, notes, start
        self._again: dict[str, int] = {}  # by share, of streams that were made once more

    def take(self, streams: Mapping[str, str], claims: Claims) -> dict[str, Start]:
        """Claim shares, given with their streams; return where each goes on.

        Raises:
            OperatorError: a stream took the place of one that was read. Told once: it is on record then.
            PositionLost: a stream no longer holds what follows the recorded place.
            SourceUnavailable, Refused: the broker does not tell, or a stream is gone.
            TargetUnavailable: as `Claims.take`.
        """
        # On a connection of its own: messages of other streams arrive on ours.
        with short(self._address, "cdcflow start", SourceUnavailable) as (wire, channel):
            for queue in streams.values():
                look(wire, channel, queue)
            # Behind that: what a stream is called is written down before it is made.
            self._notes.refresh()
            noted = self._notes.layout
            if noted is None:
                raise SourceUnavailable("the notes of the exchange were made anew", at=self._address.text)
            self._again = {share_of(queue): made.generation for queue, made in noted.made.items() if made.again}
            ends = self._begin(wire, channel, noted, claims) if self._start == "next" else {}
            claimed = {name: (streams[name], share) for name, share in claims.take(list(streams)).items()}
            self._compare(noted, claimed, claims)
            found: dict[str, Start] = {}
            for name, (queue, share) in claimed.items():
                if share.place:
                    last = self._before(wire, channel, queue, share.place)
                    if last is not None and last[0] > noted.generation:
                        # Of a session that began since, perhaps in another stream of the name: look again.
                        raise SourceUnavailable("a publisher has begun a session meanwhile", at=self._address.text)
                    found[name] = Start(share, last)
                elif name in ends and not share.identity:  # an onlooker, who claims nothing
                    found[name] = Start(replace(share, place=ends[name]))
                else:
                    found[name] = Start(share)
        named = {name: replace(share, identity=noted.identity(queue)) for name, (queue, share) in claimed.items()}
        fresh = {name: at for name, at in named.items() if at.identity and at.identity != claimed[name][1].identity}
        if fresh:
            claims.identify(fresh)
        return found

    def _begin(self, wire: Wire, channel: int, noted: Noted, claims: Claims) -> dict[str, int]:
        """Put on record, and return, where streams begin of which none is: all with the first claim of all, so that
        what one gets from now on is not passed over by who takes it later.

        Before they are taken: a share that is at 0 on record was moved to the start of its stream.
        """
        every = {share_name(self._exchange, n): queue_name(self._exchange, n) for n in range(noted.partitions)}
        if every.keys() & claims.recorded().keys():
            return {}
        ends = {name: self._end(wire, channel, queue) for name, queue in every.items()}
        claims.begin(ends)
        # A place without a name would be taken for one in the stream that was there before. Onlookers have none.
        begun = {name: at for name, at in claims.recorded().items() if name in ends and not at.identity}
        named = {name: replace(at, identity=noted.identity(every[name])) for name, at in begun.items()}
        claims.identify({name: at for name, at in named.items() if at.identity})
        return ends

    def attended(self, meeting: Meeting, header: bytes | None) -> Meeting:
        """Return a meeting without the shares that lack its mark, since their streams were made once more behind it.

        As of the last `take`: who has a stream stops when that is deleted, and who takes it then is here.
        """
        if not self._again or header is None or not is_place(header):
            return meeting
        generation = place_of(header).generation
        lacking = {share for share in meeting.shares if self._again.get(share, 0) > generation}
        return replace(meeting, shares=meeting.shares - lacking) if lacking else meeting

    def _compare(self, noted: Noted, claimed: Mapping[str, tuple[str, Share]], claims: Claims) -> None:
        """Say that streams are others than were read, and have it on record that they begin at their first message."""
        others = {name: at for name, at in claimed.items() if is_another(noted, *at)}
        if not others:
            return
        nameless = {name: replace(at, identity=_NAMELESS) for name, (_, at) in others.items() if not at.identity}
        if nameless:
            claims.identify(nameless)
        claims.identify({name: replace(at, identity=noted.identity(queue)) for name, (queue, at) in others.items()})
        raise made_again([queue for queue, _ in others.values()], list(others))

    def _end(self, wire: Wire, channel: int, queue: str) -> int:
        """Return the place behind a stream's last message, and the mark by which that is known."""
        return stream_end(wire, channel, self._exchange, queue) + 1

    def _before(self, wire: Wire, channel: int, queue: str, place: int) -> tuple[int, int] | None:
        """Look that a stream holds the last message that was read, and return its session and number.

        Raises:
            PositionLost: it, and what comes next, are not there any more.
        """
        at = f"offset {place}, {self._address.text}"
        if stream_end(wire, channel, self._exchange, queue) < place:
            what, why = f'stream "{queue}" ends before what was read last', "it was deleted and made again"
            raise PositionLost(what, at=at, why=why, do=ANEW)
        for offset, headers, _ in read_stream(wire, queue, place - 1):
            if offset > place:
                why = f"its retention removed messages before they were applied: it begins at {offset}"
                raise PositionLost(f'stream "{queue}" no longer holds what comes next', at=at, why=why, do=ANEW)
            header = headers.get(PLACE)
            if offset < place and header is not None:
                session = session_of(header)
                if session is not None:
                    return session.generation, 0
                if is_place(header):
                    found = place_of(header)
                    return found.generation, found.number
            break
        return None
