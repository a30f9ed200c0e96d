"""The loop: take a batch, apply it, save the position with it, then, when it is durable, tell the source."""

from __future__ import annotations

import threading
import time
from enum import Enum

from cdcflow.errors import (
    CdcflowError,
    Fenced,
    OperatorError,
    PositionLost,
    ReplayCollision,
    RowRejected,
    SourceUnavailable,
    TargetUnavailable,
    Unavailable,
)
from cdcflow.flow import copying, lease, lifecycle, shapes
from cdcflow.flow.accounting import account
from cdcflow.flow.discovery import Keeper
from cdcflow.flow.inbox import Inbox
from cdcflow.flow.ledger import Ledger, later
from cdcflow.flow.parts import Parts
from cdcflow.flow.reader import Reader
from cdcflow.flow.retries import Outage
from cdcflow.flow.roster import Roster
from cdcflow.model.change import ChangeBatch, Heartbeat, Recopy, SchemaChange
from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.position import Checkpoint, Position
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# How long one turn waits for something to apply: also how late a signal is noticed at rest.
TURN_SECONDS = 0.2

# How often the target is asked what has become durable; its log writer flushes every 200 ms by itself.
FLUSH_EVERY_SECONDS = 0.2

# How often an idle pipeline moves its position: the log that the source keeps grows no longer than this.
BEAT_EVERY_SECONDS = 10.0

REPORT_EVERY_SECONDS = 1.0


class Ending(Enum):
    """Why a stream was left without an error."""

    STOPPED = "stopped"
    CAUGHT_UP = "caught up"
    REOPEN = "reopen"


class Following:
    """One open stream, from its start to its end. Everything here runs in the applying thread.

    `passed` is how far the stream has been handled. It differs from the checkpoint while the stream goes
    through log again for the sake of a table that joined late: what is recorded never moves back.
    """

    def __init__(self, parts: Parts, roster: Roster, ledger: Ledger, keeper: Keeper, outage: Outage) -> None:
        self._parts = parts
        self._roster = roster
        self._ledger = ledger
        self._keeper = keeper
        self._outage = outage
        self._inbox = Inbox(parts.settings.read_ahead_bytes)
        self._open = False  # a transaction of the target waits for its next piece
        self._reshaped: list[SchemaChange] = []
        self._beat: Position | None = None
        self._source: dict[str, str] | None = None
        self._last_commit = 0.0
        self._applying_since = 0.0
        now = time.monotonic()
        self._flushed_at = self._told_at = self._lease_at = self._moved_at = now
        self._finish_due = True

    def run(self, checkpoint: Position, until: Position | None) -> Ending:
        """Follow the log from `checkpoint` on; with `until`, no further than needed to hold everything up to it.

        Raises:
            Unavailable: a server is away; what is not recorded is read again.
            CdcflowError: everything else, with everything before it applied.
        """
        parse, roster = self._parts.source.parse, self._roster
        follows = roster.follows(checkpoint)
        self._passed = lifecycle.start(roster.records(), checkpoint, parse)
        roster.hold(self._ledger, checkpoint)
        try:
            stream = self._parts.source.stream(self._passed, follows, roster.reroute)
        except PositionLost as lost:
            raise self._without_late_tables(lost, checkpoint) from lost
        reader = Reader(stream, self._inbox)
        self._ledger.attach(stream)
        try:
            reader.start()
            log.info("streaming", position=str(self._passed), tables=len(follows))
            self._parts.observer.state("streaming")
            ending = self._turns(until)
            if ending is Ending.REOPEN:
                return ending
            # The last word: what is applied is made durable, and the source hears of it with the close.
            if not self._open:
                self._ledger.flushed(self._parts.target.flush(force=True))
            reader.stop()
            self._ledger.settle()
            return ending
        finally:
            self._ledger.attach(None)
            reader.close()
            roster.unfollow()

    def _without_late_tables(self, lost: PositionLost, checkpoint: Position) -> CdcflowError:
        """Send tables back that need the log from before the checkpoint, where that is gone: their copies took longer
        than a source that deletes by age has kept it. Return what to raise: to try again, or the loss itself."""
        parse, roster = self._parts.source.parse, self._roster
        late = [
            record
            for record in roster.records()
            if record.state is TableState.CATCHING_UP
            and not lifecycle.caught_up(record, checkpoint, parse)
            and lifecycle.strictly_past(checkpoint, parse(record.copied_from))
        ]
        for record in late:
            if not (self._keeper.copies and roster.start_over(record.table_id, "log")):
                what = "the source no longer has the log from the time of the table's copy"
                do = "let the source keep its log for longer than the copy takes"
                copying.fail(roster, record.table_id, OperatorError(what, at=lost.at, why=lost.why, do=do))
        if not late:
            return lost
        names = ", ".join(str(record.source) for record in late)
        what = "the log that a copied table has to be followed from is gone"
        return SourceUnavailable(what, at=lost.at, why=f"{names}: {lost.why or lost.what}")

    def _turns(self, until: Position | None) -> Ending:
        while True:
            piece = self._inbox.take(self._parts.settings.fill, TURN_SECONDS)
            if isinstance(piece, ChangeBatch):
                self._apply(piece)
            elif piece is not None:
                self._note(piece)
            piece = None  # a batch may be large, and the next one is waited for here
            ending = self._tend(until)
            if ending is not None:
                return ending

    # -- applying

    def _apply(self, batch: ChangeBatch) -> None:
        began = time.perf_counter()
        self._applying_since = batch.first_commit_time or batch.commit_time
        end = batch.end
        if batch.complete:
            batch.end = later(self._ledger.applied, end)
        self._reshaped += [step for step in batch.steps if isinstance(step, SchemaChange)]
        if batch.complete:
            # On record before the position can pass them.
            for change in self._reshaped:
                self._roster.remember(change.new.source.id, str(batch.end), shapes.to_text(change.new))
        for step in batch.steps:
            if isinstance(step, Recopy):
                self._roster.replaced(step.route, step.why)
        try:
            receipt = self._parts.target.apply(batch)
        except RowRejected as rejected:
            raise self._mended(rejected) from rejected
        self._open = not batch.complete
        if batch.complete:
            self._save(batch.end)
            self._passed = later(self._passed, end)
            self._ledger.apply(batch.end, durable=receipt.durable)
            self._beat = None
            self._moved_at = time.monotonic()
            for change in self._reshaped:
                self._roster.reshaped(change.old, change.new)
            self._reshaped.clear()
        self._applying_since = 0.0
        self._last_commit = batch.commit_time or self._last_commit
        self._outage.progress()
        account(self._parts, batch, time.perf_counter() - began)

    def _save(self, position: Position) -> None:
        """Record the position where the target does not do it in its own transaction: what it was given is durable."""
        parts = self._parts
        if not parts.target.capabilities.transactional:
            pipeline = parts.settings.pipeline
            if self._source is None:  # who it is stands in the checkpoint from before the stream on
                known = parts.store.checkpoint(pipeline)
                self._source = known.source if known is not None else dict(parts.source.identity())
            parts.store.save(Checkpoint(pipeline, str(position), self._source, self._roster.epoch))

    def _mended(self, rejected: RowRejected) -> CdcflowError:
        """Do what can be done about a row that the target refused; return what to raise: to try again, or the end."""
        at, why = self._parts.target.address, rejected.what
        table = rejected.table_id if isinstance(rejected, ReplayCollision) and self._keeper.copies else None
        if table is not None and self._roster.start_over(table, "replay"):
            return TargetUnavailable("a table has to be copied again", at=at, why=f"{why} ({rejected.at})")
        # The log does not tell of values that a type got.
        routes = self._parts.rules.replan(self._parts.source.tables()).routes
        if self._parts.target.adapt([route for route in routes if route.source.id in self._roster.following]):
            what = "a type had fewer values at the target than at the source, and has them now"
            return TargetUnavailable(what, at=at, why=why)
        return rejected

    def _note(self, beat: Heartbeat) -> None:
        """Nothing is open here: the inbox gave the heartbeat by itself."""
        self._passed = later(self._passed, beat.end)
        if not self._ledger.applied.covers(beat.end):
            self._beat = beat.end

    def _move(self) -> None:
        """Record how far nothing concerned us."""
        if self._beat is not None:
            receipt = self._parts.target.heartbeat(self._beat)
            self._save(self._beat)
            self._ledger.apply(self._beat, durable=receipt.durable)
            self._beat = None
            self._outage.progress()
        self._moved_at = time.monotonic()

    # -- between batches

    def _tend(self, until: Position | None) -> Ending | None:
        """What is due at this moment. Only at a commit boundary may the stream be left."""
        now = time.monotonic()
        if now - self._told_at >= REPORT_EVERY_SECONDS:
            self._told_at = now
            self._tell()
        if now - self._lease_at >= lease.LEASE_EVERY_SECONDS:
            self._lease_at = now
            lease.check(self._parts)
        if self._keeper.failure is not None:
            raise self._keeper.failure
        if self._open:
            # A signal does not wait for the end of a transaction that may be hours long: it is read again.
            return Ending.STOPPED if self._parts.stop.is_set() else None
        if self._beat is not None and now - self._moved_at >= BEAT_EVERY_SECONDS:
            self._move()
        if self._ledger.waits and now - self._flushed_at >= FLUSH_EVERY_SECONDS:
            self._flushed_at = now
            self._ledger.flushed(self._parts.target.flush(force=False))
        self._ledger.settle()
        self._promote()
        if self._parts.stop.is_set():
            self._parts.observer.state("stopping")
            return Ending.STOPPED
        if self._keeper.wants_reopen:
            return Ending.REOPEN
        if until is not None and self._passed.covers(until) and not self._keeper.busy and self._all_live():
            self._move()
            return Ending.CAUGHT_UP
        return None

    def _promote(self) -> None:
        """Call tables live that the stream has brought past their copy, then make their indexes."""
        parse = self._parts.source.parse

        def promoted(record: TableRecord) -> TableRecord | None:
            past = record.state is TableState.CATCHING_UP and self._passed.covers(parse(record.copied_upto))
            return lifecycle.live(record) if past else None

        joining = [each for each in self._roster.ids(TableState.CATCHING_UP) if each in self._roster.following]
        if self._beat is not None and any(promoted(self._roster.record(each)) for each in joining):
            # A live table is replayed from the recorded position, and its copy may hold more than what is behind that.
            self._move()
        for table_id in joining:
            record = self._roster.change(table_id, promoted)
            if record is not None:
                self._ledger.let_go(table_id)
                self._finish_due = True
                log.info("table is live", table=str(record.source))
        if self._finish_due:
            self._finish()
            self._finish_due = False

    def _finish(self) -> None:
        """Make indexes and foreign keys, while nothing is applied: beside it, locks could deadlock."""
        routes = self._roster.routes(self._roster.ids(TableState.LIVE))
        failure: list[BaseException] = []

        def work() -> None:
            try:
                self._parts.target.finish(routes)
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, name="cdcflow-finish", daemon=True)
        thread.start()
        while thread.is_alive() and not self._parts.stop.is_set():
            thread.join(REPORT_EVERY_SECONDS)
            if thread.is_alive():
                self._parts.observer.alive()
        if not failure:
            return
        error = failure[0]
        if not isinstance(error, CdcflowError) or isinstance(error, Unavailable | Fenced):
            raise error
        log.error("an index or a foreign key could not be made, the rows go on", **error.fields())

    def _all_live(self) -> bool:
        return not self._roster.ids(TableState.PENDING, TableState.COPYING, TableState.CATCHING_UP)

    # -- telling

    def _tell(self) -> None:
        handled = later(self._passed, self._ledger.applied) if not self._inbox.nbytes else self._ledger.applied
        newest = self._inbox.newest
        behind = newest.distance(handled) if newest is not None else 0
        lag_bytes = None if behind is None else max(0, behind)
        durable = self._ledger.durable or self._ledger.applied
        self._parts.report.position = str(durable)
        self._parts.observer.position(str(durable), lag_bytes, self._lag_seconds())
        self._parts.observer.alive()

    def _lag_seconds(self) -> float:
        oldest = self._applying_since or self._inbox.oldest_commit()
        if not oldest and self._inbox.lagging:
            oldest = self._last_commit
        return max(0.0, time.time() - oldest) if oldest else 0.0
