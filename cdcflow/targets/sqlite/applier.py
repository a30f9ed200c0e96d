"""Batches into the file: rows and position in one transaction, durable when it is committed."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

from cdcflow.codecs.copytext_cy import ImageError
from cdcflow.codecs.sqliterows_cy import RowError
from cdcflow.engines.sqlite.errors import is_about_a_row, translate
from cdcflow.errors import DecodeError
from cdcflow.model.change import ChangeBatch, Receipt, Rows, SchemaChange, Step, Truncate
from cdcflow.model.frame import RowBatch
from cdcflow.model.position import Position, Shares
from cdcflow.model.route import OnTruncate, Route
from cdcflow.ops.faults import moment
from cdcflow.ops.logs import get_logger
from cdcflow.targets.sql.shares import Moves
from cdcflow.targets.sqlite import alter, catalog
from cdcflow.targets.sqlite.names import table_of
from cdcflow.targets.sqlite.plan import Plan, plan
from cdcflow.targets.sqlite.rows import Writer
from cdcflow.targets.sqlite.session import Session

log = get_logger(__name__)


class Applier:
    """The applying half of the SQLite target. One thread."""

    def __init__(self, path: Path, pipeline: str, epoch: int) -> None:
        self._at = str(path)
        self._pipeline = pipeline
        self._session = Session(path)
        self._plans: dict[tuple[int, tuple[str, ...]], tuple[Route, Plan]] = {}
        self._durable: Position | None = None
        self._moves = Moves(
            partial(self._session.advance, pipeline, epoch), partial(self._session.advance_shares, pipeline)
        )
        self._shared = False  # the source is a bus
        self.repaired = 0

    def apply(self, batch: ChangeBatch) -> Receipt:
        """See `model.ports.Target.apply`."""
        self._shared = isinstance(batch.end, Shares)
        try:
            try:
                return self._attempt(batch, careful=False)
            except sqlite3.Error as error:
                if not is_about_a_row(error) or not self._session.open:
                    raise
                self._session.connection.execute("ROLLBACK TO piece")
                self._session.connection.execute("RELEASE piece")
                self._plans.clear()
                log.info("a batch is applied again, row by row", why=type(error).__name__)
                return self._attempt(batch, careful=True)
        except sqlite3.Error as error:
            self.rollback()
            raise translate(error, at=self._at) from None
        except (RowError, ImageError) as error:
            self.rollback()
            raise DecodeError(f"a decoded row cannot be written: {error}", at=self._at) from error
        except BaseException:
            self.rollback()
            raise

    def heartbeat(self, position: Position) -> Receipt:
        """See `model.ports.Target.heartbeat`."""
        with self._session.transaction():
            self._moves.advance(position)
        self._moves.committed(position)
        self._durable = position
        return Receipt(position, durable=True)

    def flush(self) -> Position | None:
        """See `model.ports.Target.flush`: every commit waits for the disk."""
        return self._durable

    def rollback(self) -> None:
        """Give the open transaction up; what comes next starts over from the recorded position."""
        self._session.rollback()
        self._plans.clear()
        self._moves.forget()

    def close(self) -> None:
        """Close the file; what was not committed is rolled back."""
        self._session.close()

    def _attempt(self, batch: ChangeBatch, *, careful: bool) -> Receipt:
        session = self._session
        if not session.open:
            session.begin()
        session.connection.execute("SAVEPOINT piece")
        writer = Writer(session.connection, self._at, careful)
        for step in batch.steps:
            self._step(writer, step)
        self.repaired += writer.repaired
        if writer.repaired:
            log.warning("rows that the source changed were missing in the file and were inserted", rows=writer.repaired)
        if not batch.complete:
            session.connection.execute("RELEASE piece")
            moment("piece written")
            return Receipt(None, durable=False)
        self._moves.advance(batch.end)
        moment("batch sent")
        session.commit()
        moment("batch committed")
        self._moves.committed(batch.end)
        self._durable = batch.end
        return Receipt(batch.end, durable=True)

    def _step(self, writer: Writer, step: Step) -> None:
        if isinstance(step, Rows):
            # One table's rows do not concern another's: nothing here looks across tables.
            for frame in step.frames.values():
                writer.frame(self._plan(frame), frame)
        elif isinstance(step, Truncate):
            self._truncate(step)
        elif isinstance(step, SchemaChange):
            alter.follow(self._session.connection, step.old, step.new, self._pipeline)
            self._plans.clear()

    def _plan(self, frame: RowBatch) -> Plan:
        key = (frame.route.source.id, frame.names)
        known = self._plans.get(key)
        if known is None or known[0] is not frame.route:
            table = catalog.table(self._session.connection, table_of(frame.route))
            known = self._plans[key] = (frame.route, plan(frame.route, frame.names, table))
        # Rows that the copy may hold can be older than the table's shape; those of a bus are routed by what it is now.
        if self._shared or not frame.idempotent:
            known[1].require_columns()
        return known[1]

    def _truncate(self, step: Truncate) -> None:
        for route in step.routes:
            if route.on_truncate is not OnTruncate.TRUNCATE:
                continue
            table = catalog.table(self._session.connection, table_of(route))
            if table is None:
                continue
            statement = plan(route, route.source.column_names, table).truncate()
            if statement is not None:
                self._session.connection.execute(statement)
