"""One run of an instance that shares its source with others: claim, apply, record, let go; wait where all must."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from cdcflow.errors import CdcflowError, Fenced, RowRejected, SourceUnavailable, TargetUnavailable, Unavailable
from cdcflow.flow.accounting import account
from cdcflow.flow.attempts import Attempts
from cdcflow.flow.gatherings import Gatherings
from cdcflow.flow.inbox import Inbox
from cdcflow.flow.parts import Parts
from cdcflow.flow.progress import Report
from cdcflow.flow.reader import Reader
from cdcflow.flow.retries import Outage
from cdcflow.flow.shaping import Shaping
from cdcflow.model.change import ChangeBatch, Heartbeat, Meeting
from cdcflow.model.ports import Stream
from cdcflow.model.position import Position, Share, Shares
from cdcflow.model.sharing import SharedSource, SharedStore, SharedStream
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# How long one turn waits for something to apply: also how late a signal, or a share to be given, is noticed at rest.
TURN_SECONDS = 0.1

# How often the target is asked what has become durable, and what others have recorded where that is waited for.
LOOK_EVERY_SECONDS = 0.3

# How often an idle instance records how far nothing concerned it.
BEAT_EVERY_SECONDS = 5.0

REPORT_EVERY_SECONDS = 1.0

# The broker takes a member's shares away that does not come back from handing over for minutes. By then the claim
# protects what matters: what is not committed yet never will be.
GIVE_LIMIT_SECONDS = 120.0


class SharedRun:
    """One run of one instance, used once. `until_caught_up`: end when all that the bus held before is durable."""

    def __init__(self, parts: Parts, *, until_caught_up: bool = False) -> None:
        self._parts = parts
        self._source = cast("SharedSource", parts.source)
        self._store = cast("SharedStore", parts.store)
        self._until_caught_up = until_caught_up
        self._until: Position | None = None
        self._attempts = Attempts(parts, "interrupted, will join again")

    def run(self) -> Report:
        """Do it. Returns when done or told to stop.

        Raises:
            Unavailable: a server was away for too long.
            CdcflowError: somebody has to act; everything before it is applied.
        """
        self._attempts.run(self._session)
        self._parts.observer.state("stopped")
        return self._parts.report

    def _session(self) -> bool:
        """Be a member of the group until something ends that; return whether the run is done."""
        try:
            return self._stay()
        except Fenced as error:
            # A share was claimed by another instance while we still wrote it: what we had read of it is not ours.
            log.info("a share was taken over, joining the group again", **error.fields())
            self._parts.report.restarts += 1
            self._parts.stop.wait(TURN_SECONDS)
            return False

    def _stay(self) -> bool:
        parts, pipeline = self._parts, self._parts.settings.pipeline
        if self._until_caught_up and self._until is None:
            self._until = self._source.end()
        self._store.migrate()
        epoch = self._store.join(pipeline, parts.settings.owner)
        parts.target.begin(pipeline, epoch)
        shaping = Shaping(parts, self._store, epoch)
        return Membership(parts, self._source, self._store, shaping, self._attempts.outage).run(self._until)


class Handover:
    """Implements `model.sharing.Claims`, between two threads: the one that reads is asked to give, the one that applies
    says when all that was read is durable."""

    def __init__(self, store: SharedStore, pipeline: str, owner: Mapping[str, str], ended: threading.Event) -> None:
        self._store, self._pipeline, self._owner = store, pipeline, owner
        self._ended = ended  # the session is over: nothing more is committed
        self._asked = threading.Event()
        self._done = threading.Event()

    def take(self, names: Sequence[str]) -> Mapping[str, Share]:
        """As `Claims.take`."""
        claimed = self._store.claim(self._pipeline, names, self._owner)
        log.info("took shares", shares=", ".join(sorted(names)) or "none")
        return claimed

    def give(self, names: Sequence[str]) -> None:
        """As `Claims.give`."""
        self._done.clear()
        self._asked.set()
        deadline = time.monotonic() + GIVE_LIMIT_SECONDS
        while not self._done.wait(0.05):
            if self._ended.is_set():
                break
            if time.monotonic() > deadline:
                log.warning("gave shares before everything read of them was durable", shares=", ".join(sorted(names)))
                break
        self._asked.clear()
        log.info("gave shares", shares=", ".join(sorted(names)) or "none")

    def lost(self, names: Sequence[str]) -> None:
        """As `Claims.lost`."""
        log.warning("lost shares", shares=", ".join(sorted(names)) or "none")

    def recorded(self) -> Mapping[str, Share]:
        """As `Claims.recorded`."""
        return self._store.shares(self._pipeline)

    def begin(self, places: Mapping[str, int]) -> None:
        """As `Claims.begin`."""
        self._store.begin(self._pipeline, places)

    def identify(self, shares: Mapping[str, Share]) -> None:
        """As `Claims.identify`."""
        self._store.identify(self._pipeline, shares)

    @property
    def wanted(self) -> bool:
        """Whether the reader waits for what it has read to become durable."""
        return self._asked.is_set()

    def settle(self) -> None:
        """Say that everything read is durable."""
        self._asked.clear()
        self._done.set()


class Membership:
    """One stay in the group, from joining to leaving. Everything but the claims runs in the applying thread."""

    def __init__(
        self, parts: Parts, source: SharedSource, store: SharedStore, shaping: Shaping, outage: Outage
    ) -> None:
        self._parts, self._source, self._store = parts, source, store
        self._shaping = shaping
        self._outage = outage
        self._inbox = Inbox(parts.settings.read_ahead_bytes)
        self._applied: dict[str, Share] = {}
        self._durable: Shares | None = None
        self._beat = False
        self._last_commit = 0.0
        self._applying_since = 0.0
        now = time.monotonic()
        self._flushed_at = self._told_at = self._moved_at = now
        self._looked_at = 0.0

    def run(self, until: Position | None) -> bool:
        """Apply until told to stop, or until everything up to `until` is durable; return True then.

        Raises:
            Fenced: another instance claimed a share that we still wrote.
            Unavailable: a server is away; what is not recorded is read again.
            CdcflowError: everything else, with everything before it applied.
        """
        parts, ended = self._parts, threading.Event()
        handover = Handover(self._store, parts.settings.pipeline, parts.settings.owner, ended)
        stream = self._source.join(handover, self._shaping.route, self._shaping.known())
        # Both servers are there: what comes now is an outage. One that goes on over several stays is one outage.
        self._outage.lengthen(parts.settings.outage)
        reader = Reader(cast("Stream", stream), self._inbox)
        self._stream = stream
        self._gatherings = Gatherings(parts, self._store, stream)
        try:
            reader.start()
            parts.observer.state("streaming")
            while not self._turn(stream, handover, until):
                pass
            self._record_beat()
            self._flush(force=True)
            self._tell(stream)
            return True
        finally:
            ended.set()
            reader.close()

    def _turn(self, stream: SharedStream, handover: Handover, until: Position | None) -> bool:
        # Asked before we look: a reader that waits in its call puts nothing behind what is taken now.
        wanted = handover.wanted
        piece = self._inbox.take(self._parts.settings.fill, TURN_SECONDS)
        if isinstance(piece, ChangeBatch):
            self._apply(piece)
        elif isinstance(piece, Heartbeat):
            self._merge(piece.end)
            self._beat = True
        now = time.monotonic()
        if wanted and piece is None:
            self._record_beat()
            self._flush(force=True)
            handover.settle()
        if now - self._told_at >= REPORT_EVERY_SECONDS:
            self._told_at = now
            self._tell(stream)
        if self._beat and now - self._moved_at >= BEAT_EVERY_SECONDS:
            self._record_beat()
        if now - self._flushed_at >= LOOK_EVERY_SECONDS:
            self._flush(force=False)
        self._gatherings.attend(self._applied, self._go_behind)
        if self._parts.stop.is_set():
            self._parts.observer.state("stopping")
            return True
        return until is not None and piece is None and self._caught_up(stream, until, now)

    # -- applying

    def _apply(self, batch: ChangeBatch) -> None:
        began = time.perf_counter()
        self._applying_since = batch.first_commit_time or batch.commit_time
        meeting = next((step for step in batch.steps if isinstance(step, Meeting)), None)
        if meeting is not None:
            assert isinstance(batch.end, Shares)
            self._gatherings.expect(meeting, batch.end.shares[meeting.share].epoch)
            self._merge(batch.end)
            self._beat = True
            self._record_beat()
            self._flush(force=True)
            self._gatherings.arrive(meeting)
            return
        rest = self._shaping.prepare(batch, Shares(dict(self._applied)))
        self._merge(batch.end)
        rest.end = Shares(dict(self._applied))
        try:
            receipt = self._parts.target.apply(rest)
        except RowRejected as rejected:
            if self._parts.target.adapt(self._shaping.routes()):
                what = "a type had fewer values at the target than at the source, and has them now"
                raise TargetUnavailable(what, at=self._parts.target.address, why=rejected.what) from rejected
            raise
        except (Unavailable, Fenced):
            raise
        except CdcflowError as error:
            # Rows of a shape whose columns the table has no longer, under those names.
            if self._shaping.behind():
                what = "another instance altered a table meanwhile"
                raise TargetUnavailable(what, at=self._parts.target.address, why=error.what) from error
            raise
        self._beat = False
        self._moved_at = time.monotonic()
        if receipt.durable:
            self._settle(rest.end)
        self._applying_since = 0.0
        self._last_commit = batch.commit_time or self._last_commit
        self._outage.progress()
        account(self._parts, rest, time.perf_counter() - began)

    def _merge(self, end: Position) -> None:
        """Go forward to `end`; a share that is not in it was given away."""
        assert isinstance(end, Shares)
        merged = {}
        for name, at in end.shares.items():
            # Not behind a meeting before it is held; and behind one, we may be further than what was read before.
            place = self._gatherings.before(name, at)
            here = self._applied.get(name)
            if here is not None and here.epoch == at.epoch:
                place = max(place, here.place)
            else:
                self._moved_at = -math.inf  # where a share begins is on record at once: it may be the end of that day
            merged[name] = replace(at, place=place)
        self._applied = merged

    def _go_behind(self, places: Mapping[str, int], then: ChangeBatch | None) -> None:
        """Move our shares behind a meeting, with what happens there where that falls to us."""
        if then is not None:
            then = self._shaping.prepare(then, Shares(dict(self._applied)))
        self._applied = {
            name: replace(at, place=max(at.place, places.get(name, at.place))) for name, at in self._applied.items()
        }
        end = Shares(dict(self._applied))
        if then is None:
            self._parts.target.heartbeat(end)
        else:
            then.end = end
            self._parts.target.apply(then)
            account(self._parts, then, 0.0)
        self._flush(force=True)

    def _record_beat(self) -> None:
        """Record how far nothing concerned us."""
        if self._beat:
            self._parts.target.heartbeat(Shares(dict(self._applied)))
            self._beat = False
            self._outage.progress()
        self._moved_at = time.monotonic()

    def _flush(self, *, force: bool) -> None:
        self._flushed_at = time.monotonic()
        found = self._parts.target.flush(force=force)
        if isinstance(found, Shares):
            self._settle(found)

    def _settle(self, durable: Shares) -> None:
        """Tell the broker. The only place that calls `ack`."""
        if durable != self._durable:
            self._durable = durable
            self._stream.ack(durable)

    # -- between batches

    def _caught_up(self, stream: SharedStream, until: Position, now: float) -> bool:
        if self._inbox.nbytes or self._gatherings.open or now - self._looked_at < LOOK_EVERY_SECONDS:
            return False
        self._looked_at = now
        self._record_beat()
        self._flush(force=True)
        return stream.reached(until, self._store.shares(self._parts.settings.pipeline))

    def _tell(self, stream: SharedStream) -> None:
        report, observer = self._parts.report, self._parts.observer
        position = self._durable or Shares(dict(self._applied))
        report.position = str(position)
        oldest = self._applying_since or self._inbox.oldest_commit()
        if not oldest and self._inbox.lagging:
            oldest = self._last_commit
        seconds = max(0.0, time.time() - oldest) if oldest else 0.0
        observer.position(position.brief(), None, seconds)
        try:
            behind = stream.behind()
        except SourceUnavailable:
            behind = None
        if behind is not None:
            observer.waiting(behind)
        observer.alive()
