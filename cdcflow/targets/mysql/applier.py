"""Batches into MySQL: rows and position in one InnoDB transaction, as sets where that is possible, in order where not.

DDL commits in MySQL. What stands before it in a batch is therefore committed first, together with the record of how
much of the batch that was (`bookkeeping.set_partial`); the position moves with the end of the batch, as ever. After a
crash in between, the batch comes again and what is in the target is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Final

import pymysql

from cdcflow.codecs.copytext_cy import ImageError as CopyImageError
from cdcflow.codecs.mysqlliterals import ImageError as CellError
from cdcflow.codecs.net_cy import ImageError as NetImageError
from cdcflow.engines.mysql.connect import safe_url
from cdcflow.engines.mysql.errors import fenced, translate
from cdcflow.engines.mysql.locks import writer_name
from cdcflow.engines.mysql.names import literal
from cdcflow.errors import CdcflowError, DecodeError, TargetUnavailable
from cdcflow.model.change import ChangeBatch, Receipt, Rows, SchemaChange, Step, Truncate
from cdcflow.model.frame import RowBatch
from cdcflow.model.position import Position, Shares
from cdcflow.model.route import Route
from cdcflow.ops.faults import moment
from cdcflow.ops.logs import get_logger
from cdcflow.targets.mysql import barriers, bookkeeping, bulk, catalog, partial, rowwise
from cdcflow.targets.mysql.commits import Commits
from cdcflow.targets.mysql.plan import Plan, plan
from cdcflow.targets.mysql.session import Done, Session
from cdcflow.targets.sql.shares import Moves

log = get_logger(__name__)

_ORDER: Final = sys.byteorder

# Up to here a statement a row, in one round trip, is quicker than LOAD DATA, which needs several.
SMALL_ROWS: Final = 64
SMALL_BYTES: Final = 1024 * 1024

# Deadlock, lock wait timeout: nothing is wrong with the rows, and the same batch is written again at once.
_AGAIN: Final = (1213, 1205)
_ATTEMPTS: Final = 3


class Way(IntEnum):
    """How a batch is written, from the quickest to the most careful. Each failure of one leads to the next."""

    NETTED = 0  # as sets
    ORDERED = 1  # row by row, many to a round trip
    CAREFUL = 2  # row by row, looking at each answer


class Applier:
    """The applying half of the MySQL target. One thread."""

    def __init__(self, url: str, pipeline: str, epoch: int) -> None:
        self._url, self._at = url, safe_url(url)
        self._pipeline, self._epoch = pipeline, epoch
        self._session: Session | None = None
        self._plans: dict[tuple[int, tuple[str, ...]], tuple[Route, Plan]] = {}
        self._stages = bulk.Stages()
        self._number = 0
        self._pieces = False  # a transaction is open that holds pieces written before
        self._written: dict[int, int] = {}  # changes of each table behind the recorded position, written by now
        self._done: dict[int, int] | None = None  # those that an attempt before committed; None before it is known
        self._partial = False  # there is a record of a part
        self._moves = Moves(
            lambda position: bookkeeping.advance(pipeline, epoch, position).encode(),
            lambda moved: bookkeeping.advance_shares(pipeline, moved).encode(),
        )
        self._shared = False  # the source is a bus
        self._commits = Commits()
        self.repaired = 0

    # -- the port

    def apply(self, batch: ChangeBatch) -> Receipt:
        """See `model.ports.Target.apply`."""
        self._shared = isinstance(batch.end, Shares)
        try:
            return self._apply(batch)
        except (pymysql.Error, OSError) as error:
            raise self._failure(error) from None
        except (NetImageError, CopyImageError, CellError) as error:
            self._abandon()
            raise DecodeError(f"a decoded row cannot be written: {error}", at=self._at) from error
        except BaseException:
            self._abandon()
            raise

    def heartbeat(self, position: Position) -> Receipt:
        """See `model.ports.Target.heartbeat`."""
        try:
            session = self._connected()
            self._know(session)
            session.begin()
            if self._partial:  # nothing between the two positions is for us, so what is left out stays the same
                assert self._done is not None
                session.run(bookkeeping.set_partial(self._pipeline, str(position), self._done))
            self._end(session, [self._moves.advance(position)], position)
        except (pymysql.Error, OSError) as error:
            raise self._failure(error) from None
        except BaseException:
            self._abandon()
            raise
        return self._commits.add(session, position)

    def flush(self, *, force: bool) -> Position | None:
        """See `model.ports.Target.flush`."""
        if force and not self._pieces:
            try:
                self._commits.sync(self._connected)
            except (pymysql.Error, OSError) as error:
                raise self._failure(error) from None
        return self._commits.durable()

    def forget(self, table: int) -> None:
        """Leave nothing of a table out any more, in no later batch either: its copy starts over. Any thread."""
        for counts in (self._done, self._written):
            if counts and table in counts:
                counts[table] = 0  # whoever goes through them meanwhile finds as many

    def close(self) -> None:
        """Disconnect; what was not committed is rolled back."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._done = None
        self._stages = bulk.Stages()
        self._plans.clear()

    # -- a batch

    def _apply(self, batch: ChangeBatch) -> Receipt:
        session = self._connected()
        self._know(session)
        assert self._done is not None
        steps = partial.left(batch.steps, self._done) if any(self._done.values()) else batch.steps
        run: list[Step] = []
        for step in steps:
            # TRUNCATE commits before it shows whether shares are still ours: others may have gone on behind it by now.
            if (self._shared and isinstance(step, Truncate)) or not barriers.is_one(session, step):
                run.append(step)
                continue
            # Also where nothing stands before it: DDL itself does not look whether the lease is still ours.
            self._write(session, run, batch, self._commit_part)
            run = []
            if isinstance(step, SchemaChange):
                self._stages.forget(session)
                self._plans.clear()
            barriers.pass_one(session, step, self._pipeline, self._at)
            partial.count([step], self._written)
        if not batch.complete:
            self._write(session, run, batch, None)
            moment("piece written")
            return Receipt(None, durable=False)

        remaining = {table: count for table, count in self._done.items() if count}
        last: list[bytes] = []
        if self._partial and remaining:  # the batch was shorter than the one whose part was committed
            last.append(bookkeeping.set_partial(self._pipeline, str(batch.end), remaining).encode())
        elif self._partial:
            last.append(bookkeeping.forget_partial(self._pipeline).encode())
        last.append(self._moves.advance(batch.end))
        self._write(session, run, batch, lambda: self._end(session, last, batch.end), last)
        self._partial = bool(remaining)
        self._written = dict(remaining)
        return self._commits.add(session, batch.end)

    def _end(self, session: Session, last: list[bytes], position: Position) -> None:
        self._ended(session, session.many(last), position)

    def _ended(self, session: Session, done: list[Done], position: Position) -> None:
        """Commit, unless the last statement, which moves the position, found another epoch than ours."""
        moved = self._moves.of(position)
        if done[-1].affected != (1 if moved is None else len(moved)):
            raise self._fenced(session)
        session.commit()
        self._moves.committed(position)

    def _write(
        self,
        session: Session,
        steps: list[Step],
        batch: ChangeBatch,
        end: Callable[[], None] | None,
        last: list[bytes] | None = None,
    ) -> None:
        """Write steps that hold no barrier, in the quickest way that they can be written, and end the transaction.

        `last` are the statements that `end` runs before it commits, where they may stand beside the rows' own.
        """
        small = _is_small(batch)
        way = Way.ORDERED if small else Way.NETTED
        attempts = 0
        counted = dict(self._written)
        while True:
            try:
                self._prepare(session, steps, way)
                partial.count(steps, self._written)
                if small and last and way is Way.ORDERED and not self._pieces:
                    self._small(session, steps, last, batch.end)
                else:
                    self._attempt(session, steps, way, end)
                return
            except (rowwise.RowMissing, rowwise.Doubtful):
                way = Way.CAREFUL
            except pymysql.Error as error:
                if not session.alive():
                    raise
                if (error.args[:1] or (0,))[0] in _AGAIN and attempts < _ATTEMPTS and not self._pieces:
                    attempts += 1
                elif way is Way.CAREFUL or not rowwise.is_about_a_row(error):
                    raise
                else:
                    way = Way(way + 1)
                    log.info("a batch is applied again, more slowly", way=way.name.lower(), error=error.args[0])
            except CellError:
                if way is Way.CAREFUL:
                    raise
                way = Way.CAREFUL
                if not session.alive():
                    raise
            self._written = dict(counted)
            self._undo(session)

    def _attempt(self, session: Session, steps: list[Step], way: Way, end: Callable[[], None] | None) -> None:
        if self._pieces:
            session.run("SAVEPOINT piece")
        else:
            session.begin()
        for step in steps:
            if isinstance(step, Rows):
                self._rows(session, step, way)
            elif isinstance(step, Truncate):
                barriers.delete_all(session, step)
        if end is None:
            self._pieces = True
        else:
            moment("batch sent")
            end()
            moment("batch committed")
            self._pieces = False
            self._stages.ended(session)

    def _small(self, session: Session, steps: list[Step], last: list[bytes], position: Position) -> None:
        """Write a small batch in two round trips: its rows and the position, and COMMIT."""
        changes = [change for step in steps if isinstance(step, Rows) for change in rowwise.changes(step, self._plan)]
        session.in_transaction = True
        done = rowwise.send(session, changes, [b"BEGIN"], last)
        moment("batch sent")
        self._ended(session, done, position)
        moment("batch committed")

    def _prepare(self, session: Session, steps: list[Step], way: Way) -> None:
        """Make plans, and the staging tables that they may need, ahead of the transaction."""
        if self._pieces:
            return
        for step in steps:
            if isinstance(step, Rows):
                for frame in step.frames.values():
                    made = self._plan(frame)
                    if way is Way.NETTED and made.key and not made.append_only:
                        self._stages.make(session, made)

    def _rows(self, session: Session, rows: Rows, way: Way) -> None:
        if way is Way.CAREFUL:
            self.repaired += rowwise.apply_with_care(session, rows, self._plan, at=self._at)
        elif way is Way.ORDERED:
            rowwise.apply_in_order(session, rows, self._plan)
        else:
            for number, frame in rows.frames.items():
                try:
                    bulk.apply_frame(session, self._stages, self._settled(session, frame), frame)
                except bulk.OrderMatters:
                    alone = Rows({number: frame}, number.to_bytes(4, _ORDER) * len(frame))
                    rowwise.apply_in_order(session, alone, self._plan)

    def _plan(self, frame: RowBatch) -> Plan:
        key = (frame.route.source.id, frame.names)
        known = self._plans.get(key)
        if known is None or known[0] is not frame.route:
            self._number += 1
            session = self._connected()
            outline = catalog.outline(session, frame.route.target)
            table = catalog.table(session, frame.route.target)
            mariadb = session.flavour.engine == "mariadb"
            made = plan(frame.route, frame.names, table, self._number, mariadb=mariadb, outline=outline)
            known = self._plans[key] = (frame.route, made)
        # Rows that the copy may hold can be older than the table's shape; those of a bus are routed by what it is now.
        if self._shared or not frame.idempotent:
            known[1].require_columns()
        return known[1]

    def _settled(self, session: Session, frame: RowBatch) -> Plan:
        made = self._plan(frame)
        if not bulk.may_replace(made, frame):
            return made
        found = bulk.settled(session, made)
        if found is not made:
            del self._plans[frame.route.source.id, frame.names]
        return found

    # -- what commits

    def _commit_part(self) -> None:
        """Commit what stands before DDL, if anything does, with the record of how much that is."""
        session = self._connected()
        rows = session.query(bookkeeping.lock(self._pipeline, self._epoch))
        if not rows:
            raise self._fenced(session)
        counted = self._partial or any(self._written.values())
        if counted:
            session.run(bookkeeping.set_partial(self._pipeline, str(rows[0][0]), self._written))
        session.commit()
        self._partial = counted

    def _fenced(self, session: Session) -> CdcflowError:
        session.rollback()
        return fenced(self._at, f"the lease of pipeline {self._pipeline} has another epoch than {self._epoch}")

    # -- failures

    def _connected(self) -> Session:
        if self._session is None:
            session = Session(self._url, f"cdcflow {self._pipeline}")
            # By this lock the next instance finds the session, should it be left behind in a transaction.
            session.query(f"SELECT GET_LOCK({literal(writer_name(self._pipeline))}, 0)")
            self._session = session
            self._done = None
        return self._session

    def _know(self, session: Session) -> None:
        """Read what an earlier attempt committed of the batch behind the recorded position."""
        if self._done is not None:
            return
        self._done, self._partial = {}, False
        self._written.clear()
        session.define(bookkeeping.MAKE_PARTIAL)
        position = session.query(bookkeeping.recorded(self._pipeline))
        part = session.query(bookkeeping.get_partial(self._pipeline))
        if part and position and str(part[0][0]) == str(position[0][0]):
            self._done = bookkeeping.read_changes(str(part[0][1]))
            self._written = dict(self._done)
            self._partial = True
        elif part:
            self._partial = True  # of another time; goes with the next batch
            self._done = {}

    def _undo(self, session: Session) -> None:
        """Go back to before the steps: to the savepoint where earlier pieces of the transaction are written."""
        if self._pieces:
            session.run("ROLLBACK TO SAVEPOINT piece")
        else:
            session.in_transaction = False
            session.run("ROLLBACK")
            self._stages.ended(session)
        self._plans.clear()

    def _abandon(self) -> None:
        """Give the open transaction up; what comes next starts over from the recorded position."""
        session = self._session
        if session is not None:
            session.rollback()
            with suppress(pymysql.Error, OSError):
                self._stages.ended(session)
            if not session.alive():
                self.close()
        self._pieces = False
        self._plans.clear()
        self._moves.forget()
        self._written.clear()
        self._done = None

    def _failure(self, error: Exception) -> CdcflowError:
        lost = self._session is not None and not self._session.alive()
        self._abandon()
        found = translate(error, side="target", at=self._at)
        if lost and not isinstance(found, TargetUnavailable):
            return TargetUnavailable("the connection to the target was lost", at=self._at, why=found.what)
        return found


def _is_small(batch: ChangeBatch) -> bool:
    return (
        batch.complete
        and batch.rows <= SMALL_ROWS
        and batch.nbytes <= SMALL_BYTES
        and all(isinstance(step, Rows) for step in batch.steps)
    )
