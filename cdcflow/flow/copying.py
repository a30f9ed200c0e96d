"""The copy of tables under one snapshot: chunks of all of them in one queue, several workers, resumable."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from cdcflow.errors import (
    CdcflowError,
    ConfigError,
    CopyRestart,
    Fenced,
    PositionLost,
    Retry,
    SourceChanged,
    TableRefused,
    UniqueRejected,
)
from cdcflow.flow import lease, lifecycle, shapes
from cdcflow.flow.ledger import later
from cdcflow.flow.parts import Parts
from cdcflow.flow.roster import Roster
from cdcflow.model.copy import Chunk, DoneChunk, TableRecord, TableState
from cdcflow.model.ports import Loader, Snapshot
from cdcflow.model.route import Route
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# How often the waiting thread looks whether the workers move and whether it should end.
TICK_SECONDS = 0.5


class _Ended(Exception):  # noqa: N818 - not an error: it rolls an unfinished chunk back
    """Raised inside a chunk or a plan that should not go on."""


@dataclass(slots=True)
class _Job:
    """One table in this round."""

    route: Route
    chunks: list[Chunk]
    merge: bool
    rows: int = 0
    bytes: int = 0
    left: int = 0  # chunks that are not in the target yet: the table is whole when there are none
    over: bool = False  # whole, failed, or sent back
    emptied: bool = False  # the table had no rows when its copy began, so it may be emptied again


@dataclass(slots=True)
class Copied:
    """What a round came to."""

    finished: list[int] = field(default_factory=list)
    again: list[int] = field(default_factory=list)


def concerns_one_table(error: CdcflowError) -> bool:
    """Whether the error fails the table it happened with, and the others may go on."""
    if isinstance(error, (Fenced, PositionLost, SourceChanged)):
        return False
    return error.retry is Retry.OPERATOR or isinstance(error, ConfigError)


def fail(roster: Roster, table_id: int, error: CdcflowError) -> None:
    """Fail a table with what happened to it."""

    def failed(record: TableRecord) -> TableRecord:
        reason = f"{error.what}: {error.why}" if error.why else error.what
        reason = f"{reason} ({error.at})" if error.at else reason
        again = f"cdcflow resync {record.source}"
        do = error.do if again in error.do else f"{error.do}; then {again}" if error.do else again
        return lifecycle.failed(record, reason, do)

    record = roster.change(table_id, failed)
    if record is not None:
        log.error("table cannot be copied", table=str(record.source), **error.fields())


def _twice(route: Route) -> TableRefused:
    return TableRefused(
        f"table {route.target} holds rows already",
        at=f"from {route.source.name}",
        why="the table has no key, so its rows would be there twice",
        do=f"empty {route.target} in the target first",
    )


class Round:
    """Copies tables under one snapshot. `stamps` are the tables' fingerprints from before it was taken."""

    def __init__(self, parts: Parts, roster: Roster, snapshot: Snapshot, stamps: dict[int, str]) -> None:
        self._parts = parts
        self._roster = roster
        self._snapshot = snapshot
        self._stamps = stamps
        self._pipeline = parts.settings.pipeline
        self._jobs: dict[int, _Job] = {}
        self._copied = Copied()
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._ended = False
        self._moved = 0
        self._background: threading.Event | None = None
        self._lease_at = time.monotonic()

    def run(self, table_ids: Iterable[int], ended: threading.Event | None = None) -> Copied:
        """Copy what is left of the tables. Returns early, with what is done, when the pipeline is told to stop.

        A table that cannot be copied becomes `failed` and the others go on. `ended` tells a round to end that runs
        beside the applying thread.

        Raises:
            Unavailable: a server is away; finished chunks stay, a later round goes on from them.
            Fenced: another instance took the pipeline over.
        """
        self._background = ended
        try:
            for table_id in table_ids:
                self._turn()
                if table_id in self._roster:
                    self._open(table_id)
        except _Ended:
            self._ended = True
        count = min(self._parts.settings.workers, sum(len(job.chunks) for job in self._jobs.values()))
        workers = [threading.Thread(target=self._work, name=f"cdcflow-copy-{n}", daemon=True) for n in range(count)]
        for worker in workers:
            worker.start()
        try:
            self._attend(workers)
        finally:
            with self._changed:
                self._ended = True
            for worker in workers:
                worker.join()
        if self._failure is not None:
            raise self._failure
        self._verify()
        return self._copied

    # -- preparing

    def _open(self, table_id: int) -> None:
        """Plan one table's chunks and make the table in the target."""
        roster, target = self._roster, self._parts.target
        record, route = roster.record(table_id), roster.route(table_id)
        emptied = False  # what stands in the table is of this copy
        try:
            done: list[DoneChunk] = []
            if record.state is TableState.COPYING and roster.same_shape(table_id):
                done = self._parts.store.chunks(self._pipeline, table_id)
            elif record.state is TableState.COPYING:
                self._empty(table_id, "altered since its copy began")
            elif record.reason == lifecycle.AGAIN:
                self._forget_chunks(table_id)
                target.clear(route, roster.followed(table_id))
                emptied = True
            else:  # what an earlier copy, to another place, has left on record says nothing of this one
                self._forget_chunks(table_id)
                emptied = not target.holds(route)
                if not route.key and not emptied:
                    raise _twice(route)
            target.create(route)
            try:
                chunks = self._snapshot.plan(route, done, self._turn)
            except CopyRestart as restart:
                self._empty(table_id, restart.what)
                done = []
                chunks = self._snapshot.plan(route, done, self._turn)
        except CdcflowError as error:
            if not concerns_one_table(error):
                raise
            self._fail(table_id, error)
            return
        resumed = bool(done)
        shape = shapes.to_text(route)
        stamp = self._stamps.get(table_id, "")
        position = self._snapshot.position_of(table_id)
        record = lifecycle.copying(record, route, position, stamp, shape, resumed=resumed)
        # Ahead of the record: with one, a stream from `copied_from` on has to know the shape of its first rows.
        roster.remember(table_id, record.copied_from, shape)
        roster.put(record)
        rows, size = sum(chunk.rows for chunk in done), sum(chunk.bytes for chunk in done)
        job = _Job(route, list(reversed(chunks)), resumed, rows, size, len(chunks), emptied=emptied)
        self._jobs[table_id] = job
        log.info("copying table", table=str(record.source), chunks=len(chunks), resumed=resumed)
        self._tell(job)
        if not chunks:
            self._finish(table_id, job)

    def _empty(self, table_id: int, why: str) -> None:
        """Begin a table that was partly copied anew."""
        route, before = self._roster.route(table_id), self._roster.followed(table_id)
        log.info("copy starts over", table=str(route.source.name), why=why)
        self._roster.change(table_id, lifecycle.again)
        self._forget_chunks(table_id)
        self._parts.target.clear(route, before)

    def _forget_chunks(self, table_id: int) -> None:
        """Before the table is emptied: what is on record of chunks would be taken for a part of the copy that comes.
        A target that holds no state cannot see to it."""
        self._parts.store.forget_chunks(self._pipeline, self._roster.epoch, table_id)

    # -- the workers

    def _work(self) -> None:
        loader: Loader | None = None
        try:
            while (item := self._next()) is not None:
                table_id, chunk = item
                if loader is None:
                    loader = self._parts.target.loader()
                try:
                    self._load(loader, table_id, chunk)
                    continue
                except _Ended:
                    self._set_aside(table_id)
                except CdcflowError as error:
                    if not concerns_one_table(error) and not isinstance(error, CopyRestart):
                        raise
                    self._give_up(table_id, error)
                # Its transaction is void; the next chunk gets a new one.
                loader.close()
                loader = None
        except BaseException as failure:
            with self._changed:
                self._failure = self._failure or failure
                self._ended = True
                self._changed.notify_all()
        finally:
            if loader is not None:
                loader.close()
            with self._changed:
                self._changed.notify_all()

    def _next(self) -> tuple[int, Chunk] | None:
        """Take a chunk of the table that has the most left, so that all end at about the same time."""
        with self._changed:
            if self._ended or self._parts.stop.is_set():
                return None
            open_jobs = [(len(job.chunks), table_id) for table_id, job in self._jobs.items() if job.chunks]
            if not open_jobs:
                return None
            table_id = max(open_jobs)[1]
            return table_id, self._jobs[table_id].chunks.pop()

    def _load(self, loader: Loader, table_id: int, chunk: Chunk) -> None:
        job, snapshot = self._jobs[table_id], self._snapshot
        position, token = str(snapshot.position), snapshot.token

        def record(rows: int, nbytes: int) -> DoneChunk:
            return DoneChunk(chunk, position, token, rows, nbytes)

        # Closed at once, whatever happens: others may wait for a table without a key until it is read.
        with closing(self._watched(job, chunk)) as watched:
            blocks: Iterable[bytes] = watched if job.route.key else self._placed(table_id, watched)
            done = loader.load(job.route, chunk, blocks, record, merge=job.merge or bool(chunk.changed_since))
        if not self._parts.target.capabilities.transactional:
            self._parts.store.record(self._pipeline, self._roster.epoch, done)
        with self._changed:
            job.left -= 1
            job.rows += done.rows
            job.bytes += done.bytes
            self._parts.report.rows_copied += done.rows
            self._parts.report.bytes_copied += done.bytes
            over = not job.left and not job.over
            self._changed.notify_all()
        self._tell(job)
        if over:
            self._finish(table_id, job)

    def _watched(self, job: _Job, chunk: Chunk) -> Generator[bytes]:
        def moved(much: int = 1) -> None:
            if self._ended or job.over or self._parts.stop.is_set():
                raise _Ended
            self._moved += much

        for block in self._snapshot.read(job.route, chunk, moved):
            moved(len(block))
            yield block

    def _placed(self, table_id: int, blocks: Iterator[bytes]) -> Iterable[bytes]:
        """Begin to read a table without a key, and put on record where its view stands, ahead of the rows.

        Not while the loader's transaction is open: a target may have one writer only.
        """
        first = list(islice(blocks, 1))
        position = str(self._snapshot.position_of(table_id))

        def placed(record: TableRecord) -> TableRecord | None:
            if record.state is not TableState.COPYING or record.copied_from == position:
                return None
            return replace(record, copied_from=position, copied_upto=position)

        self._roster.change(table_id, placed)
        return chain(first, blocks)

    def _finish(self, table_id: int, job: _Job) -> None:
        job.over = True
        upto = self._snapshot.upto(table_id)

        def whole(record: TableRecord) -> TableRecord | None:
            if record.state is not TableState.COPYING:
                return None  # sent back meanwhile
            latest = later(self._parts.source.parse(record.copied_upto), upto)
            return replace(record, rows=job.rows, copied_upto=str(latest))

        if self._roster.change(table_id, whole) is None:
            return  # dropped at the source, or sent back
        self._copied.finished.append(table_id)
        log.info("table copied", table=str(job.route.source.name), rows=job.rows, bytes=job.bytes)

    def _give_up(self, table_id: int, error: CdcflowError) -> None:
        """Fail one table, or send it back to the start."""
        job = self._jobs[table_id]
        with self._changed:
            first, job.over = not job.over, True
        self._set_aside(table_id)
        if not first:
            return
        if isinstance(error, CopyRestart):
            log.info("copy starts over", table=str(job.route.source.name), why=error.what)
            self._restart(table_id)
            return
        if isinstance(error, UniqueRejected) and job.emptied and self._is_overtaken(table_id):
            if self._roster.start_over(table_id, "unique"):
                log.info("copy starts over", table=str(job.route.source.name), why=error.what, at=error.at)
                self._copied.again.append(table_id)
                return
            error.do = (
                f"unique values of {job.route.source.name} move while it is copied: drop that constraint at the target"
                " for the time of the copy, or copy when fewer of them change"
            )
        self._fail(table_id, error)

    def _is_overtaken(self, table_id: int) -> bool:
        """Whether the table's chunks are of several moments, and the source's log went on between them: a unique value
        may have moved from a row that was read to one that was not."""
        return str(self._snapshot.upto(table_id)) != str(self._snapshot.position_of(table_id))

    def _set_aside(self, table_id: int) -> None:
        job = self._jobs[table_id]
        with self._changed:
            job.chunks.clear()
            self._changed.notify_all()

    def _fail(self, table_id: int, error: CdcflowError) -> None:
        fail(self._roster, table_id, error)

    def _restart(self, table_id: int) -> None:
        if self._roster.change(table_id, lifecycle.again) is not None:
            self._copied.again.append(table_id)

    def _tell(self, job: _Job) -> None:
        table = job.route.source
        self._parts.observer.copy_progress(str(table.name), job.rows, job.bytes, table.bytes)

    # -- the waiting thread

    def _turn(self) -> None:
        """End where told to, between tables and between the steps of a plan, and look after what `_attend` does."""
        if self._parts.stop.is_set() or (self._background is not None and self._background.is_set()):
            raise _Ended
        self._parts.observer.alive()
        self._keep_lease()

    def _attend(self, workers: list[threading.Thread]) -> None:
        """Wait for the workers; feed the watchdog while they move, and notice the loss of the lease."""
        moved = -1
        while any(worker.is_alive() for worker in workers):
            with self._changed:
                self._changed.wait(TICK_SECONDS)
            if self._background is not None and self._background.is_set():
                self._ended = True
            if self._moved != moved:
                moved = self._moved
                self._parts.observer.alive()
            self._keep_lease()

    def _keep_lease(self) -> None:
        if self._background is not None:
            return  # the applying thread looks after it
        if time.monotonic() - self._lease_at >= lease.LEASE_EVERY_SECONDS:
            self._lease_at = time.monotonic()
            lease.check(self._parts)

    def _verify(self) -> None:
        """Send back tables that were altered or rewritten under the copy.

        A table rewritten after the snapshot was taken looks empty to it, and one altered has chunks of two shapes.
        """
        finished = self._copied.finished
        if not finished:
            return
        now = {table.id: table for table in self._parts.source.tables()}
        stamps = self._parts.source.stamps(finished)
        for table_id in list(finished):
            job, table = self._jobs[table_id], now.get(table_id)
            rewritten = self._parts.source.rewritten(self._stamps.get(table_id, ""), stamps.get(table_id, ""))
            if table is not None and table.columns == job.route.source.columns and not rewritten:
                continue
            finished.remove(table_id)
            log.info("copy starts over", table=str(job.route.source.name), why="altered while it was copied")
            self._restart(table_id)
