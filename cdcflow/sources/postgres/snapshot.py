"""One consistent view of the source, read in block ranges by several connections, as COPY text.

A copy that was killed goes on under a later view (docs/adr/0002). What it reads again of the ranges that are
finished are the rows whose xmin is not older than the xmin of the view that they were read under:

- A row version stays where it was written and keeps its xmin until VACUUM removes it; an UPDATE writes a new one,
  wherever. So a version that both views see was read the first time. One that only the later view sees was written
  by a transaction that the earlier view did not see: it was running then, or had not begun. Both have numbers that
  are not below that view's xmin, which is the oldest number that was running.
- A subtransaction's number is larger than its transaction's, so the same holds for its rows. Row locks, foreign key
  checks and multixacts touch xmax only. A prepared transaction counts as running.
- Freezing sets bits and leaves the number (since 9.4); rows from before that have number 2, which `age` takes for
  infinitely old. COPY FREEZE writes frozen rows, but only into a table that got a new file in its transaction.
- Numbers have 32 bits. `age` counts from the next one, so it is right for every row younger than 2^31 transactions;
  an older frozen row may seem younger than it is, and is then read once more than needed. Views that are further
  apart are not compared at all (see `chunks.MOST_TRANSACTIONS`).
- A new file (VACUUM FULL, a rewriting ALTER TABLE) puts rows elsewhere, and one that ALTER TABLE made looks empty
  to an earlier view. So each chunk is read only from the file that the view knows: looked at behind the COPY, whose
  lock keeps the file from being replaced until then.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import pq

from cdcflow.engines.postgres import libpq_cy
from cdcflow.engines.postgres.errors import from_connection, from_result
from cdcflow.engines.postgres.names import ident, literal, qualified
from cdcflow.errors import CdcflowError, CopyRestart, SourceUnavailable
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.ports import Turn, unattended
from cdcflow.model.route import Route
from cdcflow.sources.postgres import chunks
from cdcflow.sources.postgres.chunks import Leaf, Range
from cdcflow.sources.postgres.position import Lsn
from cdcflow.sources.postgres.sessions import Sessions, Walsender

# One block handed on: large enough that a Python call for each does not count.
BLOCK_BYTES = 512 * 1024

# Files, names and leaves are the view's; sizes are of now, and cover what the view sees: a table only shrinks
# where nobody sees anything any more. TOAST counts in, so that a chunk of large values has fewer blocks.
_LEAVES = """
WITH RECURSIVE tree (oid) AS (
    SELECT {oid}::oid
  UNION
    SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
      JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
)
SELECT c.oid, c.relfilenode, coalesce(pg_relation_size(c.oid), 0), coalesce(pg_table_size(c.oid), 0), c.relpages,
       greatest(c.reltuples, 0)::int8, current_setting('block_size')
  FROM tree JOIN pg_class c ON c.oid = tree.oid
 WHERE c.relkind = 'r' AND c.relpersistence = 'p'
 ORDER BY c.oid
"""

# What ends a view: its walsender is gone, so the snapshot cannot be imported any more.
_VIEW_IS_GONE = ("22023", "42704", "55000")

# The table is no longer what the route was made from.
_ALTERED = ("42P01", "42703")


class PostgresSnapshot:
    """Implements `model.ports.Snapshot`. The walsender that exported the view is kept until `close`."""

    def __init__(
        self, sessions: Sessions, walsender: Walsender, exported: str, position: Lsn, chunk_bytes: int
    ) -> None:
        self.position = position
        self._sessions, self._walsender = sessions, walsender
        self._begin = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {literal(exported)}"
        self._chunk_bytes = chunk_bytes
        self._idle: list[pq.abc.PGconn] = []
        self._lock = threading.Lock()
        self._closed = False
        ((self.token,),) = self._rows("SELECT pg_snapshot_xmin(pg_current_snapshot())")

    def plan(self, route: Route, done: Sequence[DoneChunk], turn: Turn = unattended) -> list[Chunk]:
        """See `model.ports.Snapshot.plan`. Quick, however large the table is."""
        return chunks.plan(route, self._leaves(route.source.id), done, int(self.token))

    def read(self, route: Route, chunk: Chunk, turn: Turn = unattended) -> Iterator[bytes]:
        """See `model.ports.Snapshot.read`.

        Raises:
            CopyRestart: the table was rewritten, altered or dropped since the view was made.
            SourceUnavailable: the view is gone, with the connection that exported it.
        """
        pgconn = self._take()
        try:
            self._run(pgconn, self._begin)
            yield from self._copy(pgconn, route, chunk)
            self._run(pgconn, "COMMIT")
        except psycopg.Error:
            failure = from_connection(pgconn, side="source", at=self._sessions.address)
            pgconn.finish()
            raise failure from None
        except BaseException:
            pgconn.finish()
            raise
        self._give(pgconn)

    def position_of(self, table_id: int) -> Lsn:
        """As `model.ports.Snapshot.position_of`."""
        return self.position

    def upto(self, table_id: int) -> Lsn:
        """As `model.ports.Snapshot.upto`."""
        return self.position

    def close(self) -> None:
        """See `model.ports.Snapshot.close`."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for pgconn in idle:
            pgconn.finish()
        self._walsender.close()

    def _copy(self, pgconn: pq.abc.PGconn, route: Route, chunk: Chunk) -> Iterator[bytes]:
        piece = Range.of(chunk)
        # The name of now, quoted and qualified; only the oid where the table is gone.
        ((name,),) = self._run(pgconn, f"SELECT {piece.oid}::regclass")
        if name == str(piece.oid):
            raise _restart(route, "the table, or a partition of it, was dropped")
        result = pgconn.exec_(_query(name, route, chunk, piece).encode())
        if result.status != pq.ExecStatus.COPY_OUT:
            raise self._failure(result, route)
        while True:
            block, code = libpq_cy.get_copy(pgconn, BLOCK_BYTES)
            if block:
                yield block
            if code == libpq_cy.MORE:
                continue
            if code != libpq_cy.DONE:
                raise from_connection(pgconn, side="source", at=self._sessions.address)
            break
        while (last := pgconn.get_result()) is not None:
            if last.status != pq.ExecStatus.COMMAND_OK:
                raise self._failure(last, route)
        read_it = f"SELECT {literal(name)}::regclass::oid, pg_relation_filenode({literal(name)}::regclass)"
        if self._run(pgconn, read_it) != [(str(piece.oid), str(piece.file))]:
            raise _restart(route, "the table was rewritten, truncated or replaced while it was copied")

    def _leaves(self, table_id: int) -> list[Leaf]:
        leaves = []
        for oid, file, heap, whole, pages, tuples, block_size in self._rows(_LEAVES.format(oid=table_id)):
            blocks = int(heap) // int(block_size)
            step = max(1, self._chunk_bytes * blocks // max(1, int(whole)))
            # As the planner does: what ANALYZE counted, scaled to the size of now.
            rows = int(tuples) * blocks // int(pages) if int(pages) else int(tuples)
            leaves.append(Leaf(int(oid), int(file), blocks, step, rows))
        return leaves

    def _rows(self, query: str) -> list[tuple[str, ...]]:
        """Ask something of the view."""
        pgconn = self._take()
        try:
            self._run(pgconn, self._begin)
            rows = self._run(pgconn, query)
            self._run(pgconn, "COMMIT")
        except psycopg.Error:
            failure = from_connection(pgconn, side="source", at=self._sessions.address)
            pgconn.finish()
            raise failure from None
        except BaseException:
            pgconn.finish()
            raise
        self._give(pgconn)
        return rows

    def _run(self, pgconn: pq.abc.PGconn, statement: str) -> list[tuple[str, ...]]:
        result = pgconn.exec_(statement.encode())
        if result.status == pq.ExecStatus.COMMAND_OK:
            return []
        if result.status != pq.ExecStatus.TUPLES_OK:
            if statement == self._begin and _state(result) in _VIEW_IS_GONE:
                raise SourceUnavailable(
                    "the view that the copy reads is gone",
                    at=f"source {self._sessions.address}",
                    why="the connection that held it was cut; finished chunks stay, the rest is read under a new view",
                )
            raise self._failure(result, None)
        columns = range(result.nfields)
        return [tuple((result.get_value(row, c) or b"").decode() for c in columns) for row in range(result.ntuples)]

    def _failure(self, result: pq.abc.PGresult, route: Route | None) -> CdcflowError:
        if route is not None and _state(result) in _ALTERED:
            return _restart(route, "the table was altered or dropped while it was copied")
        relation = qualified(route.source.name) if route is not None else ""
        return from_result(result, side="source", at=self._sessions.address, relation=relation)

    def _take(self) -> pq.abc.PGconn:
        with self._lock:
            if self._closed:
                raise SourceUnavailable("the view of the source was given up", at=f"source {self._sessions.address}")
            if self._idle:
                return self._idle.pop()
        return self._sessions.raw()

    def _give(self, pgconn: pq.abc.PGconn) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(pgconn)
                return
        pgconn.finish()


def _query(name: str, route: Route, chunk: Chunk, piece: Range) -> str:
    columns = ", ".join(ident(column.name) for column, _ in route.columns)
    conditions = []
    if piece.low:
        conditions.append(f"ctid >= '({piece.low},0)'::pg_catalog.tid")
    if piece.high is not None:
        conditions.append(f"ctid < '({piece.high},0)'::pg_catalog.tid")
    if chunk.changed_since:
        oldest = literal(str(int(chunk.changed_since) % 2**32))
        conditions.append(f"age(xmin) <= age({oldest}::pg_catalog.xid)")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"COPY (SELECT {columns} FROM ONLY {name}{where}) TO STDOUT"


def _restart(route: Route, why: str) -> CopyRestart:
    return CopyRestart(f"the copy of {route.source.name} starts over", why=why)


def _state(result: pq.abc.PGresult) -> str:
    return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
