"""A JSON text under a cursor: strings, numbers and values that are stepped over, without a Python object for any.

JSON: https://www.rfc-editor.org/rfc/rfc8259. The input is checked throughout: UTF-8, escapes, surrogate pairs, the
grammar of what is skipped, and how deep it is nested.
This file runs as it is and is compiled by Cython where a compiler is there; jsontext_cy.pxd declares for other compiled
modules what is here. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.jsonoutput_cy import Output, utf8_size
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
else:
    from cdcflow.codecs import loading

    _cell = loading.plain("cdcflow.codecs.jsonoutput_cy")
    Output, utf8_size = _cell.Output, _cell.utf8_size

# Objects and arrays in one another. Rows have three at the most; documents that others wrote may have more.
_DEEPEST = cython.declare(cython.int, 200)


class ScanError(ValueError):
    """The text is not JSON, or not what a message holds. Says what and at which byte, never a value."""


@cython.final
@cython.cclass
class Cursor:
    """A place in a JSON text. `whole`: the number that was stepped over last had neither point nor exponent."""

    def __init__(self):
        self.owner = b""
        self.end = self.at = 0
        self.whole = False

    @cython.cfunc
    @cython.exceptval(-1)
    def open(self, text: bytes) -> cython.int:
        """Begin at the start of another text, which is held as long as the cursor is in it."""
        self.owner = text
        if cython.compiled:
            self.p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(text))
        else:
            self.p = text
        self.at = 0
        self.end = len(text)
        return 0

    @cython.cfunc
    @cython.exceptval(-2)
    def peek(self) -> cython.int:
        """Step over white space; return the byte that stands there, -1 at the end."""
        byte: cython.int
        while self.at < self.end:
            byte = self.p[self.at]
            if byte != 32 and byte != 10 and byte != 13 and byte != 9:
                return byte
            self.at += 1
        return -1

    @cython.cfunc
    @cython.exceptval(-1)
    def expect(self, byte: cython.int) -> cython.int:
        """Step over one byte that has to be there."""
        if self.peek() != byte:
            raise ScanError(f"not JSON: no {chr(byte)!r} at byte {self.at}")
        self.at += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def more(self, close: cython.int) -> cython.int:
        """Behind a member: step over the comma and return 1, or over what closes and return 0."""
        byte: cython.int = self.peek()
        if byte == close:
            self.at += 1
            return 0
        if byte != 44:
            raise ScanError(f"not JSON: neither a comma nor {chr(close)!r} at byte {self.at}")
        self.at += 1
        return 1

    @cython.cfunc
    @cython.exceptval(-1)
    def string(self, out: Output) -> cython.int:
        """Append the text of the string that stands here, and step over it."""
        p: cython.p_uchar = self.p
        at: cython.Py_ssize_t
        start: cython.Py_ssize_t
        end: cython.Py_ssize_t = self.end
        byte: cython.int
        size: cython.int
        self.expect(34)
        at = start = self.at
        while at < end:
            byte = p[at]
            if byte == 34:
                out.copy(p, start, at)
                self.at = at + 1
                return 0
            if byte == 92:
                out.copy(p, start, at)
                at = start = self.escape(out, at + 1)
            elif byte >= 128:
                size = utf8_size(p, at, end)
                if size == 0:
                    raise ScanError(f"not UTF-8 at byte {at}")
                at += size
            elif byte < 32:
                raise ScanError(f"not JSON: a control character at byte {at}")
            else:
                at += 1
        raise ScanError("not JSON: ends inside a string")

    @cython.cfunc
    @cython.exceptval(-1)
    def escape(self, out: Output, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Append what the escape whose letter is at `at` stands for; return the place behind it."""
        letter: cython.int
        code: cython.int
        low: cython.int
        if at >= self.end:
            raise ScanError("not JSON: ends inside a string")
        letter = self.p[at]
        if letter == 117:  # u
            code = self.unit(at + 1)
            at += 5
            if 0xD800 <= code < 0xE000:
                low = -1
                if code < 0xDC00 and at + 1 < self.end and self.p[at] == 92 and self.p[at + 1] == 117:
                    low = self.unit(at + 2)
                if not 0xDC00 <= low < 0xE000:
                    raise ScanError(f"half of a surrogate pair before byte {at}")
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                at += 6
            _character(out, code)
            return at
        if letter == 110:
            letter = 10
        elif letter == 114:
            letter = 13
        elif letter == 116:
            letter = 9
        elif letter == 98:
            letter = 8
        elif letter == 102:
            letter = 12
        elif letter != 34 and letter != 92 and letter != 47:
            raise ScanError(f"not JSON: no such escape at byte {at}")
        _character(out, letter)
        return at + 1

    @cython.cfunc
    @cython.exceptval(-1)
    def unit(self, at: cython.Py_ssize_t) -> cython.int:
        """Return the number of four hexadecimal digits."""
        code: cython.int = 0
        index: cython.int
        byte: cython.int
        if self.end - at < 4:
            raise ScanError("not JSON: ends inside a string")
        for index in range(4):
            byte = self.p[at + index]
            if 48 <= byte <= 57:
                byte -= 48
            elif 97 <= byte <= 102:
                byte -= 87
            elif 65 <= byte <= 70:
                byte -= 55
            else:
                raise ScanError(f"not JSON: no such escape at byte {at}")
            code = code * 16 + byte
        return code

    @cython.cfunc
    @cython.exceptval(-1)
    def step(self) -> cython.Py_ssize_t:
        """Step over a string and return where its text began, if that needs no decoding; else -2 - that place. The
        text ends before the quote, at `at - 1`."""
        p: cython.p_uchar = self.p
        at: cython.Py_ssize_t
        start: cython.Py_ssize_t
        end: cython.Py_ssize_t = self.end
        byte: cython.int
        self.expect(34)
        at = start = self.at
        while at < end:
            byte = p[at]
            if byte == 34:
                self.at = at + 1
                return start
            if byte == 92 or byte >= 128 or byte < 32:
                return -2 - start
            at += 1
        raise ScanError("not JSON: ends inside a string")

    @cython.cfunc
    @cython.exceptval(-1)
    def number(self) -> cython.Py_ssize_t:
        """Step over a number; return where it begins."""
        p: cython.p_uchar = self.p
        start: cython.Py_ssize_t = self.at
        at: cython.Py_ssize_t = start
        end: cython.Py_ssize_t = self.end
        digits: cython.Py_ssize_t
        self.whole = True
        if at < end and p[at] == 45:
            at += 1
        digits = at
        while at < end and 48 <= p[at] <= 57:
            at += 1
        if at == digits or (p[digits] == 48 and at > digits + 1):
            raise ScanError(f"not JSON: no number at byte {start}")
        if at < end and p[at] == 46:
            self.whole = False
            at += 1
            digits = at
            while at < end and 48 <= p[at] <= 57:
                at += 1
            if at == digits:
                raise ScanError(f"not JSON: no number at byte {start}")
        if at < end and (p[at] == 101 or p[at] == 69):
            self.whole = False
            at += 1
            if at < end and (p[at] == 43 or p[at] == 45):
                at += 1
            digits = at
            while at < end and 48 <= p[at] <= 57:
                at += 1
            if at == digits:
                raise ScanError(f"not JSON: no number at byte {start}")
        self.at = at
        return start

    @cython.cfunc
    @cython.exceptval(-1)
    def word(self) -> cython.int:
        """Step over `true`, `false` or `null`; return its first letter."""
        wanted: bytes
        index: cython.Py_ssize_t
        byte: cython.int = self.peek()
        if byte == 116:
            wanted = b"true"
        elif byte == 102:
            wanted = b"false"
        elif byte == 110:
            wanted = b"null"
        else:
            raise ScanError(f"not JSON: no value at byte {self.at}")
        if self.end - self.at < len(wanted):
            raise ScanError("not JSON: ends inside a word")
        for index in range(len(wanted)):
            if self.p[self.at + index] != wanted[index]:
                raise ScanError(f"not JSON: no value at byte {self.at}")
        self.at += len(wanted)
        return byte

    @cython.cfunc
    @cython.exceptval(-1)
    def skip(self, scratch: Output, depth: cython.int) -> cython.Py_ssize_t:
        """Step over a value of any kind; return where it begins. `scratch` is written over."""
        byte: cython.int = self.peek()
        start: cython.Py_ssize_t = self.at
        if byte == 34:
            scratch.size = 0
            self.string(scratch)
        elif byte == 123 or byte == 91:
            if depth >= _DEEPEST:
                raise ScanError(f"nested too deeply at byte {self.at}")
            self.at += 1
            byte += 2  # what closes it
            if self.peek() == byte:
                self.at += 1
                return start
            while True:
                if byte == 125:
                    scratch.size = 0
                    self.peek()
                    self.string(scratch)
                    self.expect(58)
                self.skip(scratch, depth + 1)
                if not self.more(byte):
                    break
        elif byte == 45 or 48 <= byte <= 57:
            self.number()
        else:
            self.word()
        return start

    @cython.cfunc
    def slice(self, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> bytes:
        """Return a piece of the text."""
        if cython.compiled:
            return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.p + start), end - start)
        return bytes(self.p[start:end])


@cython.cfunc
@cython.exceptval(-1)
def _character(out: Output, code: cython.int) -> cython.int:
    """Append a character as UTF-8."""
    d: cython.p_uchar
    n: cython.Py_ssize_t
    if out.size + 4 > out.capacity:
        out.grow(4)
    d = out.data
    n = out.size
    if code < 0x80:
        d[n] = code
        n += 1
    elif code < 0x800:
        d[n] = 0xC0 | (code >> 6)
        d[n + 1] = 0x80 | (code & 63)
        n += 2
    elif code < 0x10000:
        d[n] = 0xE0 | (code >> 12)
        d[n + 1] = 0x80 | ((code >> 6) & 63)
        d[n + 2] = 0x80 | (code & 63)
        n += 3
    else:
        d[n] = 0xF0 | (code >> 18)
        d[n + 1] = 0x80 | ((code >> 12) & 63)
        d[n + 2] = 0x80 | ((code >> 6) & 63)
        d[n + 3] = 0x80 | (code & 63)
        n += 4
    out.size = n
    return 0


def schema_part(text: bytes) -> bytes:
    """Return the `schema` of `{"schema": .., "payload": ..}` as it stands there, b"" where the text does not begin so.

    Raises:
        ScanError: it is not JSON.
    """
    cursor: Cursor = Cursor()
    scratch: Output = Output()
    start: cython.Py_ssize_t
    end: cython.Py_ssize_t
    cursor.open(text)
    if cursor.peek() != 123:
        return b""
    cursor.at += 1
    if cursor.peek() != 34:
        return b""
    cursor.string(scratch)
    if scratch.taken() != b"schema":
        return b""
    cursor.expect(58)
    if cursor.peek() != 123:
        return b""
    start = cursor.skip(scratch, 1)
    end = cursor.at
    if cursor.peek() != 44:
        return b""
    cursor.at += 1
    cursor.peek()
    scratch.size = 0
    cursor.string(scratch)
    if scratch.taken() != b"payload":
        return b""
    return cursor.slice(start, end)
