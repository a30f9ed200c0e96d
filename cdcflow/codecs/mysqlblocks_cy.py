"""Cells of rows into blocks of the two forms in which rows reach MySQL: LOAD DATA text and rows of SQL literals.

LOAD DATA: https://dev.mysql.com/doc/refman/8.0/en/load-data.html (fields end with a tab, lines with a newline, escaped
by a backslash, read with CHARACTER SET binary, so that binary values stand in it as they are).
Literals: https://dev.mysql.com/doc/refman/8.0/en/literals.html (without NO_BACKSLASH_ESCAPES).
This file runs as it is and is compiled by Cython where a compiler is there; mysqlblocks_cy.pxd declares for other
compiled modules what the class holds. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

from cdcflow.codecs.mysqlliterals import ImageError, converted, escaped, literal, quoted, unescaped

if cython.compiled:
    from cython.cimports.cdcflow.codecs.mysqlescape_cy import is_number, load_copied, load_hex, load_text, sql_text
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, realloc
    from cython.cimports.libc.string import memcpy

LOAD = 0
SQL = 1

# A block handed to `write` has about this many bytes: whole rows, so one with a large value is larger.
BLOCK = 262144

_BLOCK = cython.declare(cython.Py_ssize_t, BLOCK)

# A value of more than this goes into blocks of LOAD DATA text piece by piece.
_PIECE = cython.declare(cython.Py_ssize_t, 131072)


@cython.final
@cython.cclass
class Blocks:
    """Rows of one shape in one of the two forms, as they are written: `size` is how many bytes are not handed over.

    `kinds`: one byte for each written column. Rows of LOAD text are lines; rows of SQL are `(1,'a')`, separated by
    commas within a block. Cells are written in the order of their columns' numbers.
    """

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

    @cython.cfunc
    @cython.exceptval(-1)
    def begin(self, count: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Begin a row behind so many in the block; return where."""
        start: cython.Py_ssize_t = self.size
        if self.form:
            if count:
                self._byte(44)
            self._byte(40)
        return start

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end(self) -> cython.int:
        """End a row."""
        self._byte(41 if self.form else 10)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def flush(
        self, start: cython.Py_ssize_t, count: cython.Py_ssize_t, write: object, most: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """Hand over what is complete: without the last row, from `start` on, where that made the block too large.
        Return how many rows the block has then."""
        if self.size < most:
            return count
        if count == 1 or self.size == most or not self.form:
            self.hand_over(count, write)
            return 0
        write(self._taken(start), count - 1)
        # The comma that stood before the row goes.
        rest: bytes = self._taken(self.size)[1:]
        self._bytes(rest)
        if self.size >= most:
            self.hand_over(1, write)
            return 0
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def hand_over(self, count: cython.Py_ssize_t, write: object) -> cython.int:
        """Hand over all that there is, in which so many rows end."""
        write(self._taken(self.size), count)
        return 0

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
    @cython.inline
    @cython.exceptval(-1, check=False)
    def separate(self, index: cython.int) -> cython.int:
        """Write what stands before the cell with that number."""
        if index:
            self._byte(44 if self.form else 9)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def null(self, index: cython.int) -> cython.int:
        """Write NULL."""
        self.separate(index)
        self._bytes(b"NULL" if self.form else b"\\N")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def value(self, index: cython.int, value: bytes) -> cython.int:
        """Write a cell."""
        self.separate(index)
        return self._value(value, self.kinds[index])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cell(
        self,
        index: cython.int,
        p: cython.p_uchar,
        at: cython.Py_ssize_t,
        length: cython.Py_ssize_t,
        write: object,
    ) -> cython.int:
        """Write a cell; the frequent kinds without making an object. Where `write` is given, parts of a large one may
        be handed over."""
        kind: cython.int = self.kinds[index]
        self.separate(index)
        if length > _PIECE and kind == 0 and not self.form and write is not None:
            return self._pieces(p, at, at + length, write)
        if not cython.compiled:
            return self._value(p[at : at + length], kind)
        if kind == 11 and length < 13:  # none of those that need another text
            kind = 0
        elif kind >= 12 and (length == 0 or p[at + length - 1] != 31):  # a document without types
            kind = 0
        if kind == 0 or kind == 8 or kind == 4:
            if kind == 8:
                while length and p[at + length - 1] == 32:
                    length -= 1
            elif kind == 4 and length > 3 and p[at + length - 3] == 43 and p[at + length - 1] == 48:
                if p[at + length - 2] == 48:
                    length -= 3
            return self._text(p, at, at + length)
        if kind == 1 and (not self.form or is_number(p, at, at + length)):
            return self._copy(p, at, length)
        if kind == 3 and not self.form:
            return self._hex(p, at, at + length)
        return self._value(PyBytes_FromStringAndSize(cython.cast(cython.p_char, p + at), length), kind)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def raw(
        self, index: cython.int, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, write: object
    ) -> cython.int:
        """Write a raw cell. What there is before its end may be handed over."""
        kind: cython.int = self.kinds[index]
        self.separate(index)
        if kind == 3 and not self.form:
            self._pieces(p, at, end, write)
        elif kind == 3:
            self._bytes(b"_binary'")
            self._quoted(p, at, end)
            self._byte(39)
        else:
            if cython.compiled:
                raw = PyBytes_FromStringAndSize(cython.cast(cython.p_char, p + at), end - at)
            else:
                raw = p[at:end]
            self._value(b"\\x" + raw.hex().encode(), kind)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def copied(self, block: bytes, at: cython.Py_ssize_t, end: cython.Py_ssize_t, kind: cython.int) -> cython.int:
        """Write for LOAD DATA a piece of COPY text: of a large text, or of the hex digits of bytes."""
        size: cython.Py_ssize_t
        if not cython.compiled:
            piece = block[at:end]
            return self._bytes(escaped(unescaped(piece) if kind == 0 else converted(3, b"\\x" + piece)))
        if kind == 3 and (end - at) % 2:
            raise ImageError("a block of COPY text ends inside a byte")
        self._need(2 * (end - at))
        p: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(block))
        if kind == 3:
            size = load_hex(p, at, end, self.out, self.size)
        else:
            size = load_copied(p, at, end, self.out, self.size)
        if size < 0:
            raise ImageError(
                "a cell holds no hex digits" if kind == 3 else "a field of COPY text ends inside an escape"
            )
        self.size = size
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _pieces(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, write: object) -> cython.int:
        """Write the bytes of a large value for LOAD DATA, and hand over what there is in between: a block of that may
        end anywhere."""
        upto: cython.Py_ssize_t
        while at < end:
            upto = at + _PIECE if end - at > _PIECE else end
            if cython.compiled:
                self._text(p, at, upto)
            else:
                self._bytes(escaped(p[at:upto]))
            at = upto
            if self.size >= _BLOCK:
                self.hand_over(0, write)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _quoted(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Write bytes as they stand within a string literal."""
        upto: cython.Py_ssize_t
        if not cython.compiled:
            return self._bytes(quoted(p[at:end])[1:-1])
        # Piece by piece: few large values need the room that they might.
        while at < end:
            upto = at + _PIECE if end - at > _PIECE else end
            self._need(2 * (upto - at))
            self.size = sql_text(p, at, upto, self.out, self.size)
            at = upto
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _value(self, value: bytes, kind: cython.int) -> cython.int:
        if self.form:
            return self._bytes(literal(kind, value))
        return self._bytes(escaped(converted(kind, value)))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _text(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Write text, escaped for the form. Compiled only."""
        if cython.compiled:
            self._need(2 * (end - at) + 2)
            if self.form:
                self.out[self.size] = 39
                self.size = sql_text(p, at, end, self.out, self.size + 1)
                self.out[self.size] = 39
                self.size += 1
            else:
                self.size = load_text(p, at, end, self.out, self.size)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _hex(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Write the bytes behind hex digits, escaped. Compiled only."""
        if cython.compiled:
            size: cython.Py_ssize_t
            if end - at < 2 or p[at] != 92 or p[at + 1] != 120 or (end - at) % 2:
                raise ImageError("a cell holds no bytes")
            self._need(end - at)
            size = load_hex(p, at + 2, end, self.out, self.size)
            if size < 0:
                raise ImageError("a cell holds no hex digits")
            self.size = size
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _copy(self, p: cython.p_uchar, at: cython.Py_ssize_t, length: cython.Py_ssize_t) -> cython.int:
        if cython.compiled:
            self._need(length)
            memcpy(self.out + self.size, p + at, length)
            self.size += length
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
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
    @cython.exceptval(-1, check=False)
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
    @cython.exceptval(-1, check=False)
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
