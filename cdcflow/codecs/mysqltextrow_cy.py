"""Rows of a MySQL or MariaDB text resultset to lines of PostgreSQL COPY text, a large row piece by piece.

Rows: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset_row.html
The values come out as canonical text, the same bytes that the binlog's decoder gives for the same value.
This file runs as it is and is compiled by Cython where a compiler is there; mysqltextrow_cy.pxd declares for other
compiled modules what the classes hold. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.mysqlcells_cy import write_value
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, realloc
    from cython.cimports.libc.string import memcpy, memmove

from cdcflow.codecs import mysqlcells_cy, mysqlpackets
from cdcflow.codecs.frames_cy import MessageError

# What comes of a row; the rest of these codes is in `mysqltext_cy`.
_GOOD = cython.declare(cython.int, 0)
_SHORT = cython.declare(cython.int, 1)
_LONG = cython.declare(cython.int, 2)
_MEMORY = cython.declare(cython.int, 4)
_FORM = cython.declare(cython.int, 5)
_NO_DATE = cython.declare(cython.int, 6)


@cython.final
@cython.cclass
class Buffer:
    """Bytes that grow at the end."""

    def __cinit__(self):
        if cython.compiled:
            self.data = cython.NULL
        self.size = 0
        self.capacity = 0

    def __init__(self):
        self.plain = bytearray()
        if not cython.compiled:
            self.size = 0

    def __dealloc__(self):
        if cython.compiled:
            free(self.data)

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def reserve(self, more: cython.Py_ssize_t) -> cython.int:
        """Make room for `more` bytes; return 0 where there is no memory."""
        if cython.compiled:
            capacity: cython.Py_ssize_t
            grown: cython.p_uchar
            if self.size + more > self.capacity:
                capacity = self.capacity + self.capacity // 2 + more + 4096
                grown = cython.cast(cython.p_uchar, realloc(self.data, capacity))
                if grown == cython.NULL:
                    return 0
                self.data = grown
                self.capacity = capacity
        return 1

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def add(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Append a piece; return 0 where there is no memory."""
        if cython.compiled:
            if not self.reserve(end - at):
                return 0
            memcpy(self.data + self.size, p + at, end - at)
        else:
            self.plain += p[at:end]
        self.size += end - at
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop(self, count: cython.Py_ssize_t) -> cython.int:
        """Remove the first bytes. A value of many megabytes came by: its room is not kept for ever."""
        if cython.compiled:
            if count < self.size:
                memmove(self.data, self.data + count, self.size - count)
            self.size -= count
            if self.capacity > 33554432 and self.size == 0:
                free(self.data)
                self.data = cython.NULL
                self.capacity = 0
        else:
            del self.plain[:count]
            self.size -= count
        return 0

    @cython.cfunc
    def taken(self) -> bytes:
        """Remove and return everything."""
        found: bytes
        if cython.compiled:
            found = PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data), self.size)
        else:
            found = bytes(self.plain)
        self.drop(self.size)
        return found


@cython.final
@cython.cclass
class TextRow:
    """Encodes rows of one shape.

    Args:
        columns: a pair for each column: its kind (`mysqlcells_cy.TEXT`, ...) and its width (digits of a BIT, 0 for
            others).
        zero_dates: `ZERO_NULL`, `ZERO_EPOCH` or `ZERO_FAIL`.
    """

    def __cinit__(self, *_args):
        if cython.compiled:
            self.kinds = self.widths = self.growth = cython.NULL

    def __init__(self, columns: tuple, zero_dates: int):
        kinds = bytes([kind for kind, _ in columns])
        widths = bytes([width for _, width in columns])
        growth = bytes([mysqlcells_cy.GROWTH[kind] for kind, _ in columns])
        self.kept = (kinds, widths, growth)  # the pointers below lead into these
        self.width = len(columns)
        self.zero_dates = zero_dates
        self.failed_at = self.column = 0
        self.value_left = 0
        if cython.compiled:
            self.kinds = cython.cast(cython.p_uchar, PyBytes_AS_STRING(kinds))
            self.widths = cython.cast(cython.p_uchar, PyBytes_AS_STRING(widths))
            self.growth = cython.cast(cython.p_uchar, PyBytes_AS_STRING(growth))

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def row(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: Buffer) -> cython.int:
        """Encode one row; return `_GOOD` or what is wrong with it."""
        if cython.compiled:
            index: cython.int
            first: cython.int
            more: cython.int
            length: cython.Py_ssize_t
            written: cython.Py_ssize_t
            for index in range(self.width):
                self.failed_at = index
                if at >= end:
                    return _SHORT
                first = p[at]
                at += 1
                length = first
                if first >= 0xFB:
                    if first == 0xFB:
                        if not out.reserve(4):
                            return _MEMORY
                        if index:
                            out.data[out.size] = 9
                            out.size += 1
                        out.data[out.size] = 92
                        out.data[out.size + 1] = 78
                        out.size += 2
                        continue
                    if first == 0xFF:
                        return _FORM
                    more = 2 if first == 0xFC else 3 if first == 0xFD else 8
                    if end - at < more or (more == 8 and p[at + 7] > 0x7F):
                        return _SHORT
                    length = 0
                    at += more
                    for first in range(1, more + 1):
                        length = (length << 8) | p[at - first]
                if length > end - at:
                    return _SHORT
                if not out.reserve(length * self.growth[index] + 80):
                    return _MEMORY
                if index:
                    out.data[out.size] = 9
                    out.size += 1
                written = write_value(
                    p, at, at + length, self.kinds[index], self.widths[index], self.zero_dates, out.data + out.size
                )
                if written < 0:
                    return _FORM if written == -1 else _NO_DATE
                out.size += written
                at += length
            if at != end:
                self.failed_at = self.width
                return _LONG
            if not out.reserve(1):
                return _MEMORY
            out.data[out.size] = 10
            out.size += 1
            return _GOOD
        return self._plain(p[at:end], out)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def more(self, out: Buffer, long: Buffer, whole: cython.bint) -> cython.int:
        """Encode of a large row what can be encoded by now; return `_GOOD` or what is wrong with it.

        A large text or binary value is not waited for: its text is made piece by piece.

        long: what has come of it and could not be used yet. whole: whether that is all the rest.
        """
        code: cython.int = _GOOD
        if not cython.compiled:
            if whole:
                code = self._plain(bytes(long.plain), out)
                long.plain.clear()
                long.size = 0
            return code
        at: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t
        length: cython.Py_ssize_t
        first: cython.int
        more: cython.int
        kind: cython.int
        p: cython.p_uchar = long.data
        while self.column < self.width:
            self.failed_at = self.column
            kind = self.kinds[self.column]
            if self.value_left:
                length = self.value_left if self.value_left < long.size - at else long.size - at
                if not length:
                    break
                if not out.reserve(length * self.growth[self.column] + 80):
                    return _MEMORY
                start = write_value(p, at, at + length, kind, 0, 0, out.data + out.size)
                if kind == 3:  # the prefix of its hex digits has been written
                    start -= 3
                    memmove(out.data + out.size, out.data + out.size + 3, start)
                out.size += start
                at += length
                self.value_left -= length
                if self.value_left:
                    break
                self.column += 1
                continue
            start = at
            if start >= long.size:
                break
            first = p[start]
            start += 1
            length = first
            if first == 0xFF:
                return _FORM
            if first > 0xFB:
                more = 2 if first == 0xFC else 3 if first == 0xFD else 8
                if long.size - start < more:
                    break
                if more == 8 and p[start + 7] > 0x7F:
                    return _SHORT
                length = 0
                start += more
                for first in range(1, more + 1):
                    length = (length << 8) | p[start - first]
            elif first == 0xFB:
                length = 0
            if length > long.size - start and (whole or (kind != 2 and kind != 3)):
                break
            if not out.reserve((length if length < long.size - start else 0) * self.growth[self.column] + 80):
                return _MEMORY
            if self.column:
                out.data[out.size] = 9
                out.size += 1
            at = start
            if first == 0xFB:
                out.data[out.size] = 92
                out.data[out.size + 1] = 78
                out.size += 2
            elif length > long.size - start:
                self.value_left = length
                if kind == 3:
                    out.data[out.size] = 92
                    out.data[out.size + 1] = 92
                    out.data[out.size + 2] = 120
                    out.size += 3
                continue
            else:
                start = write_value(
                    p, at, at + length, kind, self.widths[self.column], self.zero_dates, out.data + out.size
                )
                if start < 0:
                    return _FORM if start == -1 else _NO_DATE
                out.size += start
                at += length
            self.column += 1
        if at and at < long.size:
            memmove(long.data, long.data + at, long.size - at)
        long.size -= at
        if whole:
            if self.column < self.width:
                return _SHORT
            if long.size:
                self.failed_at = self.width
                return _LONG
            if not out.reserve(1):
                return _MEMORY
            out.data[out.size] = 10
            out.size += 1
            self.column = 0
        return _GOOD

    @cython.cfunc
    def _plain(self, row: bytes, out: Buffer) -> object:
        """As `row`, in plain Python."""
        at = 0
        cells: list = []
        for index in range(self.width):
            self.failed_at = index
            if at >= len(row):
                return _SHORT
            if row[at] == 0xFB:
                cells.append(b"\\N")
                at += 1
                continue
            try:
                length, at = mysqlpackets.length_at(row, at)
            except MessageError:
                return _FORM if row[at] == 0xFF else _SHORT
            if length > len(row) - at:
                return _SHORT
            cell = mysqlcells_cy.plain_value(
                row[at : at + length], self.kept[0][index], self.kept[1][index], self.zero_dates
            )
            at += length
            if isinstance(cell, int):
                return _FORM if cell == -1 else _NO_DATE
            cells.append(cell)
        if at != len(row):
            self.failed_at = self.width
            return _LONG
        if not cython.compiled:
            line = b"\t".join(cells) + b"\n"
            out.plain += line
            out.size += len(line)
        return _GOOD
