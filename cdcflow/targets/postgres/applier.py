"""Batches into PostgreSQL: rows and position in one transaction, as sets where that is possible, in order where not."""

from __future__ import annotations

import sys
from collections import deque
from enum import IntEnum
from typing import Final

import psycopg

from cdcflow.codecs.copytext_cy import ImageError as CopyImageError
from cdcflow.codecs.net_cy import ImageError as NetImageError
from cdcflow.engines.postgres.connect import safe_url
from cdcflow.engines.postgres.errors import translate
from cdcflow.engines.postgres.names import ident, qualified
from cdcflow.errors import CdcflowError, DecodeError, TargetUnavailable
from cdcflow.model.change import ChangeBatch, Receipt, Rows, SchemaChange, Step, Truncate
from cdcflow.model.frame import RowBatch
from cdcflow.model.position import Position, Shares
from cdcflow.model.route import SOFT_DELETE_COLUMN, OnDelete, OnTruncate, Route
from cdcflow.ops.faults import moment
from cdcflow.ops.logs import get_logger
from cdcflow.targets.postgres import alter, altering, bulk, catalog, rowwise
from cdcflow.targets.postgres.equality import equalities
from cdcflow.targets.postgres.plan import Plan, plan
from cdcflow.targets.postgres.session import Session, Statement
from cdcflow.targets.sql.bookkeeping import ADVANCE, ADVANCE_SHARES, advance_parameters, shares_parameters
from cdcflow.targets.sql.shares import Moves

log = get_logger(__name__)

_ORDER: Final = sys.byteorder

# Up to here a statement a row, in one round trip, is quicker than COPY, which needs several.
SMALL_ROWS: Final = 64
SMALL_BYTES: Final = 1024 * 1024

# pg_lsn arithmetic, so that no text has to be parsed: bytes since the beginning of the log.
_WRITTEN = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_current_wal_flush_lsn() - '0/0'::pg_lsn"


class Way(IntEnum):
    """How a batch is written, from the quickest to the most careful. Each failure of one leads to the next."""

    NETTED = 0  # as sets
    ORDERED = 1  # row by row, pipelined
    CAREFUL = 2  # row by row, looking at each answer


class Applier:
    """The applying half of the PostgreSQL target. One thread.

    Commits are asynchronous (`synchronous_commit=off`): visible at once, durable when the server has flushed its
    log past them, which `flush` asks for. What is not durable is not acknowledged to the source.
    """

    def __init__(self, url: str, pipeline: str, epoch: int) -> None:
        self._url, self._at = url, safe_url(url)
        self._pipeline = pipeline
        self._session: Session | None = None
        self._plans: dict[tuple[int, tuple[str, ...]], tuple[Route, Plan]] = {}
        self._stages = bulk.Stages()
        self._moves: Moves[Statement] = Moves(
            lambda position: (ADVANCE, [*advance_parameters(pipeline, epoch, position)]),
            lambda moved: (ADVANCE_SHARES, [*shares_parameters(pipeline, moved)]),
        )
        self._shared = False  # the source is a bus
        self._number = 0
        self._pieces = False  # a transaction is open that holds pieces written before
        self._waiting: deque[tuple[int, Position]] = deque()  # (end of the commit in the target's log, position)
        self._durable: Position | None = None
        self._last: Position | None = None
        self.repaired = 0

    # -- the port

    def apply(self, batch: ChangeBatch) -> Receipt:
        """See `model.ports.Target.apply`."""
        self._shared = isinstance(batch.end, Shares)
        if self._shared:
            try:
                self._connected().write_beside_others()
            except psycopg.Error as error:
                raise self._failure(error) from None
        way = Way.ORDERED if _is_small(batch) else Way.NETTED
        while True:
            try:
                return self._attempt(batch, way)
            except rowwise.RowMissing:
                self._undo()
                way = Way.CAREFUL
            except psycopg.Error as error:
                if way is Way.CAREFUL or not rowwise.is_about_a_row(error):
                    raise self._failure(error) from None
                if self._pieces and not self._connected().in_transaction:  # a deferred check failed at COMMIT
                    raise self._failure(error) from None
                self._undo()
                way = Way(way + 1)
                log.info("a batch is applied again, more slowly", way=way.name.lower(), sqlstate=error.sqlstate)
            except (NetImageError, CopyImageError) as error:
                self._abandon()
                raise DecodeError(f"a decoded row cannot be written: {error}", at=self._at) from error
            except CdcflowError:
                self._abandon()
                raise

    def heartbeat(self, position: Position) -> Receipt:
        """See `model.ports.Target.heartbeat`."""
        try:
            self._commit([("BEGIN", ()), self._moves.advance(position)], position)
        except psycopg.Error as error:
            raise self._failure(error) from None
        return Receipt(position, durable=False)

    def flush(self, *, force: bool) -> Position | None:
        """See `model.ports.Target.flush`."""
        if not self._waiting or self._pieces:
            return self._durable
        try:
            session = self._connected()
            if force:
                assert self._last is not None
                session.run("BEGIN")
                session.run("SET LOCAL synchronous_commit = on")
                # Shares that have not moved, too: a commit that writes nothing waits for no disk.
                self._moves.forget()
                session.run(*self._moves.advance(self._last))
                session.run("COMMIT")
                self._moves.committed(self._last)
                self._durable = self._last
                self._waiting.clear()
            else:
                result = session.run(_WRITTEN)
                self._settle(int(result.get_value(0, 1) or b"0"))
        except psycopg.Error as error:
            raise self._failure(error) from None
        return self._durable

    def close(self) -> None:
        """Disconnect; what was not committed is rolled back."""
        if self._session is not None:
            self._session.close()
            self._session = None

    # -- one attempt

    def _attempt(self, batch: ChangeBatch, way: Way) -> Receipt:
        session = self._connected()
        if way is Way.ORDERED and not self._pieces and _is_small(batch):
            return self._small(session, batch)
        session.run("SAVEPOINT piece" if self._pieces else "BEGIN")
        for step in batch.steps:
            self._step(session, step, way)
        if not batch.complete:
            if self._pieces:
                session.run("RELEASE SAVEPOINT piece")
            self._pieces = True
            moment("piece written")
            return Receipt(None, durable=False)
        self._commit([self._moves.advance(batch.end)], batch.end)
        self._pieces = False
        return Receipt(batch.end, durable=False)

    def _small(self, session: Session, batch: ChangeBatch) -> Receipt:
        """Write a small batch in one round trip, or in two where an update has to find its row."""
        changes = [
            change for step in batch.steps if isinstance(step, Rows) for change in rowwise.changes(step, self._plan)
        ]
        statements: list[Statement] = [("BEGIN", ())]
        statements += [(change.sql, change.parameters) for change in changes]
        statements.append(self._moves.advance(batch.end))
        if any(change.strict for change in changes):
            results = session.pipeline(statements)
            for change, result in zip(changes, results[1:-1], strict=True):
                if change.strict and not result.command_tuples:
                    raise rowwise.RowMissing
            statements = []
        self._commit(statements, batch.end)
        return Receipt(batch.end, durable=False)

    def _commit(self, before: list[Statement], position: Position) -> None:
        """Run the last statements and COMMIT in one round trip, and learn where the commit is in the log."""
        session = self._connected()
        moment("batch sent")
        results = session.pipeline([*before, ("COMMIT", ()), (_WRITTEN, ())])
        moment("batch committed")
        self._stages.committed()
        self._moves.committed(position)
        written = results[-1]
        self._last = position
        self._waiting.append((int(written.get_value(0, 0) or b"0"), position))
        self._settle(int(written.get_value(0, 1) or b"0"))

    def _settle(self, flushed: int) -> None:
        while self._waiting and self._waiting[0][0] <= flushed:
            _, self._durable = self._waiting.popleft()

    # -- steps

    def _step(self, session: Session, step: Step, way: Way) -> None:
        if isinstance(step, Rows):
            self._rows(session, step, way)
        elif isinstance(step, Truncate):
            self._truncate(session, step)
        elif isinstance(step, SchemaChange):
            self._alter(session, step)

    def _rows(self, session: Session, rows: Rows, way: Way) -> None:
        if way is Way.CAREFUL:
            session.run("SET CONSTRAINTS ALL DEFERRED")
            self.repaired += rowwise.apply_with_care(session, rows, self._plan, at=self._at)
        elif way is Way.ORDERED:
            session.run("SET CONSTRAINTS ALL DEFERRED")
            rowwise.apply_in_order(session, rows, self._plan)
        else:
            for number, frame in rows.frames.items():
                try:
                    bulk.apply_frame(session, self._stages, self._plan(frame), frame)
                except bulk.OrderMatters:
                    alone = Rows({number: frame}, number.to_bytes(4, _ORDER) * len(frame))
                    rowwise.apply_in_order(session, alone, self._plan)

    def _plan(self, frame: RowBatch) -> Plan:
        key = (frame.route.source.id, frame.names)
        known = self._plans.get(key)
        if known is None or known[0] is not frame.route:
            self._number += 1
            session = self._connected()
            table = session.table(frame.route.target)
            equal = equalities(session.connection, table.oid) if table is not None else {}
            made = plan(frame.route, frame.names, table, self._number, equal)
            known = self._plans[key] = (frame.route, made)
        # Rows that the copy may hold can be older than the table's shape; those of a bus are routed by what it is now.
        if self._shared or not frame.idempotent:
            known[1].require_columns()
        return known[1]

    def _truncate(self, session: Session, step: Truncate) -> None:
        routes = [route for route in step.routes if route.on_truncate is OnTruncate.TRUNCATE]
        kept = [route for route in routes if route.on_delete is OnDelete.SOFT]
        for route in kept:
            column = ident(SOFT_DELETE_COLUMN)
            session.run(f"UPDATE {_alone(session, route)} SET {column} = now() WHERE {column} IS NULL")
        emptied = [_alone(session, route) for route in routes if route.on_delete is OnDelete.DELETE]
        if not emptied:
            return
        self._wait_in_line(session)
        restart = " RESTART IDENTITY" if step.restart_identity else ""
        session.run("SAVEPOINT emptying")
        try:
            # CASCADE is spelled out already: the log names every published table that it reached.
            session.run(f"TRUNCATE {', '.join(emptied)}{restart}")
        except psycopg.errors.FeatureNotSupported:  # a table that we do not write refers to one of them
            session.run("ROLLBACK TO SAVEPOINT emptying")
            for name in emptied:
                session.run(f"DELETE FROM {name}")
        session.run("RELEASE SAVEPOINT emptying")

    def _wait_in_line(self, session: Session) -> None:
        """Wait as long as it takes for a lock that shuts out readers: whoever leaves the line lets newer ones in, and
        may never have it."""
        if self._shared:
            session.run("SET LOCAL lock_timeout = 0")

    def _alter(self, session: Session, step: SchemaChange) -> None:
        self._wait_in_line(session)
        old, new = catalog.local(session.connection, step.old, step.new)
        have = catalog.shape(session.connection, new)
        for statement in alter.statements(old, new, have, rows_lag=self._shared):
            log.info("the target table is altered", table=str(step.new.target), statement=statement)
            altering.run(session.run, statement, step.new, self._at)
        self._forget_plans(session)

    def _forget_plans(self, session: Session) -> None:
        for _, each in self._plans.values():
            self._stages.forget(session, each)
        self._plans.clear()
        session.forget_statements()

    # -- failures

    def _connected(self) -> Session:
        if self._session is None:
            try:
                self._session = Session(self._url, f"cdcflow {self._pipeline}")
            except psycopg.Error as error:
                raise translate(error, side="target", at=self._at) from None
            if not self._session.triggers_off:
                log.warning(
                    "the role may not switch triggers and foreign keys off, so they fire in the target",
                    target=self._at,
                )
        return self._session

    def _undo(self) -> None:
        """Go back to before the batch: to the savepoint where earlier pieces of its transaction are written."""
        session = self._connected()
        try:
            session.run("ROLLBACK TO SAVEPOINT piece" if self._pieces else "ROLLBACK")
        except psycopg.Error as error:
            raise self._failure(error) from None
        self._stages.rolled_back()
        self._plans.clear()

    def _abandon(self) -> None:
        """Give the open transaction up; what comes next starts over from the recorded position."""
        if self._session is not None:
            self._session.rollback()
            if not self._session.alive():
                self.close()
        self._pieces = False
        self._plans.clear()
        self._moves.forget()
        self._stages = bulk.Stages()

    def _failure(self, error: psycopg.Error) -> CdcflowError:
        lost = self._session is not None and not self._session.alive()
        self._abandon()
        found = translate(error, side="target", at=self._at)
        if lost and not isinstance(found, TargetUnavailable):
            return TargetUnavailable("the connection to the target was lost", at=self._at, why=found.what)
        return found


def _alone(session: Session, route: Route) -> str:
    table = session.table(route.target)
    return table.alone if table is not None else qualified(route.target)


def _is_small(batch: ChangeBatch) -> bool:
    return (
        batch.complete
        and batch.rows <= SMALL_ROWS
        and batch.nbytes <= SMALL_BYTES
        and all(isinstance(step, Rows) for step in batch.steps)
    )
