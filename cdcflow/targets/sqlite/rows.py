"""Row changes of one table into the file, in the source's order: runs of equal statements go over as one."""

from __future__ import annotations

import re
import sqlite3
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cdcflow.codecs.copytext_cy import offsets
from cdcflow.codecs.sqliterows_cy import AbsentError, image_rows
from cdcflow.engines.sqlite.errors import column_of, is_about_a_row, translate
from cdcflow.errors import CdcflowError, ReplayCollision, RowRejected
from cdcflow.model.frame import UNCHANGED, RowBatch
from cdcflow.model.route import OnDelete
from cdcflow.targets.sql import refusals
from cdcflow.targets.sqlite.names import table_of
from cdcflow.targets.sqlite.plan import Plan

Row = tuple[Any, ...]

_RUNS: Final = re.compile(rb"I+|U+|D+")

# Rows whose values are Python objects at one time.
_SLICE_ROWS: Final = 4096

# How much of a key's text an error shows.
_SHOWN_KEY_CHARACTERS: Final = 80


@dataclass(slots=True)
class Writer:
    """Writes frames through one cursor. `careful`: row by row, so that a refused one can be named.

    repaired: updated rows that were not there and had to be inserted.
    """

    connection: sqlite3.Connection
    at: str
    careful: bool = False
    repaired: int = 0

    def frame(self, plan: Plan, frame: RowBatch) -> None:
        """Write one frame.

        Raises:
            OperatorError: a change cannot find its row: the log holds neither a key nor the whole old row; or the row
                is missing and the log does not hold all of it.
            RowRejected: only when careful: the file refuses a row; its table and key are named.
            sqlite3.Error: the file refused a row, which one is not known, or something else happened.
        """
        after, before = offsets(frame.after_sizes), offsets(frame.before_sizes)
        before_sizes = array("i", frame.before_sizes)
        for run in _RUNS.finditer(frame.ops):
            op = run[0][:1]
            for start in range(run.start(), run.end(), _SLICE_ROWS):
                end = min(start + _SLICE_ROWS, run.end())
                news, olds = after[start * 8 : end * 8], before[start * 8 : end * 8]
                if op == b"I":
                    self._insert(plan, frame, news)
                elif plan.append_only:
                    continue
                elif op == b"U":
                    self._update(plan, frame, news, olds, before_sizes[start:end])
                elif plan.route.on_delete is not OnDelete.IGNORE:
                    self._delete(plan, frame, olds)

    # -- inserts

    def _insert(self, plan: Plan, frame: RowBatch, starts: bytes) -> None:
        try:
            rows = image_rows(frame.after, starts, frame.width, plan.sources, plan.kinds, None)
        except AbsentError:
            raise refusals.incomplete(plan.route.source, "an inserted row lacks a column") from None
        over = frame.idempotent or plan.may_hold_more
        self._many(plan, plan.insert(over=over), rows, key_of_row, replayed=frame.idempotent)

    # -- deletes

    def _delete(self, plan: Plan, frame: RowBatch, starts: bytes) -> None:
        try:
            keys = image_rows(frame.before, starts, frame.width, plan.key_sources, plan.key_kinds, None)
        except AbsentError:
            raise refusals.incomplete(plan.route.source, refusals.no_old_row(keyed=bool(plan.key))) from None
        self._many(plan, plan.delete(), keys, _key_of_key, replayed=frame.idempotent)

    # -- updates

    def _update(self, plan: Plan, frame: RowBatch, news: bytes, olds: bytes, old_sizes: Sequence[int]) -> None:
        rows = image_rows(frame.after, news, frame.width, plan.sources, plan.kinds, UNCHANGED)
        keys = self._old_keys(plan, frame, rows, olds, old_sizes)
        whole = plan.update()
        plain: list[Row] = []
        finding = plan.key
        for row, key in zip(rows, keys, strict=True):
            now = tuple([row[place] for place in finding])
            if finding and key == now and None not in now and UNCHANGED not in row:
                plain.append(row)
                continue
            self._whole(plan, whole, plain, frame)
            plain = []
            self._one(plan, row, key, now, replayed=frame.idempotent)
        self._whole(plan, whole, plain, frame)

    def _old_keys(
        self, plan: Plan, frame: RowBatch, rows: list[Row], olds: bytes, old_sizes: Sequence[int]
    ) -> list[Row]:
        """Return what finds each row as it was."""
        there = [number for number, size in enumerate(old_sizes) if size]
        if len(there) < len(rows):
            starts = array("q", olds)
            olds = array("q", [starts[number] for number in there]).tobytes()
        found = image_rows(frame.before, olds, frame.width, plan.key_sources, plan.key_kinds, UNCHANGED)
        old = dict(zip(there, found, strict=True))
        keys = []
        for number, row in enumerate(rows):
            key = old.get(number)
            if key is None or UNCHANGED in key:
                if not plan.key:
                    raise refusals.incomplete(plan.route.source, refusals.no_old_row(keyed=bool(plan.key)))
                key = tuple([row[place] for place in plan.key])
                if UNCHANGED in key:
                    raise refusals.incomplete(plan.route.source, refusals.no_old_row(keyed=bool(plan.key)))
            keys.append(key)
        return keys

    def _whole(self, plan: Plan, whole: str | None, rows: list[Row], frame: RowBatch) -> None:
        """Update rows that keep their key and whose images are whole."""
        if not rows or whole is None:
            return
        done = self._many(plan, whole, rows, key_of_row, replayed=frame.idempotent)
        if done >= len(rows) or frame.idempotent:
            return
        # To run them again changes nothing where the row is there.
        for row in rows:
            if self._run(plan, whole, row, key_of_row, replayed=False) == 0:
                self._run(plan, plan.insert(over=False), row, key_of_row, replayed=False)
                self.repaired += 1

    def _one(self, plan: Plan, row: Row, key: Row, now: Row, *, replayed: bool) -> None:
        """Update one row that may change its key, or whose image is not whole."""
        moved = bool(plan.key) and key != now
        absent = UNCHANGED in row
        if moved and UNCHANGED in now:
            raise refusals.incomplete(plan.route.source, "the log does not hold the key of a changed row")
        if moved and (not replayed or plan.keeps_only_marked):
            kept = plan.remove_kept()
            if kept is not None:
                self._run(plan, kept, now, _key_of_key, replayed=replayed)
        if moved and replayed and not absent and not plan.may_hold_more:
            # The copy may hold the row under its new key already.
            self._run(plan, plan.remove(), key, _key_of_key, replayed=True)
            self._run(plan, plan.insert(over=True), row, key_of_row, replayed=True)
            return
        places = tuple(
            place
            for place in range(len(plan.names))
            if row[place] is not UNCHANGED and (moved or place not in plan.key)
        )
        if not places:
            return
        values = (*(row[place] for place in places), *key)
        found = self._run(plan, plan.update_some(places), values, lambda plan, _: _shown(plan, key), replayed=replayed)
        if found or replayed:
            return
        if absent:
            raise refusals.gone(table_of(plan.route), plan.route.source.name, f"of {self.at}, key {_shown(plan, key)}")
        self._run(plan, plan.insert(over=False), row, key_of_row, replayed=False)
        self.repaired += 1

    # -- statements

    def _many(self, plan: Plan, sql: str, rows: Sequence[Row], key: _KeyOf, *, replayed: bool) -> int:
        """Run one statement for each row; return how many rows it found."""
        if self.careful:
            return sum(self._run(plan, sql, row, key, replayed=replayed) for row in rows)
        if len(rows) == 1:
            return self.connection.execute(sql, rows[0]).rowcount
        return self.connection.executemany(sql, rows).rowcount

    def _run(self, plan: Plan, sql: str, row: Row, key: _KeyOf, *, replayed: bool) -> int:
        try:
            return self.connection.execute(sql, row).rowcount
        except sqlite3.Error as error:
            if not self.careful or not is_about_a_row(error):
                raise
            raise rejected(error, plan, key(plan, row), self.at, replayed=replayed) from None


_KeyOf = Callable[[Plan, Row], str]


def rejected(error: sqlite3.Error, plan: Plan, key: str, at: str, *, replayed: bool) -> CdcflowError:
    """Return the error for a row that the file refused, with its table and key."""
    found = translate(error, at=at)
    route = plan.route
    where = f"table {table_of(route)} of {at}, from {route.source.name}"
    where += f", key {key}" if key else ""
    where += f", column {column_of(error)}" if column_of(error) else ""
    if replayed and str(error).startswith("UNIQUE"):
        do = f"cdcflow resync {route.source.name}"
        return ReplayCollision(found.what, table_id=route.source.id, at=where, why=found.why, do=do)
    return RowRejected(
        found.what,
        at=where,
        why=found.why,
        do=f"change table {table_of(route)} so that it takes what the source holds, or mend the row at the source"
        f" and run cdcflow resync {route.source.name}; or exclude the column or the table in the rules",
    )


def key_of_row(plan: Plan, row: Row) -> str:
    """Return the key of a row of every written column as an error shows it: `id=17`; '' for a table without one."""
    return _shown(plan, tuple(row[place] for place in plan.key)) if plan.key else ""


def _key_of_key(plan: Plan, key: Row) -> str:
    return _shown(plan, key) if plan.key else ""


def _shown(plan: Plan, key: Row) -> str:
    pairs = zip(plan.route.key, key, strict=False)
    return " ".join(
        f"{name}={str(value)[:_SHOWN_KEY_CHARACTERS]}" for name, value in pairs if isinstance(value, str | int | float)
    )
