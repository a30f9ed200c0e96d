r"""Bytes as canonical text (`\x` and pairs of hex digits) to base64, and back.

Base64: https://www.rfc-editor.org/rfc/rfc4648#section-4
This file runs as it is and is compiled by Cython where a compiler is there; hexbase64_cy.pxd declares for other
compiled modules the functions. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_DIGITS = b"0123456789abcdef"
if cython.compiled:
    _letters = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_LETTERS)))
    _digits = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_DIGITS)))
else:
    _letters, _digits = _LETTERS, _DIGITS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_base64(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_uchar, to: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    r"""Write in base64 the bytes whose text stands from `at` to `end`, at `out[to]`, where two thirds of the text's
    size and four bytes more must be.

    Returns:
        Where it ends there; -1 for what is not `\x` and pairs of digits.
    """
    bits: cython.uint = 0
    held: cython.int = 0
    high: cython.int
    low: cython.int
    if end - at < 2 or (end - at) % 2 or p[at] != 92 or p[at + 1] != 120:
        return -1
    at += 2
    while at < end:
        high = _hex_digit(p[at])
        low = _hex_digit(p[at + 1])
        at += 2
        if high < 0 or low < 0:
            return -1
        bits = (bits << 8) | (high << 4) | low
        held += 1
        if held == 3:
            out[to] = _letters[bits >> 18]
            out[to + 1] = _letters[(bits >> 12) & 63]
            out[to + 2] = _letters[(bits >> 6) & 63]
            out[to + 3] = _letters[bits & 63]
            to += 4
            bits = 0
            held = 0
    if held == 2:
        out[to] = _letters[bits >> 10]
        out[to + 1] = _letters[(bits >> 4) & 63]
        out[to + 2] = _letters[(bits << 2) & 63]
        out[to + 3] = 61
        to += 4
    elif held == 1:
        out[to] = _letters[bits >> 2]
        out[to + 1] = _letters[(bits << 4) & 63]
        out[to + 2] = 61
        out[to + 3] = 61
        to += 4
    return to


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_hex(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_uchar, to: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write as text the bytes whose base64 stands from `at` to `end`, at `out[to]`, where half as many bytes again
    must be and two more.

    Returns:
        Where it ends there; -1 for what is not base64.
    """
    bits: cython.uint = 0
    held: cython.int = 0
    value: cython.int
    byte: cython.int
    if (end - at) % 4:
        return -1
    out[to] = 92
    out[to + 1] = 120
    to += 2
    if end > at and p[end - 1] == 61:
        end -= 2 if p[end - 2] == 61 else 1
    while at < end:
        byte = p[at]
        at += 1
        if 65 <= byte <= 90:
            value = byte - 65
        elif 97 <= byte <= 122:
            value = byte - 71
        elif 48 <= byte <= 57:
            value = byte + 4
        elif byte == 43:
            value = 62
        elif byte == 47:
            value = 63
        else:
            return -1
        bits = ((bits & 0x3F) << 6) | value
        held += 6
        if held >= 8:
            held -= 8
            byte = (bits >> held) & 255
            out[to] = _digits[byte >> 4]
            out[to + 1] = _digits[byte & 15]
            to += 2
    return to


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _hex_digit(byte: cython.int) -> cython.int:
    if 48 <= byte <= 57:
        return byte - 48
    return byte - 87 if 97 <= byte <= 102 else -1
