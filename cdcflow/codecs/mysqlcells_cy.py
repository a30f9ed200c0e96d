"""One value of a text resultset as canonical text, ready for a line of PostgreSQL COPY text.

What the server prints: https://dev.mysql.com/doc/refman/9.4/en/data-types.html; a column is selected as it is, but for
floating point numbers, which are printed as doubles (see `sources/mysql/snapshot.py`).
This file runs as it is and is compiled by Cython where a compiler is there; mysqlcells_cy.pxd declares for other
compiled modules what writes to memory. It does no I/O.
"""

from __future__ import annotations

import struct

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.floattext_cy import write_decimal, write_float4, write_float4_of
    from cython.cimports.libc.string import memcpy

from cdcflow.codecs import floattext_cy

# What a column's text is, and so what has to be done with it.
PLAIN = 0  # no byte of it is special
DIGITS = 1  # a number that ZEROFILL may have padded
TEXT = 2
BYTES = 3  # to hex
FLOAT4 = 4  # printed as a double by the server
FLOAT8 = 5
DATE = 6
DATETIME = 7
TIMESTAMP = 8
TIME = 9
BIT = 10  # big-endian bytes; the column's `width` is the number of digits
GEOMETRY = 11  # SRID and WKB
VECTOR = 12  # single precision numbers

_PLAIN = cython.declare(cython.int, 0)
_DIGITS = cython.declare(cython.int, 1)
_TEXT = cython.declare(cython.int, 2)
_BYTES = cython.declare(cython.int, 3)
_FLOAT4 = cython.declare(cython.int, 4)
_FLOAT8 = cython.declare(cython.int, 5)
_DATE = cython.declare(cython.int, 6)
_DATETIME = cython.declare(cython.int, 7)
_TIMESTAMP = cython.declare(cython.int, 8)
_TIME = cython.declare(cython.int, 9)
_BIT = cython.declare(cython.int, 10)
_GEOMETRY = cython.declare(cython.int, 11)

# What becomes of a date that no calendar has: part of it is zero, or it is a 31 February.
ZERO_NULL = 0
ZERO_EPOCH = 1
ZERO_FAIL = 2

# The most bytes that one byte of a value becomes, kind by kind; 72 more are enough for what does not depend on it.
GROWTH = (1, 1, 2, 2, 1, 1, 1, 1, 1, 1, 8, 2, 4)

_FORM = cython.declare(cython.Py_ssize_t, -1)  # not of the column's form
_UNREAL = cython.declare(cython.Py_ssize_t, -2)  # a date that no calendar has, and `ZERO_FAIL`

_EPOCHS = (b"1970-01-01", b"1970-01-01 00:00:00", b"1970-01-01 00:00:00+00")  # DATE, DATETIME, TIMESTAMP


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_value(
    p: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    kind: cython.int,
    width: cython.int,
    zero_dates: cython.int,
    o: cython.p_uchar,
) -> cython.Py_ssize_t:
    """Write the value that stands from `at` to `end`; return how many bytes, or -1 malformed, -2 to be rejected."""
    if cython.compiled:
        n: cython.Py_ssize_t = 0
        byte: cython.uchar
        if kind == _TEXT:
            while at < end:
                byte = p[at]
                at += 1
                if byte > 13 and byte != 92:
                    o[n] = byte
                    n += 1
                elif byte == 92 or byte == 10 or byte == 13 or byte == 9:
                    o[n] = 92
                    o[n + 1] = 92 if byte == 92 else 110 if byte == 10 else 114 if byte == 13 else 116
                    n += 2
                else:
                    o[n] = byte
                    n += 1
        elif kind == _PLAIN or kind == _DIGITS:
            if kind == _DIGITS:
                while at + 1 < end and p[at] == 48 and p[at + 1] != 46:
                    at += 1
            n = end - at
            memcpy(o, p + at, n)
        elif kind == _FLOAT8:
            n = write_decimal(p, at, end, o, 15)
        elif kind == _FLOAT4:
            n = write_float4_of(p, at, end, o)
        elif kind == _TIME:
            n = _untrailed(p, at, end, o)
        elif kind == _DATE or kind == _DATETIME or kind == _TIMESTAMP:
            return _dated(p, at, end, kind, zero_dates, o)
        elif kind == _BYTES:
            o[0] = 92  # in COPY text a backslash is doubled
            o[1] = 92
            o[2] = 120
            n = 3 + _hex(p, at, end, o + 3, 97)
        elif kind == _BIT:
            while n < width:
                # The last bit of the last byte is the last digit.
                more: cython.Py_ssize_t = width - 1 - n
                if end - 1 - (more >> 3) < at:
                    o[n] = 48
                else:
                    o[n] = 48 + ((p[end - 1 - (more >> 3)] >> (more & 7)) & 1)
                n += 1
        elif kind == _GEOMETRY:
            if end - at < 9 or p[at + 4] != 1:
                return _FORM
            n = _geometry(p, at, end, o)
        else:
            if (end - at) & 3:
                return _FORM
            n = _vector(p, at, end, o)
        return n
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _dated(
    p: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    kind: cython.int,
    zero_dates: cython.int,
    o: cython.p_uchar,
) -> cython.Py_ssize_t:
    """Write a date, a datetime or a timestamp, or what the route says instead."""
    if cython.compiled:
        n: cython.Py_ssize_t = 0
        if end - at < (10 if kind == _DATE else 19):
            return _FORM
        if _is_real(p, at):
            n = _untrailed(p, at, end, o)
        elif zero_dates == 2:
            return _UNREAL
        elif zero_dates == 0:
            o[0] = 92
            o[1] = 78
            return 2
        else:
            n = 10 if kind == _DATE else 19
            memcpy(o, cython.cast(cython.p_char, b"1970-01-01 00:00:00"), n)
        if kind == _TIMESTAMP:
            o[n] = 43
            o[n + 1] = o[n + 2] = 48
            n += 3
        return n
    return 0


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _is_real(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    """Return whether the calendar has the date that begins at `at`: `YYYY-MM-DD`."""
    year: cython.int = (p[at] - 48) * 1000 + (p[at + 1] - 48) * 100 + (p[at + 2] - 48) * 10 + p[at + 3] - 48
    month: cython.int = (p[at + 5] - 48) * 10 + p[at + 6] - 48
    day: cython.int = (p[at + 8] - 48) * 10 + p[at + 9] - 48
    if year < 1 or month < 1 or month > 12 or day < 1:
        return 0
    if day <= 28:
        return 1
    if month == 2:
        return day == 29 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return day <= 30 or (day == 31 and month != 4 and month != 6 and month != 9 and month != 11)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _untrailed(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, o: cython.p_uchar
) -> cython.Py_ssize_t:
    """Write a time without the zeros that its fraction ends with; return its size."""
    if cython.compiled:
        if end - at > 7 and (p[end - 2] == 46 or p[end - 3] == 46 or p[end - 4] == 46 or p[end - 5] == 46
                             or p[end - 6] == 46 or p[end - 7] == 46):  # fmt: skip
            while p[end - 1] == 48:
                end -= 1
            if p[end - 1] == 46:
                end -= 1
        memcpy(o, p + at, end - at)
        return end - at
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _hex(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, o: cython.p_uchar, ten: cython.int
) -> cython.Py_ssize_t:
    """Write bytes as hexadecimal digits, of which `ten` is the first letter; return how many."""
    if cython.compiled:
        n: cython.Py_ssize_t = 0
        high: cython.int
        low: cython.int
        while at < end:
            high = p[at] >> 4
            low = p[at] & 15
            o[n] = 48 + high if high < 10 else ten + high - 10
            o[n + 1] = 48 + low if low < 10 else ten + low - 10
            n += 2
            at += 1
        return n
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _geometry(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, o: cython.p_uchar) -> cython.Py_ssize_t:
    """Write SRID and little-endian WKB as EWKB, which flags the SRID in the highest byte of the type."""
    if cython.compiled:
        n: cython.Py_ssize_t = _hex(p, at + 4, at + 9, o, 65)
        if p[at] | p[at + 1] | p[at + 2] | p[at + 3]:
            o[8] = 48 + (((p[at + 8] >> 4) | 2) & 15)  # the type's number is small, so this stays a digit
            n += _hex(p, at, at + 4, o + n, 65)
        return n + _hex(p, at + 9, end, o + n, 65)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _vector(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, o: cython.p_uchar) -> cython.Py_ssize_t:
    """Write little-endian single precision numbers as an array; return its size."""
    if cython.compiled:
        n: cython.Py_ssize_t = 1
        bits: cython.uint
        number: cython.float = 0
        o[0] = 123
        while at < end:
            bits = p[at] | (p[at + 1] << 8) | (p[at + 2] << 16) | (cython.cast(cython.uint, p[at + 3]) << 24)
            memcpy(cython.address(number), cython.address(bits), 4)
            if n > 1:
                o[n] = 44
                n += 1
            n += write_float4(number, o + n)
            at += 4
        o[n] = 125
        return n + 1
    return 0


def plain_value(value: bytes, kind: int, width: int, zero_dates: int) -> object:
    """As `write_value`, in plain Python: return the text, or -1 malformed, -2 to be rejected."""
    if kind == TEXT:
        for byte, escaped in ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t")):
            value = value.replace(byte, escaped)
        return value
    if kind == PLAIN:
        return value
    if kind == DIGITS:
        whole, point, fraction = value.partition(b".")
        return (whole.lstrip(b"0") or (b"0" if whole else b"")) + point + fraction
    if kind == FLOAT8:
        return floattext_cy.decimal(value, floattext_cy.FIXED_BELOW_FLOAT8)
    if kind == FLOAT4:
        return floattext_cy.float4(float(value))
    if kind == BYTES:
        return b"\\\\x" + value.hex().encode()
    if kind == BIT:
        return format(int.from_bytes(value, "big"), f"0{width}b").encode()
    if kind == GEOMETRY:
        if len(value) < 9 or value[4] != 1:
            return -1
        srid, form, rest = value[:4], value[5:9], value[9:]
        if any(srid):
            return (b"\x01" + form[:3] + bytes([form[3] | 0x20]) + srid + rest).hex().upper().encode()
        return value[4:].hex().upper().encode()
    if kind == VECTOR:
        if len(value) % 4:
            return -1
        numbers = struct.unpack(f"<{len(value) // 4}f", value)
        return b"{" + b",".join([floattext_cy.float4(number) for number in numbers]) + b"}"
    if kind != TIME:
        if len(value) < (10 if kind == DATE else 19):
            return -1
        if not _is_real(value, 0):
            if zero_dates == ZERO_FAIL:
                return -2
            return b"\\N" if zero_dates == ZERO_NULL else _EPOCHS[kind - DATE]
    if b"." in value[max(0, len(value) - 7) :]:
        value = value.rstrip(b"0").removesuffix(b".")
    return value + b"+00" if kind == TIMESTAMP else value
