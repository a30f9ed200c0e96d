"""The tables of a pipeline with a shared source: made and altered by whichever instance meets a shape first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from cdcflow.errors import TargetUnavailable
from cdcflow.flow import shapes
from cdcflow.flow.parts import Parts
from cdcflow.model.change import ChangeBatch, Rows, SchemaChange, Step, Truncate
from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.position import Shares
from cdcflow.model.route import Route
from cdcflow.model.schema import Table
from cdcflow.model.sharing import SharedSource, SharedStore
from cdcflow.model.widening import joined
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)


class Shaping:
    """What the target's tables look like by now, as far as this instance knows. The applying thread's, but for `route`,
    which the reading thread asks."""

    def __init__(self, parts: Parts, store: SharedStore, epoch: int) -> None:
        self._parts, self._store, self._epoch = parts, store, epoch
        self._pipeline = parts.settings.pipeline
        self._source = cast("SharedSource", parts.source)
        self._known: dict[int, Route] = {}
        for record, found in self._recorded().values():
            self._known[record.table_id] = found
            parts.observer.table_state(str(record.source), record.state.value)

    def known(self) -> Mapping[int, Route]:
        """Return the routes in the shapes that the target has, by table id."""
        return _Known(self._known, self._recorded)

    def routes(self) -> list[Route]:
        """Return every table's route."""
        return list(self._known.values())

    def route(self, table: Table) -> Route | None:
        """Apply the rules to a shape."""
        return self._parts.rules.route(table)

    def prepare(self, batch: ChangeBatch, applied: Shares) -> ChangeBatch:
        """Make and alter what the batch's rows need, and return the batch without that. A table that is emptied before
        its first row came is made as well.

        `applied` is the position before it, which stays: altering first is harmless to rows of the older shape, which
        are written by name.

        Raises:
            SchemaStop: the rules say so, or the target's table cannot be altered.
        """
        rest: list[Step] = []
        for step in batch.steps:
            if isinstance(step, SchemaChange):
                self._alter(step, applied)
            else:
                for route in _written(step):
                    if route.source.id not in self._known:
                        self._make(route)
                rest.append(step)
        batch.steps = rest
        return batch

    def behind(self) -> bool:
        """Return whether another instance has altered a table since we joined."""
        there = self._recorded()
        return any(
            number in there and there[number][1].source.version > route.source.version
            for number, route in self._known.items()
        )

    def _recorded(self) -> dict[int, tuple[TableRecord, Route]]:
        """Return the record and the route of each table that the rules do not leave out by now."""
        records = [(record, self._route_of(record)) for record in self._store.tables(self._pipeline).values()]
        found = [(record, route) for record, route in records if route is not None]
        sources = self._source.placed([route.source for _, route in found])
        return {
            record.table_id: (record, replace(route, source=source))
            for (record, route), source in zip(found, sources, strict=True)
        }

    def _make(self, route: Route) -> None:
        with self._store.alone(self._pipeline):
            there = self._store.tables(self._pipeline).get(route.source.id)
            if there is None or there.target != route.target:
                self._parts.target.create(route)
                self._record(route)
                log.info("table is followed", table=str(route.source.name), target=str(route.target))
            else:  # another instance made it meanwhile, maybe from an older shape than we have met
                self._bring_forward(there, route, None)
        self._known[route.source.id] = route
        self._parts.observer.table_state(str(route.source.name), TableState.LIVE.value)
        self._parts.report.tables[str(route.source.name)] = TableState.LIVE.value

    def _alter(self, step: SchemaChange, applied: Shares) -> None:
        new = step.new
        if new.source.id not in self._known:
            self._make(new)
            return
        with self._store.alone(self._pipeline):
            there = self._store.tables(self._pipeline).get(new.source.id)
            self._bring_forward(there, new, step.old, applied)
        self._known[new.source.id] = new

    def _bring_forward(
        self, there: TableRecord | None, new: Route, old: Route | None, applied: Shares | None = None
    ) -> None:
        """Give a table the shape that we have met, if it is older; where nothing tells which is, one that holds both.

        Raises:
            TargetUnavailable: it is newer: what was read has to be read again, as rows of an older shape.
        """
        newest = self._route_of(there) if there is not None else None
        if newest is not None:
            newest = replace(newest, source=self._source.placed([newest.source])[0])
        if newest is not None and newest.source.version > new.source.version:
            raise altered(new)
        if newest is not None and new.source.described:
            new = self._with(newest, new)
        if newest is None or newest.source.version < new.source.version:
            before = newest or old
            if before is not None:
                self._parts.target.apply(ChangeBatch([SchemaChange(before, new)], applied or Shares({}), 0))
            self._record(new)

    def _with(self, newest: Route, new: Route) -> Route:
        """Return the route of a shape that holds what the target has as well, of a table that only its messages tell
        of: another instance may have met another shape of it meanwhile, and counts versions by itself.

        Its version is such that whoever does not know all of that shape is behind.
        """
        columns = joined(newest.source, new.source)
        if all(column in newest.source.columns for column in columns):
            return newest
        if newest.source.version < new.source.version and all(column in new.source.columns for column in columns):
            return new
        return self.route(replace(new.source, columns=columns, version=new.source.version + 1)) or new

    def _record(self, route: Route) -> None:
        record = TableRecord(
            route.source.id, route.source.name, route.target, TableState.LIVE, shape=shapes.to_text(route)
        )
        self._store.put(self._pipeline, self._epoch, [record])

    def _route_of(self, record: TableRecord) -> Route | None:
        """Return the route of a recorded table; None where the rules leave it out by now."""
        try:
            before = shapes.from_text(record.shape)
        except ValueError:
            return None
        ruled = self._parts.rules.route_of_past(before.table)
        if ruled is None or ruled.target != record.target:
            return None
        return replace(shapes.as_before(ruled, before), target=record.target)


class _Known(dict[int, Route]):
    """Routes by table id as they were when we joined; `[]` looks again for a table that was not there. Any thread."""

    def __init__(self, known: Mapping[int, Route], recorded: Callable[[], Mapping[int, tuple[TableRecord, Route]]]):
        super().__init__(known)
        self._recorded = recorded

    def __missing__(self, number: int) -> Route:
        return self._recorded()[number][1]


def _written(step: Step) -> list[Route]:
    """Return where a step writes something."""
    if isinstance(step, Rows):
        return [frame.route for frame in step.frames.values()]
    return list(step.routes) if isinstance(step, Truncate) else []


def altered(route: Route) -> TargetUnavailable:
    """Return the error that has the rows read again, now as those of an older shape."""
    return TargetUnavailable(
        f"another instance altered table {route.target} meanwhile", why="rows are read again as those of an older shape"
    )
