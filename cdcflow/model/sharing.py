"""The seams of a source that several instances of one pipeline read at once: a bus."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from cdcflow.model.change import ChangeBatch, Heartbeat
from cdcflow.model.check import Finding
from cdcflow.model.ports import Router, Store
from cdcflow.model.position import Position, Share, Shares
from cdcflow.model.route import Route
from cdcflow.model.schema import Table


class Claims(Protocol):
    """Who may write what of which share: given to `SharedSource.join`, called by the stream, from the thread that is in
    `SharedStream.read`, when the broker gives and takes shares."""

    def take(self, names: Sequence[str]) -> Mapping[str, Share]:
        """Claim shares that the broker gave to this instance; return where each goes on (place 0: never read before).

        Returns when whatever an earlier owner had open is committed or can never be.

        Raises:
            TargetUnavailable: the record cannot be read now; the stream gives everything up and raises it from `read`.
        """

    def give(self, names: Sequence[str]) -> None:
        """Return when everything that `read` has returned of these shares is durable in the target, or when it is
        certain that it never will be under our claim. The broker hands the shares on afterwards."""

    def lost(self, names: Sequence[str]) -> None:
        """Note that the broker has given the shares to somebody else already. Does not wait; what is applied of them
        from now on is refused by the target."""

    def recorded(self) -> Mapping[str, Share]:
        """Return every share that is on record, whoever has it. Also called by `join` itself. Raises as `take`."""

    def begin(self, places: Mapping[str, int]) -> None:
        """Put shares on record that never were, with the places where they begin; the others stay. Raises as `take`."""

    def identify(self, shares: Mapping[str, Share]) -> None:
        """Put on record what the broker calls shares that were taken. One that was called otherwise before is another
        under the same name: its place is 0 from now on. Raises as `take`."""


class SharedStream(Protocol):
    """What an instance reads of its shares. `read` and `close` by one thread, `ack`, `resume` by any."""

    def read(self, wait: float) -> ChangeBatch | Heartbeat | None:
        """Return what has arrived, or None after `wait` seconds.

        The `end` of what is returned is a `Shares` with every share that this instance holds, as far as everything
        returned so far goes. All frames are `idempotent`: `INSERT` with a whole row means "make it so", `UPDATE`
        brings rows with absent cells. A shape that is newer than the one its table had comes as a `SchemaChange`
        before its first row (its table's `version` is larger); rows of an older one simply lack cells. A `Truncate`
        comes alone in its batch. So does a `Meeting`, and its share brings nothing more until `resume`.

        Raises:
            SourceUnavailable: the broker is away; join again.
            DecodeError: a message cannot be read (topic, partition and offset are named).
            OperatorError: a topic that was read is gone, or was made anew.
        """

    def resume(self, share: str, place: int) -> None:
        """Go on behind the `Meeting` that this share brought last; nothing where that was at another place: the share
        was given and came back meanwhile, and stands at a later one."""

    def ends(self, shares: Collection[str]) -> Mapping[str, int]:
        """Return the place behind all that the broker has of these shares now, whether it can be read already or not;
        a share of which that cannot be told lacks. Any thread.

        Raises:
            SourceUnavailable: the bus cannot be asked now.
        """

    def idle(self) -> None:
        """Keep the membership alive without reading: called every second or so while the pipeline is full."""

    def ack(self, upto: Position) -> None:
        """Tell the broker what is durable: queues forget it, lag tools see it. Where to go on is the target's word."""

    def reached(self, end: Position, recorded: Mapping[str, Share]) -> bool:
        """Return whether everything up to `end` (of `SharedSource.end`) is durable: `recorded` are the shares of all
        instances as the target has them."""

    def behind(self) -> int | None:
        """Return the messages that wait at the broker in this instance's shares, None where unknown."""

    def close(self) -> None:
        """Leave the group."""


class SharedSource(Protocol):
    """A bus. Methods other than `join` use short-lived or own connections and may be called from any thread."""

    engine: str
    address: str

    def check(self, routes: Sequence[Route], refused: Sequence[Table]) -> list[Finding]:
        """As `ports.Source.check`."""

    def lost(self, recorded: Mapping[str, Share]) -> list[Finding]:
        """Say of which shares the broker has removed what follows the recorded places, or soon will. As `check`
        otherwise."""

    def tables(self) -> list[Table]:
        """Return the tables that the bus holds changes of, in their newest shape, as far as it tells before its
        messages are read."""

    def placed(self, tables: Sequence[Table]) -> list[Table]:
        """Return shapes that are on record with a `version` that compares with those that the bus tells of now: the
        larger, the newer. 0 where another bus told of them, or another publisher. Any thread.

        Raises:
            SourceUnavailable: the bus cannot be asked now.
        """

    def end(self) -> Position:
        """Return what the bus holds now."""

    def join(self, claims: Claims, router: Router, known: Mapping[int, Route]) -> SharedStream:
        """Become a member of the group that shares the source out. Tables that `router` leaves out are dropped.

        `known`: by table id, the routes in the shapes that the target's tables have by now; a table that is not in
        it is made by whoever gets its first rows. `known[id]` looks for it once more. Any thread.
        """

    def onlooker(self, name: str, *, from_start: bool) -> SharedSource:
        """Return the bus as somebody sees it who stands beside: what is read there is taken from nobody, and `teardown`
        removes what was made for it.

        name: what it calls itself; nobody else does. from_start: it begins with the oldest message that the bus holds,
        else behind the newest.

        Raises:
            UsageError: this bus keeps nothing that could be read so; says what to do.
        """

    def request(self, tables: Sequence[str]) -> list[str]:
        """Ask the publisher for a new copy of tables (`schema.table` on the bus); return a line for each.

        Raises:
            UsageError: this bus has no way to ask; says what to do at the publisher.
        """

    def teardown(self) -> list[str]:
        """Remove what this pipeline made at the broker (its group, its queues); return what, as text."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """One share that has come to a meeting; with the name '' that the meeting is over."""

    share: str
    place: int

    @property
    def over(self) -> bool:
        """Whether all shares had come and gone."""
        return not self.share


class SharedStore(Store, Protocol):
    """What a pipeline with a shared source remembers besides."""

    def join(self, pipeline: str, owner: Mapping[str, str]) -> int:
        """Return the epoch under which all instances write the pipeline's table records; makes the record when there
        is none. Excludes nobody."""

    def claim(self, pipeline: str, names: Sequence[str], owner: Mapping[str, str]) -> dict[str, Share]:
        """Raise the epoch of each share by one and return it with its recorded place. Waits for transactions of an
        earlier owner that have written the share.

        The first epoch of a share is above all that it had before the pipeline was forgotten: an instance that slept
        since then cannot write."""

    def shares(self, pipeline: str) -> dict[str, Share]:
        """Return every share's record."""

    def begin(self, pipeline: str, places: Mapping[str, int]) -> None:
        """Put shares on record that are not yet, each with its place, owned by nobody."""

    def identify(self, pipeline: str, shares: Mapping[str, Share]) -> None:
        """As `Claims.identify`; a share whose epoch is another by now stays as it is."""

    def arrive(self, pipeline: str, meeting: str, share: str, place: int) -> None:
        """Note that a share has come to a meeting. Idempotent."""

    def arrived(self, pipeline: str, meeting: str) -> list[Arrival]:
        """Return the shares that have come to a meeting."""

    def part(self, pipeline: str, meeting: str) -> None:
        """Note that all shares have left a meeting: whoever comes to it once more finds `Arrival.over`. Forgets who had
        come, and the meetings that are over for longest when there are many."""

    def alone(self, pipeline: str) -> AbstractContextManager[None]:
        """While in it, no other instance of the pipeline is: for making and altering tables."""


def is_shared(source: object) -> bool:
    """Return whether a source is a `SharedSource`."""
    return callable(getattr(source, "join", None))


__all__ = [
    "Arrival",
    "Claims",
    "Share",
    "SharedSource",
    "SharedStore",
    "SharedStream",
    "Shares",
    "is_shared",
]
