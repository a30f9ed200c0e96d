"""Chunks of the initial copy into MySQL: COPY text turned into LOAD DATA text on the way, one transaction a chunk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from typing import Final

import pymysql

from cdcflow.codecs.mysqlliterals import ImageError, cells
from cdcflow.codecs.mysqlload_cy import Encoder
from cdcflow.engines.mysql.connect import safe_url
from cdcflow.engines.mysql.errors import fenced, translate
from cdcflow.engines.mysql.names import qualified
from cdcflow.engines.mysql.rowfaults import row_fault
from cdcflow.errors import CdcflowError, CopyRestart, DecodeError, RowRejected, UniqueRejected
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.ops.faults import moment
from cdcflow.targets.mysql import bookkeeping, bulk, catalog
from cdcflow.targets.mysql.plan import Plan, plan
from cdcflow.targets.mysql.rowwise import mend
from cdcflow.targets.mysql.session import Session, text

# What was sent last is kept to find the key of a row that the server rejects.
_RECENT_BYTES: Final = 4 * 1024 * 1024

_SHOWN_KEY_CHARACTERS: Final = 80

_DUPLICATE: Final = 1062


class MysqlLoader:
    """Implements `model.ports.Loader`. Connects when first used, and again after a failure."""

    def __init__(self, url: str, pipeline: str, epoch: int) -> None:
        self._url, self._at = url, safe_url(url)
        self._pipeline, self._epoch = pipeline, epoch
        self._session: Session | None = None
        self._plan: Plan | None = None
        self._number = 0
        self._stages = bulk.Stages()

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
            RowRejected: names table, chunk, key or line, column and constraint; UniqueRejected: of a unique one.
            CopyRestart: a merged row meets another row's unique value; only a copy under one snapshot can load it.
            Fenced: the epoch is not ours.
            TargetUnavailable, AccessDenied, OperatorError: as `engines.mysql.errors.translate`.
        """
        recent = _Recent()
        recorded = False
        try:
            session = self._connected()
            made = self._planned(session, route)
            if merge:
                self._stages.make(session, made)
            session.begin()
            if merge:
                made = bulk.settled(session, made)
            rows, size = self._write(session, made, blocks, recent, merge=merge)
            record = done(rows, size)
            if not session.query(bookkeeping.fence(self._pipeline, self._epoch)):
                raise fenced(self._at, f"the lease of pipeline {self._pipeline} has another epoch than {self._epoch}")
            recorded = True
            session.run(bookkeeping.record_chunk(self._pipeline, record))
            moment("chunk sent")
            session.commit()
            moment("chunk committed")
            self._stages.ended(session)
        except (pymysql.Error, OSError) as error:
            if recorded and error.args[:1] == (_DUPLICATE,) and (found := self._recorded(done(0, 0))) is not None:
                return found
            failure = self._failure(error, route, chunk, recent, merge=merge)
            self.close()
            raise failure from None
        except ImageError as error:
            failure = self._unwritable(error, route, chunk, recent)
            self.close()
            raise failure from error
        except BaseException:
            self.close()  # the server rolls back
            raise
        return record

    def close(self) -> None:
        """As `Loader.close`. What was not committed is rolled back."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._plan = None
        self._stages = bulk.Stages()

    def _connected(self) -> Session:
        if self._session is None:
            self._session = Session(self._url, f"cdcflow {self._pipeline} copy")
        return self._session

    def _planned(self, session: Session, route: Route) -> Plan:
        if self._plan is None or self._plan.route is not route:
            self._number += 1
            names = tuple(column.name for column, _ in route.columns)
            outline = catalog.outline(session, route.target)
            table = catalog.table(session, route.target)
            mariadb = session.flavour.engine == "mariadb"
            self._plan = plan(route, names, table, self._number, mariadb=mariadb, outline=outline)
            self._plan.require_columns()
        return self._plan

    def _write(
        self, session: Session, made: Plan, blocks: Iterable[bytes], recent: _Recent, *, merge: bool
    ) -> tuple[int, int]:
        """Write the blocks; return how many rows and bytes."""
        count = size = 0
        staged = merge and not made.replaceable
        if staged:
            self._stages.empty(session, made)
        if made.has_documents:
            blocks = _whole_lines(blocks)
        for infile, some in groupby(blocks, lambda block: made.for_rows(block).infile):
            written = made if infile else made.by_literals()
            recent.begin(by_line=session.infile and infile)
            into = written.into_stage(made.sources) if staged else written.into
            run = _Run(some, recent)
            count += bulk.fill(session, into, run.rows, "REPLACE" if merge and not staged else "")[0]
            size += run.size
        if not staged:
            return count, size
        recent.forget()  # the server names no line from here on
        if made.soft or made.settable(made.sources):
            session.run(made.update_from_stage(made.sources, revive=True))
        session.run(made.insert_from_stage())
        return count, size

    def _recorded(self, wanted: DoneChunk) -> DoneChunk | None:
        """End the failed transaction; return the chunk's record if an earlier attempt got through after all.

        A record of that number with other bounds, or of another view, is another copy's.
        """
        assert self._session is not None
        chunk = wanted.chunk
        try:
            self._session.rollback()
            rows = self._session.query(bookkeeping.find_chunk(self._pipeline, chunk.table_id, chunk.number))
        except (pymysql.Error, OSError, CdcflowError):
            return None  # the first error is the one to tell
        if not rows:
            return None
        *found, count, size = rows[0]
        if [text(each) for each in found] != [
            chunk.low, chunk.high, chunk.changed_since, wanted.position, wanted.token
        ]:  # fmt: skip
            return None
        return DoneChunk(chunk, wanted.position, wanted.token, int(count), int(size))

    def _failure(self, error: Exception, route: Route, chunk: Chunk, recent: _Recent, *, merge: bool) -> CdcflowError:
        fault = row_fault(error)
        failure = translate(error, side="target", at=self._at, relation=qualified(route.target))
        if fault is None or not isinstance(failure, RowRejected):
            return failure
        if merge and fault.unique:
            return CopyRestart(
                f"table {route.target} changed too much during an interrupted copy",
                at=_piece(chunk),
                why=f"the target rejects a row: {fault.words}",
            )
        place = [f"table {route.target} of {self._at}", f"copied from {route.source.name}, {_piece(chunk)}"]
        key = recent.key(fault.row, route) if fault.row is not None else ""
        if not key and not fault.unique:
            key = self._searched(route, recent)
        if key:
            place.append(f"key {key}")
        if fault.column:
            place.append(f"column {fault.column}")
        if fault.constraint:
            place.append(f"constraint {fault.constraint}")
        do = mend(route.target, route.source.name)
        if fault.unique:
            do = f"if the table holds rows already, cdcflow resync {route.source.name} empties it first; else {do}"
        kind = UniqueRejected if fault.unique else RowRejected
        return kind(f"the target rejects a row: {fault.words}", at=", ".join(place), why=f"error {fault.code}", do=do)

    def _searched(self, route: Route, recent: _Recent) -> str:
        """Return the key of the first of the blocks' rows that the table refuses, '' where that does not show.

        Of statements that hold many rows the server says only that one is refused.
        """
        session, made = self._session, self._plan
        if session is None or made is None or not session.alive():
            return ""
        with suppress(pymysql.Error, OSError, CdcflowError, ImageError):
            session.rollback()
            session.begin()
            for row in recent.rows(len(route.columns)):
                try:
                    session.run(made.insert_row([row[place] for place in made.sources]))
                except pymysql.Error as error:
                    found = row_fault(error)
                    if found is not None and not found.unique:
                        return _shown(row, route)
        return ""

    def _unwritable(self, error: ImageError, route: Route, chunk: Chunk, recent: _Recent) -> CdcflowError:
        """Return the error for a row of the last block that has no form in its table."""
        assert self._plan is not None
        key = recent.key_of(route, self._plan.can_write)
        if not key:
            what = f"a copied row cannot be written: {error}"
            return DecodeError(what, at=f"table {route.target}, {_piece(chunk)}")
        return RowRejected(
            f"the target rejects a row: {error}",
            at=f"table {route.target} of {self._at}, copied from {route.source.name}, {_piece(chunk)}, key {key}",
            do="exclude the column in the rules, or give it a text type at the target",
        )


class _Run:
    """Blocks that are written in one way; `size` counts their bytes."""

    def __init__(self, blocks: Iterable[bytes], recent: _Recent) -> None:
        self._blocks, self._recent = blocks, recent
        self.size = 0

    def rows(self, encoder: Encoder, write: Callable[[bytes, int], None], most: int) -> int:
        count = 0
        for block in self._blocks:
            self._recent.add(block)
            count += encoder.lines(block, write, most)
            self.size += len(block)
        if not encoder.ended():
            raise ImageError("the rows end inside a line")
        return count


def _whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Put the pieces of large rows together: how a row is written shows only when it is whole."""
    pieces: list[bytes] = []
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join((*pieces, block[:end])) if pieces else block[:end]
            pieces.clear()
        if end < len(block):
            pieces.append(block[end:])
    if pieces:
        yield b"".join(pieces)


class _Recent:
    """The blocks that were sent last, to find a row in."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, int, bytes]] = deque()  # number of the block's first row, its rows, block
        self._next = 1
        self._size = 0
        self._by_line = True

    def begin(self, *, by_line: bool) -> None:
        """What is added from here on is of another statement, or of several: then the server counts no line."""
        self.forget()
        self._next, self._by_line = 1, by_line

    def add(self, block: bytes) -> None:
        rows = block.count(b"\n")
        self._blocks.append((self._next, rows, block))
        self._next += rows
        self._size += len(block)
        while self._size > _RECENT_BYTES and len(self._blocks) > 1:
            self._size -= len(self._blocks.popleft()[2])

    def forget(self) -> None:
        self._blocks.clear()
        self._size = 0

    def key(self, row: int, route: Route) -> str:
        """Return the key of a row as `id=17`, '' when the row is gone or has none."""
        for first, rows, block in self._blocks if self._by_line else ():
            if first <= row < first + rows:
                line = block.split(b"\n", row - first + 1)[row - first] + b"\n"
                with suppress(ImageError):
                    (found,) = cells(line, len(route.columns))
                    return _shown(found, route)
        return ""

    def rows(self, width: int) -> Iterator[list[bytes | None]]:
        """Yield the rows of the blocks."""
        for _, _, block in self._blocks:
            yield from cells(block, width)

    def key_of(self, route: Route, can_write: Callable[[list[bytes | None]], bool]) -> str:
        """Return the key of the last block's first row that cannot be written, '' where there is none."""
        if self._blocks:
            with suppress(ImageError):
                for row in cells(self._blocks[-1][2], len(route.columns)):
                    if not can_write(row):
                        return _shown(row, route)
        return ""


def _shown(row: list[bytes | None], route: Route) -> str:
    return " ".join(
        f"{column.name}={cell.decode(errors='replace')[:_SHOWN_KEY_CHARACTERS]}"
        for (column, _), cell in zip(route.columns, row, strict=True)
        if column.name in route.key and cell is not None
    )


def _piece(chunk: Chunk) -> str:
    return f"chunk {chunk.number} ({chunk.low or 'start'} to {chunk.high or 'end'})"
