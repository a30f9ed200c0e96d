"""Row changes of one table as compact frames: nobody makes a Python object per value until one is needed.

A *cell* is a native-endian int32 length followed by that many bytes of canonical text. Length -1 is NULL and
-2 is *unchanged or absent* (an unchanged TOAST value, a column missing from a partial row image, a column
outside the key in a key-only before-image, an old value of many megabytes that nobody needs). Below that, `-3 - size`
announces a *raw* cell: `size` bytes of a large binary value as they are, whose canonical text, `\\x` and hex digits,
would take twice the room; no column of a key is one. The canonical text is what PostgreSQL prints under
`TimeZone=UTC, DateStyle=ISO, IntervalStyle=postgres, extra_float_digits=1, bytea_output=hex`, in UTF-8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cdcflow.model.route import Route

NULL_CELL: Final = -1
UNCHANGED_CELL: Final = -2
RAW_CELL: Final = -3  # of no bytes: each one counts down from here

INSERT: Final = ord("I")
UPDATE: Final = ord("U")
DELETE: Final = ord("D")

_INT32 = struct.Struct("=i")


class Unchanged(Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED

Cell = bytes | None | Unchanged


def cells(image: bytes | memoryview, offset: int, count: int) -> list[Cell]:
    """Decode `count` cells of one row image that starts at `offset`.

    Raises:
        ValueError: the image ends before its cells do.
    """
    view = memoryview(image)
    found: list[Cell] = []
    for _ in range(count):
        if offset + 4 > len(view):
            raise ValueError("row image ends inside a cell's length")
        (length,) = _INT32.unpack_from(view, offset)
        offset += 4
        if length == NULL_CELL:
            found.append(None)
        elif length == UNCHANGED_CELL:
            found.append(UNCHANGED)
        elif length < 0:
            size = RAW_CELL - length
            if offset + size > len(view):
                raise ValueError("row image ends inside a cell")
            found.append(b"\\x" + view[offset : offset + size].hex().encode())
            offset += size
        elif offset + length > len(view):
            raise ValueError("row image ends inside a cell")
        else:
            found.append(bytes(view[offset : offset + length]))
            offset += length
    return found


def image(values: list[Cell] | tuple[Cell, ...]) -> bytes:
    """Encode cells as one row image: the inverse of `cells`."""
    parts: list[bytes] = []
    for value in values:
        if value is None:
            parts.append(_INT32.pack(NULL_CELL))
        elif isinstance(value, Unchanged):
            parts.append(_INT32.pack(UNCHANGED_CELL))
        else:
            parts.append(_INT32.pack(len(value)))
            parts.append(value)
    return b"".join(parts)


@dataclass(slots=True)
class RowBatch:
    """Changes of one table under one schema version, in source order, as a struct of arrays.

    ops: one byte a row, `I`, `U` or `D`.
    after, after_sizes: the new row images one behind the other, and each one's size in bytes as native int32
        (0 for a delete). Every image has one cell for each column of `route.source.columns` that the source
        logs (generated columns that are not logged are absent from the frame: see `width`).
    before, before_sizes: the old images; size 0 where the source logged none (an update that left the
        replica identity alone).
    names: the columns in the frame's own order.
    idempotent: the rows may have been copied already, so inserts may find their row and updates may miss.
    """

    route: Route
    names: tuple[str, ...]
    ops: bytes
    after: bytes
    after_sizes: bytes
    before: bytes
    before_sizes: bytes
    idempotent: bool = False

    @property
    def width(self) -> int:
        return len(self.names)

    def __len__(self) -> int:
        return len(self.ops)

    @property
    def nbytes(self) -> int:
        return len(self.after) + len(self.before) + 9 * len(self.ops)

    def rows(self) -> Iterator[tuple[int, list[Cell] | None, list[Cell] | None]]:
        """Yield `(op, before, after)` for each row: for tests, `read` and whoever has time."""
        after_at = before_at = 0
        after_sizes = memoryview(self.after_sizes).cast("i")
        before_sizes = memoryview(self.before_sizes).cast("i")
        for index, op in enumerate(self.ops):
            before = cells(self.before, before_at, self.width) if before_sizes[index] else None
            after = cells(self.after, after_at, self.width) if after_sizes[index] else None
            yield op, before, after
            after_at += after_sizes[index]
            before_at += before_sizes[index]


# From this size on a source may hand over a binary value raw.
LEAST_RAW_BYTES: Final = 1024 * 1024


def spelled(frame: RowBatch) -> RowBatch:
    """Return the frame with its raw cells as text, for whoever does not know them: itself where it has none."""
    if len(frame.after) + len(frame.before) < LEAST_RAW_BYTES:
        return frame
    images = {"after": (frame.after, frame.after_sizes), "before": (frame.before, frame.before_sizes)}
    changed: dict[str, tuple[bytes, bytes]] = {}
    for name, (arena, sizes) in images.items():
        each = memoryview(sizes).cast("i")
        if max(each, default=0) < LEAST_RAW_BYTES:
            continue
        at, view, parts = 0, memoryview(arena), []
        for size in each:
            row = view[at : at + size]
            # Few rows are so large: the cells of those alone are looked at.
            parts.append(image(cells(row, 0, frame.width)) if size >= LEAST_RAW_BYTES else bytes(row))
            at += size
        changed[name] = b"".join(parts), b"".join(_INT32.pack(len(part)) for part in parts)
    if not changed:
        return frame
    after, before = changed.get("after", images["after"]), changed.get("before", images["before"])
    return RowBatch(frame.route, frame.names, frame.ops, *after, *before, frame.idempotent)


def concatenate(parts: list[RowBatch]) -> RowBatch:
    """Join frames of one table and one shape, in order."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return RowBatch(
        first.route,
        first.names,
        b"".join(part.ops for part in parts),
        b"".join(part.after for part in parts),
        b"".join(part.after_sizes for part in parts),
        b"".join(part.before for part in parts),
        b"".join(part.before_sizes for part in parts),
        any(part.idempotent for part in parts),
    )
