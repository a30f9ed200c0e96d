"""Numbers and bits of a binlog row image as canonical text.

Storage formats: https://dev.mysql.com/doc/refman/9.4/en/storage-requirements.html and, for decimals, the comment on
decimal2bin in the server's strings/decimal.cc. Every function writes at `out[at]`, where its caller has made room, and
returns where it stopped; it reads only the bytes of its value.

This file runs as it is and is compiled by Cython where a compiler is there; binlognumbers_cy.pxd declares for other
compiled modules what is here. It does no I/O.
"""

from __future__ import annotations

import struct

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.floattext_cy import write_decimal, write_float4
    from cython.cimports.cpython.conversion import PyOS_double_to_string
    from cython.cimports.cpython.mem import PyMem_Free
    from cython.cimports.libc.math import fabs, rint, signbit
    from cython.cimports.libc.string import memcpy, strlen

from cdcflow.codecs import floattext_cy
from cdcflow.codecs.frames_cy import MessageError

_ALL_ONES = cython.declare(cython.ulonglong, (1 << 64) - 1)

# A decimal number below this that has at most fifteen digits is the only one of so few that its double stands for.
_FIFTEEN_DIGITS = cython.declare(cython.double, 1e15)


@cython.cfunc
@cython.exceptval(check=False)
def digits(out: cython.p_uchar, at: cython.Py_ssize_t, value: cython.ulonglong) -> cython.Py_ssize_t:
    """Write a number without leading zeros."""
    if cython.compiled:
        size: cython.Py_ssize_t = 1
        rest: cython.ulonglong = value
        end: cython.Py_ssize_t
        pair: cython.int
        while rest >= 10000:
            rest //= 10000
            size += 4
        if rest >= 1000:
            size += 3
        elif rest >= 100:
            size += 2
        elif rest >= 10:
            size += 1
        end = at + size
        at = end
        while value >= 100:
            pair = cython.cast(cython.int, value % 100) * 2
            value //= 100
            at -= 2
            out[at] = _pairs[pair]
            out[at + 1] = _pairs[pair + 1]
        if value >= 10:
            out[at - 2] = _pairs[value * 2]
            out[at - 1] = _pairs[value * 2 + 1]
        else:
            out[at - 1] = cython.cast(cython.uchar, 48 + value)
        return end
    text = b"%d" % value
    out[at : at + len(text)] = text
    return at + len(text)


@cython.cfunc
@cython.exceptval(check=False)
def padded(out: cython.p_uchar, at: cython.Py_ssize_t, value: cython.ulonglong, width: cython.int) -> cython.Py_ssize_t:
    """Write the last `width` digits of a number, with leading zeros."""
    place: cython.Py_ssize_t = at + width
    while place > at:
        place -= 1
        out[place] = cython.cast(cython.uchar, 48 + value % 10)
        value //= 10
    return at + width


@cython.cfunc
@cython.exceptval(check=False)
def little(p: cython.p_uchar, start: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.ulonglong:
    """Return up to eight bytes as an unsigned number, the lowest first."""
    value: cython.ulonglong = 0
    while count > 0:
        count -= 1
        value = (value << 8) | p[start + count]
    return value


@cython.cfunc
@cython.exceptval(check=False)
def big(p: cython.p_uchar, start: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.ulonglong:
    """Return up to eight bytes as an unsigned number, the highest first."""
    value: cython.ulonglong = 0
    index: cython.Py_ssize_t
    for index in range(count):
        value = (value << 8) | p[start + index]
    return value


@cython.cfunc
@cython.exceptval(check=False)
def integer(
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    unsigned_: cython.bint,
) -> cython.Py_ssize_t:
    """Write an integer of one to eight bytes."""
    value: cython.ulonglong = little(p, start, count)
    if not unsigned_ and (value >> (8 * count - 1)) & 1:
        value = (~value & (_ALL_ONES >> (64 - 8 * count))) + 1
        out[at] = 45  # -
        at += 1
    return digits(out, at, value)


@cython.cfunc
@cython.exceptval(check=False)
def decimal_size(precision: cython.int, scale: cython.int) -> cython.Py_ssize_t:
    """Return how many bytes a DECIMAL takes: four for nine digits, for fewer half as many, rounded up."""
    whole: cython.int = precision - scale
    return whole // 9 * 4 + (whole % 9 + 1) // 2 + scale // 9 * 4 + (scale % 9 + 1) // 2


@cython.cfunc
@cython.exceptval(-1)
def decimal(
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    precision: cython.int,
    scale: cython.int,
) -> cython.Py_ssize_t:
    """Write a DECIMAL: whole digits without leading zeros, then all `scale` digits of the fraction."""
    flip: cython.int = 0 if p[start] & 0x80 else 0xFF
    first: cython.int = 0x80
    left: cython.int = precision - scale
    take: cython.int = left % 9
    size: cython.int
    index: cython.int
    group: cython.uint
    begun: cython.Py_ssize_t
    if flip:
        out[at] = 45  # -
        at += 1
    begun = at
    while left > 0:
        if take == 0:
            take = 9
        size = 4 if take == 9 else (take + 1) // 2
        group = 0
        for index in range(size):
            group = (group << 8) | ((p[start + index] ^ flip ^ first) & 0xFF)
            first = 0
        start += size
        if group >= _power(take):
            raise MessageError("a decimal has a group of too many digits")
        if at > begun:
            at = padded(out, at, group, take)
        elif group > 0:
            at = digits(out, at, group)
        left -= take
        take = 9
    if at == begun:
        out[at] = 48
        at += 1
    if scale > 0:
        out[at] = 46  # .
        at += 1
    left = scale
    while left > 0:
        take = 9 if left >= 9 else left
        size = 4 if take == 9 else (take + 1) // 2
        group = 0
        for index in range(size):
            group = (group << 8) | ((p[start + index] ^ flip ^ first) & 0xFF)
            first = 0
        start += size
        if group >= _power(take):
            raise MessageError("a decimal has a group of too many digits")
        at = padded(out, at, group, take)
        left -= take
    return at


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _power(count: cython.int) -> cython.uint:
    """Return ten to the power of a number below ten."""
    power: cython.uint = 1
    index: cython.int
    for index in range(count):
        power *= 10
    return power


@cython.cfunc
@cython.exceptval(-1)
def float4(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a single precision number."""
    raw: cython.uint = cython.cast(cython.uint, little(p, start, 4))
    if (raw & 0x7F800000) == 0x7F800000:
        raise MessageError("a number that is none: infinite or undefined")
    if cython.compiled:
        number: cython.float = 0
        memcpy(cython.address(number), cython.address(raw), 4)
        return at + write_float4(number, out + at)
    text = floattext_cy.float4(struct.unpack("<f", p[start : start + 4])[0])
    out[at : at + len(text)] = text
    return at + len(text)


@cython.cfunc
@cython.exceptval(-1)
def float8(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a double precision number."""
    raw: cython.ulonglong = little(p, start, 8)
    if (raw >> 52) & 0x7FF == 0x7FF:
        raise MessageError("a number that is none: infinite or undefined")
    if cython.compiled:
        number: cython.double = 0
        text: cython.p_char
        size: cython.Py_ssize_t
        memcpy(cython.address(number), cython.address(raw), 8)
        size = _few_digits(out, at, number)
        if size > 0:
            return size
        text = PyOS_double_to_string(number, 114, 0, 0, cython.NULL)  # r: as repr
        if text == cython.NULL:
            raise MemoryError
        at += write_decimal(cython.cast(cython.p_uchar, text), 0, strlen(text), out + at, 15)
        PyMem_Free(text)
        return at
    found = floattext_cy.float8(struct.unpack("<d", p[start : start + 8])[0])
    out[at : at + len(found)] = found
    return at + len(found)


@cython.cfunc
@cython.exceptval(check=False)
def _few_digits(out: cython.p_uchar, at: cython.Py_ssize_t, number: cython.double) -> cython.Py_ssize_t:
    """Write a number that at most six decimal places say exactly; return 0 for any other.

    Both the product's integer and the power are exact, so their quotient is rounded once, as reading the text is.
    """
    if cython.compiled:
        magnitude: cython.double = fabs(number)
        scaled: cython.double
        power: cython.double = 1.0
        whole: cython.ulonglong
        places: cython.int = 0
        low: cython.ulonglong
        if magnitude >= _FIFTEEN_DIGITS or (magnitude < 1e-4 and magnitude != 0.0):
            return 0
        while True:
            scaled = rint(magnitude * power)
            if scaled >= _FIFTEEN_DIGITS:
                return 0
            if scaled / power == magnitude:
                break
            if places == 6:
                return 0
            places += 2
            power *= 100.0
        whole = cython.cast(cython.ulonglong, scaled)
        while places > 0 and whole % 10 == 0:
            whole //= 10
            places -= 1
        if signbit(number):
            out[at] = 45
            at += 1
        if places == 0:
            return digits(out, at, whole)
        low = 1
        for _step in range(places):
            low *= 10
        at = digits(out, at, whole // low)
        out[at] = 46
        return padded(out, at + 1, whole % low, places)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def bits(
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    width: cython.int,
) -> cython.Py_ssize_t:
    """Write a BIT(`width`) digit by digit."""
    value: cython.ulonglong = big(p, start, count)
    place: cython.int = width
    if width < 64 and value >> width:
        raise MessageError("a bit field has more bits than its column")
    while place > 0:
        place -= 1
        out[at] = cython.cast(cython.uchar, 48 + ((value >> place) & 1))
        at += 1
    return at


if cython.compiled:
    _pairs = cython.declare(cython.uchar[200])
    _n = cython.declare(cython.int)
    for _n in range(100):
        _pairs[_n * 2] = 48 + _n // 10
        _pairs[_n * 2 + 1] = 48 + _n % 10
