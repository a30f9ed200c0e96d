"""Where a table is divided: bounds of its key, found through the index and without reading the rows.

A key that begins with an integer is divided by value: the server estimates, from a few pages of the index, how many
rows lie between two values. What has too many is divided again, so it makes no difference how the values are spread.
Other keys are walked: the index is passed over once at the server, and every so many rows one key comes here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.engines.mysql.names import ident, literal, qualified
from cdcflow.model.ports import Turn
from cdcflow.model.schema import Table
from cdcflow.sources.mysql.chunks import INTEGERS, Bound, Key, asked, fit, where
from cdcflow.sources.mysql.sessions import query

# A chunk is the work that a restart repeats, and that one worker may be left with at the end.
CHUNK_BYTES: Final = 64 * 1024 * 1024
MOST_ROWS: Final = 250_000
FEWEST_ROWS: Final = 1_000

# Into how many parts a range is divided at once.
_PARTS: Final = 64

# Where the server cannot estimate, every answer is the whole table. Then it is walked.
_SPARE_ESTIMATES: Final = 1_000

# Estimates that come to less than this part of what the server believes the table to hold are none.
_TRUSTED: Final = 4

_INDEXES: Final = """
SELECT index_name, column_name, collation, sub_part, non_unique FROM information_schema.statistics
WHERE table_schema = {schema} AND table_name = {table} AND index_type = 'BTREE' AND {used}
ORDER BY index_name = 'PRIMARY' DESC, non_unique, index_name, seq_in_index
"""


def key_of(connection: Connection, flavour: Flavour, table: Table) -> Key:
    """Return what the table can be divided by: the primary key, else a unique index without NULL."""
    used = "is_visible = 'YES'" if flavour.engine == "mysql" else "ignored = 'NO'"
    wanted = _INDEXES.format(schema=literal(table.name.schema), table=literal(table.name.table), used=used)
    rows = query(connection, wanted)
    columns = {column.name: column for column in table.columns}
    candidates: list[Key] = []
    for name in dict.fromkeys(row[0] for row in rows):
        parts = [row for row in rows if row[0] == name]
        if name is None or int(parts[0][4]):
            continue
        first = []
        for _, part, direction, length, _ in parts:
            column = columns.get(part or "")
            if column is None or length is not None or direction != parts[0][2] or not fit(column):
                break
            first.append(column)
        if first:
            candidates.append(Key(name, tuple(first)))
    named = [each for each in candidates if set(each.names) == set(table.key)]
    best = [each for each in candidates if each.index == "PRIMARY"] or named or candidates
    return best[0] if best else Key()


def rows_of_chunk(table: Table, chunk_bytes: int = CHUNK_BYTES, most: int = MOST_ROWS) -> int:
    """Return how many rows a chunk should have, by what the server knows of their size."""
    if table.estimated_rows <= 0 or table.bytes <= 0:
        return most
    return max(min(FEWEST_ROWS, most), min(most, chunk_bytes * table.estimated_rows // table.bytes))


class Walk:
    """Finds the edges at which ranges of one table are cut, and calls `turn` before each question to the server."""

    def __init__(self, connection: Connection, table: Table, key: Key, step: int, turn: Turn) -> None:
        self._connection, self._key, self._step, self._turn = connection, key, step, turn
        self._from = f"FROM {qualified(table.name)} FORCE INDEX ({ident(key.index)})"
        # With FORCE INDEX MySQL 9 does not look how many rows there are, since nothing hangs on it.
        self._estimated = f"FROM {qualified(table.name)} USE INDEX ({ident(key.index)})"
        self._table_rows = table.estimated_rows
        self._estimates = _SPARE_ESTIMATES + 8 * max(0, table.estimated_rows) // step

    def edges(self, low: Bound | None, high: Bound | None) -> Sequence[tuple[Bound | None, int]]:
        """Return where to cut the range behind `low` up to `high`: bounds in order, the last one `high` itself, each
        with about how many rows come behind the one before it."""
        if self._key.columns[0].logical not in INTEGERS:
            return list(self._walked(low, high))
        lead = ident(self._key.columns[0].name)
        ends = f"SELECT MIN({lead}) + 0, MAX({lead}) + 0 {self._from}{self._inside(low, high)}"
        ((first, last),) = query(self._connection, ends)
        if first is None or last is None:
            return [(high, 0)]
        found: list[tuple[Bound | None, int]] = []
        # Small neighbours are put together: a gap among the keys makes no chunks.
        edge: Bound | None = None
        rows = total = 0
        for bound, count in self._split(int(first) - 1, int(last), low, high):
            if rows and rows + count > self._step:
                found.append((edge, rows))
                rows = 0
            edge, rows, total = bound, rows + count, total + count
        if low is None and high is None and total < self._table_rows // _TRUSTED:
            return list(self._walked(low, high))
        return [*found, (high, rows)]

    def _split(
        self, before: int, last: int, low: Bound | None, high: Bound | None
    ) -> Iterator[tuple[Bound | None, int]]:
        """Cut a range by the key's first column, an integer larger than `before` and at most `last` there."""
        if self._estimates <= 0:
            yield from self._walked(low, high)
            return
        rows = self._estimate(low, high)
        if rows <= self._step:
            yield high, rows
        elif last - before <= 1:
            if len(self._key.columns) > 1:
                yield from self._walked(low, high)
            else:
                yield high, rows
        else:
            parts = min(_PARTS, last - before, rows // self._step + 1)
            cuts = [before + (last - before) * part // parts for part in range(parts + 1)]
            for start, end in pairwise(cuts):
                yield from self._split(
                    start,
                    end,
                    low if start == before else (str(start),),
                    high if end == last else (str(end),),
                )

    def _walked(self, low: Bound | None, high: Bound | None) -> Iterator[tuple[Bound | None, int]]:
        """Cut a range at every `step`th key."""
        columns = self._key.columns
        wanted = ", ".join(map(asked, columns))
        order = ", ".join(ident(name) for name in self._key.names)
        while True:
            self._turn()
            next_one = f"{self._from}{self._inside(low, high)} ORDER BY {order} LIMIT 1 OFFSET {self._step - 1}"
            rows = query(self._connection, f"SELECT {wanted} {next_one}")
            if not rows:
                yield high, self._step // 2
                return
            low = tuple(str(value) for value in rows[0])
            yield low, self._step

    def _estimate(self, low: Bound | None, high: Bound | None) -> int:
        """Return about how many rows a range has."""
        self._turn()
        self._estimates -= 1
        with self._connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL SELECT 1 {self._estimated}{self._inside(low, high)}")
            (row, *_) = cursor.fetchall()
            names = [str(each[0]).lower() for each in cursor.description]
        return int(row[names.index("rows")] or 0)

    def _inside(self, low: Bound | None, high: Bound | None) -> str:
        condition = where(self._key, low, high)
        return f" WHERE {condition}" if condition else ""
