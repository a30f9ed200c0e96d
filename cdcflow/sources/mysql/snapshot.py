"""The initial copy: ranges of each table's key, read by several connections, each under a view of its own.

There is no view that several sessions of MySQL or MariaDB share, unless the whole server is locked for a moment. So
each chunk is as of another moment: none before `position`, none after `upto`. What lies between the two is applied
once more, by key, and then every row is as of `upto` (docs/adr/0006). A table without a key cannot be had like that:
it is one chunk, under a view of which the exact place in the log is known.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pymysql
from pymysql.connections import Connection

from cdcflow.codecs import mysqltext_cy as mysqltext
from cdcflow.codecs.frames_cy import MessageError
from cdcflow.engines.mysql.errors import translate
from cdcflow.engines.mysql.names import literal, qualified
from cdcflow.engines.mysql.rowfaults import code
from cdcflow.errors import CdcflowError, CopyRestart, DecodeError, RowRejected, SourceUnavailable
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.ports import Turn, unattended
from cdcflow.model.route import Route
from cdcflow.model.schema import Table
from cdcflow.sources.mysql import catalog, chunks, log_end, selecting, views, walk
from cdcflow.sources.mysql.chunks import Key, Piece
from cdcflow.sources.mysql.position import Binlog
from cdcflow.sources.mysql.resultset import blocks
from cdcflow.sources.mysql.sessions import Sessions, close, query

# How long the server may be silent in the middle of an answer. A peer that vanished is noticed long before.
SILENCE_SECONDS: Final = 600.0

# How long the server may be kept waiting for us to take rows: as long as the target makes us wait.
UNTAKEN_SECONDS: Final = 86_400

# The table is no longer what the route was made from: no such column, table or index; altered since the view.
_ALTERED: Final = (1054, 1051, 1109, 1146, 1176, 1412)

# What of a column decides how its values are read.
_SHAPE: Final = """
SELECT column_name, column_type, is_nullable, character_set_name, collation_name, extra
FROM information_schema.columns WHERE table_schema = {schema} AND table_name = {table} ORDER BY ordinal_position
"""

_TRANSACTIONAL: Final = """
SELECT e.transactions = 'YES' FROM information_schema.tables t JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_schema = {schema} AND t.table_name = {table}
"""


@dataclass(frozen=True, slots=True)
class _View:
    """A connection that sees one table as of an exact position. `holds_lock`: by a lock, for want of transactions."""

    connection: Connection
    holds_lock: bool


class MysqlSnapshot:
    """Implements `model.ports.Snapshot`.

    Args:
        sessions: must stay open until this is closed.
        ended: set when whoever waits for the snapshot does so no longer.
        chunk_bytes, chunk_rows: the most that a chunk should hold.
        typed_documents: see `model.context.Context`.
        known: a position before this call, up to which the log was read: what it says of XA transactions is so.
    """

    def __init__(
        self,
        sessions: Sessions,
        ended: threading.Event | None = None,
        *,
        chunk_bytes: int = walk.CHUNK_BYTES,
        chunk_rows: int = walk.MOST_ROWS,
        typed_documents: bool = False,
        known: Binlog | None = None,
    ) -> None:
        self._sessions, self._ended = sessions, ended
        self._chunk_bytes, self._chunk_rows = chunk_bytes, chunk_rows
        self._typed_documents = typed_documents
        self._known = known
        self._lock = threading.Lock()
        self._keys: dict[int, Key] = {}
        self._shapes: dict[int, Sequence[tuple[Any, ...]]] = {}
        self._exact: dict[int, Binlog] = {}
        self._read: dict[int, Binlog] = {}
        self._closed = False
        position, self._settled = self._begin()
        self.position = position.after(known)
        self.token = str(self.position)

    def position_of(self, table_id: int) -> Binlog:
        """Return the position before which everything is in the copy of this table: `position`, or for a table
        without a key the one of its own view, as soon as that is open."""
        return self._exact.get(table_id, self.position)

    def upto(self, table_id: int | None = None) -> Binlog:
        """As `model.ports.Snapshot.upto`, for one table or for all."""
        with self._lock:
            if table_id is not None:
                return self._exact.get(table_id) or self._read.get(table_id, self.position)
            latest = self.position
            for position in (*self._read.values(), *self._exact.values()):
                latest = _later(latest, position)
            return latest

    def plan(self, route: Route, done: Sequence[DoneChunk], turn: Turn = unattended) -> list[Chunk]:
        """See `model.ports.Snapshot.plan`.

        Raises:
            CopyRestart: the finished chunks cannot be used.
            SourceUnavailable: a long transaction keeps the table from being locked for a moment (on MySQL without
                GTIDs).
            AccessDenied: the user may not lock it then.
        """
        if not route.key:
            return chunks.plan(route, Key(), done, _whole)
        with self._sessions.sql() as connection:
            try:
                if not self._settled:
                    # It waits for transactions that are in the log and not yet to be seen.
                    views.lock(connection, route.source.name, self._ended, self._sessions.address, turn)
                    views.unlock(connection)
                key = walk.key_of(connection, self._sessions.flavour, route.source)
                step = walk.rows_of_chunk(route.source, self._chunk_bytes, self._chunk_rows)
                edges = walk.Walk(connection, route.source, key, step, turn).edges if key.columns else _whole
                planned = chunks.plan(route, key, done, edges)
            except pymysql.Error as error:
                if code(error) not in _ALTERED:
                    raise
                # `read` says what became of it.
                key, planned = Key(), chunks.plan(route, Key(), [], _whole)
        self._keys[route.source.id] = key
        return planned

    def read(self, route: Route, chunk: Chunk, turn: Turn = unattended) -> Iterator[bytes]:
        """See `model.ports.Snapshot.read`.

        For a table without a key its view is opened here: whoever writes into the table or alters it waits for this
        reader alone, not for those of other tables.

        Raises:
            CopyRestart: the table was altered or dropped since the route was made.
            SourceUnavailable: the connection is gone; or a long transaction keeps a table without a key from being
                locked for a moment (on MySQL).
            AccessDenied: the user may not lock it then.
            RowRejected: a row holds a date that no calendar has, and the route rejects such a row.
        """
        piece = Piece.of(chunk)
        view = self._view(route, turn)
        connection = view.connection
        try:
            yield from self._rows(connection, route, piece, view)
            query(connection, "COMMIT")
            if view.holds_lock:
                views.unlock(connection)
            if route.key:
                with self._sessions.sql() as other:
                    self._note(route.source.id, log_end.end_position(other, self._sessions.flavour))
        except BaseException as error:
            close(connection)
            failure = self._failure(error, route)
            if failure is None:
                raise
            raise failure from None
        self._sessions.give(connection)

    def close(self) -> None:
        """See `model.ports.Snapshot.close`."""
        self._closed = True

    # -- where the views stand

    def _begin(self) -> tuple[Binlog, bool]:
        """Return the position that no view is older than, and whether all that is before it can be seen."""
        with self._sessions.sql() as connection:
            query(connection, views.BEGIN)
            flavour = self._sessions.flavour
            position = views.position_of_view(connection, flavour)
            query(connection, "COMMIT")
            if position is not None:
                return position, True
            position = log_end.start_position(connection, flavour)
            return position, views.settle(connection, flavour, self._ended, self._sessions.address)

    def _open_exact(self, route: Route, turn: Turn) -> _View:
        """Open the view of a table without a key, and remember its position."""
        name = route.source.name
        reader = self._sessions.take()
        locker: Connection | None = None
        try:
            wanted = {"schema": literal(name.schema), "table": literal(name.table)}
            found = query(reader, _TRANSACTIONAL.format(**wanted))
            if found and int(found[0][0] or 0):
                query(reader, views.BEGIN)
                position = views.position_of_view(reader, self._sessions.flavour)
                if position is None:
                    query(reader, "COMMIT")
                    locker = self._sessions.take()
                    views.lock(locker, name, self._ended, self._sessions.address, turn)
                    query(reader, views.BEGIN)
                    position = self._start()
                self._probe(reader, route)
                if locker is not None:
                    views.unlock(locker)
                    self._sessions.give(locker)
                view = _View(reader, holds_lock=False)
            else:
                views.lock(reader, name, self._ended, self._sessions.address, turn)
                position = self._start()
                view = _View(reader, holds_lock=True)
        except BaseException as error:
            for connection in (reader, locker):
                if connection is not None:
                    close(connection)
            failure = self._failure(error, route)
            if failure is None:
                raise
            raise failure from None
        with self._lock:
            self._exact[route.source.id] = position.after(self._known)
        return view

    def _start(self) -> Binlog:
        with self._sessions.sql() as connection:
            return log_end.start_position(connection, self._sessions.flavour)

    def _view(self, route: Route, turn: Turn) -> _View:
        if self._closed:
            raise SourceUnavailable("the views of the source were given up", at=f"source {self._sessions.address}")
        if route.key:
            return _View(self._sessions.take(), holds_lock=False)
        if route.source.id in self._exact:
            raise _restart(route, "a table without a key can be read once only under one position")
        return self._open_exact(route, turn)

    def _note(self, table_id: int, position: Binlog) -> None:
        """Remember that a view of a table was not later than this."""
        with self._lock:
            self._read[table_id] = _later(self._read.get(table_id, self.position), position)

    # -- reading

    def _rows(self, connection: Connection, route: Route, piece: Piece, view: _View) -> Iterator[bytes]:
        query(connection, f"SET SESSION net_write_timeout = {UNTAKEN_SECONDS}")
        if route.key:
            query(connection, "START TRANSACTION READ ONLY")
            self._probe(connection, route)
        if view.holds_lock:  # under a lock the catalogue's own questions about the table are not permitted
            with self._sessions.sql() as other:
                self._compare(other, route)
        else:
            self._compare(connection, route)
        key = self._keys.get(route.source.id, Key())
        if piece.by != key.names:
            raise _restart(route, "its primary key was altered")
        names = tuple(column.name for column, _ in route.columns)
        result = mysqltext.Result(
            selecting.kinds(route), names, selecting.ZERO_DATES[route.zero_dates], str(route.source.name)
        )
        where = chunks.where(key, piece.low, piece.high)
        statement = selecting.statement(route, key.index, where, typed_documents=self._typed_documents)
        yield from blocks(connection, statement, result, SILENCE_SECONDS)

    def _probe(self, connection: Connection, route: Route) -> None:
        """Take the lock on the table's definition, which the transaction keeps: nobody alters the table until then."""
        query(connection, f"SELECT 1 FROM {qualified(route.source.name)} LIMIT 0")

    def _compare(self, connection: Connection, route: Route) -> None:
        """Compare the table with the one that the route was made from, while nobody can alter it."""
        name, table_id = route.source.name, route.source.id
        wanted = {"schema": literal(name.schema), "table": literal(name.table)}
        shape = query(connection, _SHAPE.format(**wanted))
        known = self._shapes.get(table_id)
        if known is None:
            table = catalog.shape_of(connection, self._sessions.flavour, name)
            if table is None or table.columns != route.source.columns or not (route.key or _alike(table, route.source)):
                raise _restart(route, "the table was altered or dropped before it was copied")
            self._shapes[table_id] = shape
        elif shape != known:
            raise _restart(route, "the table was altered or dropped while it was copied")

    def _failure(self, error: BaseException, route: Route) -> CdcflowError | None:
        """Return the error of ours for what went wrong; None for one that is ours already, or nobody's."""
        at = self._sessions.address
        if isinstance(error, (pymysql.Error, OSError)):
            if code(error) in _ALTERED:
                return _restart(route, "the table was altered or dropped while it was copied")
            return translate(error, side="source", at=at, relation=qualified(route.source.name))
        if isinstance(error, mysqltext.NoDateError):
            return RowRejected(
                "a row holds a date that no calendar has, and the rules say to fail",
                at=f"table {route.source.name}, column {error.column}, source {at}",
                do="set `zero_dates: null` or `zero_dates: epoch` for the table in the rules, or correct the row",
            )
        if isinstance(error, MessageError):
            return DecodeError(f"a row of {route.source.name} cannot be read", at=f"source {at}", why=str(error))
        return None


def _whole(_low: chunks.Bound | None, high: chunks.Bound | None) -> Sequence[chunks.Edge]:
    return [(high, 0)]


def _alike(now: Table, before: Table) -> bool:
    """Return whether what the stream has to know besides the columns is as it was. It looks at no statement from
    before the position of a table without a key, which may be long after its route was made."""
    return (now.key, now.collation) == (before.key, before.collation)


def _later(one: Binlog, other: Binlog) -> Binlog:
    """Return the one that is ahead; `one` where they are equal."""
    return one if one.covers(other) else other


def _restart(route: Route, why: str) -> CopyRestart:
    return CopyRestart(f"the copy of {route.source.name} starts over", why=why)
