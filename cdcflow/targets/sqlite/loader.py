"""Chunks of the initial copy into the file: COPY text turned into rows, one transaction a chunk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from cdcflow.codecs.sqliterows_cy import RowError, copy_rows
from cdcflow.engines.sqlite.errors import CONSTRAINT, code, is_about_a_row, translate
from cdcflow.errors import ConfigError, CopyRestart, DecodeError, UniqueRejected
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.ops.faults import moment
from cdcflow.targets.sqlite import catalog
from cdcflow.targets.sqlite.names import table_of
from cdcflow.targets.sqlite.plan import Plan, plan
from cdcflow.targets.sqlite.rows import key_of_row, rejected
from cdcflow.targets.sqlite.session import Session

# A loader reads so far ahead before it takes the file, so that several loaders read at once though only one writes.
_AHEAD_BYTES: Final = 8 * 1024 * 1024


class SqliteLoader:
    """Implements `model.ports.Loader`. Opens the file when first used, and again after a failure."""

    def __init__(self, path: Path, pipeline: str, epoch: int) -> None:
        self._at = str(path)
        self._pipeline, self._epoch = pipeline, epoch
        self._session = Session(path)

    def load(
        self,
        route: Route,
        chunk: Chunk,
        blocks: Iterable[bytes],
        done: Callable[[int, int], DoneChunk],
        *,
        merge: bool,
    ) -> DoneChunk:
        """As `Loader.load`. A chunk that is on record already is not loaded twice: the record is returned.

        Raises:
            RowRejected: names table, chunk and key.
            CopyRestart: a merged row meets another row's unique value; only a copy under one snapshot can load it.
            Fenced: the epoch is not ours.
            TargetUnavailable, AccessDenied, OperatorError: as `engines.sqlite.errors.translate`.
        """
        session = self._session
        source = iter(blocks)
        ahead = _read_ahead(source)
        try:
            session.begin()
            session.fence(self._pipeline, self._epoch)
            found = session.recorded(self._pipeline, done(0, 0))
            if found is not None:
                session.rollback()
                return found
            table = catalog.table(session.connection, table_of(route))
            into = plan(route, tuple(column.name for column, _ in route.columns), table)
            rows, size = self._write(into, _chained(ahead, source), chunk, merge=merge)
            record = done(rows, size)
            session.record(self._pipeline, record)
            moment("chunk sent")
            session.commit()
            moment("chunk committed")
        except sqlite3.Error as error:
            self.close()
            raise translate(error, at=self._at) from None
        except BaseException:
            self.close()  # the transaction is rolled back
            raise
        return record

    def close(self) -> None:
        """As `Loader.close`. What was not committed is rolled back."""
        self._session.close()

    def _write(self, into: Plan, blocks: Iterator[bytes], chunk: Chunk, *, merge: bool) -> tuple[int, int]:
        """Insert the blocks; return how many rows and bytes."""
        if len(into.names) != len(into.route.columns):
            raise ConfigError(
                f"target table {table_of(into.route)} lacks a column, or generates one",
                at=f"copied from {into.route.source.name}",
                do=f"cdcflow resync {into.route.source.name}",
            )
        sql = into.insert(over=merge)
        connection = self._session.connection
        count = size = 0
        for block in _whole_lines(blocks):
            size += len(block)
            try:
                rows = copy_rows(block, into.kinds)
            except RowError as error:
                raise DecodeError(f"a copied row cannot be read: {error}", at=self._piece(into.route, chunk)) from error
            count += len(rows)
            connection.execute("SAVEPOINT block")
            try:
                connection.executemany(sql, rows)
            except sqlite3.Error as error:
                if not is_about_a_row(error):
                    raise
                raise self._refused(error, into, rows, sql, chunk, merge=merge) from None
            connection.execute("RELEASE block")
        return count, size

    def _refused(
        self, error: sqlite3.Error, into: Plan, rows: list[tuple[object, ...]], sql: str, chunk: Chunk, *, merge: bool
    ) -> Exception:
        """Find the row of a block that the file refused."""
        piece = self._piece(into.route, chunk)
        unique = code(error) == CONSTRAINT and str(error).startswith("UNIQUE")
        if merge and unique:
            what = f"table {table_of(into.route)} changed too much during an interrupted copy"
            return CopyRestart(what, at=piece, why=translate(error, at=self._at).what)
        connection, key = self._session.connection, ""
        connection.execute("ROLLBACK TO block")
        for row in rows:
            try:
                connection.execute(sql, row)
            except sqlite3.Error:
                key = key_of_row(into, row)
                break
        found = rejected(error, into, key, self._at, replayed=False)
        kind = UniqueRejected if unique else type(found)
        return kind(found.what, at=f"{found.at}, {piece}", why=found.why, do=found.do)

    def _piece(self, route: Route, chunk: Chunk) -> str:
        return f"chunk {chunk.number} ({chunk.low or 'start'} to {chunk.high or 'end'}) of {route.source.name}"


def _read_ahead(source: Iterator[bytes]) -> list[bytes]:
    ahead, size = [], 0
    for block in source:
        ahead.append(block)
        size += len(block)
        if size >= _AHEAD_BYTES:
            break
    return ahead


def _whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Join the pieces of a large row: SQLite takes each value whole."""
    held: list[bytes] = []
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end == len(block) and not held:
            yield block
            continue
        if end:
            held.append(block[:end])
            yield b"".join(held)
            held = []
        if end < len(block):
            held.append(block[end:])
    if held:
        yield b"".join(held)


def _chained(ahead: list[bytes], source: Iterator[bytes]) -> Iterator[bytes]:
    while ahead:
        yield ahead.pop(0)
    yield from source
