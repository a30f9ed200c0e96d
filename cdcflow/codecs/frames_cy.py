"""Rows of one relation on their way from TupleData to a frame: growing byte arrays, and cells written into them.

TupleData: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
This file runs as it is and is compiled by Cython where a compiler is there; frames_cy.pxd declares for other
compiled modules what the two classes hold. It does no I/O.
"""

from __future__ import annotations

import sys

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, realloc
    from cython.cimports.libc.string import memcpy, memmove

_ORDER = sys.byteorder

_NULL = cython.declare(cython.int, -1)
_UNCHANGED = cython.declare(cython.int, -2)


class MessageError(ValueError):
    """A message does not have the form that the protocol says."""


@cython.cfunc
@cython.exceptval(check=False)
def pointer(text: bytes) -> cython.p_uchar:
    """Return where bytes are; plain Python has the bytes themselves."""
    if cython.compiled:
        return cython.cast(cython.p_uchar, PyBytes_AS_STRING(text))
    return text


@cython.final
@cython.cclass
class Arena:
    """Bytes that only grow at the end and are taken from the front."""

    def __cinit__(self):
        if cython.compiled:
            self.data = cython.NULL
        self.size = 0
        self.capacity = 0
        self.absent = False

    def __init__(self):
        self.plain = bytearray()
        self.absent = False
        if not cython.compiled:
            self.size = 0

    def __dealloc__(self):
        if cython.compiled:
            free(self.data)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def reserve(self, more: cython.Py_ssize_t) -> cython.int:
        """Make room for `more` bytes."""
        if cython.compiled:
            capacity: cython.Py_ssize_t
            grown: cython.p_uchar
            if self.size + more > self.capacity:
                capacity = self.capacity + self.capacity // 2 + more + 1024
                grown = cython.cast(cython.p_uchar, realloc(self.data, capacity))
                if grown == cython.NULL:
                    raise MemoryError
                self.data = grown
                self.capacity = capacity
        return 0

    # The three below expect that `reserve` was called.

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def byte(self, value: cython.int) -> cython.void:
        if cython.compiled:
            self.data[self.size] = cython.cast(cython.uchar, value)
        else:
            self.plain.append(value)
        self.size += 1

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def int32(self, value: cython.int) -> cython.void:
        if cython.compiled:
            memcpy(self.data + self.size, cython.address(value), 4)
        else:
            self.plain += (value & 0xFFFFFFFF).to_bytes(4, _ORDER)
        self.size += 4

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def int64(self, value: cython.longlong) -> cython.void:
        if cython.compiled:
            memcpy(self.data + self.size, cython.address(value), 8)
        else:
            self.plain += (value & 0xFFFFFFFFFFFFFFFF).to_bytes(8, _ORDER)
        self.size += 8

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def copy(self, source: cython.p_uchar, start: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.void:
        if cython.compiled:
            memcpy(self.data + self.size, source + start, count)
        else:
            self.plain += source[start : start + count]
        self.size += count

    @cython.cfunc
    def take(self, count: cython.Py_ssize_t) -> bytes:
        """Remove and return the first `count` bytes."""
        taken: bytes
        if cython.compiled:
            taken = PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data), count)
            if count < self.size:
                memmove(self.data, self.data + count, self.size - count)
            self.size -= count
            # A value of many megabytes came by: do not keep its room for ever.
            if self.capacity > 50331648 and self.size < 1048576:
                self.data = cython.cast(cython.p_uchar, realloc(self.data, 1048576))
                self.capacity = 1048576
        else:
            taken = bytes(self.plain[:count])
            del self.plain[:count]
            self.size -= count
        return taken

    @cython.cfunc
    def piece(self, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> bytes:
        """Return a copy of the bytes from `start` to `end`."""
        if cython.compiled:
            return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data + start), end - start)
        return bytes(self.plain[start:end])

    @cython.cfunc
    @cython.exceptval(check=False)
    def cut(self, size: cython.Py_ssize_t) -> cython.void:
        """Forget what is behind the first `size` bytes."""
        if not cython.compiled:
            del self.plain[size:]
        self.size = size


@cython.final
@cython.cclass
class Frame:
    """Rows of one relation in one shape that are decoded and not yet taken."""

    def __init__(self, number: int, width: int, skip_until: int, idempotent_until: int):
        self.number = number
        self.width = width
        self.skip_until = skip_until
        self.idempotent_until = idempotent_until
        self.idempotent = False
        self.touched = False
        self.ops = Arena()
        self.after = Arena()
        self.after_sizes = Arena()
        self.before = Arena()
        self.before_sizes = Arena()
        self.whole_rows = self.whole_after = self.whole_before = 0

    @cython.cfunc
    @cython.exceptval(-1)
    def row(
        self, kind: cython.int, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, order: Arena
    ) -> cython.Py_ssize_t:
        """Add the tuples of a row message (`at` to `end`) and the frame's number to `order`; return how many bytes.

        One call a row, because a call into another compiled module cannot be inlined.
        """
        mark: cython.int
        before_start: cython.Py_ssize_t = self.before.size
        after_start: cython.Py_ssize_t = self.after.size
        mark = p[at]
        if mark == 0x4B or mark == 0x4F:  # K O: the old key or the old row
            if kind == 0x49:
                raise MessageError("an insert has no old row")
            at = _cells(self.before, self.width, p, at + 1, end, mark == 0x4B)
            if kind == 0x55:
                if at >= end:
                    raise MessageError("an update has no new row")
                mark = p[at]
        elif kind == 0x44:
            raise MessageError("a delete has no old row")
        if kind != 0x44:
            if mark != 0x4E:  # N
                raise MessageError("a row has no new tuple")
            self.after.absent = False
            at = _cells(self.after, self.width, p, at + 1, end, False)
            if self.after.absent and self.before.size > before_start:
                _fill(self.after, after_start, self.before.piece(before_start, self.before.size), self.width)
        if at != end:
            raise MessageError("a row message is longer than its tuples")
        self.ops.reserve(1)
        self.ops.byte(kind)
        self.after_sizes.reserve(4)
        self.after_sizes.int32(cython.cast(cython.int, self.after.size - after_start))
        self.before_sizes.reserve(4)
        self.before_sizes.int32(cython.cast(cython.int, self.before.size - before_start))
        order.reserve(4)
        order.int32(self.number)
        return self.after.size - after_start + self.before.size - before_start + 13

    @cython.cfunc
    @cython.exceptval(check=False)
    def settle(self) -> cython.void:
        self.whole_rows = self.ops.size
        self.whole_after = self.after.size
        self.whole_before = self.before.size

    @cython.cfunc
    def take(self) -> tuple:
        """Remove and return everything up to the last commit."""
        rows: cython.Py_ssize_t = self.whole_rows
        taken: tuple = (
            self.number,
            self.ops.take(rows),
            self.after.take(self.whole_after),
            self.after_sizes.take(rows * 4),
            self.before.take(self.whole_before),
            self.before_sizes.take(rows * 4),
            self.idempotent,
        )
        self.whole_rows = self.whole_after = self.whole_before = 0
        if self.ops.size == 0:
            self.idempotent = False
        return taken


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _be32(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.uint:
    value: cython.uint = p[at]
    value = (value << 8) | p[at + 1]
    value = (value << 8) | p[at + 2]
    return (value << 8) | p[at + 3]


@cython.cfunc
@cython.exceptval(-1)
def _cells(
    arena: Arena,
    width: cython.int,
    p: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    key_only: cython.bint,
) -> cython.Py_ssize_t:
    """Append one TupleData as cells; return where it ended.

    In a key-only tuple the server writes NULL for every column outside the replica identity: absent, not NULL.
    """
    count: cython.int
    index: cython.int
    kind: cython.int
    length: cython.Py_ssize_t
    if end - at < 2:
        raise MessageError("tuple is too short")
    count = (p[at] << 8) | p[at + 1]
    at += 2
    if count != width:
        raise MessageError(f"tuple has {count} columns, its relation has {width}")
    arena.reserve(end - at + 4 * cython.cast(cython.Py_ssize_t, count))
    for index in range(count):
        if at >= end:
            raise MessageError("tuple ends before its columns do")
        kind = p[at]
        at += 1
        if kind == 0x74:  # t: text
            if end - at < 4:
                raise MessageError("tuple ends inside a length")
            length = _be32(p, at)
            at += 4
            if length > end - at:
                raise MessageError("tuple ends inside a value")
            arena.int32(cython.cast(cython.int, length))
            arena.copy(p, at, length)
            at += length
        elif kind == 0x6E:  # n: NULL
            arena.int32(_UNCHANGED if key_only else _NULL)
        elif kind == 0x75:  # u: unchanged TOAST
            arena.int32(_UNCHANGED)
            arena.absent = True
        else:
            raise MessageError(f"unknown column kind {kind}")
    return at


@cython.cfunc
@cython.exceptval(-1)
def _fill(arena: Arena, start: cython.Py_ssize_t, before: bytes, width: cython.int) -> cython.int:
    """Replace unchanged cells of the image at `start` by the old row's, where the old row has them.

    Under REPLICA IDENTITY FULL the server writes the old row whole, TOASTed values too.
    """
    filled: bytes = _merged(arena.piece(start, arena.size), before, width)
    arena.cut(start)
    arena.reserve(len(filled))
    if cython.compiled:
        arena.copy(cython.cast(cython.p_uchar, PyBytes_AS_STRING(filled)), 0, len(filled))
    else:
        arena.copy(filled, 0, len(filled))
    return 0


@cython.cfunc
def _merged(after: bytes, before: bytes, width: cython.int) -> bytes:
    """Return `after` with its unchanged cells taken from `before`: plain Python, because it is rare."""
    parts: list = []
    after_at: cython.Py_ssize_t = 0
    before_at: cython.Py_ssize_t = 0
    index: cython.int
    for index in range(width):
        length = int.from_bytes(after[after_at : after_at + 4], _ORDER, signed=True)
        old_length = int.from_bytes(before[before_at : before_at + 4], _ORDER, signed=True)
        after_end = after_at + 4 + max(length, 0)
        before_end = before_at + 4 + max(old_length, 0)
        parts.append(before[before_at:before_end] if length == -2 else after[after_at:after_end])
        after_at, before_at = after_end, before_end
    return b"".join(parts)
