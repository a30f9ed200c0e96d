"""How a table is divided into ranges of its key, what is left of a copy that was broken off, and the SQL of a range.
No I/O.

A range is everything behind one bound up to and with another, in the server's own order of the key's index. A bound
is a row of values, one for each of the key's columns or for the first few; then it stands behind all rows that begin
with it. Bounds are never compared here, because only the server knows a collation's order. What puts the chunks of
several interrupted copies into order is their rank: a number that each gets when it is planned, between those of its
neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from cdcflow.engines.mysql.names import ident, literal
from cdcflow.errors import CopyRestart
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical
from cdcflow.sources.mysql import types

Bound = tuple[str, ...]
Edge = tuple[Bound | None, int]

INTEGERS: Final = (Logical.INT2, Logical.INT4, Logical.INT8, Logical.UINT8)
_QUOTED: Final = (
    Logical.DATE,
    Logical.TIMESTAMP,
    Logical.TIMESTAMPTZ,
    Logical.INTERVAL,
    Logical.UUID,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a table: rows behind `low` up to and with `high`, None where it is open.

    `by` are the columns that the bounds are of, () for a whole table that is not divided.
    """

    by: tuple[str, ...]
    rank: Fraction
    low: Bound | None
    high: Bound | None

    @classmethod
    def of(cls, chunk: Chunk) -> Piece:
        """Read a chunk's bounds back. Raises ValueError where they are not of this form."""
        try:
            low = json.loads(chunk.low)
            high = json.loads(chunk.high) if chunk.high else None
            after = low["after"]
            return cls(
                tuple(low["by"]),
                Fraction(low["rank"]),
                None if after is None else tuple(after),
                None if high is None else tuple(high),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a chunk of a MySQL table: {chunk.low[:60]!r}") from error

    def chunk(self, table_id: int, number: int, rows: int) -> Chunk:
        """Return it as the chunk that the state remembers."""
        low = {"by": self.by, "rank": str(self.rank), "after": self.low}
        high = "" if self.high is None else json.dumps(self.high)
        return Chunk(table_id, number, json.dumps(low), high, "", rows)


@dataclass(frozen=True, slots=True)
class Key:
    """What a table is divided by: the first columns of an index, all ascending or all descending, none NULL.

    Empty for a table that has nothing to be divided by.
    """

    index: str = ""
    columns: tuple[Column, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def fit(column: Column) -> bool:
    """Return whether ranges of the column can be asked for with constants, and so that the server uses an index.

    An ENUM or SET is sorted by number and compared with a constant by text.
    """
    if column.nullable:
        return False
    simple = (*INTEGERS, *_QUOTED, Logical.DECIMAL, Logical.FLOAT4, Logical.FLOAT8)
    base = types.base(column.type.text)
    return column.logical in simple or base in ("char", "varchar", "binary", "varbinary", "inet4", "inet6")


def asked(column: Column) -> str:
    """Return the SQL that prints a value of the column for `constant`, so that nothing of it is lost."""
    name = ident(column.name)
    if types.base(column.type.text) in ("char", "varchar", "binary", "varbinary"):
        return f"HEX({name})"
    if column.logical in (Logical.FLOAT4, Logical.FLOAT8):
        return f"{name} * 1e0"
    return f"CAST({name} AS CHAR)"


def constant(column: Column, text: str) -> str:
    """Return the value that `asked` printed as a constant.

    Raises:
        ValueError: the text is none that `asked` prints.
    """
    base = types.base(column.type.text)
    if base in ("char", "varchar", "binary", "varbinary"):
        digits = bytes.fromhex(text).hex()
        # In the column's own character set; its collation wins over the constant's.
        return f"_{column.type.charset} x'{digits}'" if column.type.charset else f"x'{digits}'"
    if column.logical in _QUOTED or base in ("inet4", "inet6"):
        return literal(text)
    if not set(text) <= set("0123456789+-.eE"):
        raise ValueError("not a number")
    if column.logical in (Logical.FLOAT4, Logical.FLOAT8):
        return text if "e" in text.lower() else f"{text}e0"
    return text


def where(key: Key, low: Bound | None, high: Bound | None) -> str:
    """Return the condition of a range, '' for all rows.

    Written out with OR and AND: the servers use no index for ranges of `(a, b) > (1, 2)`.
    """
    parts = []
    if low is not None:
        parts.append(_beyond(key.columns, low, ">", ">"))
    if high is not None:
        parts.append(_beyond(key.columns, high, "<", "<="))
    return " AND ".join(parts)


def _beyond(columns: Sequence[Column], bound: Bound, strict: str, last: str) -> str:
    name, value = ident(columns[0].name), constant(columns[0], bound[0])
    if len(bound) == 1:
        return f"{name} {last} {value}"
    rest = _beyond(columns[1:], bound[1:], strict, last)
    return f"({name} {strict} {value} OR ({name} = {value} AND {rest}))"


def plan(
    route: Route, key: Key, done: Sequence[DoneChunk], edges: Callable[[Bound | None, Bound | None], Sequence[Edge]]
) -> list[Chunk]:
    """Return the chunks that make a table whole beside those that are done.

    Args:
        edges: cuts a range: bounds in order, the last one the range's own upper one, each with about how many rows
            come behind the one before it.

    Raises:
        CopyRestart: the finished chunks cannot be used.
    """
    number = max((each.chunk.number for each in done), default=-1) + 1
    found: list[Chunk] = []
    for gap in _gaps(route, key, done):
        cuts = edges(gap.low, gap.high) if key.columns else [(None, max(0, route.source.estimated_rows))]
        low = gap.low
        for rank, (high, rows) in zip(_ranks(gap.left, gap.right, len(cuts)), cuts, strict=True):
            piece = Piece(key.names, rank, low, high)
            found.append(piece.chunk(route.source.id, number + len(found), rows))
            low = high
    return found


@dataclass(frozen=True, slots=True)
class _Gap:
    """A range that no finished chunk covers, and the ranks of its neighbours."""

    low: Bound | None
    high: Bound | None
    left: Fraction | None
    right: Fraction | None


def _gaps(route: Route, key: Key, done: Sequence[DoneChunk]) -> list[_Gap]:
    if done and not route.key:
        raise CopyRestart(
            f"the interrupted copy of {route.source.name} starts over",
            why="it has no key, so rows that changed meanwhile cannot be found in the target",
        )
    pieces = sorted((Piece.of(each.chunk) for each in done), key=lambda piece: piece.rank)
    if any(piece.by != key.names for piece in pieces):
        raise CopyRestart(
            f"the interrupted copy of {route.source.name} starts over",
            why="the table has another primary key by now, and the finished chunks are ranges of the old one",
        )
    gaps: list[_Gap] = []
    low: Bound | None = None
    rank: Fraction | None = None
    for piece in pieces:
        if piece.low != low:
            gaps.append(_Gap(low, piece.low, rank, piece.rank))
        low, rank = piece.high, piece.rank
    if not pieces or low is not None:
        gaps.append(_Gap(low, None, rank, None))
    return gaps


def _ranks(left: Fraction | None, right: Fraction | None, count: int) -> list[Fraction]:
    """Return `count` growing numbers between two, of which either may be missing."""
    if left is None:
        first = Fraction(0) if right is None else right - count - 1
        return [first + number + 1 for number in range(count)]
    if right is None:
        return [left + number + 1 for number in range(count)]
    return [left + (right - left) * (number + 1) / (count + 1) for number in range(count)]
