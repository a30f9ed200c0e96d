"""JSON values to cells of canonical text: the inverse of `busjsoncell_cy`, and of what Debezium writes.

This file runs as it is and is compiled by Cython where a compiler is there; jsoncell_cy.pxd declares for other compiled
modules what is here. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.arraytext_cy import write_element
    from cython.cimports.cdcflow.codecs.bustext_cy import is_unavailable
    from cython.cimports.cdcflow.codecs.bustime_cy import parse_date, parse_time, parse_timestamp
    from cython.cimports.cdcflow.codecs.bustimetext_cy import write_date, write_time, write_timestamp
    from cython.cimports.cdcflow.codecs.hexbase64_cy import write_hex
    from cython.cimports.cdcflow.codecs.jsonoutput_cy import Output
    from cython.cimports.cdcflow.codecs.jsontext_cy import Cursor
    from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
else:
    from cdcflow.codecs import loading

    Output = loading.plain("cdcflow.codecs.jsonoutput_cy").Output
    Cursor = loading.plain("cdcflow.codecs.jsontext_cy").Cursor
    write_element = loading.plain("cdcflow.codecs.arraytext_cy").write_element
    write_hex = loading.plain("cdcflow.codecs.hexbase64_cy").write_hex
    is_unavailable = loading.plain("cdcflow.codecs.bustext_cy").is_unavailable
    _time = loading.plain("cdcflow.codecs.bustime_cy")
    parse_date, parse_time, parse_timestamp = _time.parse_date, _time.parse_time, _time.parse_timestamp
    _time = loading.plain("cdcflow.codecs.bustimetext_cy")
    write_date, write_time, write_timestamp = _time.write_date, _time.write_time, _time.write_timestamp

from cdcflow.codecs import floattext_cy
from cdcflow.codecs.buskinds import Kind
from cdcflow.codecs.jsonforeign import (
    CONNECT_DECIMAL,
    VARIABLE_DECIMAL,
    number_cell,
    object_cell,
    plain_decimal,
    text_cell,
)
from cdcflow.codecs.jsontext_cy import ScanError

# How values are read, by form.
_TEXT = cython.declare(cython.int, 0)
_INTEGER = cython.declare(cython.int, 1)
_FLOAT = cython.declare(cython.int, 2)
_DECIMAL = cython.declare(cython.int, 3)
_BOOL = cython.declare(cython.int, 4)
_BYTES = cython.declare(cython.int, 5)
_DATE = cython.declare(cython.int, 6)
_TIME = cython.declare(cython.int, 7)
_TIMESTAMP = cython.declare(cython.int, 8)
_TIMESTAMPTZ = cython.declare(cython.int, 9)
_ARRAY = cython.declare(cython.int, 10)
_BY_HAND = cython.declare(cython.int, 11)

_FORMS = {
    Kind.INT16: 1,
    Kind.INT32: 1,
    Kind.INT64: 1,
    Kind.UINT64: 1,
    Kind.FLOAT32: 2,
    Kind.FLOAT64: 2,
    Kind.DECIMAL: 3,
    Kind.BOOL: 4,
    Kind.BIT1: 4,
    Kind.BYTES: 5,
    Kind.DATE: 6,
    Kind.TIME: 7,
    Kind.TIMESTAMP: 8,
    Kind.TIMESTAMPTZ: 9,
    Kind.ARRAY: 10,
    Kind.TIMETZ: 11,
    Kind.INTERVAL: 11,
    Kind.BITS: 11,
    Kind.GEOMETRY: 11,
    CONNECT_DECIMAL: 11,
    VARIABLE_DECIMAL: 11,
}

_CONNECT_DECIMAL = cython.declare(cython.int, CONNECT_DECIMAL)
_NONE = cython.declare(cython.longlong, -(1 << 63))
_NULL = cython.declare(cython.Py_ssize_t, -1)
_ABSENT = cython.declare(cython.Py_ssize_t, -2)
_WRITTEN = cython.declare(cython.Py_ssize_t, 0)

_UNAVAILABLE = b"__debezium_unavailable_value"
_UNAVAILABLE_SIZE = cython.declare(cython.Py_ssize_t, 28)
_UNAVAILABLE_HEX = b"\\x" + _UNAVAILABLE.hex().encode()
# A tenth of the largest number of 63 bits, whose last digit is 7.
_TENTH = cython.declare(cython.longlong, 922337203685477580)
_MOST_MILLIS = cython.declare(cython.longlong, 9223372036854775)
# What Debezium writes for PostgreSQL's infinities.
_INFINITY = cython.declare(cython.longlong, 9223372036825200000)
_MINUS_INFINITY = cython.declare(cython.longlong, -9223372036832400000)


@cython.final
@cython.cclass
class ColumnForm:
    """How one column's values are read.

    kind: a `buskinds.Kind`, or one of `jsonforeign`. unit: microseconds of 1 of a time's or moment's number; below
    zero, how many of it are a microsecond. scale, length: of decimals and bits. element: of an array.
    """

    def __init__(
        self,
        name: bytes,
        kind: int,
        unit: int = 1,
        scale: int = 0,
        length: int = -1,
        element=None,
        delimiter: bytes = b",",
    ):
        self.name = name
        self.kind = kind
        self.form = _FORMS.get(kind, 0)
        self.unit = unit
        self.scale = scale
        self.length = length
        self.element = element
        self.delimiter = delimiter[0]
        self.held = Output() if element is not None else None

    def label(self) -> bytes:
        """Return the column's name."""
        return self.name

    @cython.cfunc
    @cython.exceptval(-9)
    def read(
        self, cursor: Cursor, out: Output, scratch: Output, depth: cython.int, foreign: cython.bint
    ) -> cython.Py_ssize_t:
        """Append the cell of the value that stands at the cursor, and step over it; return 0, or the size that stands
        for NULL or an absent cell. `scratch` is written over.

        Raises:
            ScanError: it is no value of this kind.
        """
        form: cython.int = self.form
        byte: cython.int = cursor.peek()
        began: cython.Py_ssize_t = out.size
        start: cython.Py_ssize_t
        if byte == 110:
            cursor.word()
            return _NULL
        if byte == 34:
            if form == _TEXT or form == _DECIMAL or form == _INTEGER or form == _FLOAT:
                cursor.string(out)
                if foreign and is_unavailable(out.data, began, out.size):
                    out.size = began
                    return _ABSENT
                return _WRITTEN
            scratch.size = 0
            cursor.string(scratch)
            return self.text(out, scratch, foreign)
        if byte == 116 or byte == 102:
            cursor.word()
            if form == _TEXT:
                out.put(b"true" if byte == 116 else b"false")
            elif form == _BOOL and self.kind == 1:
                out.put(b"t" if byte == 116 else b"f")
            elif form == _BOOL or form == _INTEGER:
                out.put(b"1" if byte == 116 else b"0")
            else:
                raise ScanError("true or false where none can be")
            return _WRITTEN
        if byte == 91 and form == _ARRAY:
            return self.array(cursor, out, scratch, depth, foreign)
        if byte == 123 or byte == 91:
            start = cursor.skip(scratch, depth + 1)
            if form == _TEXT:
                out.copy(cursor.p, start, cursor.at)
            else:
                out.put(object_cell(self.kind, cursor.slice(start, cursor.at)))
            if foreign and is_unavailable(out.data, began, out.size):
                out.size = began
                return _ABSENT
            return _WRITTEN
        start = cursor.number()
        return self.number(cursor, out, start, foreign)

    @cython.cfunc
    @cython.exceptval(-9)
    def number(self, cursor: Cursor, out: Output, start: cython.Py_ssize_t, foreign: cython.bint) -> cython.Py_ssize_t:
        """Append the cell of the number from `start` to the cursor."""
        form: cython.int = self.form
        end: cython.Py_ssize_t = cursor.at
        value: cython.longlong
        size: cython.int = 0
        if form == _INTEGER or form == _TEXT:
            if form == _INTEGER and not cursor.whole:
                raise ScanError("a number that is not whole")
            if form == _INTEGER and end - start == 2 and cursor.p[start] == 45 and cursor.p[start + 1] == 48:
                start += 1
            out.copy(cursor.p, start, end)
            return _WRITTEN
        if form == _DECIMAL or self.kind == _CONNECT_DECIMAL:  # with `decimal.format=NUMERIC`
            if cursor.whole or not _has_exponent(cursor.p, start, end):
                out.copy(cursor.p, start, end)
            else:
                out.put(plain_decimal(cursor.slice(start, end)))
            return _WRITTEN
        if form == _FLOAT:
            out.put(
                floattext_cy.decimal(
                    cursor.slice(start, end),
                    floattext_cy.FIXED_BELOW_FLOAT4 if self.kind == 6 else floattext_cy.FIXED_BELOW_FLOAT8,
                )
            )
            return _WRITTEN
        if not cursor.whole:
            raise ScanError("a number that is not whole")
        value = _whole(cursor.p, start, end)
        if value == _NONE:
            raise ScanError("a number of more than 64 bits")
        if form == _BOOL:
            if value != 0 and value != 1:
                raise ScanError("a number that is neither 0 nor 1")
            if self.kind == 1:
                out.put(b"t" if value else b"f")
            else:
                out.put(b"1" if value else b"0")
            return _WRITTEN
        if self.unit > 1:
            if not -_MOST_MILLIS <= value <= _MOST_MILLIS:
                raise ScanError("a time that is too large")
            value *= self.unit
        elif self.unit < 0:
            if value % -self.unit:
                raise ScanError("a time finer than microseconds")
            value = value // -self.unit
        if out.size + 48 > out.capacity:
            out.grow(48)
        if form == _DATE:
            size = write_date(value, out.data, out.size)
        elif form == _TIME:
            size = write_time(value, out.data, out.size)
        elif (
            foreign
            and (value == _INFINITY or value == _MINUS_INFINITY)
            and (form == _TIMESTAMP or form == _TIMESTAMPTZ)
        ):
            out.put(b"infinity" if value > 0 else b"-infinity")
            return _WRITTEN
        elif form == _TIMESTAMP or form == _TIMESTAMPTZ:
            size = write_timestamp(value, out.data, out.size)
            if size and form == _TIMESTAMPTZ:
                if out.data[out.size + size - 1] == 67:  # BC stands behind the zone
                    size -= 3
                    out.size += size
                    out.put(b"+00 BC")
                else:
                    out.size += size
                    out.put(b"+00")
                return _WRITTEN
        else:
            out.put(number_cell(self.kind, value))
            return _WRITTEN
        if not size:
            raise ScanError("no such date or time")
        out.size += size
        return _WRITTEN

    @cython.cfunc
    @cython.exceptval(-9)
    def text(self, out: Output, scratch: Output, foreign: cython.bint) -> cython.Py_ssize_t:
        """Append the cell of a string, whose text `scratch` holds, for the kinds that no string is."""
        form: cython.int = self.form
        size: cython.Py_ssize_t = scratch.size
        place: cython.Py_ssize_t
        written: cython.Py_ssize_t
        if foreign and is_unavailable(scratch.data, 0, size):
            return _ABSENT
        if form == _BYTES:
            place = out.size
            if out.size + size // 4 * 6 + 2 > out.capacity:
                out.grow(size // 4 * 6 + 2)
            written = write_hex(scratch.data, 0, size, out.data, out.size)
            if written < 0:
                raise ScanError("not base64")
            out.size = written
            if foreign and out.size - place == 2 * _UNAVAILABLE_SIZE + 2 and _same(out, place, _UNAVAILABLE_HEX):
                out.size = place
                return _ABSENT
            return _WRITTEN
        if form == _BOOL:
            if size == 1 and (self.kind == 1 or scratch.data[0] == 48 or scratch.data[0] == 49):
                out.copy(scratch.data, 0, 1)
                return _WRITTEN
            raise ScanError("text that is neither true nor false")
        if form == _ARRAY:
            out.copy(scratch.data, 0, size)
            return _WRITTEN
        if form == _TIMESTAMPTZ or form == _TIMESTAMP:
            # As we write it ourselves: 2024-01-02T03:04:05.678, with Z for UTC.
            if form == _TIMESTAMPTZ and size and scratch.data[size - 1] == 90:
                size -= 1
            elif form == _TIMESTAMPTZ:
                size = 0
            if size > 18 and scratch.data[10] == 84:
                place = out.size + 10
                out.copy(scratch.data, 0, size)
                out.data[place] = 32
                if parse_timestamp(out.data, place - 10, out.size) != _NONE:
                    if form == _TIMESTAMPTZ:
                        out.put(b"+00")
                    return _WRITTEN
                out.size = place - 10
        elif (form == _DATE and size == 10 and parse_date(scratch.data, 0, size) != _NONE) or (
            form == _TIME and parse_time(scratch.data, 0, size) != _NONE
        ):
            out.copy(scratch.data, 0, size)
            return _WRITTEN
        if self.kind == 25:  # a geometry as its canonical text
            out.copy(scratch.data, 0, scratch.size)
        else:
            out.put(text_cell(self.kind, self.length, self.scale, scratch.taken()))
        return _WRITTEN

    @cython.cfunc
    @cython.exceptval(-9)
    def array(
        self, cursor: Cursor, out: Output, scratch: Output, depth: cython.int, foreign: cython.bint
    ) -> cython.Py_ssize_t:
        """Append an array in the form of array_out."""
        held: Output = self.held
        element: ColumnForm = self.element
        began: cython.Py_ssize_t = out.size
        found: cython.Py_ssize_t
        separator: cython.int = 123
        cursor.at += 1
        if cursor.peek() == 93:
            cursor.at += 1
            out.put(b"{}")
            return _WRITTEN
        while True:
            if out.size + 1 > out.capacity:
                out.grow(1)
            out.data[out.size] = separator
            out.size += 1
            separator = self.delimiter
            held.size = 0
            found = element.read(cursor, held, scratch, depth + 1, False)
            if found == _NULL:
                out.put(b"NULL")
            else:
                if out.size + 2 * held.size + 2 > out.capacity:
                    out.grow(2 * held.size + 2)
                out.size = write_element(held.data, 0, held.size, self.delimiter, out.data, out.size)
            if not cursor.more(93):
                break
        out.put(b"}")
        if foreign and is_unavailable(out.data, began, out.size):
            out.size = began
            return _ABSENT
        return _WRITTEN


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _has_exponent(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
    while at < end:
        if p[at] == 101 or p[at] == 69:
            return True
        at += 1
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _whole(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.longlong:
    """Return the whole number from `at` to `end`, or the number for none where it has more than 63 bits."""
    negative: cython.bint = p[at] == 45
    value: cython.longlong = 0
    if negative:
        at += 1
    if end - at > 19:
        return _NONE
    while at < end:
        if value > _TENTH or (value == _TENTH and p[at] > 55):
            return _NONE
        value = value * 10 + (p[at] - 48)
        at += 1
    return -value if negative else value


@cython.cfunc
@cython.exceptval(-1)
def _same(out: Output, start: cython.Py_ssize_t, text: bytes) -> cython.int:
    """Whether what was written from `start` on is `text`."""
    if cython.compiled:
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, out.data + start), out.size - start) == text
    return bytes(out.data[start : out.size]) == text
