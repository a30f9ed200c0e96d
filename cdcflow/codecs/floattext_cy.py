"""Floating point numbers as PostgreSQL prints them: the shortest text that reads back the same.

`1e+20`, `0.1`, `1e-07`, `-0`: digits without an exponent from 1e-04 to below 1e+15 (float8) or 1e+06 (float4), as
https://www.postgresql.org/docs/current/datatype-numeric.html#DATATYPE-FLOAT says of version 12 and later. There are
no infinities here, because MySQL and MariaDB store none.

This file runs as it is and is compiled by Cython where a compiler is there; floattext_cy.pxd declares for other
compiled modules the functions that write to memory. It does no I/O.
"""

from __future__ import annotations

import math

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.math import fabs, floor, frexp, ldexp, log10, rint, signbit
    from cython.cimports.libc.stdio import snprintf
    from cython.cimports.libc.stdlib import atoi, strtod
    from cython.cimports.libc.string import memcpy
else:
    from math import fabs, floor, frexp, ldexp, log10

    rint = round

# From which power of ten on a number is written with an exponent.
FIXED_BELOW_FLOAT8 = 15
FIXED_BELOW_FLOAT4 = 6

_FIXED_FLOAT8 = cython.declare(cython.int, 15)
_FIXED_FLOAT4 = cython.declare(cython.int, 6)

# Significant digits that matter: a double needs 17.
_MOST_DIGITS = cython.declare(cython.int, 20)

_SMALLEST_NORMAL = cython.declare(cython.double, 2.0**-126)

# Powers of ten up to this one are exact as doubles, so a product with one is rounded once.
_EXACT_POWERS = cython.declare(cython.int, 22)


def float8(value: float) -> bytes:
    """Return a double's text."""
    return decimal(repr(float(value)).encode(), FIXED_BELOW_FLOAT8)


def float4(value: float) -> bytes:
    """Return the text of a double that holds a single precision number."""
    if cython.compiled:
        out: cython.uchar[32]
        size: cython.int = write_float4(value, out)
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, out), size)
    if value == 0:
        return b"-0" if math.copysign(1, value) < 0 else b"0"
    return _shortest_plain(float(value))


def decimal(text: bytes, fixed_below: int) -> bytes:
    """Return a decimal number's text (`-1.5e20`) in PostgreSQL's layout; its digits stay."""
    if cython.compiled:
        out: cython.uchar[32]
        size: cython.int = write_decimal(
            cython.cast(cython.p_uchar, PyBytes_AS_STRING(text)), 0, len(text), out, fixed_below
        )
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, out), size)
    mantissa, _, exponent = text.lower().partition(b"e")
    negative = mantissa.startswith(b"-")
    whole, _, fraction = mantissa.lstrip(b"+-").partition(b".")
    digits = (whole + fraction).lstrip(b"0")
    scale = int(exponent or 0) + len(whole) - 1 - (len(whole + fraction) - len(digits))
    return _laid_out_plain(digits[:20].rstrip(b"0"), scale, negative, fixed_below)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_decimal(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_uchar, fixed_below: cython.int
) -> cython.int:
    """Write the decimal number that stands from `at` to `end` in PostgreSQL's layout; its digits stay."""
    if cython.compiled:
        digits: cython.uchar[20]
        count: cython.int = 0
        scale: cython.int = -1
        shift: cython.int = 0
        negative: cython.bint = False
        point: cython.bint = False
        down: cython.bint = False
        byte: cython.uchar
        if at < end and (p[at] == 45 or p[at] == 43):  # - +
            negative = p[at] == 45
            at += 1
        while at < end:
            byte = p[at]
            at += 1
            if byte == 46:  # .
                point = True
            elif 48 <= byte <= 57:
                if count == 0 and byte == 48:
                    if point:
                        scale -= 1
                    continue
                if count < _MOST_DIGITS:
                    digits[count] = byte
                    count += 1
                if not point:
                    scale += 1
            else:
                break
        if at < end:  # behind the e
            if p[at] == 45 or p[at] == 43:
                down = p[at] == 45
                at += 1
            while at < end and 48 <= p[at] <= 57 and shift < 10000:
                shift = shift * 10 + (p[at] - 48)
                at += 1
        while count > 0 and digits[count - 1] == 48:
            count -= 1
        return _lay_out(out, digits, count, scale - shift if down else scale + shift, negative, fixed_below)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_float4_of(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_uchar
) -> cython.int:
    """Write a single precision number of which the double's text stands from `at` to `end`."""
    if cython.compiled:
        text: cython.char[64]
        size: cython.Py_ssize_t = end - at
        if size > 63:
            size = 63
        memcpy(text, p + at, size)
        text[size] = 0
        return write_float4(strtod(text, cython.NULL), out)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_float4(value: cython.double, out: cython.p_uchar) -> cython.int:
    """Write the text of a double that holds a single precision number."""
    if cython.compiled:
        text: cython.char[40]
        digits: cython.uchar[20]
        number: cython.longlong
        magnitude: cython.double = fabs(value)
        low: cython.double
        high: cython.double
        back: cython.double
        scale: cython.int
        wanted: cython.int
        power: cython.int
        count: cython.int
        negative: cython.bint = signbit(value) != 0
        if magnitude == 0:
            return _lay_out(out, digits, 0, 0, negative, _FIXED_FLOAT4)
        low = _below(magnitude)
        high = _above(magnitude)
        scale = cython.cast(cython.int, floor(log10(magnitude)))
        # Six digits always survive, so a shorter text shows itself by zeros; not so where the precision runs out.
        for wanted in range(1 if magnitude < _SMALLEST_NORMAL else 6, 10):
            power = wanted - 1 - scale
            if -_EXACT_POWERS <= power <= _EXACT_POWERS:
                if power >= 0:
                    number = cython.cast(cython.longlong, rint(magnitude * _tens[power]))
                    back = number / _tens[power]
                else:
                    number = cython.cast(cython.longlong, rint(magnitude / _tens[-power]))
                    back = number * _tens[-power]
                if wanted == 9 or low < back < high:
                    count = snprintf(text, 40, "%lld", number)
                    memcpy(digits, text, count)
                    scale = count - 1 - power
                    while count > 0 and digits[count - 1] == 48:
                        count -= 1
                    return _lay_out(out, digits, count, scale, negative, _FIXED_FLOAT4)
            else:
                snprintf(text, 40, "%.*e", wanted - 1, magnitude)
                back = strtod(text, cython.NULL)
                if wanted == 9 or low < back < high:
                    digits[0] = text[0]
                    memcpy(digits + 1, text + 2, wanted - 1)
                    scale = atoi(text + (wanted + 2 if wanted > 1 else 2))  # one digit has no point
                    count = wanted
                    while count > 0 and digits[count - 1] == 48:
                        count -= 1
                    return _lay_out(out, digits, count, scale, negative, _FIXED_FLOAT4)
    return 0


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _above(value: cython.double) -> cython.double:
    """Return the middle between a single precision number and the next one: exact in double precision."""
    if cython.compiled:
        exponent: cython.int = 0
        frexp(value, cython.address(exponent))
        return value + ldexp(1.0, (exponent if exponent > -125 else -125) - 25)
    return value + ldexp(1.0, max(frexp(value)[1], -125) - 25)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _below(value: cython.double) -> cython.double:
    """As `_above`, towards zero: below a power of two the numbers lie closer together."""
    if cython.compiled:
        exponent: cython.int = 0
        fraction: cython.double = frexp(value, cython.address(exponent))
        closer: cython.int = 1 if fraction == 0.5 and exponent > -125 else 0
        return value - ldexp(1.0, (exponent if exponent > -125 else -125) - 25 - closer)
    fraction, exponent = frexp(value)
    return value - ldexp(1.0, max(exponent, -125) - 25 - (fraction == 0.5 and exponent > -125))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _lay_out(
    out: cython.p_uchar,
    digits: cython.p_uchar,
    count: cython.int,
    scale: cython.int,
    negative: cython.bint,
    fixed_below: cython.int,
) -> cython.int:
    """Write `count` significant digits of which the first stands for 10^scale; no digits are zero."""
    if cython.compiled:
        size: cython.int = 0
        index: cython.int
        if negative:
            out[0] = 45
            size = 1
        if count == 0:
            out[size] = 48
            return size + 1
        if scale < -4 or scale >= fixed_below:
            out[size] = digits[0]
            size += 1
            if count > 1:
                out[size] = 46
                memcpy(out + size + 1, digits + 1, count - 1)
                size += count
            out[size] = 101  # e
            out[size + 1] = 45 if scale < 0 else 43
            size += 2
            if scale < 0:
                scale = -scale
            if scale >= 100:
                out[size] = 48 + scale // 100
                size += 1
            out[size] = 48 + scale // 10 % 10
            out[size + 1] = 48 + scale % 10
            return size + 2
        if scale < 0:
            out[size] = 48
            out[size + 1] = 46
            size += 2
            for index in range(-1 - scale):
                out[size] = 48
                size += 1
            memcpy(out + size, digits, count)
            return size + count
        for index in range(scale + 1):
            out[size] = digits[index] if index < count else 48
            size += 1
        if count > scale + 1:
            out[size] = 46
            memcpy(out + size + 1, digits + scale + 1, count - scale - 1)
            size += count - scale
        return size
    return 0


# The same in plain Python.


def _shortest_plain(value: float) -> bytes:
    magnitude = fabs(value)
    low, high = _below(magnitude), _above(magnitude)
    scale = floor(log10(magnitude))
    digits = b""
    first = 0
    for wanted in range(1 if magnitude < 2.0**-126 else 6, 10):
        power = wanted - 1 - scale
        if -22 <= power <= 22:
            ten = float(10 ** abs(power))
            number = rint(magnitude * ten if power >= 0 else magnitude / ten)
            back = number / ten if power >= 0 else number * ten
            digits = str(number).encode()
            first = len(digits) - 1 - power
        else:
            text = b"%.*e" % (wanted - 1, magnitude)
            back = float(text)
            digits = text[:1] + text[2 : wanted + 1] if wanted > 1 else text[:1]
            first = int(text.partition(b"e")[2])
        if low < back < high:
            break
    return _laid_out_plain(digits.rstrip(b"0"), first, value < 0, FIXED_BELOW_FLOAT4)


def _laid_out_plain(digits: bytes, scale: int, negative: bool, fixed_below: int) -> bytes:
    if not digits:
        text = b"0"
    elif scale < -4 or scale >= fixed_below:
        text = digits[:1] + (b"." + digits[1:] if len(digits) > 1 else b"") + b"e%+03d" % scale
    elif scale < 0:
        text = b"0." + b"0" * (-1 - scale) + digits
    else:
        text = digits[: scale + 1].ljust(scale + 1, b"0") + (b"." + digits[scale + 1 :] if digits[scale + 1 :] else b"")
    return b"-" + text if negative else text


if cython.compiled:
    _tens = cython.declare(cython.double[23])
    _index = cython.declare(cython.int)
    for _index in range(23):
        _tens[_index] = float(10**_index)
