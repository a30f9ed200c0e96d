"""The two threads of an instance that shares its source, one turn at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cdcflow.errors import SourceUnavailable, Unavailable
from cdcflow.flow import gatherings
from cdcflow.flow.gatherings import Gatherings
from cdcflow.flow.inbox import Fill, Inbox
from cdcflow.flow.progress import Fanout, Report
from cdcflow.flow.sharing import Handover, Membership, SharedRun
from cdcflow.model.change import ChangeBatch, Heartbeat, Meeting, Truncate
from cdcflow.model.position import Position, Share, Shares
from cdcflow.model.sharing import Arrival
from cdcflow.state import SqlStore, open_store


class Recorded:
    """A target that notes the positions that it records."""

    address = "here"

    def __init__(self) -> None:
        self.positions: list[str] = []

    def heartbeat(self, position: Position) -> None:
        self.positions.append(str(position))

    def flush(self, *, force: bool) -> None:
        return None


def at(**places: int) -> Heartbeat:
    return Heartbeat(Shares({name: Share(1, place) for name, place in places.items()}), 0.0)


class One:
    """A member without threads."""

    def __init__(self) -> None:
        self.target = Recorded()
        settings = SimpleNamespace(pipeline="p", fill=Fill(), read_ahead_bytes=1 << 20)
        parts = cast("Any", SimpleNamespace(settings=settings, target=self.target, stop=threading.Event()))
        nothing = cast("Any", None)
        self.member = Membership(parts, nothing, nothing, nothing, cast("Any", SimpleNamespace(progress=lambda: None)))
        self.inbox = self.member._inbox
        self.later: Callable[[], None] | None = None  # called just behind a look that found nothing
        self.member._gatherings = Gatherings(parts, nothing, nothing)
        self.member._looked_at = 0.0
        self.handover = Handover(cast("Any", None), "p", {}, threading.Event())

    def take(self, fill: Fill, wait: float) -> ChangeBatch | Heartbeat | None:
        found = self.inbox.take(fill, 0.0)
        if found is None and self.later is not None:
            later, self.later = self.later, None
            later()
        return found

    def turn(self) -> None:
        self.member._inbox = cast("Inbox", SimpleNamespace(take=self.take))
        self.member._turn(cast("Any", None), self.handover, None)


def test_shares_are_not_given_while_something_that_was_put_a_moment_ago_is_not_applied() -> None:
    one = One()

    def read_and_asked() -> None:
        one.inbox.put(at(a=7))
        one.handover._asked.set()

    one.later = read_and_asked
    one.turn()
    assert one.handover.wanted
    one.turn()
    one.turn()
    assert not one.handover.wanted
    assert one.target.positions == ['{"a":[1,7]}']


def test_where_a_share_begins_is_on_record_at_once() -> None:
    one = One()
    one.inbox.put(at(a=50))
    one.turn()
    assert one.target.positions == ['{"a":[1,50]}']
    one.inbox.put(at(a=51))
    one.turn()
    assert len(one.target.positions) == 1
    one.inbox.put(at(a=51, b=9))
    one.turn()
    assert one.target.positions[1:] == ['{"a":[1,51],"b":[1,9]}']


class Met:
    """A store in which the shares `come` have come to the one meeting."""

    def __init__(self, *come: Arrival) -> None:
        self.come = list(come)

    def arrived(self, pipeline: str, meeting: str) -> list[Arrival]:
        return self.come

    def shares(self, pipeline: str) -> dict[str, Share]:
        return {}


def test_whom_a_meeting_waits_for_is_told_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, str]] = []
    monkeypatch.setattr(gatherings, "log", SimpleNamespace(warning=lambda what, **more: told.append(more)))
    monkeypatch.setattr(gatherings, "LOOK_EVERY_SECONDS", -1.0)
    parts = cast("Any", SimpleNamespace(settings=SimpleNamespace(pipeline="p")))
    met = Gatherings(
        parts, cast("Any", Met(Arrival("t/0", 5))), cast("Any", SimpleNamespace(ends=lambda _: {"t/1": 3}))
    )
    met.expect(
        Meeting("m", "t/0", 5, frozenset({"t/0", "t/1"}), Truncate((), cascade=False, restart_identity=False)), 1
    )
    met.attend({"t/0": Share(1, 4)}, lambda places, then: None)
    assert told == []
    monkeypatch.setattr(gatherings, "TELL_EVERY_SECONDS", 0.0)
    met.attend({"t/0": Share(1, 4)}, lambda places, then: None)
    assert [each["missing"] for each in told] == ["t/1"]


EMPTIED = Truncate((), cascade=False, restart_identity=False)
BOTH = frozenset({"t/0", "t/1"})


@dataclass
class Meets:
    """An instance of a pipeline whose state is a file; it holds shares of `t` and does what falls to it."""

    store: SqlStore
    held: dict[str, Share]
    done: list[tuple[dict[str, int], bool]] = field(default_factory=list)  # who went behind, and whether it emptied
    resumed: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = cast("Any", SimpleNamespace(settings=SimpleNamespace(pipeline="p")))
        ends = {"t/0": 100, "t/1": 100}
        stream = SimpleNamespace(resume=lambda *at: self.resumed.append(at), ends=lambda _: ends)
        self.gatherings = Gatherings(parts, self.store, cast("Any", stream))

    def come(self, share: str, place: int, shares: frozenset[str] = BOTH) -> None:
        meeting = Meeting("m", share, place, shares, EMPTIED)
        self.gatherings.expect(meeting, self.held[share].epoch)
        self.gatherings.arrive(meeting)

    def look(self) -> None:
        self.gatherings._looked_at = 0.0
        self.gatherings.attend(self.held, self._go_behind)

    def _go_behind(self, places: Mapping[str, int], then: ChangeBatch | None) -> None:
        self.done.append((dict(places), then is not None))
        table = self.store._sharing._shares
        with self.store._transaction(writes=True) as connection:
            for share, place in places.items():
                connection.execute(table.update().where(table.c.share == share).values(place=place))


@pytest.fixture
def meets(tmp_path: Path) -> Iterator[Callable[..., Meets]]:
    """`meets("t/0", "t/1")`: an instance that claims these shares."""
    stores: list[SqlStore] = []

    def make(*shares: str) -> Meets:
        store = open_store(f"sqlite:///{tmp_path}/state.db")
        stores.append(store)
        store.migrate()
        return Meets(store, store.claim("p", shares, {}))

    yield make
    for store in stores:
        store.close()


def test_a_mark_that_is_read_again_when_its_meeting_is_over_is_passed_and_empties_nothing(
    meets: Callable[..., Meets],
) -> None:
    one, other = meets("t/0"), meets("t/1")
    one.come("t/0", 5)
    other.come("t/1", 9)
    other.look()
    assert other.done == []
    one.look()
    other.look()
    assert (one.done, other.done) == ([({"t/0": 5}, True)], [({"t/1": 9}, False)])
    next_owner = meets("t/0")
    next_owner.come("t/0", 12)  # the publisher died before its checkpoint, and has said it once more
    next_owner.look()
    assert next_owner.done == [({"t/0": 12}, False)]
    assert next_owner.resumed == [("t/0", 12)]
    assert not next_owner.gatherings.open


def test_a_meeting_is_forgotten_with_the_claim_under_which_it_was_read(meets: Callable[..., Meets]) -> None:
    one = meets("t/0", "t/1")
    one.come("t/0", 5)
    assert one.gatherings.before("t/0", one.held["t/0"]) == 0
    assert one.gatherings.before("t/0", replace(one.held["t/0"], place=20)) == 4
    again = one.store.claim("p", ["t/0"], {})["t/0"]
    assert one.gatherings.before("t/0", replace(again, place=20)) == 20
    one.held["t/0"] = again
    one.look()
    assert one.done == []
    assert not one.gatherings.open


def test_a_meeting_whose_record_is_gone_is_come_to_again(meets: Callable[..., Meets]) -> None:
    one = meets("t/0", "t/1")
    one.come("t/0", 101)
    one.come("t/1", 101)
    meetings = one.store._sharing._meetings
    with one.store._transaction(writes=True) as connection:
        connection.execute(meetings.delete())
        table = one.store._sharing._shares
        connection.execute(table.update().values(place=100))
    one.look()
    assert one.done == []
    one.look()
    assert one.done == [({"t/0": 101, "t/1": 101}, True)]


def test_a_place_in_a_topic_that_was_deleted_is_not_behind_a_mark_of_the_one_that_has_its_name_now(
    meets: Callable[..., Meets],
) -> None:
    one, other = meets("t/0"), meets("t/1")
    one.store.identify("p", {"t/0": replace(one.held["t/0"], identity="new")})
    other.store.identify("p", {"t/1": replace(other.held["t/1"], identity="old")})
    other._go_behind({"t/1": 500}, None)
    one.come("t/0", 1)
    one.look()
    assert one.done == []
    assert one.gatherings.open
    other.store.identify("p", {"t/1": replace(other.held["t/1"], identity="new")})
    other.come("t/1", 1)
    one.look()
    assert one.done == [({"t/0": 1}, True)]


def test_a_share_that_came_and_whose_queue_was_deleted_since_holds_nobody_up(meets: Callable[..., Meets]) -> None:
    one, other = meets("t/0"), meets("t/1")
    one.come("t/0", 500)
    one._go_behind({"t/0": 600}, None)  # in the queue that has its name now, where the mark never was
    one.done.clear()
    other.come("t/1", 9, frozenset({"t/1"}))
    other.look()
    assert other.done == [({"t/1": 9}, True)]


class Silent:
    """A bus that can be joined, and brings nothing but a failure; with it the target and the store of the instance."""

    address = "here"

    def __init__(self, *, joined: bool) -> None:
        self.joined, self.joins = joined, 0

    def join(self, *_: object) -> Silent:
        self.joins += 1
        if not self.joined:
            raise SourceUnavailable("the bus is away")
        return self

    def read(self, wait: float) -> None:
        raise SourceUnavailable("the bus is away")

    def tables(self, pipeline: str) -> dict[int, object]:
        return {}

    def placed(self, tables: list[object]) -> list[object]:
        return tables

    def claim(self, *_: object) -> dict[str, Share]:
        return {}

    def nothing(self, *_: object, **__: object) -> None: ...

    migrate = begin = heartbeat = flush = ack = release = close = idle = nothing


class Joins(Silent):
    """The store: what is joined there is the pipeline's record."""

    def join(self, *_: object) -> int:  # type: ignore[override]
        return 1


@pytest.mark.parametrize("joined", [False, True])
def test_a_bus_that_stays_away_ends_the_instance_as_temporary_after_few_and_fewer_attempts(joined: bool) -> None:
    bus = Silent(joined=joined)
    settings = SimpleNamespace(pipeline="p", fill=Fill(), read_ahead_bytes=1 << 20, outage=0.8, owner={})
    parts = cast(
        "Any",
        SimpleNamespace(
            settings=settings,
            source=bus,
            target=bus,
            store=Joins(joined=True),
            observer=Fanout(),
            report=Report(),
            stop=threading.Event(),
        ),
    )
    with pytest.raises(Unavailable) as raised:
        SharedRun(parts).run()
    assert raised.value.exit_code == 75
    assert bus.joins < 10
