"""Messages of a bus become batches of changes: the shape is found, the rules are asked, rows are put into frames.

Nothing here knows which broker the messages come from.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from cdcflow.bus.formats import MEETING, OP, SCHEMA, Format, named_by
from cdcflow.bus.lanes import ABSENT, Lane, TableState, changed
from cdcflow.bus.shapes import Catalogue, number_of, routed_as
from cdcflow.errors import DecodeError
from cdcflow.model.change import ChangeBatch, Meeting, Rows, SchemaChange, Step, Truncate
from cdcflow.model.frame import INSERT, RowBatch
from cdcflow.model.ports import Router
from cdcflow.model.position import Shares
from cdcflow.model.route import OnTruncate, Route
from cdcflow.model.schema import Table
from cdcflow.model.widening import joined
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

Headers = Sequence[tuple[str, bytes | str | None]]
Alone = Meeting | Truncate

_TRUNCATE: Final = b"t"

# What keeps the rows before it and those after it apart: nothing is emptied.
_BARRIER: Final = Truncate((), cascade=False, restart_identity=False)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that cannot be read, for the dead letters. `place` is its own number within the share."""

    topic: str
    share: str
    place: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: DecodeError


class _TakeFirst(Exception):  # noqa: N818 - a word between two methods, not a failure
    """What was collected has to be taken before the message is read."""


class _Emptied(Exception):  # noqa: N818 - as before
    """A message says no more of a table than that it was emptied."""

    def __init__(self, route: Route | None) -> None:
        """`route`: as the target has the table, None where it has none."""
        emptied = route is not None and route.on_truncate is not OnTruncate.IGNORE
        self.then = Truncate((route,), cascade=False, restart_identity=False) if emptied and route else None


AGAIN: Final = "again"


class Reading:
    """Reads messages in order and collects their rows until `take`. One thread.

    A row whose new image is whole is an INSERT that overwrites, one with absent cells an UPDATE, all idempotent.
    """

    def __init__(
        self,
        format: Format,  # noqa: A002 - the word of the configuration
        catalogue: Catalogue,
        router: Router,
        known: Mapping[int, Route],
        *,
        flat: bool = False,
        unreadable: Literal["stop", "dead_letter"] = "stop",
        where: Callable[[str, int], str] = "{}, {}".format,
    ) -> None:
        """`known`: by table id, the routes in the shapes that the target's tables have by now; `[]` may find what
        others have made since, where `get` does not. `flat`: a message
        without a value is a delete. `where(share, place)` names a message for a person."""
        self._format, self._catalogue, self._router = format, catalogue, router
        self._there = known
        format.begin([route.source for route in known.values()])
        self._silent_without_value = not flat
        self._dead_letters = unreadable == "dead_letter"
        self._where = where
        self._lanes: dict[tuple[str, bytes | None], Lane] = {}  # by topic and the header SCHEMA
        self._marked: dict[tuple[str, bytes], Lane] = {}  # by topic and what the format can tell of the value
        self._last: dict[str, Lane] = {}  # by topic, where messages have no header
        self._tables: dict[int, TableState] = {}  # by the table's id
        self._at: dict[tuple[str, int], Lane] = {}  # by share and table: the shape that it brought last
        self._recent: dict[str, Lane] = {}  # by share
        self._untold: set[str] = set()  # shares that brought deletions of a table that nobody has made
        self._passed: set[tuple[str, int]] = set()  # those of `_at` whose share has passed a mark since
        self._steps: list[Step] = []
        self._order: list[int] = []
        self._numbers = 0
        self.rows = 0
        self.nbytes = 0
        self.letters: list[Letter] = []

    def add(
        self, topic: str, share: str, place: int, key: bytes | None, value: bytes | None, headers: Headers | None
    ) -> Alone | Literal["again"] | None:
        """Read one message; `place` is its own number within the share.

        Returns:
            A step that goes alone, behind what is taken now; it is not among what `take` returns. AGAIN: what is there
            is to be taken first, and the message then brought once more.

        Raises:
            DecodeError: it cannot be read, and the policy is to stop.
            SourceUnavailable: a schema cannot be had now.
        """
        if value is None and self._silent_without_value and not headers:
            return None
        named: dict[str, bytes] = dict(headers) if headers else {}  # type: ignore[arg-type]
        try:
            marked = value is None and MEETING in named
            if marked and named.get(OP) != _TRUNCATE:
                return self._meeting(topic, share, place, named[MEETING], None)
            if value is None and not marked and self._silent_without_value:
                return None
            print_ = named.get(SCHEMA)
            lane = self._recent.get(share)
            if lane is None or print_ is None or lane.fingerprint != print_ or lane.topic != topic:
                lane = self._lanes.get((topic, print_)) or self._lane(topic, share, key, value, print_)
                if lane.route is None:
                    return None
                at = share, lane.shape.id
                if self._at.get(at) is not lane or at in self._passed:
                    self._switch(share, lane)
                self._recent[share] = lane
            if marked:
                return self._truncate(lane, topic, share, place, named)  # `signals: marks`
            op, before, after = lane.read(key, value, named)
            # What nearly every message is: a whole new row of a table with a key.
            if lane.plain and after is not None and ABSENT not in after and op in "cru":
                lane.ops.append(INSERT)
                lane.after.append(after)
                self._order.append(lane.number)
            elif op == "t":
                return self._truncate(lane, topic, share, place, named)
            elif op:
                self._order += [lane.number] * changed(lane, op, before, after)
        except _TakeFirst:
            return AGAIN
        except _Emptied as emptied:
            return emptied.then
        except DecodeError as error:
            self._unreadable(error, topic, share, place, key, value, headers)
        except (AttributeError, TypeError):
            if None not in named.values():
                raise
            self._unreadable(DecodeError("a header has no value"), topic, share, place, key, value, headers)
        return None

    def take(self) -> tuple[list[Step], int, int]:
        """Return (steps, rows, bytes) since the last call. Whoever takes them delivers `letters` first."""
        self._close()
        taken = self._steps, self.rows, self.nbytes
        self._steps, self.rows, self.nbytes = [], 0, 0
        return taken

    def batch(self, end: Shares, *, sent: float, lagging: bool) -> ChangeBatch | None:
        """Return what `take` does as a batch, None where there is nothing. `sent`: seconds since 1970, by the clock
        of the messages' source."""
        steps, rows, nbytes = self.take()
        if not steps:
            return None
        return ChangeBatch(steps, end, 1, b"", sent, sent, True, lagging, rows, nbytes)

    def forget(self, share: str) -> None:
        """Forget what is known of a share that somebody else reads from now on."""
        self._at = {at: lane for at, lane in self._at.items() if at[0] != share}
        self._passed = {at for at in self._passed if at[0] != share}
        self._recent.pop(share, None)
        self._untold.discard(share)

    # -- rows

    def _close(self) -> None:
        """End the run of rows: what is collected becomes a step."""
        if not self._order:
            return
        frames: dict[int, RowBatch] = {}
        for state in self._tables.values():
            for lane in state.lanes:
                if lane.ops:
                    frame = frames[lane.number] = lane.frame()
                    self.nbytes += frame.nbytes
        self._steps.append(Rows(frames, array("I", self._order).tobytes()))
        self.rows += len(self._order)
        self._order = []

    def _truncate(self, lane: Lane, topic: str, share: str, place: int, headers: dict[str, bytes]) -> Alone | None:
        assert lane.route is not None
        state = self._tables[lane.shape.id]
        if lane.fingerprint is None and not lane.used and not lane.ops:
            # Such a message has no key: where the table is not known yet, the rows that come tell more of it.
            self._unlearn(lane)
            if lane.shape.id not in self._there and lane.shape.id not in self._tables:
                return None
        if lane.route.on_truncate is OnTruncate.IGNORE:
            return None  # nothing happens there, so nobody is waited for
        then = Truncate((state.route,), cascade=False, restart_identity=False)
        return self._meeting(topic, share, place, headers.get(MEETING), then)

    def _meeting(self, topic: str, share: str, place: int, mark: bytes | None, then: Truncate | None) -> Alone | None:
        name, _, count = mark.decode("utf-8", "replace").rpartition("/") if mark else ("", "", "1")
        if not count.isascii() or not count.isdigit() or (mark and not name):
            raise DecodeError(f"the header {MEETING} is not <name>/<number of partitions>")
        if int(count) > 1:
            shares = frozenset(f"{topic}/{number}" for number in range(int(count)))
            if share not in shares:
                raise DecodeError(f"the header {MEETING} does not count partition {share}")
            self._recent.pop(share, None)
            self._passed.update(at for at in self._at if at[0] == share)
            return Meeting(name, share, place + 1, shares, then)
        return then

    # -- shapes

    def _lane(self, topic: str, share: str, key: bytes | None, value: bytes | None, fingerprint: bytes | None) -> Lane:
        """Find or make the lane of a message whose header is new, or that has none."""
        if fingerprint is not None:
            lane = self._catalogued(topic, fingerprint)
            self._lanes[topic, fingerprint] = lane
            return lane
        if value is None:
            return self._last.get(topic) or self._deleting(topic, share, key)
        mark = self._format.mark(value)
        found = self._marked.get((topic, mark)) if mark is not None else None
        if found is None:
            found = self._described(topic, key, value, mark)
            if mark is not None:
                self._marked[topic, mark] = found
        self._last[topic] = found
        return found

    def _deleting(self, topic: str, share: str, key: bytes | None) -> Lane:
        """Make the lane of a deletion that came before any row: in the shape that the table has in the target. A table
        that is not there has nothing to delete: its lane leads nowhere."""
        table = named_by(topic)
        number = number_of(table)
        known = self._tables[number].route if number in self._tables else self._there.get(number)
        if known is None and share not in self._untold:
            try:  # whoever had the share before may have made it since we joined
                known = self._there[number]
            except KeyError:
                self._untold.add(share)
                log.info("deletions before any row are passed over: no table of theirs is there", share=share)
        if known is None:
            return Lane(0, topic, Table(table, number, ()), None, None)
        # What the key's values are is told by its own schema, where it has one.
        lane = self._made(topic, known.source, None, self._format.mark(key) if key is not None else None)
        if lane.route is not None:
            self._join(self._state(known.source, known), lane)
        self._last[topic] = lane
        return lane

    def _catalogued(self, topic: str, fingerprint: bytes) -> Lane:
        table = self._known(fingerprint)
        lane = self._made(topic, table, fingerprint, None)
        if lane.route is not None:
            state = self._state(table, lane.route)
            if self._is_newer(table, state):
                self._change(state, table)
            self._join(state, lane)
        return lane

    def _is_newer(self, table: Table, state: TableState) -> bool:
        """Return whether a shape is newer than the one that the table has by now."""
        if table.version <= state.route.source.version:
            # Perhaps its version is of a catalogue that was made anew since.
            state.route = replace(state.route, source=self._catalogue.placed(state.route.source))
        return table.version > state.route.source.version

    def _known(self, fingerprint: bytes) -> Table:
        text = fingerprint.decode("utf-8", "replace")
        known = self._catalogue.find(text)
        if known is None:
            raise DecodeError(
                f"the table's shape {text} is not in the topic of shapes",
                why="the publisher writes it there before the first row",
                do="name the publisher's topic with schema_topics, and see that it may be read",
            )
        return known

    def _described(self, topic: str, key: bytes | None, value: bytes, mark: bytes | None) -> Lane:
        """Find the lane by what the message says of itself.

        Which of two shapes is the newer one is not told (a share may lag behind, or be read anew), so the table only
        ever gets more columns, and wider ones.
        """
        table = self._format.described(topic, key, value)
        table = replace(table, id=number_of(table.name), version=1, described=True)
        state = self._tables.get(table.id)
        known = state.route if state is not None else self._there.get(table.id)
        if not table.columns:
            raise _Emptied(known)
        if key is None and known is not None:  # that a table was emptied is said without a key
            table = _keyed(table, known.source)
        if state is not None and mark is None:
            for lane in state.lanes:
                if lane.shape == table:
                    return lane
        lane = self._made(topic, table, None, mark)
        if lane.route is not None:
            state = self._state(table, lane.route)
            now = state.route.source
            columns = joined(now, table)
            if any(column not in now.columns for column in columns):
                self._change(state, replace(table, columns=columns, version=now.version + 1))
            self._join(state, lane)
        return lane

    def _unlearn(self, lane: Lane) -> None:
        """Forget a lane that has no rows, and the table where it has no other."""
        self._marked = {mark: one for mark, one in self._marked.items() if one is not lane}
        self._last = {topic: one for topic, one in self._last.items() if one is not lane}
        self._at = {at: one for at, one in self._at.items() if one is not lane}
        state = self._tables[lane.shape.id]
        state.lanes.remove(lane)
        if not state.lanes:
            del self._tables[lane.shape.id]

    def _made(self, topic: str, table: Table, fingerprint: bytes | None, mark: bytes | None) -> Lane:
        self._numbers += 1
        lane = Lane(self._numbers, topic, table, fingerprint, self._router(table))
        if lane.route is not None:
            lane.read = self._format.reader(table, mark).read
        return lane

    def _state(self, table: Table, route: Route) -> TableState:
        state = self._tables.get(table.id)
        if state is None:
            # The target has the table in that shape by now; else it is made in the one that is met first.
            state = self._tables[table.id] = TableState(self._there.get(table.id, route))
        return state

    def _join(self, state: TableState, lane: Lane) -> None:
        state.lanes.append(lane)
        self._point(state, lane)

    def _switch(self, share: str, lane: Lane) -> None:
        """Note that a share brings another shape of a table than before: what follows must not be mixed with that. Or
        the same behind a mark, before which the table may have had another one.

        Raises:
            _TakeFirst: as `_change`.
        """
        at = (share, lane.shape.id)
        before = self._at.get(at)
        state = self._tables[lane.shape.id]
        if lane.fingerprint is not None and lane.shape.version < state.route.source.version:
            # Rows of an older shape, or the table has an earlier shape again: its record is the newest then.
            self._catalogue.refresh()
            again = self._known(lane.fingerprint)
            if self._is_newer(again, state):
                self._change(state, again)
            if again != lane.shape:
                lane.shape = again
                self._point(state, lane)
        self._passed.discard(at)
        if before is not None and before is not lane:
            self._close()
            # Also where there is nothing before it now: what was taken before may be joined with what follows.
            if not self._steps or isinstance(self._steps[-1], Rows):
                self._steps.append(_BARRIER)
        self._at[at] = lane

    def _change(self, state: TableState, table: Table) -> None:
        """Let the table have another shape from here on. The step comes first among those that are taken together.

        Raises:
            _TakeFirst: there are others, and nothing was changed.
        """
        if self._order or any(not isinstance(step, SchemaChange) for step in self._steps):
            raise _TakeFirst
        now = state.route.source
        shapes = self._catalogue.between(now, table)
        if not any(_came_back(now, each, table) for each in shapes):
            shapes = []
        shapes.append(table)
        for shape in shapes:
            route = self._router(shape)
            if route is not None:
                self._steps.append(SchemaChange(state.route, route))
                state.route = route
        for lane in state.lanes:
            self._point(state, lane)

    def _point(self, state: TableState, lane: Lane) -> None:
        """Set how the lane's rows are written into the table as it is now."""
        newest = state.route
        if lane.shape == newest.source:
            lane.point(newest)
        elif (route := self._router(lane.shape)) is not None:
            lane.point(routed_as(route, newest))

    # -- what cannot be read

    def _unreadable(
        self,
        error: DecodeError,
        topic: str,
        share: str,
        place: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
    ) -> None:
        found = DecodeError(
            error.what,
            at=f"{self._where(share, place)}" + (f", {error.at}" if error.at else ""),
            why=error.why,
            do=error.do or "mend what writes it; with unreadable: dead_letter such messages are put aside",
        )
        if not self._dead_letters:
            raise found from None
        self.letters.append(Letter(topic, share, place, key, value, headers or (), found))


def _came_back(old: Table, between: Table, new: Table) -> bool:
    """Return whether a column was dropped and one of its name added: no value of the first is one of the second."""
    names = set(old.column_names) & set(new.column_names)
    return not names <= set(between.column_names)


def _keyed(table: Table, known: Table) -> Table:
    """Return a table that tells of no key with the one that it is known to have."""
    key = known.key
    if table.key or not set(key) <= set(table.column_names):
        return table
    needed = {column.name for column in known.columns if column.name in key and not column.nullable}
    columns = tuple(replace(each, nullable=each.nullable and each.name not in needed) for each in table.columns)
    return replace(table, columns=columns, key=key, primary_key=key)
