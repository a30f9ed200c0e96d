"""One connection that writes to the file: transactions under the process's write lock, and the pipeline's fence."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from cdcflow.engines.sqlite.connect import connect, take, write_lock
from cdcflow.engines.sqlite.errors import fenced, translate
from cdcflow.errors import Fenced, OperatorError
from cdcflow.model.copy import DoneChunk
from cdcflow.model.position import Share

# The state's tables: see `migrations/`. Their names begin so in a file, which has no schemas.
_ADVANCE = "UPDATE cdcflow_checkpoints SET position = ?, updated_at = ? WHERE pipeline = ? AND epoch = ?"
_ADVANCE_SHARE = (
    "UPDATE cdcflow_shares SET place = ?, updated_at = ? WHERE pipeline = ? AND share = ? AND epoch = ? AND place <= ?"
)
_FENCE = "SELECT 1 FROM cdcflow_checkpoints WHERE pipeline = ? AND epoch = ?"
_RECORD = (
    "INSERT INTO cdcflow_chunks (pipeline, table_id, number, low, high, changed_since, position, token, rows, bytes)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_FIND = (
    "SELECT low, high, changed_since, position, token, rows, bytes FROM cdcflow_chunks"
    " WHERE pipeline = ? AND table_id = ? AND number = ?"
)


class Session:
    """A connection with at most one transaction. One thread at a time.

    A transaction holds the file from its first moment: see `engines.sqlite.connect.write_lock`.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, str(path)
        self._lock = write_lock(path)
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self.open = False  # a transaction is

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, made when first asked for. Raises sqlite3.Error."""
        if self._connection is None:
            self._connection = connect(self._path, make=False)
            self._file = self._identity()
        return self._connection

    def begin(self) -> None:
        """Begin a transaction and take the file.

        Raises:
            TargetUnavailable: another transaction of this process holds it for too long.
            sqlite3.Error: another process holds it.
        """
        connection = self.connection
        take(self._lock, self._path)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._lock.release()
            raise
        self.open = True

    def commit(self) -> None:
        """Commit; durable when it returns.

        Raises:
            OperatorError: the file is no longer where it was, and the transaction is rolled back.
        """
        if self._identity() != self._file:
            self.close()
            raise OperatorError(
                "the file was removed or replaced while it was written to",
                at=self._at,
                why="what follows would be lost with it",
                do="start cdcflow again; where the file is gone it is made anew",
            )
        self.connection.execute("COMMIT")
        self.open = False
        self._lock.release()

    def rollback(self) -> None:
        """Give the open transaction up, if there is one. Never raises."""
        if not self.open:
            return
        try:
            assert self._connection is not None
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                self._drop()
        finally:
            self.open = False
            self._lock.release()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own; errors become ours."""
        try:
            self.begin()
            yield self.connection
            self.commit()
        except sqlite3.Error as error:
            raise translate(error, at=self._at) from None
        finally:
            self.rollback()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, to read with; errors become ours."""
        try:
            yield self.connection
        except sqlite3.Error as error:
            raise translate(error, at=self._at) from None

    def close(self) -> None:
        """Close; what was not committed is rolled back. Never raises."""
        self.rollback()
        with suppress(sqlite3.Error):
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _identity(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (-1, -1)
        return (found.st_dev, found.st_ino)

    # -- the pipeline's own rows, in the open transaction

    def advance(self, pipeline: str, epoch: int, position: str) -> None:
        """Write the position. Raises Fenced."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        done = self.connection.execute(_ADVANCE, (position, now, pipeline, epoch))
        if done.rowcount != 1:
            raise self._fenced(pipeline, epoch)

    def advance_shares(self, pipeline: str, moved: Mapping[str, Share]) -> None:
        """Write the places of the shares that moved. Raises Fenced."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        for name, at in moved.items():
            done = self.connection.execute(_ADVANCE_SHARE, (at.place, now, pipeline, name, at.epoch, at.place))
            if done.rowcount != 1:
                raise fenced(self._at, f"share {name} was taken over, or is further by now")

    def fence(self, pipeline: str, epoch: int) -> None:
        """Make sure that the lease is still ours. Raises Fenced."""
        if self.connection.execute(_FENCE, (pipeline, epoch)).fetchone() is None:
            raise self._fenced(pipeline, epoch)

    def record(self, pipeline: str, done: DoneChunk) -> None:
        """Write a finished chunk. Raises sqlite3.IntegrityError where it is on record already."""
        chunk = done.chunk
        self.connection.execute(
            _RECORD,
            (
                pipeline,
                chunk.table_id,
                chunk.number,
                chunk.low,
                chunk.high,
                chunk.changed_since,
                done.position,
                done.token,
                done.rows,
                done.bytes,
            ),
        )

    def recorded(self, pipeline: str, wanted: DoneChunk) -> DoneChunk | None:
        """Return a chunk that an earlier attempt recorded; None where the number is free or another copy's."""
        chunk = wanted.chunk
        row = self.connection.execute(_FIND, (pipeline, chunk.table_id, chunk.number)).fetchone()
        same = (chunk.low, chunk.high, chunk.changed_since, wanted.position, wanted.token)
        if row is None or tuple(row[:5]) != same:
            return None
        return DoneChunk(chunk, wanted.position, wanted.token, row[5], row[6])

    def forget_chunks(self, pipeline: str, table_ids: Sequence[int]) -> None:
        """Forget the finished chunks of tables."""
        for table_id in table_ids:
            self.connection.execute(
                "DELETE FROM cdcflow_chunks WHERE pipeline = ? AND table_id = ?", (pipeline, table_id)
            )

    def _fenced(self, pipeline: str, epoch: int) -> Fenced:
        row = self.connection.execute(
            "SELECT epoch FROM cdcflow_checkpoints WHERE pipeline = ?", (pipeline,)
        ).fetchone()
        why = "its checkpoint was removed" if row is None else f"epoch {row[0]} follows our {epoch}"
        return fenced(self._at, why)
