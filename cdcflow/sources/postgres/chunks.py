"""How a table is divided into block ranges, and what is left of a copy that was broken off. No I/O.

A range is `low <= block < high` of one leaf (a plain table is its own only leaf); the last one is open, so that it
holds what was appended meanwhile. Bounds are text, `oid:file:block`, the upper one '' where it is open. The file's
number is in them because a block number means nothing once the table has another file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from cdcflow.errors import CopyRestart
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route

# Rows are told old from new by 32 bits of their transaction number. Where more transactions than this have begun
# since (2^31 less a margin for those that begin during the copy), a finished range is read whole once more.
MOST_TRANSACTIONS: Final = 2**31 - 100_000_000

# Reading what changed in a finished range yields little, so ranges for that may be longer.
FINISHED_FACTOR: Final = 4

_OPEN: Final = 2**63


@dataclass(frozen=True, slots=True)
class Leaf:
    """One table that holds rows, as the view sees it. `step` is the blocks of one chunk."""

    oid: int
    file: int
    blocks: int
    step: int
    rows: int


@dataclass(frozen=True, slots=True)
class Range:
    """A chunk's bounds, read back."""

    oid: int
    file: int
    low: int
    high: int | None

    @classmethod
    def of(cls, chunk: Chunk) -> Range:
        """Raises ValueError where the bounds are not of this form."""
        oid, file, low = map(int, chunk.low.split(":"))
        return cls(oid, file, low, int(chunk.high.rpartition(":")[2]) if chunk.high else None)


def plan(route: Route, leaves: Sequence[Leaf], done: Sequence[DoneChunk], now: int) -> list[Chunk]:
    """Return the chunks that make the table whole as of a view, beside those that are done.

    Args:
        leaves: the tables that hold the rows.
        done: chunks finished under earlier views; the tokens are their views' xmin.
        now: the view's own xmin, 64 bits.

    Raises:
        CopyRestart: the finished chunks say nothing about the table as it is.
    """
    if done:
        _usable(route, leaves, done)
    number = max((each.chunk.number for each in done), default=-1) + 1
    found: list[Chunk] = []
    for leaf in leaves:
        for low, high, since in _pieces(leaf, done, now):
            step = leaf.step * FINISHED_FACTOR if since else leaf.step
            for start, end in _divide(low, high, leaf.blocks, step):
                head = f"{leaf.oid}:{leaf.file}:"
                upper = "" if end is None else f"{head}{end}"
                rows = 0 if since else _share(leaf, start, end)
                found.append(Chunk(route.source.id, number + len(found), f"{head}{start}", upper, since, rows))
    return found


def _usable(route: Route, leaves: Sequence[Leaf], done: Sequence[DoneChunk]) -> None:
    if not route.key:
        raise CopyRestart(
            f"the interrupted copy of {route.source.name} starts over",
            why="it has no key, so rows that changed meanwhile cannot be found in the target",
        )
    files = {leaf.oid: leaf.file for leaf in leaves}
    for each in done:
        piece = Range.of(each.chunk)
        if files.get(piece.oid) != piece.file:
            raise CopyRestart(
                f"the interrupted copy of {route.source.name} starts over",
                why="the table was rewritten, truncated or repartitioned meanwhile",
            )


def _pieces(leaf: Leaf, done: Sequence[DoneChunk], now: int) -> Iterator[tuple[int, int | None, str]]:
    """Yield the leaf's block ranges, each with the view since which changes must be read, '' for all rows."""
    mine = sorted(
        (
            (int(each.token), each.chunk.number, piece.low, _OPEN if piece.high is None else piece.high, each.chunk)
            for each in done
            if (piece := Range.of(each.chunk)).oid == leaf.oid
        ),
        key=lambda item: item[:2],
    )
    edges = sorted({0, _OPEN, *(low for _, _, low, _, _ in mine), *(high for _, _, _, high, _ in mine)})
    pieces = []
    for low, high in pairwise(edges):
        whole_at: int | None = None  # the latest view as of which the range is whole in the target
        for token, _, start, end, chunk in mine:
            if (
                start <= low
                and high <= end
                and (not chunk.changed_since or (whole_at is not None and int(chunk.changed_since) <= whole_at))
            ):
                whole_at = token
        fresh = whole_at is not None and now - whole_at <= MOST_TRANSACTIONS
        pieces.append((low, high, str(whole_at) if fresh else ""))
    for since, run in groupby(pieces, key=lambda piece: piece[2]):
        parts = list(run)
        high = parts[-1][1]
        yield parts[0][0], None if high == _OPEN else high, since


def _divide(low: int, high: int | None, blocks: int, step: int) -> Iterator[tuple[int, int | None]]:
    """Divide a range into steps; an open one ends with an open piece."""
    end = blocks if high is None else high
    while low + step < end:
        yield low, low + step
        low += step
    yield low, high


def _share(leaf: Leaf, low: int, high: int | None) -> int:
    """Estimate the rows of a range."""
    if not leaf.blocks:
        return 0
    end = leaf.blocks if high is None else min(high, leaf.blocks)
    return max(0, leaf.rows * (end - low) // leaf.blocks)
