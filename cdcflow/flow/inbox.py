"""What has been read and not yet applied: bounded by bytes, handed over as one batch when the target is free."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from cdcflow.model.change import ChangeBatch, Heartbeat, Meeting, SchemaChange, merge
from cdcflow.model.position import Position, Shares
from cdcflow.model.route import SchemaChanges

# Below this many rows a batch costs more round trips than it saves waiting, while more is known to be on its way.
# Measured: 20,000 to 30,000 gave the most rows a second, 5,000 and 50,000 less.
ROWS_WORTH_APPLYING_WHILE_LAGGING = 25_000

# A lagging reader that brought nothing for this long has run into a lull: apply what is there. A few of its
# longest naps (20 ms).
READER_STALL_SECONDS = 0.08


@dataclass(frozen=True, slots=True)
class Fill:
    """When a batch is full, and how long one may wait to become so."""

    max_rows: int = 50_000
    max_bytes: int = 32 * 1024 * 1024
    max_delay: float = 0.0


class Inbox:
    """A queue between the reading thread, which puts, and the applying thread, which takes.

    Order is kept. A piece of a large transaction whose commit is not there yet (`complete=False`) is handed over
    alone, everything else is joined up to the limits. A heartbeat moves the end of the batch before it, or is
    handed over by itself when nothing is open.
    """

    def __init__(self, limit_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit_bytes
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: deque[tuple[ChangeBatch | Heartbeat, float]] = deque()
        self._rows = 0
        self._bytes = 0
        self._lagging = False
        self._newest_at = 0.0
        self._applying = 0  # bytes of what was taken last, where that is larger than a batch should be
        self._inside = False  # the last piece put was not complete
        self._failure: BaseException | None = None
        self._hurried = False
        self.newest: Position | None = None  # the last commit boundary that was read

    # -- the reader's side

    def put(self, piece: ChangeBatch | Heartbeat) -> None:
        """Append one piece. Never blocks: the reader asks `wait_for_room` first."""
        now = self._clock()
        with self._changed:
            if isinstance(piece, ChangeBatch):
                self._rows += piece.rows
                self._bytes += piece.nbytes
                self._lagging = piece.lagging
                self._inside = not piece.complete
            elif self._inside:
                return  # inside a transaction there is no boundary that a heartbeat could move
            else:
                self._lagging = False
                if self._queue and isinstance(last := self._queue[-1][0], Heartbeat) and not _apart(last.end, piece):
                    self._queue.pop()
            if not self._inside:
                self.newest = piece.end
            self._newest_at = now
            self._queue.append((piece, now))
            self._changed.notify()

    def wait_for_room(self, timeout: float) -> bool:
        """Return whether there is room for another piece, waiting up to `timeout` seconds for it."""
        with self._changed:
            if self._bytes + self._applying < self._limit:
                return True
            self._changed.wait(timeout)
            return self._bytes + self._applying < self._limit

    def fail(self, failure: BaseException) -> None:
        """Let `take` raise `failure` once everything before it was taken."""
        with self._changed:
            self._failure = failure
            self._changed.notify()

    # -- the applier's side

    def take(self, fill: Fill, wait: float) -> ChangeBatch | Heartbeat | None:
        """Return what is next, at most `wait` seconds from now; None if nothing came.

        At rest the first piece is handed over as soon as it is there. While the source is known to hold more,
        a batch first grows to what is worth a round trip.
        """
        until = self._clock() + wait
        with self._changed:
            if self._applying:
                self._applying = 0
                self._changed.notify()
            while not self._queue:
                if self._failure is not None:
                    raise self._failure
                left = until - self._clock()
                if left <= 0:
                    return None
                self._changed.wait(left)
            while (pause := self._pause(fill)) > 0:
                self._changed.wait(pause)
            taken = self._pop(fill)
            if not isinstance(taken, Heartbeat):
                # A value of many megabytes: what is read ahead beside it must fit, too.
                nbytes = sum(piece.nbytes for piece in taken[0])
                self._applying = nbytes if nbytes > fill.max_bytes else 0
            self._changed.notify()
        if isinstance(taken, Heartbeat):
            return taken
        batch = merge(taken[0])
        if taken[1] is not None:
            batch.end = taken[1].end
        return batch

    def hurry(self) -> None:
        """From now on hand over what is there without waiting for more."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def oldest_commit(self) -> float:
        """Return the commit time of the oldest waiting change, 0 when none waits."""
        with self._changed:
            for piece, _ in self._queue:
                if isinstance(piece, ChangeBatch):
                    return piece.first_commit_time or piece.commit_time
        return 0.0

    @property
    def lagging(self) -> bool:
        """Whether the source said, last time it brought something, that it has more."""
        return self._lagging

    @property
    def nbytes(self) -> int:
        return self._bytes

    def _pause(self, fill: Fill) -> float:
        """Seconds that the batch in front should still wait to grow; 0 to hand it over now."""
        if self._hurried or self._failure is not None:
            return 0.0
        if self._rows >= fill.max_rows or self._bytes >= min(fill.max_bytes, self._limit):
            return 0.0
        front, since = self._queue[0]
        if isinstance(front, Heartbeat) or not front.complete:
            return 0.0
        now = self._clock()
        pause = since + fill.max_delay - now if fill.max_delay else 0.0
        if self._lagging and self._rows < ROWS_WORTH_APPLYING_WHILE_LAGGING:
            pause = max(pause, self._newest_at + READER_STALL_SECONDS - now)
        return pause

    def _pop(self, fill: Fill) -> Heartbeat | tuple[list[ChangeBatch], Heartbeat | None]:
        front, _ = self._queue.popleft()
        if isinstance(front, Heartbeat):
            return front
        self._forget(front)
        pieces = [front]
        rows, nbytes = front.rows, front.nbytes
        beat: Heartbeat | None = None
        end = front.end
        while self._queue and front.complete and not _alone(front):
            following, _ = self._queue[0]
            if _apart(end, following):
                break
            end = following.end
            if isinstance(following, Heartbeat):
                beat = following
                self._queue.popleft()
                continue
            if not following.complete or stops(following):
                break
            if rows + following.rows > fill.max_rows or nbytes + following.nbytes > fill.max_bytes:
                break
            beat = None
            rows += following.rows
            nbytes += following.nbytes
            self._queue.popleft()
            self._forget(following)
            pieces.append(following)
        return pieces, beat

    def _forget(self, piece: ChangeBatch) -> None:
        self._rows -= piece.rows
        self._bytes -= piece.nbytes


def _alone(batch: ChangeBatch) -> bool:
    return any(isinstance(step, Meeting) for step in batch.steps)


def _apart(end: Position, following: ChangeBatch | Heartbeat) -> bool:
    """Return whether what follows `end` must not be joined with what is before.

    A position in shares guards the rows with the epochs that it names: where one of them is missing from what follows
    (somebody else reads it by now), or has another epoch, its rows would be written unguarded. A table is altered
    ahead of all rows of a batch, so the rows of its older shape must not be in the same.
    """
    if not isinstance(end, Shares):
        return False
    after = following.end
    assert isinstance(after, Shares)
    for name, share in end.shares.items():
        there = after.shares.get(name)
        if there is None or there.epoch != share.epoch:
            return True
    if isinstance(following, Heartbeat):
        return False
    return _alone(following) or any(isinstance(step, SchemaChange) for step in following.steps)


def stops(batch: ChangeBatch) -> SchemaChange | None:
    """Return the schema change in `batch` at which the rules want the pipeline to stop, if there is one."""
    for step in batch.steps:
        if isinstance(step, SchemaChange) and step.new.schema_changes is SchemaChanges.STOP:
            return step
    return None
