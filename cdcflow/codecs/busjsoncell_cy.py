"""Cells of canonical text as JSON values.

What a value cannot be said as is refused, and the caller sends its text by another way; so whatever is written here,
a reader turns into the same text again.
JSON: https://www.rfc-editor.org/rfc/rfc8259
This file runs as it is and is compiled by Cython where a compiler is there; busjsoncell_cy.pxd declares for other
compiled modules what is here. It does no I/O.
"""

from __future__ import annotations

from base64 import b64encode

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.arraytext_cy import ArrayText
    from cython.cimports.cdcflow.codecs.bustime_cy import parse_date, parse_time, parse_timestamp
    from cython.cimports.cdcflow.codecs.hexbase64_cy import write_base64
    from cython.cimports.cdcflow.codecs.jsonoutput_cy import Output, write_string
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
else:
    from cdcflow.codecs import loading

    ArrayText = loading.plain("cdcflow.codecs.arraytext_cy").ArrayText
    write_base64 = loading.plain("cdcflow.codecs.hexbase64_cy").write_base64
    _output = loading.plain("cdcflow.codecs.jsonoutput_cy")
    Output, write_string = _output.Output, _output.write_string
    _time = loading.plain("cdcflow.codecs.bustime_cy")
    parse_date, parse_time, parse_timestamp = _time.parse_date, _time.parse_time, _time.parse_timestamp

from cdcflow.codecs import buscells
from cdcflow.codecs.buskinds import Kind
from cdcflow.codecs.values_kinds import BadValue

# How values are written, by form.
_STRING = cython.declare(cython.int, 0)
_INTEGER = cython.declare(cython.int, 1)
_NUMBER = cython.declare(cython.int, 2)  # NaN and the infinities as text
_DIGITS = cython.declare(cython.int, 3)  # NaN and the infinities not at all
_BOOL = cython.declare(cython.int, 4)
_BYTES = cython.declare(cython.int, 5)
_DATE = cython.declare(cython.int, 6)
_TIME = cython.declare(cython.int, 7)
_TIMESTAMP = cython.declare(cython.int, 8)
_TIMESTAMPTZ = cython.declare(cython.int, 9)
_ISO_DATE = cython.declare(cython.int, 10)
_ISO_TIME = cython.declare(cython.int, 11)
_ISO_TIMESTAMP = cython.declare(cython.int, 12)
_ARRAY = cython.declare(cython.int, 13)
_BY_HAND = cython.declare(cython.int, 14)

_FORMS = {
    Kind.BOOL: 4,
    Kind.BIT1: 4,
    Kind.INT16: 1,
    Kind.INT32: 1,
    Kind.INT64: 1,
    Kind.UINT64: 1,
    Kind.FLOAT32: 2,
    Kind.FLOAT64: 2,
    Kind.BYTES: 5,
    Kind.DATE: 6,
    Kind.TIME: 7,
    Kind.TIMESTAMP: 8,
    Kind.TIMESTAMPTZ: 9,
    Kind.ARRAY: 13,
    Kind.TIMETZ: 14,
    Kind.INTERVAL: 14,
    Kind.BITS: 14,
    Kind.GEOMETRY: 14,
}

_NONE = cython.declare(cython.longlong, -(1 << 63))


@cython.final
@cython.cclass
class JsonCell:
    """How the values of one column, or of an array's elements, are written. `options`: 1 decimals as digits, 2 dates
    and times as ISO 8601 text, 4 floats as numbers or not at all."""

    def __init__(self, kind, options: int = 0, name: bytes = b""):
        self.name = name
        self.kind = kind.kind
        self.length = kind.length
        self.element = JsonCell(kind.element, options) if kind.element is not None else None
        self.elements = ArrayText() if kind.element is not None else None
        self.delimiter = kind.delimiter[0]
        self.form = _FORMS.get(kind.kind, 0)
        # What stands for a value that the source did not log.
        self.unavailable = b"null"
        if options & 1 and kind.kind == Kind.DECIMAL:
            self.form = 3
        if options & 4 and self.form == 2:
            self.form = 3
        if options & 2 and kind.kind in (Kind.DATE, Kind.TIME, Kind.TIMESTAMP):
            self.form += 4
        if self.form == 0:
            self.unavailable = b'"__debezium_unavailable_value"'
        elif self.form == 5:
            self.unavailable = b'"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="'

    @cython.cfunc
    @cython.exceptval(-2)
    def write(self, out: Output, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Append the JSON of the cell that stands from `at` to `end`; return 0, and append nothing, where there is
        none.

        Raises:
            NotUtf8: it is no text.
        """
        form: cython.int = self.form
        number: cython.longlong
        size: cython.Py_ssize_t = end - at
        if form == _STRING:
            out.copy(_QUOTE_P, 0, 1)
            write_string(out, p, at, end)
            return _close(out)
        if form == _INTEGER:
            if not _is_number(p, at, end, False):
                return 0
            out.copy(p, at, end)
            return 1
        if form == _NUMBER or form == _DIGITS:
            if _is_number(p, at, end, True):
                out.copy(p, at, end)
                return 1
            if form == _DIGITS or not _is_special(p, at, end):
                return 0
            out.copy(_QUOTE_P, 0, 1)
            out.copy(p, at, end)
            return _close(out)
        if form == _BOOL:
            if size != 1:
                return 0
            if p[at] == (116 if self.kind == 1 else 49):  # t, or 1 of a bit
                out.copy(_TRUE_P, 0, 4)
                return 1
            if p[at] == (102 if self.kind == 1 else 48):
                out.copy(_FALSE_P, 0, 5)
                return 1
            return 0
        if form == _BYTES:
            return _write_bytes(out, p, at, end)
        if form == _DATE:
            number = parse_date(p, at, end)
        elif form == _TIME:
            number = parse_time(p, at, end)
        elif form == _TIMESTAMP:
            number = parse_timestamp(p, at, end)
        elif form == _TIMESTAMPTZ:
            if size < 22 or p[end - 3] != 43 or p[end - 2] != 48 or p[end - 1] != 48:
                return 0
            return _write_moment(out, p, at, end - 3, 1)
        elif form == _ISO_TIMESTAMP:
            return _write_moment(out, p, at, end, 0)
        elif form == _ISO_DATE or form == _ISO_TIME:
            if form == _ISO_DATE and (size != 10 or parse_date(p, at, end) == _NONE):
                return 0
            if form == _ISO_TIME and parse_time(p, at, end) == _NONE:
                return 0
            out.copy(_QUOTE_P, 0, 1)
            out.copy(p, at, end)
            return _close(out)
        elif form == _ARRAY:
            return self.write_array(out, p, at, end)
        else:
            return self.write_by_hand(out, p, at, end)
        if number == _NONE:
            return 0
        out.number(number)
        return 1

    @cython.cfunc
    @cython.exceptval(-2)
    def write_array(self, out: Output, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Append an array of one dimension. Refuses what array_out would have printed in another way."""
        began: cython.Py_ssize_t = out.size
        elements: ArrayText = self.elements
        element: JsonCell = self.element
        found: cython.int
        said: cython.int = 1
        if not elements.open(p, at, end, self.delimiter):
            return 0
        out.copy(_OPEN_P, 0, 1)
        found = elements.step()
        while found > 0:
            if found == 2:
                out.copy(_NULL_P, 0, 4)
            else:
                said = element.write(out, elements.text, elements.at, elements.stop)
                if said != 1:
                    break
            found = elements.step()
            if found > 0:
                out.copy(_COMMA_P, 0, 1)
        if found < 0 or said != 1:
            out.size = began
            return 0
        out.copy(_OPEN_P, 1, 2)
        return 1

    @cython.cfunc
    @cython.exceptval(-2)
    def write_by_hand(
        self, out: Output, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.int:
        cell: bytes
        if cython.compiled:
            cell = PyBytes_FromStringAndSize(cython.cast(cython.p_char, p + at), end - at)
        else:
            cell = bytes(p[at:end])
        try:
            out.put(_by_hand(self.kind, self.length, cell))
        except BadValue:
            return 0
        return 1


def _by_hand(kind: int, length: int, cell: bytes) -> bytes:
    if kind == Kind.TIMETZ:
        return b'"' + buscells.timetz_iso(cell) + b'"'
    if kind == Kind.INTERVAL:
        return b'"' + buscells.interval_iso(cell) + b'"'
    if kind == Kind.BITS:
        if len(cell) != length:
            raise BadValue("bit", "not as long as its column")
        return b'"' + b64encode(buscells.bits_bytes(cell)) + b'"'
    wkb, srid = buscells.geometry_parts(cell)
    return b'{"wkb":"' + b64encode(wkb) + b'","srid":' + (b"null" if srid is None else b"%d" % srid) + b"}"


@cython.cfunc
@cython.exceptval(-2)
def _close(out: Output) -> cython.int:
    out.copy(_QUOTE_P, 0, 1)
    return 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_number(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, fraction: cython.bint) -> cython.bint:
    """Whether it is a JSON number; without `fraction` a whole one other than -0."""
    start: cython.Py_ssize_t = at
    if at < end and p[at] == 45:
        at += 1
    if at >= end or not 48 <= p[at] <= 57:
        return False
    if p[at] == 48:
        at += 1
        if not fraction:
            return at == end and at - start == 1
    else:
        at = _digits_end(p, at, end)
    if fraction and at < end and p[at] == 46:
        start = at + 1
        at = _digits_end(p, start, end)
        if at == start:
            return False
    if fraction and at < end and (p[at] == 101 or p[at] == 69):
        at += 1
        if at < end and (p[at] == 45 or p[at] == 43):
            at += 1
        start = at
        at = _digits_end(p, start, end)
        if at == start:
            return False
    return at == end


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _digits_end(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    while at < end and 48 <= p[at] <= 57:
        at += 1
    return at


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_special(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
    """Whether it is `NaN`, `Infinity` or `-Infinity`."""
    index: cython.Py_ssize_t
    if end - at == 3:
        return p[at] == 78 and p[at + 1] == 97 and p[at + 2] == 78
    if end - at == 9 and p[at] == 45:
        at += 1
    if end - at != 8:
        return False
    for index in range(8):
        if p[at + index] != _INFINITY_P[index]:
            return False
    return True


@cython.cfunc
@cython.exceptval(-2)
def _write_moment(
    out: Output, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, zone: cython.int
) -> cython.int:
    """Append a timestamp of a year with four digits as ISO 8601."""
    place: cython.Py_ssize_t
    if end - at < 19 or p[at + 10] != 32 or p[end - 1] == 67 or parse_timestamp(p, at, end) == _NONE:
        return 0
    out.copy(_QUOTE_P, 0, 1)
    place = out.size + 10
    out.copy(p, at, end)
    out.data[place] = 84
    if zone:
        out.copy(_ZULU_P, 0, 1)
    return _close(out)


@cython.cfunc
@cython.exceptval(-2)
def _write_bytes(out: Output, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
    """Append bytes in base64."""
    size: cython.Py_ssize_t
    if out.size + (end - at) * 2 // 3 + 8 > out.capacity:
        out.grow((end - at) * 2 // 3 + 8)
    size = write_base64(p, at, end, out.data, out.size + 1)
    if size < 0:
        return 0
    out.data[out.size] = 34
    out.size = size
    return _close(out)


_PIECES = (b'"', b"true", b"false", b"[]", b"null", b",", b"Z", b"Infinity")
if cython.compiled:
    _QUOTE_P = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_PIECES[0])))
    _TRUE_P = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_PIECES[1])))
    _FALSE_P = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_PIECES[2])))
    _OPEN_P = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_PIECES[3])))
    _NULL_P = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_PIECES[4])))
    _COMMA_P = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_PIECES[5])))
    _ZULU_P = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_PIECES[6])))
    _INFINITY_P = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_PIECES[7])))
else:
    _QUOTE_P, _TRUE_P, _FALSE_P, _OPEN_P, _NULL_P, _COMMA_P, _ZULU_P, _INFINITY_P = _PIECES
