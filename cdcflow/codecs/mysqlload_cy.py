"""Row images and COPY text into the two forms in which rows reach MySQL: LOAD DATA text and rows of SQL literals.

LOAD DATA: https://dev.mysql.com/doc/refman/8.0/en/load-data.html (fields end with a tab, lines with a newline, escaped
by a backslash, read with CHARACTER SET binary, so that binary values stand in it as they are).
Literals: https://dev.mysql.com/doc/refman/8.0/en/literals.html (without NO_BACKSLASH_ESCAPES).
This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

import sys
from array import array

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

from cdcflow.codecs.mysqlliterals import ImageError, converted, escaped, literal, unescaped

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, realloc
    from cython.cimports.libc.string import memcpy

__all__ = ["LOAD", "SQL", "Encoder", "ImageError"]

_ORDER = sys.byteorder

LOAD = 0
SQL = 1

# A block handed to `write` has about this many bytes: whole rows, so one with a large value is larger.
BLOCK = 262144


@cython.final
@cython.cclass
class Encoder:
    """Writes rows of one shape in one of the two forms.

    `kinds`: one byte for each written column. Rows of LOAD text are lines; rows of SQL are `(1,'a')`, separated by
    commas within a block.
    """

    kinds: bytes
    form: cython.int
    out: cython.p_uchar
    size: cython.Py_ssize_t
    room: cython.Py_ssize_t
    plain: bytearray

    def __cinit__(self, *_args):
        if cython.compiled:
            self.out = cython.NULL

    def __init__(self, kinds: bytes, form: cython.int):
        self.kinds = kinds
        self.form = form
        self.size = 0
        self.room = 0
        self.plain = bytearray()

    def __dealloc__(self):
        if cython.compiled:
            free(self.out)

    def images(self, after: bytes, merged: bytes, references: bytes, width: int, columns: tuple, write, most=BLOCK):
        """Encode row images and pass them on in blocks of whole rows; return the number of rows.

        Args:
            references: native int64 a row: an offset into `after`, or, where negative, -1 - offset into `merged`.
            width: cells in each image.
            columns: which cells go out, by position, in this order.
            write: called with each block and the number of its rows.
            most: a block is handed over before it has more bytes than this, unless one row alone has.

        Raises:
            ImageError: an image is not what it says, or an asked cell is absent.
        """
        chosen: cython.int = len(columns)
        cells: cython.int = width
        row: cython.Py_ssize_t
        rows: cython.Py_ssize_t = len(references) // 8
        at: cython.Py_ssize_t
        limit: cython.Py_ssize_t
        start: cython.Py_ssize_t
        count: cython.Py_ssize_t = 0
        index: cython.int
        length: cython.int = 0
        reference: cython.longlong
        p: cython.p_uchar
        if len(references) % 8 or chosen != len(self.kinds):
            raise ImageError("the references end inside one, or the columns are others")
        places: bytes = array("i", columns).tobytes()
        if cython.compiled:
            # Where each cell starts, and how long it is.
            starts: bytes = bytes(8 * (cells + 1))
            lengths: bytes = bytes(4 * (cells + 1))
            s: cython.pointer[cython.longlong] = cython.cast(cython.pointer[cython.longlong], PyBytes_AS_STRING(starts))
            n: cython.pointer[cython.int] = cython.cast(cython.pointer[cython.int], PyBytes_AS_STRING(lengths))
            r: cython.pointer[cython.longlong] = cython.cast(
                cython.pointer[cython.longlong], PyBytes_AS_STRING(references)
            )
            w: cython.pointer[cython.int] = cython.cast(cython.pointer[cython.int], PyBytes_AS_STRING(places))
        else:
            s, n, r, w = [0] * cells, [0] * cells, array("q", references), columns
        for row in range(rows):
            reference = r[row]
            if reference >= 0:
                p = after if not cython.compiled else cython.cast(cython.p_uchar, PyBytes_AS_STRING(after))
                at = reference
                limit = len(after)
            else:
                p = merged if not cython.compiled else cython.cast(cython.p_uchar, PyBytes_AS_STRING(merged))
                at = -1 - reference
                limit = len(merged)
            for index in range(cells):
                if at > limit - 4 or at < 0:
                    raise ImageError("a row image ends before its cells")
                length = _int32(p, at)
                at += 4
                s[index] = at
                n[index] = length
                if length > 0:
                    if length > limit - at:
                        raise ImageError("a row image ends inside a cell")
                    at += length
            start = self._begin(count)
            for index in range(chosen):
                if index:
                    self._byte(44 if self.form else 9)
                length = n[w[index]]
                if length >= 0:
                    self._cell(p, s[w[index]], length, self.kinds[index])
                elif length == -1:
                    self._null()
                else:
                    raise ImageError("an absent cell was asked for")
            self._end()
            count = self._flush(start, count + 1, write, most)
        if count:
            write(self._taken(self.size), count)
        return rows

    def lines(self, block: bytes, write, most=BLOCK):
        """Encode whole lines of COPY text; return their number. Raises ImageError as `images`."""
        chosen: cython.int = len(self.kinds)
        end: cython.Py_ssize_t = len(block)
        at: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t
        count: cython.Py_ssize_t = 0
        rows: cython.Py_ssize_t = 0
        index: cython.int
        stop: cython.Py_ssize_t
        escapes: cython.int
        p: cython.p_uchar
        p = block if not cython.compiled else cython.cast(cython.p_uchar, PyBytes_AS_STRING(block))
        if end and block[end - 1] != 10:
            raise ImageError("a block of COPY text ends inside a line")
        while at < end:
            start = self._begin(count)
            for index in range(chosen):
                if index:
                    self._byte(44 if self.form else 9)
                stop = at
                escapes = 0
                while p[stop] != 9 and p[stop] != 10:
                    if p[stop] == 92:
                        escapes = 1
                    stop += 1
                if (p[stop] == 10) != (index == chosen - 1):
                    raise ImageError("a line of COPY text has another number of fields")
                if not escapes:
                    self._cell(p, at, stop - at, self.kinds[index])
                elif stop - at == 2 and p[at + 1] == 78:
                    self._null()
                else:
                    self._value(unescaped(block[at:stop]), self.kinds[index])
                at = stop + 1
            if not chosen:
                at = block.index(b"\n", at) + 1
            self._end()
            rows += 1
            count = self._flush(start, count + 1, write, most)
        if count:
            write(self._taken(self.size), count)
        return rows

    @cython.cfunc
    def _begin(self, count: cython.Py_ssize_t) -> cython.Py_ssize_t:
        start: cython.Py_ssize_t = self.size
        if self.form:
            if count:
                self._byte(44)
            self._byte(40)
        return start

    @cython.cfunc
    def _end(self) -> cython.int:
        self._byte(41 if self.form else 10)
        return 0

    @cython.cfunc
    def _flush(
        self, start: cython.Py_ssize_t, count: cython.Py_ssize_t, write: object, most: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """Hand over what is complete: without the last row where that made the block too large."""
        if self.size < most:
            return count
        if count == 1 or self.size == most or not self.form:
            write(self._taken(self.size), count)
            return 0
        write(self._taken(start), count - 1)
        # The comma that stood before the row goes.
        rest: bytes = self._taken(self.size)[1:]
        self._bytes(rest)
        if self.size >= most:
            write(self._taken(self.size), 1)
            return 0
        return 1

    @cython.cfunc
    def _taken(self, upto: cython.Py_ssize_t) -> bytes:
        """Return the first `upto` bytes and keep the rest."""
        if cython.compiled:
            whole = PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.out), self.size)
        else:
            whole = bytes(self.plain)
            self.plain = bytearray()
        self.size = 0
        if upto == len(whole):
            return whole
        self._bytes(whole[upto:])
        return whole[:upto]

    @cython.cfunc
    def _null(self) -> cython.int:
        self._bytes(b"NULL" if self.form else b"\\N")
        return 0

    @cython.cfunc
    def _cell(
        self, p: cython.p_uchar, at: cython.Py_ssize_t, length: cython.Py_ssize_t, kind: cython.int
    ) -> cython.int:
        """Write one cell; the frequent kinds without making an object."""
        if not cython.compiled:
            self._value(p[at : at + length], kind)
            return 0
        if kind == 11 and length < 13:  # none of those that need another text
            kind = 0
        if kind == 0 or kind == 8 or kind == 4:
            if kind == 8:
                while length and p[at + length - 1] == 32:
                    length -= 1
            elif kind == 4 and length > 3 and p[at + length - 3] == 43 and p[at + length - 1] == 48:
                if p[at + length - 2] == 48:
                    length -= 3
            self._text(p, at, at + length)
            return 0
        if kind == 1 and (not self.form or _is_number(p, at, at + length)):
            self._copy(p, at, length)
            return 0
        if kind == 3 and not self.form:
            self._hex(p, at, at + length)
            return 0
        self._value(PyBytes_FromStringAndSize(cython.cast(cython.p_char, p + at), length), kind)
        return 0

    @cython.cfunc
    def _value(self, value: bytes, kind: cython.int) -> cython.int:
        if self.form:
            self._bytes(literal(kind, value))
        else:
            self._bytes(escaped(converted(kind, value)))
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _text(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Write text, escaped for the form. Compiled only."""
        if cython.compiled:
            byte: cython.uchar
            size: cython.Py_ssize_t
            self._need(2 * (end - at) + 2)
            size = self.size
            if self.form:
                self.out[size] = 39
                size += 1
                while at < end:
                    byte = p[at]
                    at += 1
                    if byte == 39 or byte == 92 or byte == 0:
                        self.out[size] = 92
                        size += 1
                        if byte == 0:
                            byte = 48
                    self.out[size] = byte
                    size += 1
                self.out[size] = 39
                size += 1
            else:
                while at < end:
                    byte = p[at]
                    at += 1
                    if byte == 9 or byte == 10 or byte == 92:
                        self.out[size] = 92
                        size += 1
                        byte = 116 if byte == 9 else (110 if byte == 10 else 92)
                    self.out[size] = byte
                    size += 1
            self.size = size
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _hex(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Write the bytes behind hex digits, escaped. Compiled only."""
        if cython.compiled:
            byte: cython.int
            high: cython.int
            low: cython.int
            if end - at < 2 or p[at] != 92 or p[at + 1] != 120 or (end - at) % 2:
                raise ImageError("a cell holds no bytes")
            at += 2
            self._need(end - at)
            while at < end:
                high = _digit(p[at])
                low = _digit(p[at + 1])
                if high < 0 or low < 0:
                    raise ImageError("a cell holds no hex digits")
                at += 2
                byte = high * 16 + low
                if byte == 9 or byte == 10 or byte == 92:
                    self.out[self.size] = 92
                    self.size += 1
                    byte = 116 if byte == 9 else (110 if byte == 10 else 92)
                self.out[self.size] = cython.cast(cython.uchar, byte)
                self.size += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _copy(self, p: cython.p_uchar, at: cython.Py_ssize_t, length: cython.Py_ssize_t) -> cython.int:
        if cython.compiled:
            self._need(length)
            memcpy(self.out + self.size, p + at, length)
            self.size += length
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _bytes(self, value: bytes) -> cython.int:
        if cython.compiled:
            self._need(len(value))
            memcpy(self.out + self.size, PyBytes_AS_STRING(value), len(value))
        else:
            self.plain += value
        self.size += len(value)
        return 0

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def _byte(self, byte: cython.int) -> cython.int:
        if cython.compiled:
            self._need(1)
            self.out[self.size] = cython.cast(cython.uchar, byte)
        else:
            self.plain.append(byte)
        self.size += 1
        return 0

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def _need(self, more: cython.Py_ssize_t) -> cython.int:
        if cython.compiled:
            if self.size + more > self.room:
                room: cython.Py_ssize_t = 2 * (self.size + more) + 4096
                grown: cython.p_uchar = cython.cast(cython.p_uchar, realloc(self.out, room))
                if grown == cython.NULL:
                    raise MemoryError
                self.out = grown
                self.room = room
        return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _int32(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    value: cython.int = 0
    if cython.compiled:
        memcpy(cython.address(value), p + at, 4)
        return value
    return int.from_bytes(p[at : at + 4], _ORDER, signed=True)


@cython.cfunc
@cython.exceptval(check=False)
def _is_number(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
    byte: cython.uchar
    if at == end:
        return 0
    while at < end:
        byte = p[at]
        at += 1
        if not (48 <= byte <= 57 or byte == 43 or byte == 45 or byte == 46 or byte == 101 or byte == 69):
            return 0
    return 1


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _digit(byte: cython.uchar) -> cython.int:
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    if 65 <= byte <= 70:
        return byte - 55
    return -1
