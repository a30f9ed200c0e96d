"""The numbers and bytes that binary formats hold, as canonical text: `busnumber_cy` is the other direction.

This file runs as it is and is compiled by Cython where a compiler is there; bustext_cy.pxd declares for other compiled
modules what they use. It does no I/O.
"""

from __future__ import annotations

import sys

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.bustimetext_cy import write_clock, write_date, write_timestamp
    from cython.cimports.cdcflow.codecs.floattext_cy import write_float4
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memcmp, memcpy
else:
    from cdcflow.codecs import loading

    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena
    _time = loading.plain("cdcflow.codecs.bustimetext_cy")
    write_clock, write_date, write_timestamp = _time.write_clock, _time.write_date, _time.write_timestamp

from cdcflow.codecs import floattext_cy
from cdcflow.codecs.frames_cy import MessageError

_ORDER = sys.byteorder

# What `_put_time` writes.
_DATE = cython.declare(cython.int, 0)
_CLOCK = cython.declare(cython.int, 1)
_MOMENT = cython.declare(cython.int, 2)
# Named, because a literal beyond 31 bits is a Python object to the compiler.
_MOST_MILLIS = cython.declare(cython.longlong, 9223372036854775)
# What Debezium writes for PostgreSQL's infinities (ours travel in a header).
_INFINITY = cython.declare(cython.longlong, 9223372036825200000)
_MINUS_INFINITY = cython.declare(cython.longlong, -9223372036832400000)

_UNAVAILABLE = b"__debezium_unavailable_value"
_UNAVAILABLE_SIZE = cython.declare(cython.Py_ssize_t, 28)
# The same where the type holds no text, as canonical text: arrays of text, of bytes, of numbers (one a byte) and of
# UUIDs (its name UUID: MD5, version 3), hstore as an object, and PostGIS's values.
# https://github.com/debezium/debezium: UnchangedToastedPlaceholder
_MARKS = frozenset(
    (
        b"{%b}" % _UNAVAILABLE,
        b'{"\\\\x%b"}' % _UNAVAILABLE.hex().encode(),
        b"{%b}" % b",".join(b"%d" % byte for byte in _UNAVAILABLE),
        b"{b68a35a7-17ad-35b3-af2a-ae46edb4545a}",
        b'{"%b":"%b"}' % (_UNAVAILABLE, _UNAVAILABLE),
        b'{"%b": "%b"}' % (_UNAVAILABLE, _UNAVAILABLE),
        b"0101000020E6100000000000FC83D797C1000000FC83D797C1",
        b"0101000020E61000000C21E7FDFF7F66401842CEFBFF7F5640",
    )
)


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_bytes(out: Arena, text: bytes) -> cython.int:
    """Append bytes."""
    out.reserve(len(text))
    if cython.compiled:
        out.copy(cython.cast(cython.p_uchar, PyBytes_AS_STRING(text)), 0, len(text))
    else:
        out.copy(text, 0, len(text))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_unsigned(out: Arena, value: cython.ulonglong) -> cython.int:
    """Append a number's digits."""
    size: cython.int = 1
    power: cython.ulonglong = 1
    out.reserve(20)
    while value // power >= 10:
        power *= 10
        size += 1
    while size > 0:
        out.byte(48 + value // power % 10)
        power //= 10
        size -= 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_digits(out: Arena, value: cython.longlong) -> cython.int:
    """Append a number with its sign."""
    magnitude: cython.ulonglong
    if value < 0:
        out.reserve(1)
        out.byte(45)
        magnitude = cython.cast(cython.ulonglong, -(value + 1))
        return put_unsigned(out, magnitude + 1)
    return put_unsigned(out, cython.cast(cython.ulonglong, value))


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_days(out: Arena, days: cython.longlong) -> cython.int:
    """Append the date that many days behind 1970-01-01."""
    if not _put_time(out, days, _DATE):
        raise MessageError("a date is out of range")
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_clock(out: Arena, micros: cython.longlong) -> cython.int:
    """Append a time of day, or a duration of hours, which may be negative."""
    if not _put_time(out, micros, _CLOCK):
        raise MessageError("a time is out of range")
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_moment(out: Arena, micros: cython.longlong, zoned: cython.bint) -> cython.int:
    """Append a timestamp, microseconds since 1970; `zoned`: with +00 behind it."""
    early: cython.bint
    if micros == _INFINITY or micros == _MINUS_INFINITY:
        put_bytes(out, b"infinity" if micros > 0 else b"-infinity")
        return 0
    if not _put_time(out, micros, _MOMENT):
        raise MessageError("a moment is out of range")
    if zoned:
        if cython.compiled:  # the C of BC
            early = out.data[out.size - 1] == 67
        else:
            early = out.plain[-1] == 67
        if early:
            out.cut(out.size - 3)
        out.byte(43)
        out.byte(48)
        out.byte(48)
        if early:
            out.byte(32)
            out.byte(66)
            out.byte(67)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _put_time(out: Arena, number: cython.longlong, what: cython.int) -> cython.int:
    """Append what days or microseconds are the number of; return how many bytes that has, 0 where there is none."""
    size: cython.int
    out.reserve(48)
    if not cython.compiled:
        room = bytearray(48)
        size = (write_date, write_clock, write_timestamp)[what](number, room, 0)
        out.plain += room[:size]
    elif what == _DATE:
        size = write_date(number, out.data, out.size)
    elif what == _CLOCK:
        size = write_clock(number, out.data, out.size)
    else:
        size = write_timestamp(number, out.data, out.size)
    out.size += size
    return size


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_number(out: Arena, number: cython.longlong, form: cython.int) -> cython.int:
    """Append what a number means: `form` is of `scanforms.Form`."""
    if form == 13:
        put_moment(out, number, False)
    elif form == 8:
        put_days(out, number)
    elif form == 10:
        put_clock(out, number)
    elif form == 16:
        put_moment(out, number, True)
    elif form == 9 or form == 12 or form == 15:
        if number > _MOST_MILLIS or number < -_MOST_MILLIS:
            raise MessageError("a moment is out of range")
        put_number(out, number * 1000, form + 1)
    elif form == 11 or form == 14 or form == 17:
        # Rounded to the microsecond, as a server rounds a text with more digits.
        if number >= 0:
            number = number // 1000 + (1 if number % 1000 >= 500 else 0)
        else:
            number = -(number + 1)
            number = -(number // 1000) - (1 if number % 1000 >= 500 else 0)
        put_number(out, number, form - 1)
    else:
        put_digits(out, number)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_hex(out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
    r"""Append bytes as `\x` and pairs of digits."""
    digit: cython.int
    if not cython.compiled:
        out.plain += b"\\x" + p[at:end].hex().encode()
        out.size += 2 + 2 * (end - at)
        return 0
    out.reserve(2 + 2 * (end - at))
    out.byte(92)
    out.byte(120)
    while at < end:
        digit = p[at] >> 4
        out.byte(48 + digit if digit < 10 else 87 + digit)
        digit = p[at] & 15
        out.byte(48 + digit if digit < 10 else 87 + digit)
        at += 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _put_special(out: Arena, value: cython.double) -> cython.int:
    """Append what is no number, or infinite; return whether it was that."""
    if value != value:
        put_bytes(out, b"NaN")
    elif value - value != 0:
        put_bytes(out, b"Infinity" if value > 0 else b"-Infinity")
    else:
        return 0
    return 1


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_float8(out: Arena, value: cython.double) -> cython.int:
    """Append a double as PostgreSQL prints it."""
    if not _put_special(out, value):
        put_bytes(out, floattext_cy.float8(value))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_float4(out: Arena, value: cython.double) -> cython.int:
    """Append a single precision number as PostgreSQL prints it."""
    if _put_special(out, value):
        return 0
    if cython.compiled:
        out.reserve(32)
        out.size += write_float4(value, out.data + out.size)
    else:
        put_bytes(out, floattext_cy.float4(value))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_decimal(
    out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, scale: cython.int
) -> cython.int:
    """Append the decimal whose unscaled value stands as big-endian two's complement from `at` to `end`."""
    digits: bytes
    negative: bool
    small: cython.longlong
    magnitude: cython.ulonglong
    unit: cython.ulonglong = 1
    index: cython.int
    if 1 <= end - at <= 7 and 0 <= scale <= 18:
        small = p[at] - 256 if p[at] > 127 else p[at]
        at += 1
        while at < end:
            small = small * 256 + p[at]
            at += 1
        out.reserve(1)
        if small < 0:
            out.byte(45)
            small = -small
        magnitude = cython.cast(cython.ulonglong, small)
        for index in range(scale):
            unit *= 10
        put_unsigned(out, magnitude // unit)
        if scale:
            magnitude %= unit
            out.reserve(20)
            out.byte(46)
            while unit > 1:
                unit //= 10
                out.byte(48 + magnitude // unit)
                magnitude %= unit
        return 0
    raw: bytes = p[at:end]
    if end - at > 65536:
        raise MessageError("a decimal is longer than any database holds")
    number = int.from_bytes(raw, "big", signed=True)
    negative = number < 0
    digits = _digits(-number if negative else number)
    if scale > 0:
        digits = digits.rjust(scale + 1, b"0")
        digits = digits[: len(digits) - scale] + b"." + digits[len(digits) - scale :]
    elif scale < 0 and number:
        digits += b"0" * -scale
    put_bytes(out, b"-" + digits if negative else digits)
    return 0


def _digits(number: int) -> bytes:
    """Return a whole number's digits; CPython refuses to print long ones in one go (CVE-2020-10735)."""
    if number < 10**4000:
        return b"%d" % number
    pieces = []
    while number:
        number, rest = divmod(number, 10**4000)
        pieces.append(b"%04000d" % rest)
    return b"".join(reversed(pieces)).lstrip(b"0")


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_cell_size(out: Arena, start: cython.Py_ssize_t) -> cython.int:
    """Write how long the cell is that began with four bytes at `start`."""
    size: cython.int
    if out.size - start - 4 > 2147483647:
        raise MessageError("a value is longer than any cell")
    size = cython.cast(cython.int, out.size - start - 4)
    if cython.compiled:
        memcpy(out.data + start, cython.address(size), 4)
    else:
        out.plain[start : start + 4] = size.to_bytes(4, _ORDER)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def is_unavailable(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
    """Return whether a text is what Debezium writes for a value that was not logged."""
    size: cython.Py_ssize_t = end - at
    if size == _UNAVAILABLE_SIZE:
        if cython.compiled:
            return memcmp(p + at, PyBytes_AS_STRING(_UNAVAILABLE), _UNAVAILABLE_SIZE) == 0
        return p[at:end] == _UNAVAILABLE
    # The sizes of `_MARKS`.
    if size == 30 or size == 38 or size == 50 or size == 63 or size == 64 or size == 103:
        return bytes(p[at:end]) in _MARKS
    return False
