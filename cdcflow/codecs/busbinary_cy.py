"""Canonical text of one column as Avro or Protobuf holds it.

The two differ in how a number is written (zigzag or not), in what tells a value from none (a union's branch or the
field's tag), and in how arrays nest; all else is the same.
Avro: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
Protobuf: https://protobuf.dev/programming-guides/encoding/
This file runs as it is and is compiled by Cython where a compiler is there; busbinary_cy.pxd declares it for other
compiled modules. It does no I/O.
"""

from __future__ import annotations

import struct

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.arraytext_cy import ArrayText
    from cython.cimports.cdcflow.codecs.busnumber_cy import Number
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.stdlib import strtod
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs import loading

    ArrayText = loading.plain("cdcflow.codecs.arraytext_cy").ArrayText
    Number = loading.plain("cdcflow.codecs.busnumber_cy").Number
    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena

from cdcflow.codecs.buskinds import Kind
from cdcflow.codecs.frames_cy import MessageError
from cdcflow.codecs.values_kinds import BadValue

__all__ = ["BinaryCell", "put", "put_length", "put_varint"]

# Named, because a literal beyond 31 bits is a Python object to the compiler: its negative is one.
_MOST_INT32 = cython.declare(cython.longlong, 2147483647)
_BOOL = cython.declare(cython.int, int(Kind.BOOL))
_INT16 = cython.declare(cython.int, int(Kind.INT16))
_INT32 = cython.declare(cython.int, int(Kind.INT32))
_INT64 = cython.declare(cython.int, int(Kind.INT64))
_UINT64 = cython.declare(cython.int, int(Kind.UINT64))
_FLOAT32 = cython.declare(cython.int, int(Kind.FLOAT32))
_FLOAT64 = cython.declare(cython.int, int(Kind.FLOAT64))
_DECIMAL = cython.declare(cython.int, int(Kind.DECIMAL))
_BYTES = cython.declare(cython.int, int(Kind.BYTES))
_DATE = cython.declare(cython.int, int(Kind.DATE))
_TIME = cython.declare(cython.int, int(Kind.TIME))
_TIMETZ = cython.declare(cython.int, int(Kind.TIMETZ))
_TIMESTAMP = cython.declare(cython.int, int(Kind.TIMESTAMP))
_TIMESTAMPTZ = cython.declare(cython.int, int(Kind.TIMESTAMPTZ))
_INTERVAL = cython.declare(cython.int, int(Kind.INTERVAL))
_BIT1 = cython.declare(cython.int, int(Kind.BIT1))
_BITS = cython.declare(cython.int, int(Kind.BITS))
_ARRAY = cython.declare(cython.int, int(Kind.ARRAY))
_GEOMETRY = cython.declare(cython.int, int(Kind.GEOMETRY))

# Longer than any number's text that a double comes from.
_FLOAT_TEXT = cython.declare(cython.Py_ssize_t, 63)


@cython.cfunc
@cython.exceptval(-1, check=False)
def put(out: Arena, text: bytes) -> cython.int:
    """Append bytes."""
    out.reserve(len(text))
    if cython.compiled:
        out.copy(cython.cast(cython.p_uchar, PyBytes_AS_STRING(text)), 0, len(text))
    else:
        out.copy(text, 0, len(text))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_varint(out: Arena, value: cython.ulonglong) -> cython.int:
    """Append a number, seven bits a byte."""
    out.reserve(10)
    while value >= 128:
        out.byte(cython.cast(cython.int, (value & 127) | 128))
        value >>= 7
    out.byte(cython.cast(cython.int, value))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_length(out: Arena, size: cython.Py_ssize_t, tagged: cython.bint) -> cython.int:
    """Append how long something is."""
    return put_varint(out, cython.cast(cython.ulonglong, size) << (0 if tagged else 1))


@cython.final
@cython.cclass
class BinaryCell:
    """Writes the cells of one column."""

    def __init__(
        self,
        kind: int,
        tagged: bool,
        present: bytes,
        nothing: bytes,
        unavailable: bytes,
        scale: int = -1,
        delimiter: bytes = b",",
        element=None,
        slow=None,
    ):
        """Args:
        tagged: Protobuf, not Avro. present: stands before a value. nothing: stands where there is none. unavailable:
            the same for one that was not logged. scale: of a decimal as bytes, -1 for one as text. slow: for the kinds
            that need no speed, a function from the cell to the bytes behind `present`; it raises BadValue where the
            cell cannot be said.
        """
        self.kind, self.tagged = kind, tagged
        self.present, self.nothing, self.unavailable = present, nothing, unavailable
        self.scale, self.delimiter = scale, delimiter[0]
        self.element, self.slow = element, slow
        self.number = Number()
        self.scratch = Arena()
        self.elements = ArrayText() if element is not None else None

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def write(self, out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Append a cell; return 0 where the format cannot say it, and what stands for none was appended."""
        start: cython.Py_ssize_t = out.size
        if self.present:
            put(out, self.present)
        if self.value(out, p, at, end):
            return 1
        out.cut(start)
        put(out, self.nothing)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def value(self, out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        kind: cython.int = self.kind
        number: Number = self.number
        if kind == _INT16 or kind == _INT32 or kind == _INT64:
            if not number.integer(p, at, end):
                return 0
            if kind != _INT64 and (number.value > _MOST_INT32 or number.value < -_MOST_INT32 - 1):
                return 0
            return self.signed(out, number.value)
        if kind == _TIMESTAMPTZ:
            return self.moment(out, p, at, end)
        if kind == _TIMESTAMP:
            return self.signed(out, number.value) if number.moment(p, at, end) else 0
        if kind == _DATE:
            return self.signed(out, number.value) if number.days(p, at, end) else 0
        if kind == _TIME:
            return self.signed(out, number.value) if number.clock(p, at, end) else 0
        if kind == _BOOL or kind == _BIT1:
            if end - at != 1:
                return 0
            out.reserve(1)
            if p[at] == 116 or p[at] == 49:  # t 1
                out.byte(1)
            elif p[at] == 102 or p[at] == 48:  # f 0
                out.byte(0)
            else:
                return 0
            return 1
        if kind == _FLOAT64 or kind == _FLOAT32:
            return self.floating(out, p, at, end)
        if kind == _DECIMAL and self.scale >= 0:
            return self.unscaled(out, p, at, end)
        if kind == _UINT64:
            if not self.tagged:
                return self.unscaled(out, p, at, end)
            if not number.unsigned_integer(p, at, end):
                return 0
            put_varint(out, number.magnitude)
            return 1
        if kind == _BYTES:
            return self.raw(out, p, at, end)
        if kind == _ARRAY:
            return self.array(out, p, at, end)
        if kind == _TIMETZ or kind == _INTERVAL or kind == _BITS or kind == _GEOMETRY:
            return self.by_hand(out, p, at, end)
        put_length(out, end - at, self.tagged)
        out.reserve(end - at)
        out.copy(p, at, end - at)
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def signed(self, out: Arena, value: cython.longlong) -> cython.int:
        bits: cython.ulonglong
        if self.tagged:
            if cython.compiled:
                bits = cython.cast(cython.ulonglong, value)
            else:
                bits = value & 0xFFFFFFFFFFFFFFFF
        elif value < 0:
            bits = cython.cast(cython.ulonglong, -(value + 1)) * 2 + 1
        else:
            bits = cython.cast(cython.ulonglong, value) * 2
        put_varint(out, bits)
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def floating(self, out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        value: cython.double
        if end == at or end - at > _FLOAT_TEXT:
            return 0
        if cython.compiled:
            text: cython.char[64]
            stopped: cython.p_char = cython.NULL
            single: cython.float
            memcpy(text, p + at, end - at)
            text[end - at] = 0
            value = strtod(text, cython.address(stopped))
            if stopped != text + (end - at):
                return 0
            out.reserve(8)
            if self.kind == _FLOAT32:
                single = cython.cast(cython.float, value)
                memcpy(out.data + out.size, cython.address(single), 4)
                out.size += 4
            else:
                memcpy(out.data + out.size, cython.address(value), 8)
                out.size += 8
            return 1
        try:
            value = float(bytes(p[at:end]))
            put(out, struct.pack("<f" if self.kind == _FLOAT32 else "<d", value))
        except (ValueError, OverflowError):
            return 0
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def raw(self, out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        r"""Bytes, from `\x` and pairs of digits."""
        high: cython.int
        low: cython.int
        if end - at < 2 or (end - at) % 2 or p[at] != 92 or p[at + 1] != 120:
            return 0
        put_length(out, (end - at - 2) // 2, self.tagged)
        out.reserve((end - at) // 2)
        at += 2
        while at < end:
            high = _digit(p[at])
            low = _digit(p[at + 1])
            if high < 0 or low < 0:
                return 0
            out.byte(high * 16 + low)
            at += 2
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def moment(self, out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """`2024-01-02 03:04:05.678+00` as `2024-01-02T03:04:05.678Z`."""
        if not self.number.zoned(p, at, end):
            return 0
        put_length(out, end - at - 2, self.tagged)
        out.reserve(end - at)
        out.copy(p, at, 10)
        out.byte(84)
        out.copy(p, at + 11, end - at - 14)
        out.byte(90)
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def unscaled(self, out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """A decimal without its point, as big-endian two's complement."""
        scale: cython.Py_ssize_t = self.scale if self.kind == _DECIMAL else 0
        start: cython.Py_ssize_t
        value: cython.longlong = 0
        size: cython.int = 1
        negative: cython.bint = end > at and p[at] == 45
        zero: cython.bint = True
        if negative:
            at += 1
        start = at
        if scale and (end - at < scale + 2 or p[end - scale - 1] != 46):
            return 0
        if end - at < 1 or (p[at] == 48 and end - at > 1 and p[at + 1] != 46):
            return 0
        while at < end:
            if at == end - scale - 1 and scale:
                at += 1
                continue
            if p[at] < 48 or p[at] > 57:
                return 0
            if p[at] != 48:
                zero = False
            if end - start <= 18:
                value = value * 10 + (p[at] - 48)
            at += 1
        if negative and zero:
            return 0
        if end - start > 18:
            digits: bytes = bytes(p[start:end]).replace(b".", b"")
            if len(digits) > 4000:
                return 0
            number = -int(digits) if negative else int(digits)
            packed: bytes = number.to_bytes((number + (number < 0)).bit_length() // 8 + 1, "big", signed=True)
            put_length(out, len(packed), self.tagged)
            put(out, packed)
            return 1
        if negative:
            value = -value
        while size < 8 and not -(cython.cast(cython.longlong, 1) << (8 * size - 1)) <= value < (
            cython.cast(cython.longlong, 1) << (8 * size - 1)
        ):
            size += 1
        put_length(out, size, self.tagged)
        out.reserve(8)
        while size > 0:
            size -= 1
            out.byte(cython.cast(cython.int, (value >> (8 * size)) & 255))
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def by_hand(self, out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        try:
            put(out, self.slow(bytes(p[at:end])))
        except (BadValue, MessageError):
            return 0
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def array(self, out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """The elements of `{a,"b c",NULL}`; those of other dimensions or bounds cannot be said."""
        count: cython.Py_ssize_t = 0
        elements: ArrayText = self.elements
        found: cython.int
        if not elements.open(p, at, end, self.delimiter):
            return 0
        self.scratch.cut(0)
        found = elements.step()
        while found > 0:
            count += 1
            if found == 2:
                self.null_item()
            elif not self.item(elements.text, elements.at, elements.stop):
                return 0
            found = elements.step()
        if found < 0:
            return 0
        if self.tagged:
            put_length(out, self.scratch.size, True)
        elif count:
            put_length(out, count, False)
        out.reserve(self.scratch.size + 1)
        if cython.compiled:
            out.copy(self.scratch.data, 0, self.scratch.size)
        else:
            out.copy(self.scratch.plain, 0, self.scratch.size)
        if not self.tagged:
            out.byte(0)
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def item(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Append an element to `scratch`."""
        within: Arena
        if not self.tagged:
            return self.element.write(self.scratch, p, at, end)
        within = self.element.scratch
        within.cut(0)
        if not self.element.write(within, p, at, end):
            return 0
        put_varint(self.scratch, 10)  # field 1, a message
        put_length(self.scratch, within.size, True)
        self.scratch.reserve(within.size)
        if cython.compiled:
            self.scratch.copy(within.data, 0, within.size)
        else:
            self.scratch.copy(within.plain, 0, within.size)
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def null_item(self) -> cython.int:
        self.scratch.reserve(2)
        if self.tagged:
            self.scratch.byte(10)
        self.scratch.byte(0)
        return 1


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _digit(byte: cython.int) -> cython.int:
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    return -1
