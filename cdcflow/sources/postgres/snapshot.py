"""One consistent view of the source, read in ctid ranges by several connections, as COPY text.

A copy that was killed goes on under a later view: see docs/adr/0002-resumed-copy.md. What it must read again of
the ranges that are finished are the rows whose xmin is not older than the first view's xmin: a row that was
changed or moved since has a new version, written by a transaction that was running or had not begun then, and
subtransactions have larger numbers than their transaction. Freezing keeps the raw xmin, and a row so old that its
number seems newer is only read once too often.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import pq

from cdcflow.engines.postgres import libpq_cy
from cdcflow.engines.postgres.errors import from_connection, from_result
from cdcflow.engines.postgres.names import ident, literal, qualified
from cdcflow.errors import CopyRestart, SourceUnavailable
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.model.schema import TableName
from cdcflow.sources.postgres.position import Lsn
from cdcflow.sources.postgres.sessions import Sessions, Walsender

# One block handed on: large enough that a Python call for each does not count.
BLOCK_BYTES = 512 * 1024

# Transaction numbers are compared modulo 2^32: a view older than this many transactions cannot be built upon.
_OLDEST_VIEW = 2**31 - 10_000_000

_LEAVES = """
SELECT c.oid::int8, n.nspname, c.relname, coalesce(pg_relation_filenode(c.oid), 0)::int8,
       pg_relation_size(c.oid) / current_setting('block_size')::int8,
       greatest(c.reltuples, 0)::int8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r'
  AND c.oid IN (SELECT relid FROM pg_partition_tree(%(oid)s::oid::regclass) UNION SELECT %(oid)s::oid)
ORDER BY c.oid
"""


class PostgresSnapshot:
    """Implements `model.ports.Snapshot`. The walsender that exported the view is kept until `close`."""

    def __init__(
        self, sessions: Sessions, walsender: Walsender, exported: str, position: Lsn, chunk_bytes: int
    ) -> None:
        self.position = position
        self._sessions, self._walsender, self._exported = sessions, walsender, exported
        self._chunk_bytes = chunk_bytes
        self._idle: list[pq.abc.PGconn] = []
        self._lock = threading.Lock()
        self._closed = False
        pgconn = self._take()
        result = pgconn.exec_(b"SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        self.token = (result.get_value(0, 0) or b"").decode()
        self._give(pgconn)

    def plan(self, route: Route, done: Sequence[DoneChunk]) -> list[Chunk]:
        """See `model.ports.Snapshot.plan`. Bounds are `oid:file:block`, the upper one exclusive, open if ''."""
        with self._sessions.sql() as connection:
            leaves = connection.execute(_LEAVES, {"oid": route.source.id}).fetchall()
            (block_size,) = connection.execute("SELECT current_setting('block_size')::int8").fetchone() or (8192,)
        step = max(1, self._chunk_bytes // int(block_size))
        base = [each.chunk for each in done if not each.chunk.changed_since]
        since = self._since(route, done, leaves) if done else ""
        number = max((each.chunk.number for each in done), default=-1) + 1
        found: list[Chunk] = []
        for oid, _, _, file, blocks, tuples in leaves:
            covered = _covered(oid, base)
            for low, high in covered:
                found.append(_chunk(route, number + len(found), oid, file, low, high, since, 0))
            for low, high in _uncovered(covered):
                for start, end in _divide(low, high, int(blocks), step):
                    share = int(tuples * (min(end or blocks, blocks) - start) / blocks) if blocks else 0
                    found.append(_chunk(route, number + len(found), oid, file, start, end, "", max(0, share)))
        return found

    def _since(
        self, route: Route, done: Sequence[DoneChunk], leaves: Sequence[tuple[int, str, str, int, int, int]]
    ) -> str:
        if not route.key:
            raise CopyRestart(
                f"the interrupted copy of {route.source.name} starts over",
                why="it has no key, so rows that changed meanwhile cannot be found in the target",
            )
        files = {oid: file for oid, _, _, file, _, _ in leaves}
        for each in done:
            oid, file, _ = _bound(each.chunk.low)
            if files.get(oid) != file:
                raise CopyRestart(
                    f"the interrupted copy of {route.source.name} starts over",
                    why="the table was rewritten, truncated or repartitioned meanwhile",
                )
        oldest = min(int(each.token) for each in done)
        if int(self.token) - oldest > _OLDEST_VIEW:
            raise CopyRestart(f"the interrupted copy of {route.source.name} is too old to go on from")
        return str(oldest)

    def read(self, route: Route, chunk: Chunk) -> Iterator[bytes]:
        """See `model.ports.Snapshot.read`."""
        pgconn = self._take()
        try:
            query = self._query(pgconn, route, chunk)
            self._expect(pgconn, pgconn.exec_(query.encode()), pq.ExecStatus.COPY_OUT)
            while True:
                block, code = libpq_cy.get_copy(pgconn, BLOCK_BYTES)
                if block:
                    yield block
                if code == libpq_cy.MORE:
                    continue
                if code != libpq_cy.DONE:
                    raise from_connection(pgconn, side="source", at=self._sessions.address)
                while (result := pgconn.get_result()) is not None:
                    self._expect(pgconn, result, pq.ExecStatus.COMMAND_OK)
                break
        except psycopg.Error:
            failure = from_connection(pgconn, side="source", at=self._sessions.address)
            pgconn.finish()
            raise failure from None
        except BaseException:
            pgconn.finish()
            raise
        self._give(pgconn)

    def _query(self, pgconn: pq.abc.PGconn, route: Route, chunk: Chunk) -> str:
        oid, _, low = _bound(chunk.low)
        high = _bound(chunk.high)[2] if chunk.high else None
        columns = ", ".join(ident(column.name) for column, _ in route.columns)
        table = f"ONLY {qualified(self._name(pgconn, oid))}"
        conditions = []
        if low:
            conditions.append(f"ctid >= '({low},0)'::tid")
        if high is not None:
            conditions.append(f"ctid < '({high},0)'::tid")
        if chunk.changed_since:
            oldest = int(chunk.changed_since) % 2**32
            conditions.append(f"age(xmin) <= age({literal(str(oldest))}::xid)")
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"COPY (SELECT {columns} FROM {table}{where}) TO STDOUT"

    def _name(self, pgconn: pq.abc.PGconn, oid: int) -> TableName:
        result = pgconn.exec_params(
            b"SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            b" WHERE c.oid = $1::oid",
            [str(oid).encode()],
        )
        self._expect(pgconn, result, pq.ExecStatus.TUPLES_OK)
        if not result.ntuples:
            raise CopyRestart(f"relation {oid} is gone from the source")
        return TableName((result.get_value(0, 0) or b"").decode(), (result.get_value(0, 1) or b"").decode())

    def close(self) -> None:
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for pgconn in idle:
            pgconn.finish()
        self._walsender.close()

    def _take(self) -> pq.abc.PGconn:
        with self._lock:
            if self._closed:
                raise SourceUnavailable("the view of the source was given up", at=self._sessions.address)
            if self._idle:
                return self._idle.pop()
        pgconn = self._sessions.raw()
        try:
            for statement in (
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                f"SET TRANSACTION SNAPSHOT {literal(self._exported)}",
            ):
                self._expect(pgconn, pgconn.exec_(statement.encode()), pq.ExecStatus.COMMAND_OK)
        except BaseException:
            pgconn.finish()
            raise
        return pgconn

    def _give(self, pgconn: pq.abc.PGconn) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(pgconn)
                return
        pgconn.finish()

    def _expect(self, pgconn: pq.abc.PGconn, result: pq.abc.PGresult, wanted: pq.ExecStatus) -> None:
        if result.status == wanted:
            return
        error = from_result(result, side="source", at=self._sessions.address)
        if pgconn.status != pq.ConnStatus.OK:
            raise from_connection(pgconn, side="source", at=self._sessions.address)
        if "snapshot" in error.why and "does not exist" in error.why:
            raise SourceUnavailable("the view of the source is gone", at=self._sessions.address, why=error.why)
        raise error


def _chunk(route: Route, number: int, oid: int, file: int, low: int, high: int | None, since: str, rows: int) -> Chunk:
    upper = "" if high is None else f"{oid}:{file}:{high}"
    return Chunk(route.source.id, number, f"{oid}:{file}:{low}", upper, since, rows)


def _bound(text: str) -> tuple[int, int, int]:
    oid, file, block = text.split(":")
    return int(oid), int(file), int(block)


def _covered(oid: int, base: Sequence[Chunk]) -> list[tuple[int, int | None]]:
    """Return the finished block ranges of one leaf, joined where they touch."""
    ranges = sorted(
        (_bound(each.low)[2], _bound(each.high)[2] if each.high else None)
        for each in base
        if _bound(each.low)[0] == oid
    )
    joined: list[tuple[int, int | None]] = []
    for low, high in ranges:
        if joined and joined[-1][1] == low:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined


def _uncovered(covered: Sequence[tuple[int, int | None]]) -> Iterator[tuple[int, int | None]]:
    """Yield the gaps between finished ranges, the last one open."""
    at: int | None = 0
    for low, high in covered:
        if at is not None and at < low:
            yield at, low
        at = high
    if at is not None:
        yield at, None


def _divide(low: int, high: int | None, blocks: int, step: int) -> Iterator[tuple[int, int | None]]:
    """Divide a range into steps; an open one ends with an open piece, for blocks that were added meanwhile."""
    end = blocks if high is None else high
    start = low
    while start + step < end:
        yield start, start + step
        start += step
    yield start, high
