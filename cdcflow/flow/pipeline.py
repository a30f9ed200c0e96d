"""One run of a pipeline: begin, copy, follow; begin again where a server was away; end where it was told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, auto

from cdcflow.errors import CdcflowError, SourceUnavailable, UsageError
from cdcflow.flow import bootstrap, lifecycle
from cdcflow.flow.attempts import Attempts
from cdcflow.flow.bootstrap import Log
from cdcflow.flow.discovery import Keeper
from cdcflow.flow.following import Ending, Following
from cdcflow.flow.ledger import Ledger
from cdcflow.flow.parts import Parts
from cdcflow.flow.progress import Report
from cdcflow.flow.roster import Roster
from cdcflow.model.copy import TableState
from cdcflow.model.position import Position
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)


class Does(Flag):
    """What a run is to do."""

    COPY = auto()
    FOLLOW = auto()


@dataclass(frozen=True, slots=True)
class Again:
    """Tables, by their source names, that are to be emptied and copied again; `every`: all, with a new slot."""

    names: Sequence[str] = ()
    every: bool = False


class Run:
    """One run, used once. `until_caught_up`: end when everything that was committed before is durable."""

    def __init__(self, parts: Parts, does: Does, *, until_caught_up: bool = False, again: Again | None = None) -> None:
        self._parts = parts
        self._again = again
        self._does = does
        self._until_caught_up = until_caught_up
        self._until: Position | None = None
        self._roster: Roster | None = None
        self._opened: Log | None = None
        self._ledger: Ledger | None = None
        self._keeper: Keeper | None = None
        self._attempts = Attempts(parts, "interrupted, will go on from the checkpoint")
        self._lease_suspect = False

    def run(self) -> Report:
        """Do it. Returns when done or told to stop; what is not done then is gone on with by the next run.

        Raises:
            Unavailable: a server was away for too long.
            CdcflowError: somebody has to act; everything before it is applied.
        """
        self._attempts.run(self._session, failed=self._failed, close=self._close)
        self._sum_up()
        self._parts.observer.state("stopped")
        return self._parts.report

    def _session(self) -> bool:
        """Go on until something ends it; return whether the run is done."""
        parts = self._parts
        if self._until_caught_up and self._until is None:
            self._until = parts.source.end()
        roster = self._begin()
        while True:
            log_from, checkpoint = self._open(roster)
            self._copy(roster, log_from, checkpoint)
            if parts.stop.is_set() or Does.FOLLOW not in self._does:
                return True
            ending = self._follow(roster, checkpoint)
            if ending is not Ending.REOPEN:
                return True
            self._opened = None

    def _begin(self) -> Roster:
        """Take the lease, or take it again after the target was away: its epoch shuts out what is left of us."""
        parts, store = self._parts, self._parts.store
        if self._roster is None:
            # What is wrong at the source or in the rules is told before anything is made in the target.
            plan = bootstrap.examine(parts)
            store.migrate()
            epoch = store.acquire(parts.settings.pipeline, parts.settings.owner)
            self._roster = bootstrap.enlist(parts, epoch, plan)
        elif self._lease_suspect:
            self._roster.epoch = store.acquire(parts.settings.pipeline, parts.settings.owner)
        self._lease_suspect = False
        if self._again is not None:
            self._mark(self._roster, self._again)
        return self._roster

    def _mark(self, roster: Roster, again: Again) -> None:
        """Send tables back to the start. May be repeated until it is on record."""
        renamed = {record.source: roster.route(record.table_id).source.name for record in roster.records()}
        chosen = roster.records() if again.every else bootstrap.choose(roster.records(), again.names, renamed)
        roster.put(*(lifecycle.again(record) for record in chosen))
        log.info("tables are copied again", tables=len(chosen))
        if again.every:
            self._parts.target.begin(self._parts.settings.pipeline, roster.epoch)
            self._opened = bootstrap.make_log(self._parts, roster)
        self._again = None

    def _open(self, roster: Roster) -> tuple[Log, Position]:
        """Find where to go on, and make the target's session the only one that writes."""
        parts = self._parts
        parts.target.begin(parts.settings.pipeline, roster.epoch)
        if Does.COPY not in self._does and self._ledger is None:
            self._require_copied(roster)
        if self._opened is None:
            self._opened = bootstrap.open_log(parts, roster)
        checkpoint = parts.source.parse(self._opened.checkpoint.position)
        # What an earlier session committed may not be on disk yet, and the stream tells the source its start.
        parts.target.heartbeat(checkpoint)
        parts.target.flush(force=True)
        if self._ledger is None:
            # Both servers are there: what comes now is an outage.
            self._ledger = Ledger(checkpoint)
            self._attempts.outage.lengthen(parts.settings.outage)
        self._ledger.restart(checkpoint)
        return self._opened, checkpoint

    def _require_copied(self, roster: Roster) -> None:
        checkpoint = self._parts.store.checkpoint(self._parts.settings.pipeline)
        waiting = bootstrap.uncopied(roster.records())
        if checkpoint is None or not checkpoint.position or waiting:
            names = ", ".join(str(record.source) for record in waiting[:10])
            raise UsageError(
                "there are tables that were not copied yet",
                at=f'pipeline "{self._parts.settings.pipeline}"',
                why=f"stream only follows: {names}" if names else "stream only follows",
                do="cdcflow snapshot, then cdcflow stream; or cdcflow run for both",
            )

    def _copy(self, roster: Roster, opened: Log, checkpoint: Position) -> None:
        """Copy what has to be copied before a stream is opened, and let whole tables join."""
        parts = self._parts
        if Does.COPY not in self._does:
            return
        if self._keeper is not None:
            for table_id in self._keeper.take_whole():
                bootstrap.join(parts, roster, table_id, checkpoint)
        waiting = roster.ids(TableState.PENDING, TableState.COPYING)
        if self._keeper is not None or (Does.FOLLOW in self._does and roster.ids(TableState.LIVE)):
            # The others stream meanwhile; see `Keeper` for those without a key.
            keyless = {route.source.id for route in roster.routes(waiting) if not route.key}
            waiting = [table_id for table_id in waiting if table_id in keyless]
        if waiting:
            parts.observer.state("copying")
            bootstrap.copy(parts, roster, opened, waiting)
            self._attempts.outage.progress()
        elif opened.snapshot is not None:
            opened.snapshot.close()
            opened.snapshot = None

    def _follow(self, roster: Roster, checkpoint: Position) -> Ending:
        parts, ledger = self._parts, self._ledger
        assert ledger is not None
        # What the log carries is what the rules say, also where they changed since the last run.
        bootstrap.include(parts, roster, ())
        if self._keeper is None:
            self._keeper = Keeper(parts, roster, ledger, copies=Does.COPY in self._does)
            self._keeper.start()
        return Following(parts, roster, ledger, self._keeper, self._attempts.outage).run(checkpoint, self._until)

    # -- failing and ending

    def _failed(self, error: CdcflowError) -> None:
        """Let go of what the next session must find or make anew."""
        if not isinstance(error, SourceUnavailable):
            # The keeper's loaders write under the epoch that is given up.
            self._lease_suspect = True
            self._stop_keeper()
        elif self._keeper is not None and self._keeper.failure is not None:
            self._stop_keeper()
        if self._opened is not None and self._opened.snapshot is not None:
            self._opened.snapshot.close()
        self._opened = None

    def _stop_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None

    def _sum_up(self) -> None:
        report = self._parts.report
        if self._roster is None:
            return
        for record in self._roster.records():
            report.tables[str(record.source)] = record.state.value
            if record.state is TableState.FAILED:
                report.failed[str(record.source)] = (record.reason, record.hint)
        if self._ledger is not None:
            report.position = str(self._ledger.durable or self._ledger.applied)

    def _close(self) -> None:
        self._stop_keeper()
        if self._opened is not None and self._opened.snapshot is not None:
            self._opened.snapshot.close()
