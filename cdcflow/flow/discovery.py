"""What happens beside the stream: tables that appear, go or are rewritten, and their copy in the background."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from cdcflow.errors import CdcflowError, Retry
from cdcflow.flow import bootstrap, lifecycle
from cdcflow.flow.copying import Round, concerns_one_table, fail
from cdcflow.flow.ledger import Ledger
from cdcflow.flow.parts import Parts
from cdcflow.flow.retries import Outage
from cdcflow.flow.roster import Roster
from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.route import Route
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# Where somebody's wish for a new copy is followed at once; a table that is being copied is asked again later.
_ASKABLE = (TableState.LIVE, TableState.FAILED, TableState.CATCHING_UP)

# How often a wish to the applying thread is looked at again.
HANDSHAKE_SECONDS = 0.05


class Keeper:
    """A thread that looks at the source every few seconds and copies what has to be copied.

    It never touches the stream. Where the stream must be opened anew, to take a table out or in, it wishes so
    (`wants_reopen`), and the applying thread does it at the next commit boundary.

    copies: whether tables may be copied; without, it only watches.
    """

    def __init__(self, parts: Parts, roster: Roster, ledger: Ledger, *, copies: bool) -> None:
        self._parts = parts
        self._roster = roster
        self._ledger = ledger
        self.copies = copies
        self._ended = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._whole: set[int] = set()
        self._told: set[str] = set()
        self._compared: frozenset[int] = frozenset()  # live tables whose fingerprints were looked at
        self._woken_for: frozenset[int] = frozenset()
        self._outage = Outage(parts.settings.outage)
        self._thread = threading.Thread(target=self._run, name="cdcflow-keeper", daemon=True)
        self.wants_reopen = False
        self.looked = False  # whether the source was looked at since the start
        self.failure: BaseException | None = None

    # -- the applying thread's side

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread. A copy in the middle is broken off; its finished chunks stay."""
        self._ended.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def busy(self) -> bool:
        """Whether a table waits for its copy, is copied, waits to join the stream, or went live and was not looked at
        since: only then a rewrite of it is noticed."""
        if not self.copies:
            return False
        if not self.looked or self._whole or self._waiting():
            return True
        fresh = frozenset(self._roster.ids(TableState.LIVE)) - self._compared
        if fresh and fresh != self._woken_for:
            self._woken_for = fresh  # once for each look, so that a source that is away is not asked without a pause
            self._wake.set()
        return bool(fresh)

    def take_whole(self) -> list[int]:
        """Return the tables whose copy is whole, which the next stream must take in."""
        with self._lock:
            whole, self._whole = sorted(self._whole), set()
            self.wants_reopen = False
        return [table_id for table_id in whole if table_id in self._roster]

    # -- the thread

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                pause = self._parts.settings.look_every
                try:
                    self._look()
                    self._outage.progress()
                except CdcflowError as error:
                    if error.retry is not Retry.BACKOFF:
                        raise
                    pause = self._outage.pause(error)
                    log.warning("looking at the source failed, will try again", **error.fields())
                self._wake.wait(pause)
                self._wake.clear()
        except BaseException as failure:
            self.failure = failure

    def _look(self) -> None:
        """One round: what is new, what was rewritten, what has to be copied."""
        retained = self._parts.source.retained()
        if retained is not None:
            self._parts.observer.retained(retained)
        try:
            fresh = bootstrap.refresh(self._parts, self._roster)
        except CdcflowError as error:
            if not concerns_one_table(error):
                raise
            self._tell("tables", error)
            fresh = []
        # A table that is gone, or failed, does not need the log any more.
        failed = self._roster.ids(TableState.FAILED)
        self._ledger.keep([r.table_id for r in self._roster.records() if r.table_id not in failed])
        for route in fresh:
            self._admit(route)
        self._rewritten()
        self.looked = True
        if self.copies:
            self._copy(self._waiting())

    def _admit(self, route: Route) -> None:
        """Take in a table that appeared since the start."""
        finding = self._parts.source.refusal(route.source, route)
        record = self._roster.admit(route)
        if finding is None:
            log.info("table appeared", table=str(route.source.name))
            return
        log.error("table cannot be captured as it is", table=str(route.source.name), why=finding.found, do=finding.do)
        name = route.source.name
        self._roster.put(lifecycle.failed(record, finding.found, f"{finding.do}; then cdcflow resync {name}"))

    def _rewritten(self) -> None:
        """Send tables back whose rows changed without row events, and those that somebody asked to copy again."""
        for table_id in self._parts.store.asked(self._parts.settings.pipeline):
            asked = self._roster.change(table_id, lambda r: lifecycle.again(r) if r.state in _ASKABLE else None)
            if asked is not None:
                log.info("table is copied again, as asked", table=str(asked.source))
        live = self._roster.ids(TableState.LIVE)
        stamps = self._parts.source.stamps(live)
        for table_id, stamp in stamps.items():
            changed = self._roster.change(table_id, partial(self._stamped, stamp=stamp))
            if changed is not None and changed.state is TableState.PENDING:
                log.warning("table was rewritten at the source, it is copied again", table=str(changed.source))
        # What was sent back goes live again, and is looked at then.
        self._compared = frozenset(live).intersection(self._roster.ids(TableState.LIVE))
        self._woken_for = frozenset()

    def _stamped(self, record: TableRecord, *, stamp: str) -> TableRecord | None:
        """Compare a live table with its fingerprint of now."""
        if record.state is not TableState.LIVE or not record.stamp or stamp == record.stamp:
            return None
        if self._parts.source.rewritten(record.stamp, stamp):
            return lifecycle.again(record)
        return replace(record, stamp=stamp)  # or two harmless changes would look like one rewrite

    def _waiting(self) -> list[int]:
        with self._lock:
            return [i for i in self._roster.ids(TableState.PENDING, TableState.COPYING) if i not in self._whole]

    def _copy(self, table_ids: Sequence[int]) -> None:
        """Copy tables while the others stream, then wish for a stream with them.

        Where a table has no key, a replay could not be told from new rows, so its copy must not be older than
        the checkpoint that it joins at: the applying thread copies it, with the stream closed.
        """
        if not table_ids:
            return
        keyless = [table_id for table_id in table_ids if not self._roster.route(table_id).key]
        if keyless or self._roster.following.intersection(table_ids):
            self.wants_reopen = True
        mine = [table_id for table_id in table_ids if table_id not in keyless]
        if not mine or not self._unfollowed(mine):
            return
        mine = self._included(mine)
        try:
            finished = self._copied(mine) if mine else []
        finally:
            self._roster.begun(mine)
            for record in self._roster.records():
                if record.table_id in mine and record.state in (TableState.FAILED, TableState.PENDING):
                    self._ledger.let_go(record.table_id)
        with self._lock:
            self._whole.update(finished)
            self.wants_reopen = self.wants_reopen or bool(finished)

    def _included(self, table_ids: Sequence[int]) -> list[int]:
        """Have the log carry the tables, until `Roster.begun`; return those that it carries now. One that cannot
        be captured fails, and keeps none of the others back."""
        try:
            bootstrap.include(self._parts, self._roster, table_ids)
        except CdcflowError as error:
            self._roster.begun(table_ids)
            if not concerns_one_table(error):
                raise
            if len(table_ids) == 1:
                fail(self._roster, table_ids[0], error)
                return []
            return [table_id for each in table_ids for table_id in self._included([each])]
        return list(table_ids)

    def _copied(self, table_ids: Sequence[int]) -> list[int]:
        """Copy tables that the log carries under a view of their own; return those whose copy is whole."""
        stamps = self._parts.source.stamps(table_ids)
        # From here on the source must keep its log, and where exactly is known only when the view is there.
        self._ledger.freeze()
        try:
            snapshot = self._parts.source.snapshot(self._ended)
            for record in self._roster.records():
                if record.table_id in table_ids:
                    start = record.copied_from or str(snapshot.position)
                    self._ledger.hold(record.table_id, self._parts.source.parse(start))
        except CdcflowError as error:
            if not concerns_one_table(error):
                raise
            self._tell("the view of a copy", error)  # no slot is free now: looked at again
            return []
        finally:
            self._ledger.thaw()
        try:
            return Round(self._parts, self._roster, snapshot, stamps).run(table_ids, self._ended).finished
        finally:
            snapshot.close()

    def _unfollowed(self, table_ids: Sequence[int]) -> bool:
        """Wait until no open stream has the tables; return False when told to end before."""
        while self._roster.following.intersection(table_ids):
            if self._ended.wait(HANDSHAKE_SECONDS):
                return False
        return not self._ended.is_set()

    def _tell(self, what: str, error: CdcflowError) -> None:
        """Log a problem that stays, once."""
        if error.what not in self._told:
            self._told.add(error.what)
            log.error(f"{what} cannot be had", **error.fields())
