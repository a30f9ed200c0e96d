"""MySQL's binary JSON as the text that the server prints.

Format: the comment in the server's sql-common/json_binary.h. A document is a type byte and a value; objects and arrays
hold offsets to their keys and values, so what is read is counted against the document's size: no byte is used twice,
and a damaged document cannot become larger than its text may be.

This file runs as it is and is compiled by Cython where a compiler is there; mysqljson_cy.pxd declares for other
compiled modules what a `JsonText` holds. It does no I/O.
"""

from __future__ import annotations

import struct
from base64 import b64encode

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.binlognumbers_cy import decimal, decimal_size, integer, little
    from cython.cimports.cdcflow.codecs.binlogtext_cy import copied, is_utf8
    from cython.cimports.cdcflow.codecs.binlogtime_cy import packed
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs import loading

    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena
    _numbers = loading.plain("cdcflow.codecs.binlognumbers_cy")
    _text = loading.plain("cdcflow.codecs.binlogtext_cy")
    decimal, decimal_size, integer, little = _numbers.decimal, _numbers.decimal_size, _numbers.integer, _numbers.little
    copied, is_utf8, packed = _text.copied, _text.is_utf8, loading.plain("cdcflow.codecs.binlogtime_cy").packed

from cdcflow.codecs.frames_cy import MessageError
from cdcflow.codecs.mysqldocuments import marks

# The server's own limit (JSON_DOCUMENT_MAX_DEPTH).
_DEEPEST = cython.declare(cython.int, 100)

# Nine words of nine digits: the digits before the point are counted by whole words, so that a DECIMAL(65,30) may say
# that it has 66 (seen on 9.7).
_MOST_DIGITS = cython.declare(cython.int, 81)

# Behind how many characters the server's base64 starts a new line, inside of a JSON string.
_BASE64_LINE = 76

_LITERALS = (b"null", b"true", b"false")


@cython.final
@cython.cclass
class JsonText:
    """Writes documents, one at a time. `typed`: behind each what `mysqldocuments` reads, where it holds SQL types."""

    def __init__(self, typed: bool = False):
        self.typed = typed
        self.values = 0
        self.types = list[tuple[int, int]]()

    def text(self, document: bytes) -> bytes:
        """Return a document's text.

        Raises:
            MessageError: it is not a document.
        """
        arena: Arena = Arena()
        if cython.compiled:
            self.write(arena, cython.cast(cython.p_uchar, PyBytes_AS_STRING(document)), 0, len(document))
        else:
            self.write(arena, document, 0, len(document))
        return arena.take(arena.size)

    def scalar(self, kind: int, document: bytes, at: int, end: int) -> bytes:
        """Return the text of the value of a type (above 3) that starts at `at` and ends before `end`.

        Raises:
            MessageError: there is none.
        """
        arena: Arena = Arena()
        if not 0 <= at <= end <= len(document):
            raise MessageError("a JSON value outside of its document")
        self.arena = arena
        self.budget = len(document)
        if cython.compiled:
            self.p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(document))
        else:
            self.p = document
        if kind < 4:
            raise MessageError("a JSON value that is no scalar")
        self._value(kind, at, end, 0)
        return arena.take(arena.size)

    @cython.cfunc
    @cython.exceptval(-1)
    def write(self, arena: Arena, p: cython.p_uchar, start: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.int:
        """Append the text of the document from `start` on. No bytes at all are null, as they are to the server."""
        self.arena = arena
        self.p = p
        self.budget = count
        if count == 0:
            return self._add(b"null")
        self.values = 0
        if self.types:
            self.types = list[tuple[int, int]]()
        self._value(p[start], start + 1, start + count, 0)
        if self.types:
            self._add(marks(self.types))
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _value(self, kind: cython.int, at: cython.Py_ssize_t, end: cython.Py_ssize_t, depth: cython.int) -> cython.int:
        """Append the value of a type that starts at `at` and has to end before `end`."""
        size: cython.Py_ssize_t
        self.values += 1
        if kind < 4:
            return self._container(kind, at, end, depth + 1)
        if kind == 4:
            size = 1
        elif kind == 5 or kind == 6:
            size = 2
        elif kind == 7 or kind == 8:
            size = 4
        elif kind == 9 or kind == 10 or kind == 11:
            size = 8
        elif kind == 12:
            return self._string(at, end)
        elif kind == 15:
            return self._opaque(at, end)
        else:
            raise MessageError("a JSON value of an unknown type")
        if size > end - at:
            raise MessageError("a JSON document ends inside a value")
        self._spend(size)
        if kind == 4:
            return self._literal(self.p[at])
        if kind == 11:
            return self._double(at)
        return self._integer(at, size, kind == 6 or kind == 8 or kind == 10)

    @cython.cfunc
    @cython.exceptval(-1)
    def _container(
        self, kind: cython.int, base: cython.Py_ssize_t, end: cython.Py_ssize_t, depth: cython.int
    ) -> cython.int:
        """Append an object (0, 1) or an array (2, 3); those of odd type have offsets of four bytes."""
        wide: cython.bint = kind & 1
        unit: cython.Py_ssize_t = 4 if wide else 2
        count: cython.Py_ssize_t
        size: cython.Py_ssize_t
        keys: cython.Py_ssize_t = base + 2 * unit
        values: cython.Py_ssize_t = keys
        entry: cython.Py_ssize_t
        offset: cython.Py_ssize_t
        length: cython.Py_ssize_t
        index: cython.Py_ssize_t
        type_: cython.int
        if depth > _DEEPEST:
            raise MessageError("a JSON document is too deep")
        if 2 * unit > end - base:
            raise MessageError("a JSON document ends inside a value")
        count = cython.cast(cython.Py_ssize_t, little(self.p, base, unit))
        size = cython.cast(cython.Py_ssize_t, little(self.p, base + unit, unit))
        if size > end - base:
            raise MessageError("a JSON document ends inside a value")
        end = base + size
        if kind < 2:
            values += count * (unit + 2)
        if values + count * (unit + 1) > end:
            raise MessageError("a JSON document ends inside its entries")
        self._spend(values + count * (unit + 1) - base)
        self._byte(123 if kind < 2 else 91)  # { [
        for index in range(count):
            if index > 0:
                self._add(b", ")
            if kind < 2:
                entry = keys + index * (unit + 2)
                offset = cython.cast(cython.Py_ssize_t, little(self.p, entry, unit))
                length = cython.cast(cython.Py_ssize_t, little(self.p, entry + unit, 2))
                if offset + length > size:
                    raise MessageError("a JSON document ends inside a key")
                self._quoted(base + offset, length)
                self._add(b": ")
            entry = values + index * (unit + 1)
            type_ = self.p[entry]
            if 4 <= type_ <= 6 or (wide and (type_ == 7 or type_ == 8)):
                self.budget += 1 if type_ == 4 else 2 if type_ < 7 else 4  # counted with the entries
                self._value(type_, entry + 1, entry + 1 + unit, depth)
                continue
            offset = cython.cast(cython.Py_ssize_t, little(self.p, entry + 1, unit))
            if offset > size:
                raise MessageError("a JSON document ends before a value")
            self._value(type_, base + offset, end, depth)
        return self._byte(125 if kind < 2 else 93)  # } ]

    @cython.cfunc
    @cython.exceptval(-1)
    def _spend(self, size: cython.Py_ssize_t) -> cython.int:
        """Count bytes of the document that are used."""
        self.budget -= size
        if self.budget < 0:
            raise MessageError("a JSON document uses bytes twice")
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _literal(self, which: cython.int) -> cython.int:
        if which > 2:
            raise MessageError("a JSON literal that is not known")
        return self._add(_LITERALS[which])

    @cython.cfunc
    @cython.exceptval(-1)
    def _integer(self, at: cython.Py_ssize_t, count: cython.Py_ssize_t, unsigned_: cython.bint) -> cython.int:
        _room(self.arena, 24)
        if cython.compiled:
            return self._written(integer(self.arena.data, self.arena.size, self.p, at, count, unsigned_))
        return self._written(integer(self.arena.plain, self.arena.size, self.p, at, count, unsigned_))

    @cython.cfunc
    @cython.exceptval(-1)
    def _double(self, at: cython.Py_ssize_t) -> cython.int:
        """Append a number as the server's my_gcvt does, with a fraction or an exponent, always."""
        raw: cython.ulonglong = little(self.p, at, 8)
        if (raw >> 52) & 0x7FF == 0x7FF:
            raise MessageError("a number that is none: infinite or undefined")
        if cython.compiled:
            number: cython.double = 0
            memcpy(cython.address(number), cython.address(raw), 8)
            return self._add(double_text(number))
        return self._add(double_text(struct.unpack("<d", self.p[at : at + 8])[0]))

    @cython.cfunc
    @cython.exceptval(-1)
    def _string(self, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        length: cython.Py_ssize_t = _length(self.p, at, end)
        at = at + _length_size(self.p, at)
        if length > end - at:
            raise MessageError("a JSON document ends inside a string")
        self._spend(1)
        return self._quoted(at, length)

    @cython.cfunc
    @cython.exceptval(-1)
    def _quoted(self, at: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.int:
        """Append a string in quotes, with the escapes that the server writes."""
        out: cython.p_uchar
        place: cython.Py_ssize_t = at
        end: cython.Py_ssize_t = at + count
        more: cython.Py_ssize_t = 0
        to: cython.Py_ssize_t
        byte: cython.uchar
        self._spend(count)
        if not is_utf8(self.p, at, count):
            raise MessageError("a JSON string that is not UTF-8")
        for place in range(at, end):
            byte = self.p[place]
            if byte < 32:
                more += 5
            elif byte == 34 or byte == 92:
                more += 1
        _room(self.arena, count + more + 2)
        if cython.compiled:
            out = self.arena.data
        else:
            out = self.arena.plain
        to = self.arena.size
        out[to] = 34  # "
        to += 1
        if more == 0:
            to = copied(out, to, self.p, at, count)
        else:
            for place in range(at, end):
                byte = self.p[place]
                if byte >= 32 and byte != 34 and byte != 92:
                    out[to] = byte
                    to += 1
                    continue
                out[to] = 92  # \
                to += 1
                if byte >= 32:
                    out[to] = byte
                elif byte == 8:
                    out[to] = 98
                elif byte == 9:
                    out[to] = 116
                elif byte == 10:
                    out[to] = 110
                elif byte == 12:
                    out[to] = 102
                elif byte == 13:
                    out[to] = 114
                else:
                    out[to] = 117  # u
                    out[to + 1] = 48
                    out[to + 2] = 48
                    out[to + 3] = 48 + (byte >> 4)
                    out[to + 4] = 48 + (byte & 15) if byte & 15 < 10 else 87 + (byte & 15)
                    to += 4
                to += 1
        out[to] = 34
        return self._written(to + 1)

    @cython.cfunc
    @cython.exceptval(-1)
    def _opaque(self, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Append a value of an SQL type: a decimal as a number, times as strings, others as base64."""
        type_: cython.int
        length: cython.Py_ssize_t
        to: cython.Py_ssize_t
        out: cython.p_uchar
        if at >= end:
            raise MessageError("a JSON document ends inside a value")
        type_ = self.p[at]
        at += 1
        length = _length(self.p, at, end)
        at = at + _length_size(self.p, at)
        if length > end - at:
            raise MessageError("a JSON document ends inside a value")
        self._spend(length + 2)
        if self.typed:
            self.types.append((self.values - 1, type_))
        if type_ == 246:  # precision, scale, DECIMAL
            if (
                length < 2
                or not 1 <= self.p[at] <= _MOST_DIGITS
                or self.p[at + 1] > self.p[at]
                or decimal_size(self.p[at], self.p[at + 1]) != length - 2
            ):
                raise MessageError("a JSON document holds a decimal that is none")
            _room(self.arena, 120)
            if cython.compiled:
                out = self.arena.data
            else:
                out = self.arena.plain
            return self._written(decimal(out, self.arena.size, self.p, at + 2, self.p[at], self.p[at + 1]))
        if type_ != 7 and not 10 <= type_ <= 12:
            return self._encoded(type_, at, length)
        if length != 8:
            raise MessageError("a JSON document holds a time that is none")
        _room(self.arena, 64)
        if cython.compiled:
            out = self.arena.data
        else:
            out = self.arena.plain
        out[self.arena.size] = 34
        to = packed(out, self.arena.size + 1, self.p, at, type_)
        out[to] = 34
        return self._written(to + 1)

    @cython.cfunc
    @cython.exceptval(-1)
    def _encoded(self, type_: cython.int, at: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.int:
        text: bytes = b64encode(self.p[at : at + count])
        parts: list = [text[i : i + _BASE64_LINE] for i in range(0, len(text), _BASE64_LINE)]
        return self._add(b'"base64:type%d:%s"' % (type_, b"\\n".join(parts)))

    @cython.cfunc
    @cython.exceptval(-1)
    def _add(self, text: bytes) -> cython.int:
        count: cython.Py_ssize_t = len(text)
        _room(self.arena, count)
        if cython.compiled:
            source: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(text))
            return self._written(copied(self.arena.data, self.arena.size, source, 0, count))
        return self._written(copied(self.arena.plain, self.arena.size, text, 0, count))

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def _byte(self, byte: cython.int) -> cython.int:
        self.arena.reserve(1)
        self.arena.byte(byte)
        return 0

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def _written(self, at: cython.Py_ssize_t) -> cython.int:
        """End what was written up to `at`."""
        if not cython.compiled:
            del self.arena.plain[at:]
        self.arena.size = at
        return 0


@cython.cfunc
@cython.exceptval(-1)
def _length(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Return a length of one to five bytes, seven bits each, the lowest first."""
    length: cython.Py_ssize_t = 0
    index: cython.Py_ssize_t
    for index in range(5):
        if at + index >= end:
            break
        length |= cython.cast(cython.Py_ssize_t, p[at + index] & 0x7F) << (7 * index)
        if p[at + index] < 0x80:
            return length
    raise MessageError("a JSON document has a length that does not end")


@cython.cfunc
@cython.exceptval(check=False)
def _length_size(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    size: cython.Py_ssize_t = 1
    while p[at] >= 0x80:
        at += 1
        size += 1
    return size


def double_text(number: float) -> bytes:
    """Return a number's text: the shortest digits; an exponent below 1e-15, from 1e15 on only without a fraction.

    `1.0`, `-0.0`, `1e15`, `1234567890123456.8`, `0.000000000000001`, `1e-16`.
    """
    mantissa, _, exponent = repr(number).partition("e")
    sign = "-" if mantissa[0] == "-" else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = int(exponent or 0) + len(whole) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        text = "0.0"
    elif point < -14 or (point > 15 and len(digits) <= point):
        text = digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + f"e{point - 1}"
    elif point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[:point].ljust(point, "0") + "." + (digits[point:] or "0")
    return (sign + text).encode()


@cython.cfunc
@cython.inline
@cython.exceptval(-1)
def _room(arena: Arena, more: cython.Py_ssize_t) -> cython.int:
    """Make room at the arena's end for functions that write there themselves."""
    if cython.compiled:
        if arena.size + more > arena.capacity:
            arena.reserve(more)
    else:
        arena.plain += bytes(more)
    return 0
