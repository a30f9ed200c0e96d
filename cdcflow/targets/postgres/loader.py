"""Chunks of the initial copy into PostgreSQL: COPY text as it came from the source, one transaction a chunk."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import psycopg
from psycopg import errors, pq

from cdcflow.engines.postgres.connect import connect_raw, safe_url
from cdcflow.engines.postgres.doubt import Doubting
from cdcflow.engines.postgres.errors import copy_place, from_connection, translate
from cdcflow.engines.postgres.names import ident, qualified
from cdcflow.engines.postgres.waiting import end_copy, last_result, put_copy
from cdcflow.errors import CdcflowError, CopyRestart, RowRejected, UniqueRejected
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.ops.faults import moment
from cdcflow.targets.postgres.rowwise import HOLDS_NUL, shown
from cdcflow.targets.sql.bookkeeping import FIND_CHUNK, RECORD_CHUNK, chunk_parameters

# Once per connection. A chunk is recorded as done for good, so its commit waits for the disk. Messages below
# an error are off so that words from the server during a COPY mean one thing: it failed.
_SESSION: Final = "SET synchronous_commit = on; SET client_min_messages = error"
_TRIGGERS_OFF: Final = "SET session_replication_role = replica"

_STAGE: Final = "pg_temp.cdcflow_chunk"

# What was sent last is kept to find the key of a row that the server rejects: about what both sockets hold.
_RECENT_BYTES: Final = 4 * 1024 * 1024

_UNIQUE_VIOLATION: Final = "23505"
_BAD_ENCODING: Final = "22021"


class PostgresLoader:
    """Implements `model.ports.Loader`. Connects when first used, and again after a failure.

    `triggers_off`: whether triggers and foreign keys are off in this session, None before the first load. The
    role may lack the privilege (`GRANT SET ON PARAMETER session_replication_role`); then they fire.
    """

    def __init__(self, url: str, pipeline: str, epoch: int) -> None:
        self.triggers_off: bool | None = None
        self._url, self._at = url, safe_url(url)
        self._pipeline, self._epoch = pipeline, epoch
        self._pgconn: pq.abc.PGconn | None = None
        self._doubt = Doubting(url, "target")

    def load(
        self,
        route: Route,
        chunk: Chunk,
        blocks: Iterable[bytes],
        done: Callable[[int, int], DoneChunk],
        *,
        merge: bool,
    ) -> DoneChunk:
        """As `Loader.load`. A chunk that is on record already, from a commit whose answer was lost, is not
        loaded twice: the record is returned.

        Raises:
            RowRejected: names table, chunk, key or line, column and constraint.
            CopyRestart: a merged row meets another row's unique value; only a copy under one snapshot can load it.
            Fenced: the epoch is not ours.
            TargetUnavailable, AccessDenied, OperatorError: as `engines.postgres.errors.translate`.
        """
        self._connection()
        recent = _Recent()
        try:
            self._command("BEGIN")
            if merge:
                rows, size = self._merge(route, blocks, recent)
            else:
                rows, size = self._copy(qualified(route.target), _column_list(route), blocks, recent)
            record = done(rows, size)
            self._ask(RECORD_CHUNK, chunk_parameters(self._pipeline, self._epoch, record))
            moment("chunk sent")
            self._command("COMMIT")
            moment("chunk committed")
        except psycopg.Error as error:
            if error.sqlstate == _UNIQUE_VIOLATION and (found := self._recorded(done(0, 0))) is not None:
                return found
            failure = self._failure(error, route, chunk, recent, merge=merge)
            self.close()
            raise failure from None
        except BaseException:
            self.close()  # the server rolls back
            raise
        return record

    def close(self) -> None:
        """As `Loader.close`. What was not committed is rolled back."""
        if self._pgconn is not None:
            self._pgconn.finish()
            self._pgconn = None

    def _connection(self) -> pq.abc.PGconn:
        if self._pgconn is None:
            self._pgconn = connect_raw(self._url, side="target", application=f"cdcflow {self._pipeline} copy")
            try:
                self._command(_SESSION)
                self.triggers_off = self._pgconn.exec_(_TRIGGERS_OFF.encode()).status == pq.ExecStatus.COMMAND_OK
            except psycopg.Error as error:
                failure = translate(error, side="target", at=self._at)
                self.close()
                raise failure from None
        return self._pgconn

    def _command(self, statement: str) -> pq.abc.PGresult:
        assert self._pgconn is not None
        self._pgconn.send_query(statement.encode())
        return _checked(last_result(self._pgconn, self._doubt))

    def _ask(self, statement: str, parameters: list[bytes]) -> pq.abc.PGresult:
        assert self._pgconn is not None
        self._pgconn.send_query_params(statement.encode(), parameters)
        return _checked(last_result(self._pgconn, self._doubt))

    def _merge(self, route: Route, blocks: Iterable[bytes], recent: _Recent) -> tuple[int, int]:
        columns, target = _column_list(route), qualified(route.target)
        self._command(f"CREATE TEMP TABLE cdcflow_chunk ON COMMIT DROP AS SELECT {columns} FROM {target} WITH NO DATA")
        loaded = self._copy(_STAGE, columns, blocks, recent)
        recent.forget()  # the server names no line from here on
        for statement in merge_statements(route):
            self._command(statement)
        return loaded

    def _copy(self, table: str, columns: str, blocks: Iterable[bytes], recent: _Recent) -> tuple[int, int]:
        """COPY the blocks; return how many rows and bytes."""
        pgconn = self._connection()
        listed = f" ({columns})" if columns else ""
        pgconn.send_query(f"COPY {table}{listed} FROM STDIN".encode())
        _expect(last_result(pgconn, self._doubt), pq.ExecStatus.COPY_IN)
        waiting = select.poll()
        waiting.register(pgconn.socket, select.POLLIN)
        size = 0
        complaint = None
        for block in blocks:
            put_copy(pgconn, block)
            size += len(block)
            recent.add(block)
            if waiting.poll(0):
                # During COPY IN the server is silent unless it failed. Should it have said something else,
                # the COPY fails by this and is tried again.
                complaint = b"stopped by cdcflow"
                break
        end_copy(pgconn, complaint)
        result = _checked(last_result(pgconn, self._doubt))
        return int(result.command_tuples or 0), size

    def _recorded(self, wanted: DoneChunk) -> DoneChunk | None:
        """End the failed transaction; return the chunk's record if an earlier attempt got through after all.

        A record of that number with other bounds, or of another view, is another copy's.
        """
        chunk = wanted.chunk
        try:
            self._command("ROLLBACK")
            key = [self._pipeline.encode(), str(chunk.table_id).encode(), str(chunk.number).encode()]
            result = self._ask(FIND_CHUNK, key)
        except (psycopg.Error, CdcflowError):
            return None  # the first error is the one to tell
        if not result.ntuples:
            return None
        *found, rows, size = ((result.get_value(0, column) or b"").decode() for column in range(7))
        if found != [chunk.low, chunk.high, chunk.changed_since, wanted.position, wanted.token]:
            return None
        return DoneChunk(chunk, wanted.position, wanted.token, int(rows), int(size))

    def _failure(
        self, error: psycopg.Error, route: Route, chunk: Chunk, recent: _Recent, *, merge: bool
    ) -> CdcflowError:
        assert self._pgconn is not None
        if not error.sqlstate:
            return from_connection(self._pgconn, side="target", at=self._at)
        failure = translate(error, side="target", at=self._at, relation=qualified(route.target))
        if not isinstance(failure, RowRejected):
            return failure
        piece = f"chunk {chunk.number} ({chunk.low or 'start'} to {chunk.high or 'end'})"
        if merge and error.sqlstate == _UNIQUE_VIOLATION:
            return CopyRestart(
                f"table {route.target} changed too much during an interrupted copy", at=piece, why=failure.what
            )
        place = [f"table {route.target} of {self._at}", f"copied from {route.source.name}, {piece}"]
        line, column = copy_place(error)
        key = recent.key(line, route) if line is not None else ""
        if key:
            place.append(f"key {key}")
        elif line is not None:
            place.append(f"line {line} of the chunk")
        nul = recent.holding_nul(line, route) if line is not None and error.sqlstate == _BAD_ENCODING else ""
        if column := error.diag.column_name or column or nul:
            place.append(f"column {column}")
        if error.diag.constraint_name:
            place.append(f"constraint {error.diag.constraint_name}")
        mend = (
            f"change table {route.target} so that it takes what the source holds, or mend the row at the source;"
            " or exclude the column or the table in the rules"
        )
        if error.sqlstate == _UNIQUE_VIOLATION:
            mend = f"if the table holds rows already, cdcflow resync {route.source.name} empties it first; else {mend}"
        kind = UniqueRejected if error.sqlstate == _UNIQUE_VIOLATION else RowRejected
        return kind(HOLDS_NUL if nul else failure.what, at=", ".join(place), why=failure.why, do=mend)


def merge_statements(route: Route) -> list[str]:
    """Return what brings the staged rows into the table, over rows that are there already."""
    columns, target = _column_list(route), qualified(route.target)
    key = route.key_in_target
    insert = f"INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {_STAGE}"
    rest = [(column, name) for column, name in route.columns if name not in key]
    if any(column.identity == "always" for column, _ in rest):
        # Such a column can be inserted but never updated.
        same = " AND ".join(f"old.{ident(name)} = new.{ident(name)}" for name in key)
        return [f"DELETE FROM {target} AS old USING {_STAGE} AS new WHERE {same}", insert]
    conflict = f"ON CONFLICT ({', '.join(map(ident, key))})"
    if not rest:
        return [f"{insert} {conflict} DO NOTHING"]
    news = ", ".join(f"{ident(name)} = EXCLUDED.{ident(name)}" for _, name in rest)
    return [f"{insert} {conflict} DO UPDATE SET {news}"]


class _Recent:
    """The blocks that were sent last, to find a line in."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, bytes]] = deque()  # number of the block's first line, block
        self._next_line = 1
        self._size = 0

    def add(self, block: bytes) -> None:
        self._blocks.append((self._next_line, block))
        self._next_line += block.count(b"\n")
        self._size += len(block)
        while self._size > _RECENT_BYTES and len(self._blocks) > 1:
            self._size -= len(self._blocks.popleft()[1])

    def forget(self) -> None:
        self._blocks.clear()
        self._size = 0

    def key(self, line: int, route: Route) -> str:
        """Return the key of a row as `id=17`, '' when the row is gone or has none."""
        return _key_of(self._cells(line), route)

    def holding_nul(self, line: int, route: Route) -> str:
        """Return the column of a row that holds U+0000, '' when there is none."""
        names = (name for _, name in route.columns)
        return next((name for name, cell in zip(names, self._cells(line), strict=False) if b"\0" in cell), "")

    def _cells(self, line: int) -> list[bytes]:
        for first, block in reversed(self._blocks):
            if first <= line:
                lines = block.split(b"\n", line - first + 1)
                return lines[line - first].split(b"\t") if len(lines) > line - first else []
        return []


def _key_of(cells: Sequence[bytes], route: Route) -> str:
    if len(cells) != len(route.columns):
        return ""
    key = set(route.key)
    found = (
        f"{column.name}={shown(cell)}"
        for (column, _), cell in zip(route.columns, cells, strict=True)
        if column.name in key
    )
    return " ".join(found)


def _column_list(route: Route) -> str:
    return ", ".join(ident(name) for _, name in route.columns)


def _checked(result: pq.abc.PGresult) -> pq.abc.PGresult:
    return _expect(result, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


def _expect(result: pq.abc.PGresult, *wanted: pq.ExecStatus) -> pq.abc.PGresult:
    if result.status not in wanted:
        raise errors.error_from_result(result)
    return result
