"""The tables that a stream follows: in which shape, from where in the log on, and what statements make of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cdcflow.codecs.binlog_cy import Decoder
from cdcflow.engines.mysql.names import table_id
from cdcflow.errors import TableRefused
from cdcflow.model.change import Recopy, Rows, Step
from cdcflow.model.check import Finding, Level
from cdcflow.model.frame import RowBatch
from cdcflow.model.ports import Follow, Router
from cdcflow.model.route import Route
from cdcflow.model.schema import ForeignKey, Table
from cdcflow.ops.logs import get_logger
from cdcflow.sources.mysql import logevents, tablemap
from cdcflow.sources.mysql.ddl_intents import AddForeignKey, Change
from cdcflow.sources.mysql.reach import Reach
from cdcflow.sources.mysql.shapes import Shapes
from cdcflow.sources.mysql.statements import Altered, TableChange

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is asked of a table that changes.

    router: how its rows go out. cascades: what `check` says of a table that has these foreign keys. given_up: told of
    each table that is to be looked at anew before it is copied again. typed_documents: see `model.context.Context`.
    """

    router: Router
    cascades: Callable[[Table, Route], list[Finding]]
    given_up: Callable[[int], None]
    typed_documents: bool = False


class Followed:
    """The tables by their ids, and the frames that their rows are decoded into."""

    def __init__(
        self, tables: Mapping[int, Follow], rules: Rules, shapes: Shapes, decoder: Decoder, reach: Reach, at: str
    ) -> None:
        self.tables = dict(tables)
        self._rules, self._shapes, self._decoder, self._reach, self._at = rules, shapes, decoder, reach, at
        self._frames: dict[int, tuple[Route, tuple[str, ...]]] = {}
        # Each table's frame, and up to where it passes rows over.
        self._latest: dict[int, tuple[Follow, tuple[str, ...], int, object]] = {}

    def define(self, found: tablemap.TableMap, body: bytes, *, xa: bool) -> Recopy | None:
        """Say what becomes of the rows of a table that is met anew.

        Returns:
            The step that gives the table up, where its rows cannot be read with the shape that we know; they are
            passed over then. In an XA transaction it counts when that has ended (`due`).
        """
        follow = self.tables.get(table_id(found.name))
        if follow is None:
            self._decoder.define(found.number, body, None, None, 0)
            return None
        skip = self._skip(follow)
        if skip > self._decoder.serial() and not xa:
            # Rows that the copy has. Their table may have had another shape than the one we know.
            self._decoder.define(found.number, body, None, None, skip)
            return None
        typed = self._rules.typed_documents
        shaped = tablemap.shape(found, follow.route, self._shapes.charsets, typed_documents=typed)
        if isinstance(shaped, str):
            if xa:  # nobody may want them, or it, and what stands behind them may have the shape that we know
                self._decoder.define(found.number, body, None, None, self._decoder.serial() + 1)
            else:
                self._decoder.define(found.number, body, None, None, 0)
                self._give_up(follow.route.source.id)
            return Recopy(follow.route, shaped)
        row_shape, names = shaped
        row_shape.lean = bool(follow.route.key)
        latest = self._latest.get(follow.route.source.id)
        if latest is None or latest[0] is not follow or latest[1:3] != (names, skip):
            number, frame = self._decoder.frame(len(names), skip, self._reach.serial(follow.idempotent_until))
            self._frames[number] = (follow.route, names)
            self._latest[follow.route.source.id] = follow, names, skip, frame
        else:  # the server gives the same table another number whenever it opens it anew
            *_, frame = latest
        self._decoder.define(found.number, body, frame, row_shape, 0)
        return None

    def rows(self, frames: list[tuple[int, bytes, bytes, bytes, bytes, bytes, bool]], order: bytes) -> Rows:
        """Return what the decoder took of its frames."""
        found: dict[int, RowBatch] = {}
        for number, ops, after, after_sizes, before, before_sizes, idempotent in frames:
            route, names = self._frames[number]
            found[number] = RowBatch(route, names, ops, after, after_sizes, before, before_sizes, bool(idempotent))
        return Rows(found, order)

    def due_now(self) -> dict[int, Follow]:
        """Return the tables whose copy was not made behind the open transaction."""
        serial = self._decoder.serial()
        return {each: follow for each, follow in self.tables.items() if self._skip(follow) <= serial}

    def _skip(self, follow: Follow) -> int:
        """Return up to where a table's rows are passed over: what stands before the start may be read again."""
        return max(self._reach.serial(follow.skip_until), self._reach.start)

    def due(self, steps: Iterable[Step], serial: int) -> list[Step]:
        """Return the steps of an XA transaction without those for tables whose copy was made behind its end at
        `serial`; none where that stands before the start. Tables that they give up are given up."""
        found: list[Step] = []
        for step in steps:
            if isinstance(step, Rows):
                rows = self._due(step, serial)
                if rows.frames:
                    found.append(rows)
            elif isinstance(step, Recopy):
                follow = self.tables.get(step.route.source.id)
                if follow is not None and self._skip(follow) <= serial:
                    self._give_up(step.route.source.id)
                    self._decoder.forget()
                    found.append(step)
        return found

    def _due(self, rows: Rows, serial: int) -> Rows:
        kept: dict[int, RowBatch] = {}
        for number, frame in rows.frames.items():
            follow = self.tables.get(frame.route.source.id)
            if follow is not None and self._skip(follow) <= serial:
                frame.idempotent = self._reach.serial(follow.idempotent_until) > serial
                kept[number] = frame
        order = memoryview(rows.order).cast("I")
        return Rows(kept, array("I", [number for number in order if number in kept]).tobytes())

    def change(self, changes: list[TableChange], session: logevents.Session) -> list[Step]:
        """Return what a statement does to the tables, as steps. From here on they have the shape that it makes.

        Raises:
            TableRefused: a foreign key was added that changes rows without a word in the log.
        """
        steps: list[Step] = []
        serial = self._decoder.serial()
        for change in changes:
            ids = list(self.tables) if change.name is None else [table_id(change.name)]
            for each in ids:
                follow = self.tables.get(each)
                if follow is None or self._skip(follow) > serial:
                    continue  # gone by now, or the copy was made of what the statement made
                step, route = self._shapes.step(follow.route, change, self._rules.router, session)
                if isinstance(change, Altered):
                    step = self._constrained(route, change.changes) or step
                if isinstance(step, Recopy):
                    self._give_up(each)
                elif route is not follow.route:
                    self.tables[each] = Follow(route, follow.skip_until, follow.idempotent_until)
                if step is not None:
                    steps.append(step)
        return steps

    def _give_up(self, table: int) -> None:
        self._rules.given_up(table)
        del self.tables[table]

    def _constrained(self, route: Route, changes: Sequence[Change]) -> Recopy | None:
        """Treat foreign keys that were added as the start does, which finds them in the catalogue.

        Raises TableRefused for one that changes rows without a word in the log. Where it is gone by now, so may be
        what it has changed: the table is copied again.
        """
        name = route.source.name
        added = tuple(
            ForeignKey("-", (), name, (), f" ON DELETE {key.on_delete} ON UPDATE {key.on_update}")
            for key in changes
            if isinstance(key, AddForeignKey)
        )
        said = self._rules.cascades(replace(route.source, foreign_keys=added), route) if added else []
        if not said:
            return None
        now = self._shapes.now(name)
        found = self._rules.cascades(now, route) if now is not None else []
        for finding in found:
            if finding.level is Level.BLOCKER:
                what = f"table {name} cannot be captured as it is"
                raise TableRefused(what, at=self._at, why=f"{name}: {finding.found}", do=finding.do)
            log.warning(finding.found, table=str(name), do=finding.do)
        if said[0].level is not Level.BLOCKER:
            return None
        return Recopy(route, "a foreign key may have changed its rows without a word in the log")
