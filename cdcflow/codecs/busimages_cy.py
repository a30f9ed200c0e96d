"""The rows of a frame on their way to messages of any format: where their cells are, and which messages become of them.

This file runs as it is and is compiled by Cython where a compiler is there; busimages_cy.pxd declares for other
compiled modules what the classes hold. It does no I/O.
"""

from __future__ import annotations

import sys
from array import array

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.frames_cy import Arena, pointer
    from cython.cimports.cdcflow.codecs.murmur2_cy import positive_murmur2
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memcmp, memcpy
else:
    from cdcflow.codecs import loading

    _frames = loading.plain("cdcflow.codecs.frames_cy")
    Arena, pointer = _frames.Arena, _frames.pointer
    positive_murmur2 = loading.plain("cdcflow.codecs.murmur2_cy").positive_murmur2

from cdcflow.codecs.copytext_cy import ImageError

_NATIVE = sys.byteorder

_INSERT = cython.declare(cython.int, 73)
_UPDATE = cython.declare(cython.int, 85)
_DELETE = cython.declare(cython.int, 68)
_CREATED = cython.declare(cython.int, 99)
_UPDATED = cython.declare(cython.int, 117)
_DELETED = cython.declare(cython.int, 100)
_ABSENT = cython.declare(cython.int, -2)


class KeyAbsent(ImageError):
    """A row's key is not in its images, so no message can be keyed by it."""


@cython.final
@cython.cclass
class Images:
    """Goes through the rows of frames of one shape.

    Of the row that it is at: `op`, `has_new`, `has_old`, whether the old image is `whole`, `stamp`, `order` and
    `table_order`; where each cell begins and its size (`new_at`, `new_size`, `old_at`, `old_size`, by place in the
    frame), in `new` and `old`. The messages: `single` is the letter of the one that most rows make, else 0; then
    `gone`, a delete, and `again`, the row under its new key.
    """

    def __init__(self, places: tuple, key: tuple, width: int, updates: bool, deletes: bool):
        """Args:
        places: where in the frame each column is that goes out. key: places of the key's columns among those. updates,
            deletes: whether such rows are written at all.
        """
        if any(not 0 <= place < width for place in places) or any(not 0 <= place < len(places) for place in key):
            raise ValueError("a column has no place in the frame")
        self.width, self.count, self.keys = width, len(places), len(key)
        self.updates, self.deletes = updates, deletes
        numbers: list = [list(places) or [0], list(key) or [0], [0] * (width + 1), [0] * (width + 1)]
        if cython.compiled:
            self.kept = [array("i", column).tobytes() for column in numbers]
            self.kept += [bytes(8 * (width + 1)), bytes(8 * (width + 1))]
            self.places = cython.cast(cython.p_int, PyBytes_AS_STRING(self.kept[0]))
            self.key = cython.cast(cython.p_int, PyBytes_AS_STRING(self.kept[1]))
            self.new_size = cython.cast(cython.p_int, PyBytes_AS_STRING(self.kept[2]))
            self.old_size = cython.cast(cython.p_int, PyBytes_AS_STRING(self.kept[3]))
            self.new_at = cython.cast(cython.p_longlong, PyBytes_AS_STRING(self.kept[4]))
            self.old_at = cython.cast(cython.p_longlong, PyBytes_AS_STRING(self.kept[5]))
        else:
            self.places, self.key, self.new_size, self.old_size = numbers
            self.new_at, self.old_at = [0] * (width + 1), [0] * (width + 1)
        self.rows = self.row = 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def open(self, frame: tuple, numbers: tuple, stamps: list, parts: cython.Py_ssize_t) -> cython.int:
        """Begin a frame.

        Args:
            frame: ops, after, after_sizes, before, before_sizes of `model.frame.RowBatch`.
            numbers: of_row, order, table_order of `bus.formats.Stamps`. stamps: a tuple of so many parts for each.
        """
        if len(frame) != 5 or len(numbers) != 3:
            raise ImageError("a frame has not its parts")
        ops: bytes = frame[0]
        after: bytes = frame[1]
        after_sizes: bytes = frame[2]
        before: bytes = frame[3]
        before_sizes: bytes = frame[4]
        of_row: bytes = numbers[0]
        orders: bytes = numbers[1]
        table_orders: bytes = numbers[2]
        if len(after_sizes) != 4 * len(ops) or len(before_sizes) != 4 * len(ops):
            raise ImageError("a frame's sizes are not one a row")
        if not len(of_row) == len(orders) == len(table_orders) == 4 * len(ops):
            raise ImageError("a frame's stamps are not one a row")
        self.stamps, self.parts, self.number = stamps, parts, -1
        # What the pointers point into.
        self.held = (frame, numbers)
        if cython.compiled:
            self.new, self.old = pointer(after), pointer(before)
            self.ops = pointer(ops)
            self.new_sizes = cython.cast(cython.p_int, pointer(after_sizes))
            self.old_sizes = cython.cast(cython.p_int, pointer(before_sizes))
            self.of_row = cython.cast(cython.p_uint, pointer(of_row))
            self.orders = cython.cast(cython.p_uint, pointer(orders))
            self.table_orders = cython.cast(cython.p_uint, pointer(table_orders))
        else:
            self.new, self.old, self.ops = after, before, ops
            self.new_sizes, self.old_sizes = array("i", after_sizes), array("i", before_sizes)
            self.of_row, self.orders, self.table_orders = (array("I", each) for each in (of_row, orders, table_orders))
        self.rows, self.row, self.stamp_count = len(ops), 0, len(stamps)
        self.new_start = self.old_start = 0
        self.new_end, self.old_end = len(after), len(before)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def step(self) -> cython.int:
        """Go to the next row, the first one after `open`; return 0 behind the last, and forget the frame."""
        new_bytes: cython.Py_ssize_t
        old_bytes: cython.Py_ssize_t
        number: cython.Py_ssize_t
        moved: cython.bint
        if self.row == self.rows:
            self.held = self.stamp = ()
            self.stamps = []
            self.rows = self.row = 0
            return 0
        self.op = self.ops[self.row]
        new_bytes = self.new_sizes[self.row]
        old_bytes = self.old_sizes[self.row]
        if new_bytes < 0 or new_bytes > self.new_end - self.new_start:
            raise ImageError("a new row ends behind its frame")
        if old_bytes < 0 or old_bytes > self.old_end - self.old_start:
            raise ImageError("an old row ends behind its frame")
        if self.op != _INSERT and self.op != _UPDATE and self.op != _DELETE:
            raise ImageError("a row has no such operation")
        self.has_new, self.has_old = new_bytes > 0, old_bytes > 0
        if self.width and (self.has_new == (self.op == _DELETE) or (self.op == _DELETE and not self.has_old)):
            raise ImageError("a row has not the images of its operation")
        self.whole = False
        if new_bytes:
            _find(self.new, self.new_start, self.new_start + new_bytes, self.width, self.new_at, self.new_size)
        if old_bytes:
            self.whole = _find(
                self.old, self.old_start, self.old_start + old_bytes, self.width, self.old_at, self.old_size
            )
        number = self.of_row[self.row]
        if number >= self.stamp_count:
            raise ImageError("a row has no stamp")
        if number != self.number:
            self.stamp, self.number = self.stamps[number], number
            if len(self.stamp) != self.parts:
                raise ImageError("a stamp has not its parts")
        self.order, self.table_order = self.orders[self.row], self.table_orders[self.row]
        moved = self.op == _UPDATE and self.updates and self.has_old and self._moves()
        self.single = 0
        if self.op == _INSERT:
            self.single = _CREATED
        elif self.op == _UPDATE and self.updates and not moved:
            self.single = _UPDATED
        self.gone = self.deletes and (moved or self.op == _DELETE)
        self.again = moved
        self.new_start += new_bytes
        self.old_start += old_bytes
        self.row += 1
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _moves(self) -> cython.int:
        """Whether the key of the old image is another one than that of the new."""
        a: cython.p_uchar = self.new
        b: cython.p_uchar = self.old
        index: cython.int
        place: cython.int
        size: cython.int
        for index in range(self.keys):
            place = self.places[self.key[index]]
            size = self.old_size[place]
            if size == _ABSENT or self.new_size[place] == _ABSENT:
                continue
            if size != self.new_size[place]:
                return 1
            if size > 0:
                if cython.compiled:
                    if memcmp(a + self.new_at[place], b + self.old_at[place], size) != 0:
                        return 1
                elif (
                    a[self.new_at[place] : self.new_at[place] + size]
                    != b[self.old_at[place] : self.old_at[place] + size]
                ):
                    return 1
        return 0

    @cython.cfunc
    @cython.exceptval(-3, check=False)
    def key_cell(self, index: cython.int, new: cython.bint) -> cython.int:
        """Return the size of the key's cell with that number, which begins at `at` in `base`: that of the new image
        where it is asked for, else of the old one; what the new image lacks, the old one has."""
        place: cython.int = self.places[self.key[index]]
        size: cython.int = self.new_size[place] if new else _ABSENT
        self.base, self.at = self.new, self.new_at[place]
        if size == _ABSENT and self.has_old:
            size = self.old_size[place]
            self.base, self.at = self.old, self.old_at[place]
        if size == _ABSENT:
            raise KeyAbsent("a row's key is not logged")
        return size


@cython.final
@cython.cclass
class Made:
    """The messages of a frame of so many rows, as `bus.formats.Messages` has them."""

    def __init__(self, rows: int, tombstones: bool, flat: bool):
        """Args:
        tombstones: a delete has one behind it. flat: it has nothing else.
        """
        keys: list = []
        values: list = []
        self.keys, self.values = keys, values
        self.starts, self.hashes, self.kinds = Arena(), Arena(), Arena()
        self.tombstones, self.flat = tombstones, flat
        self.count = 0
        # A row that moves makes three.
        self.starts.reserve(4 * rows + 4)
        self.hashes.reserve(12 * rows)
        self.kinds.reserve(3 * rows)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self) -> cython.int:
        """Note that a row's messages begin, or that the last row's have ended."""
        self.starts.int32(self.count)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add(self, key: object, value: object, op: cython.int) -> cython.int:
        """Append a message; `value` is None for a tombstone."""
        mark: bytes
        self.keys.append(key)
        self.values.append(value)
        self.count += 1
        if key is None:
            self.hashes.int32(0)
        else:
            mark = key
            self.hashes.int32(positive_murmur2(pointer(mark), len(mark)))
        self.kinds.byte(op)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end_delete(self, key: object) -> cython.int:
        """Append the tombstone of a row that was deleted, where there is to be one."""
        if self.flat and key is None:
            raise KeyAbsent("a row alone cannot say a delete without a key")
        if key is not None and (self.tombstones or self.flat):
            self.add(key, None, _DELETED)
        return 0

    @cython.cfunc
    def taken(self) -> tuple:
        """Return (starts, keys, values, hashes, ops), and forget them."""
        keys: list = self.keys
        values: list = self.values
        self.keys, self.values = [], []
        return (
            self.starts.take(self.starts.size),
            keys,
            values,
            self.hashes.take(self.hashes.size),
            self.kinds.take(self.kinds.size),
        )


@cython.cfunc
@cython.exceptval(-1, check=False)
def _find(
    p: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    width: cython.int,
    ats: cython.p_longlong,
    sizes: cython.p_int,
) -> cython.int:
    """Note where the cells of an image are; return whether none is absent."""
    index: cython.int
    size: cython.int = 0
    whole: cython.int = 1
    for index in range(width):
        if end - at < 4:
            raise ImageError("a row image ends before its cells")
        if cython.compiled:
            memcpy(cython.address(size), p + at, 4)
        else:
            size = int.from_bytes(p[at : at + 4], _NATIVE, signed=True)
        at += 4
        if size < _ABSENT or size > end - at:
            raise ImageError("a row image ends inside a cell")
        ats[index] = at
        sizes[index] = size
        if size > 0:
            at += size
        elif size == _ABSENT:
            whole = 0
    if at != end:
        raise ImageError("a row image is longer than its cells")
    return whole
