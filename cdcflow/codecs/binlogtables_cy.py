"""Row events of a binlog to frames: tables by the numbers that the log gives them, and the rows of each.

Formats: https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Rows__event.html

This file runs as it is and is compiled by Cython where a compiler is there; binlogtables_cy.pxd declares for other
compiled modules what is here. It does no I/O.
"""

from __future__ import annotations

import sys
import zlib

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.binlogrow_cy import RowShape
    from cython.cimports.cdcflow.codecs.frames_cy import Arena, Frame
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs import loading

    _frames = loading.plain("cdcflow.codecs.frames_cy")
    Arena, Frame = _frames.Arena, _frames.Frame

from cdcflow.codecs.frames_cy import MessageError

# What one compressed row event may unpack to. Row events hold about 8 KB of rows, or one row, of at most 1 GB.
_MOST_UNPACKED = cython.declare(cython.Py_ssize_t, 1_100_000_000)


@cython.final
@cython.cclass
class TableMap:
    """What row events with one table number are about."""

    def __init__(self, body: bytes, frame, shape, until: int):
        self.body = body
        self.frame = frame
        self.shape = shape
        self.until = until


@cython.final
@cython.cclass
class Tables:
    """What is known of tables, and their rows that were not taken yet."""

    def __init__(self, groups, piece_bytes):
        self.groups = groups
        self.maps = {}
        self.listed = []
        self.open_frames = []
        self.order = Arena()
        self.whole_order = 0
        self.piece_bytes = piece_bytes
        self.open_bytes = 0
        self.open_rows = 0
        self.next_number = 0

    @cython.cfunc
    def frame(self, width: cython.int, skip_until: cython.ulonglong, idempotent_until: cython.ulonglong) -> tuple:
        """Return (number, frame) of a new frame."""
        made = Frame(self.next_number, width, skip_until, idempotent_until)
        self.next_number += 1
        return self.next_number - 1, made

    @cython.cfunc
    @cython.exceptval(-1)
    def define(self, number, body: bytes, frame, shape, until) -> cython.int:
        """See `binlog_cy.Decoder.define`."""
        self.maps[number] = TableMap(body, frame, shape, until)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def settle(self) -> cython.int:
        """Note that the rows of the open transaction are rows of one that ended, or may be taken like those."""
        frame: Frame
        for frame in self.open_frames:
            frame.settle()
            frame.touched = False
        self.open_frames.clear()
        self.whole_order = self.order.size
        self.open_rows = 0
        self.open_bytes = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def discard(self) -> cython.int:
        """Drop the rows of the open transaction."""
        frame: Frame
        for frame in self.open_frames:
            frame.ops.cut(frame.whole_rows)
            frame.after.cut(frame.whole_after)
            frame.after_sizes.cut(4 * frame.whole_rows)
            frame.before.cut(frame.whole_before)
            frame.before_sizes.cut(4 * frame.whole_rows)
            frame.touched = False
        self.open_frames.clear()
        self.order.cut(self.whole_order)
        self.open_rows = 0
        self.open_bytes = 0
        return 0

    @cython.cfunc
    def take(self) -> tuple:
        """Remove and return (frames, order) of the rows that are settled, as `binlog_cy.Decoder.take` says."""
        frame: Frame
        taken: list = []
        left: list = []
        order: bytes
        for frame in self.listed:
            if frame.whole_rows > 0:
                taken.append(frame.take())
            if frame.ops.size > 0:
                left.append(frame)
        self.listed = left
        order = self.order.take(self.whole_order)
        self.whole_order = 0
        return taken, order

    @cython.cfunc
    @cython.exceptval(check=True)
    def is_known(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """Whether the table map from `at` to `end` is what stands under its number already."""
        known: TableMap
        length: cython.Py_ssize_t
        index: cython.Py_ssize_t
        q: cython.p_uchar
        if end - at < 8:
            raise MessageError("a table map is too short")
        if _le48(p, at) not in self.maps:
            return False
        known = self.maps[_le48(p, at)]
        length = len(known.body)
        if length != end - at:
            return False
        if cython.compiled:
            q = cython.cast(cython.p_uchar, PyBytes_AS_STRING(known.body))
            for index in range(length):
                if q[index] != p[at + index]:
                    return False
        elif known.body != p[at:end]:
            return False
        return known.until == 0 or (known.until > self.groups.serial() and not self.groups.kept)

    @cython.cfunc
    @cython.exceptval(check=True)
    def rows(self, kind: cython.int, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """Decode the row event from `at` to `end`, which stands behind its header; return whether the open
        transaction passed `piece_bytes`."""
        known: TableMap
        width: cython.Py_ssize_t
        present: cython.Py_ssize_t
        operation: cython.int
        number: cython.longlong
        plain: bytes
        if end - at < 10:
            raise MessageError("a row event is too short")
        if not self.groups.open:
            raise MessageError("row outside a transaction")
        number = _le48(p, at)
        at += 8
        if kind == 166 or kind == 167 or kind == 168:
            operation = kind - 166
        elif kind >= 169:
            operation = kind - 169
        elif kind == 39:
            operation = 1
        elif kind >= 30:
            operation = kind - 30
        else:
            operation = kind - 23
        if 30 <= kind <= 39 or kind >= 169:  # version 2: extra data, its length included
            width = p[at] | (p[at + 1] << 8)
            if width < 2 or width > end - at:
                raise MessageError("a row event ends inside its extra data")
            at += width
        if number not in self.maps:
            if number == 0xFFFFFF:  # says only that a statement has ended
                return False
            raise MessageError(f"a row of table {number}, which was not described")
        known = self.maps[number]
        if known.frame is None or (known.frame.skip_until > self.groups.start and not self.groups.kept):
            return False
        if at >= end:
            raise MessageError("a row event ends before its columns")
        width = p[at]
        at += 1
        if width >= 251:
            if width != 252 or end - at < 2:
                raise MessageError("a row event has an impossible number of columns")
            width = p[at] | (p[at + 1] << 8)
            at += 2
        if width != known.shape.columns:
            raise MessageError(f"a row has {width} columns, its table {known.shape.columns}")
        present = at
        at += (width + 7) // 8 * (2 if operation == 1 else 1)
        if at > end:
            raise MessageError("a row event ends inside its columns")
        if kind >= 166:
            plain = _unpacked(_piece(p, present, at), _piece(p, at, end))
            if cython.compiled:
                return self._images(
                    kind,
                    operation,
                    known,
                    cython.cast(cython.p_uchar, PyBytes_AS_STRING(plain)),
                    0,
                    at - present,
                    len(plain),
                    width,
                )
            return self._images(kind, operation, known, plain, 0, at - present, len(plain), width)
        return self._images(kind, operation, known, p, present, at, end, width)

    @cython.cfunc
    @cython.exceptval(check=True)
    def _images(
        self,
        kind: cython.int,
        operation: cython.int,
        known: TableMap,
        p: cython.p_uchar,
        present: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        width: cython.Py_ssize_t,
    ) -> cython.bint:
        """Decode every row from `at` to `end`; the bitmaps of their columns stand at `present`."""
        frame: Frame = known.frame
        shape: RowShape = known.shape
        new_present: cython.Py_ssize_t = present + (width + 7) // 8
        before_start: cython.Py_ssize_t
        after_start: cython.Py_ssize_t
        start: cython.Py_ssize_t
        lacking: cython.bint = operation == 1 and not _is_full(p, new_present, width)
        # MySQL logs no byte of a row that was inserted without any column, where its row image is minimal.
        bare: cython.bint = at == end and operation == 0
        if at >= end and not bare:
            raise MessageError("a row event without rows")
        if not frame.touched:
            frame.touched = True
            self.open_frames.append(frame)
            if frame.ops.size == 0:
                self.listed.append(frame)
        if frame.idempotent_until > self.groups.start:
            frame.idempotent = True
        while at < end or bare:
            start = at
            before_start = frame.before.size
            after_start = frame.after.size
            frame.ops.reserve(1)
            if operation == 0:
                at = shape.image(frame.after, p, at, end, present, True)
                frame.ops.byte(0x49)
            elif operation == 2:
                shape.dropping = shape.lean
                at = shape.image(frame.before, p, at, end, present, False)
                shape.dropping = False
                frame.ops.byte(0x44)
            else:
                if kind == 39:
                    at = shape.partial(frame.before, frame.after, p, at, end, present, new_present)
                else:
                    shape.dropping = shape.lean and not lacking
                    at = shape.image(frame.before, p, at, end, present, False)
                    shape.dropping = False
                    at = shape.image(frame.after, p, at, end, new_present, False)
                if lacking:
                    _fill(frame.after, after_start, frame.before.piece(before_start, frame.before.size), frame.width)
                frame.ops.byte(0x55)
            if at <= start and not bare:
                raise MessageError("a row without any column")
            bare = False
            frame.after_sizes.reserve(4)
            frame.after_sizes.int32(cython.cast(cython.int, frame.after.size - after_start))
            frame.before_sizes.reserve(4)
            frame.before_sizes.int32(cython.cast(cython.int, frame.before.size - before_start))
            self.order.reserve(4)
            self.order.int32(frame.number)
            self.open_rows += 1
            self.open_bytes += frame.after.size - after_start + frame.before.size - before_start + 13
        return self.open_bytes > self.piece_bytes


@cython.cfunc
@cython.exceptval(check=True)
def _fill(arena: Arena, start: cython.Py_ssize_t, before: bytes, width: cython.int) -> cython.bint:
    """Put the old row's cells where the new row has none: under a row image that is not full, the key among them."""
    after: bytes = arena.piece(start, arena.size)
    p: cython.p_uchar
    q: cython.p_uchar
    at: cython.Py_ssize_t = 0
    old: cython.Py_ssize_t = 0
    size: cython.Py_ssize_t
    old_size: cython.Py_ssize_t
    length: cython.int
    old_length: cython.int
    index: cython.int
    arena.cut(start)
    arena.reserve(len(after) + len(before))
    if cython.compiled:
        p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(after))
        q = cython.cast(cython.p_uchar, PyBytes_AS_STRING(before))
    else:
        p, q = after, before
    for index in range(width):
        length = _int32(p, at)
        old_length = _int32(q, old)
        size = _extent(length)
        old_size = _extent(old_length)
        if length == -2:
            arena.copy(q, old, old_size)
        else:
            arena.copy(p, at, size)
        at += size
        old += old_size
    return False


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _extent(length: cython.int) -> cython.Py_ssize_t:
    """Return how many bytes a cell has, its length included: `model.frame` says what a length may be."""
    if length >= 0:
        return 4 + cython.cast(cython.Py_ssize_t, length)
    return 4 if length >= -2 else 1 - cython.cast(cython.Py_ssize_t, length)


@cython.cfunc
@cython.exceptval(check=False)
def _is_full(p: cython.p_uchar, at: cython.Py_ssize_t, width: cython.Py_ssize_t) -> cython.bint:
    """Whether a bitmap has every column."""
    index: cython.Py_ssize_t
    for index in range(width // 8):
        if p[at + index] != 0xFF:
            return False
    return width % 8 == 0 or (p[at + width // 8] | (0xFF << (width % 8)) & 0xFF) == 0xFF


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _int32(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    """Return the native int32 at `at`."""
    value: cython.int = 0
    if cython.compiled:
        memcpy(cython.address(value), p + at, 4)
        return value
    return int.from_bytes(p[at : at + 4], sys.byteorder, signed=True)


def _unpacked(bitmaps: bytes, packed: bytes) -> bytes:
    """Return the bitmaps and, behind them, the rows of a row event that MariaDB compressed.

    The first byte has 0x80, the algorithm (0 is zlib) in bits 4 to 6 and the number of length bytes, which follow,
    big-endian, before the compressed rows.
    """
    if not packed or not packed[0] & 0x80 or packed[0] & 0x70:
        raise MessageError("a compressed row event of an unknown kind")
    count = packed[0] & 0x07
    size = int.from_bytes(packed[1 : 1 + count], "big")
    if not 0 < count <= 4 or size > _MOST_UNPACKED:
        raise MessageError("a compressed row event with an impossible size")
    unpacker = zlib.decompressobj()
    try:
        rows = unpacker.decompress(packed[1 + count :], size + 1)
    except zlib.error as error:
        raise MessageError(f"a compressed row event cannot be unpacked: {error}") from None
    if len(rows) != size or not unpacker.eof:
        raise MessageError("a compressed row event has another size than it says")
    return bitmaps + rows


@cython.cfunc
def _piece(p: cython.p_uchar, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> bytes:
    if cython.compiled:
        return cython.cast(cython.p_char, p)[start:end]
    return bytes(p[start:end])


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _le48(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.longlong:
    value: cython.longlong = p[at + 4] | (p[at + 5] << 8)
    value = (value << 8) | p[at + 3]
    value = (value << 8) | p[at + 2]
    value = (value << 8) | p[at + 1]
    return (value << 8) | p[at]
