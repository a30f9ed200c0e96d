"""The tables of a running pipeline: their records, as the state has them, and their routes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from cdcflow.flow import lifecycle, shapes
from cdcflow.flow.ledger import Ledger
from cdcflow.flow.parts import Parts
from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.ports import Follow
from cdcflow.model.position import Position
from cdcflow.model.route import Route, SchemaChanges
from cdcflow.model.schema import Column, Table
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# Where the target holds rows that a changed rule would have made otherwise.
_COPIED = frozenset({TableState.COPYING, TableState.CATCHING_UP, TableState.LIVE})


class Roster:
    """Every table that the rules name, by its number. Any thread; what is put is in the state when it returns.

    Two threads write: who changes a record does it by `change`, which reads and writes it as one step.

    A route is known in two shapes: `route` is the table as it is at the source now (a copy uses it), and
    `followed` as it was at the checkpoint (the stream's next rows look like that).
    """

    def __init__(self, parts: Parts, epoch: int) -> None:
        self.epoch = epoch
        self.known_before = False  # whether the state remembered any table when this run began
        self.following: frozenset[int] = frozenset()  # the tables in the stream that is open now
        self._parts = parts
        self._pipeline = parts.settings.pipeline
        self._records: dict[int, TableRecord] = {}
        self._routes: dict[int, Route] = {}
        self._met: dict[int, Route] = {}  # the shapes that the open stream met last
        self._started_over: set[tuple[int, str]] = set()
        self._beginning: set[int] = set()
        self.publishing = threading.Lock()  # held while the source is told what the log has to carry
        self._lock = threading.RLock()

    def load(self, records: dict[int, TableRecord], routes: Iterable[Route]) -> None:
        """Compare what is remembered with what the rules say now, and remember the difference."""
        with self._lock:
            self._records = dict(records)
            self._routes = {}
            self.known_before = bool(records)
            for route in routes:
                self.admit(route)
            gone = [table_id for table_id in self._records if table_id not in self._routes]
            self.drop(gone)
            for record in [each for each in self._records.values() if each.state in _COPIED]:
                if self._redirected(record.table_id):
                    log.warning("the rules for a table changed, it is copied again", table=str(record.source))
                    self.put(lifecycle.again(record))
            for record in self._records.values():
                self._tell(record)

    def admit(self, route: Route) -> TableRecord:
        """Take a table in, as pending if it is new or goes somewhere else now."""
        table = route.source
        with self._lock:
            self._routes[table.id] = route
            record = self._records.get(table.id)
            # A table renamed at the source goes elsewhere too; the stream sees that at its place in the log.
            if record is None or (record.target != route.target and self.followed(table.id).target != record.target):
                record = TableRecord(table.id, table.name, route.target, TableState.PENDING)
                self.put(record)
            return record

    def refresh(self, routes: Iterable[Route]) -> list[Route]:
        """Take the present shape of known tables; return the routes of those that are new."""
        fresh = []
        with self._lock:
            for route in routes:
                if route.source.id in self._records:
                    self._routes[route.source.id] = route
                else:
                    fresh.append(route)
        return fresh

    def put(self, *records: TableRecord) -> None:
        """Write records to the state, then hold them. Raises Fenced, TargetUnavailable."""
        with self._lock:
            self._parts.store.put(self._pipeline, self.epoch, records)
            for record in records:
                before = self._records.get(record.table_id)
                self._records[record.table_id] = record
                if before is None or before.state is not record.state:
                    self._tell(record)

    def change(self, table_id: int, how: Callable[[TableRecord], TableRecord | None]) -> TableRecord | None:
        """Replace a table's record by what `how` makes of it; None from `how`, or no such table, changes nothing.

        Returns the new record, None where nothing was changed. Raises as `put`.
        """
        with self._lock:
            record = self._records.get(table_id)
            changed = None if record is None else how(record)
            if changed is not None:
                self.put(changed)
            return changed

    def drop(self, table_ids: Sequence[int]) -> None:
        """Forget tables that are no longer at the source or in the rules. The target keeps its copy."""
        with self._lock:
            if not table_ids:
                return
            self._parts.store.drop(self._pipeline, self.epoch, table_ids)
            for table_id in table_ids:
                self._routes.pop(table_id, None)
                record = self._records.pop(table_id, None)
                if record is not None:
                    log.info("table is no longer replicated", table=str(record.source))
                    self._parts.observer.table_state(str(record.source), "dropped")

    def record(self, table_id: int) -> TableRecord:
        with self._lock:
            return self._records[table_id]

    def records(self) -> list[TableRecord]:
        with self._lock:
            return list(self._records.values())

    def ids(self, *states: TableState) -> list[int]:
        """Return the tables in one of `states`, the largest first."""
        with self._lock:
            found = [table_id for table_id, record in self._records.items() if record.state in states]
            return sorted(found, key=lambda table_id: -self._routes[table_id].source.bytes)

    def __contains__(self, table_id: object) -> bool:
        return table_id in self._records

    def route(self, table_id: int) -> Route:
        """Return the table's route in its present shape."""
        with self._lock:
            return self._routes[table_id]

    def routes(self, table_ids: Iterable[int]) -> list[Route]:
        """Return the tables' routes; a table that is gone by now has none."""
        with self._lock:
            return [self._routes[table_id] for table_id in table_ids if table_id in self._routes]

    def captured(self) -> list[Route]:
        """Return the routes of the tables whose changes the log has to carry."""
        with self._lock:
            wanted = self.ids(TableState.COPYING, TableState.CATCHING_UP, TableState.LIVE)
            return self.routes({*wanted, *self._beginning})

    def begin(self, table_ids: Iterable[int]) -> None:
        """From now on the log has to carry these tables, though their records do not say yet that they are copied."""
        with self._lock:
            self._beginning.update(table_ids)

    def begun(self, table_ids: Iterable[int]) -> None:
        """Their records say it now, or they are not copied after all."""
        with self._lock:
            self._beginning.difference_update(table_ids)

    def follows(self, checkpoint: Position) -> dict[int, Follow]:
        """Say how a stream that is opened at `checkpoint` treats each table."""
        parse = self._parts.source.parse
        history = self._parts.store.history(self._pipeline)
        with self._lock:
            found = {
                table_id: lifecycle.follow(
                    record, self._streamed(record, checkpoint, history.get(table_id, ())), checkpoint, parse
                )
                for table_id, record in self._records.items()
            }
            follows = {table_id: follow for table_id, follow in found.items() if follow is not None}
            self.following = frozenset(follows)
            self._met = {table_id: follow.route for table_id, follow in follows.items()}
        return follows

    def hold(self, ledger: Ledger, checkpoint: Position) -> None:
        """Tell the ledger from where on each table still needs the log.

        A pending table is left as it is: the keeper may hold the log for it already, ahead of the record that says
        so. Under the lock, or a record could be read before the keeper's hold and acted upon behind it.
        """
        parse = self._parts.source.parse
        with self._lock:
            for record in self._records.values():
                needed = lifecycle.hold(record, checkpoint, parse)
                if needed is not None:
                    ledger.hold(record.table_id, needed)
                elif record.state is not TableState.PENDING:
                    ledger.let_go(record.table_id)

    def unfollow(self) -> None:
        """Note that no stream is open."""
        with self._lock:
            self.following = frozenset()

    def followed(self, table_id: int) -> Route:
        """Return the table's route in the shape that the rows behind the checkpoint have, which is the target's."""
        return self._in_shape(table_id, self._remembered(table_id))

    def _streamed(self, record: TableRecord, checkpoint: Position, history: Iterable[tuple[str, str]]) -> Route:
        """Return the table's route in the shape of the first row that a stream brings of it.

        The record knows the shape that was applied last. That may be one too old, where a run ended between a
        commit and the record of it, or too new, where the stream goes back to the beginning of the copy.
        """
        parse = self._parts.source.parse
        caught_up = lifecycle.caught_up(record, checkpoint, parse)
        if not caught_up and record.state is not TableState.CATCHING_UP:
            return self.route(record.table_id)
        start = checkpoint if caught_up else parse(record.copied_from)
        shape = record.shape
        for position, text in history:
            if start.covers(parse(position)):
                shape = text
        return self._in_shape(record.table_id, self._read(record, shape))

    def _in_shape(self, table_id: int, before: shapes.Remembered | None) -> Route:
        now = self.route(table_id)
        if before is None:
            return now
        then = before.table
        same = (then.columns, then.key, then.name) == (now.source.columns, now.source.key, now.source.name)
        return shapes.as_before(now if same else self._parts.rules.route_of_past(then) or now, before)

    def _remembered(self, table_id: int) -> shapes.Remembered | None:
        record = self.record(table_id)
        return self._read(record, record.shape)

    def _read(self, record: TableRecord, shape: str) -> shapes.Remembered | None:
        if not shape:
            return None
        try:
            return shapes.from_text(shape)
        except ValueError:
            log.warning("recorded shape cannot be read", table=str(record.source))
            return None

    def _redirected(self, table_id: int) -> bool:
        """Whether the rules make something else of the table than what the target holds."""
        before = self._remembered(table_id)
        if before is None or before.routed is None:
            return False
        route = self._parts.rules.route_of_past(before.table)
        return route is not None and shapes.routed(route) != before.routed

    def reroute(self, table: Table) -> Route | None:
        """Apply the rules to a new shape that the stream met (`Router`)."""
        route = self._parts.rules.route(table)
        if route is None or route.schema_changes is not SchemaChanges.IGNORE or table.id not in self:
            return route
        with self._lock:
            # Not the first shape of all: a column that was dropped may have left its number to one that came later.
            kept = keep_columns(route, self._met.get(table.id) or self.followed(table.id))
            self._met[table.id] = kept
        return kept

    def start_over(self, table_id: int, cause: str) -> bool:
        """Send a table back whose copy, or replay, failed; return False where this run did so before, for the same
        cause, and it did not help."""
        with self._lock:
            if (table_id, cause) in self._started_over or table_id not in self._records:
                return False
            self._started_over.add((table_id, cause))
            self.put(lifecycle.again(self._records[table_id]))
            return True

    def same_shape(self, table_id: int) -> bool:
        """Whether a table is still as it was when its copy began."""
        before = self._remembered(table_id)
        if before is None:
            return False
        then, now = before.table, self.route(table_id).source
        return (then.columns, then.key, then.name) == (now.columns, now.key, now.name)

    def remember(self, table_id: int, position: str, shape: str) -> None:
        """Write down a shape that holds from `position` on, before any row of it is applied."""
        self._parts.store.remember(self._pipeline, self.epoch, table_id, position, shape)

    def replaced(self, route: Route, why: str) -> None:
        """Send a table back whose rows became others without an event that said so."""
        if self.change(route.source.id, lifecycle.again) is not None:
            log.warning("table has to be copied again", table=str(route.source.name), why=why)

    def reshaped(self, old: Route, new: Route) -> None:
        """Remember a shape that was applied."""
        with self._lock:
            record = self._records.get(new.source.id)
            if record is None:
                return
            self._routes[new.source.id] = new
            if new.schema_changes is SchemaChanges.IGNORE:
                return
            record = replace(record, source=new.source.name, target=new.target, shape=shapes.to_text(new))
            if columns := shapes.entered(old, new):
                said = "a column came in by its new name, its table is copied again"
                log.warning(said, table=str(new.source.name), column=columns[0])
                record = lifecycle.again(record)
            self.put(record)

    def _tell(self, record: TableRecord) -> None:
        self._parts.observer.table_state(str(record.source), record.state.value, record.reason)


def keep_columns(route: Route, known: Route) -> Route:
    """Narrow a route to the columns that were known before, under the names that they had in the target."""
    # Where a source gives its columns no numbers, the log's first change does: in the order that they had before it.
    numbers = {column.name: column.number or place for place, column in enumerate(known.source.columns, 1)}
    by_number = {numbers[column.name]: target for column, target in known.columns}
    by_name = {column.name: target for column, target in known.columns}

    def target_of(column: Column) -> str | None:
        return by_number.get(column.number) if column.number else by_name.get(column.name)

    kept = tuple((column, target) for column, _ in route.columns if (target := target_of(column)) is not None)
    return replace(route, columns=kept)
