"""Bytes and text of a binlog row image as canonical text.

Every function writes at `out[at]`, where its caller has made room, and returns where it stopped; it reads only the
bytes of its value.

This file runs as it is and is compiled by Cython where a compiler is there; binlogtext_cy.pxd declares for other
compiled modules what is here. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.libc.string import memcpy, memset

_HIGH_BITS = cython.declare(cython.ulonglong, 0x8080808080808080)


@cython.cfunc
@cython.exceptval(check=False)
def hexed(
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    upper: cython.bint,
) -> cython.Py_ssize_t:
    """Write two hexadecimal digits a byte."""
    if cython.compiled:
        index: cython.Py_ssize_t
        table: cython.p_uchar = _lower
        if upper:
            table = _upper
        for index in range(start, start + count):
            memcpy(out + at, table + 2 * p[index], 2)
            at += 2
        return at
    text = p[start : start + count].hex().encode()
    out[at : at + len(text)] = text.upper() if upper else text
    return at + len(text)


@cython.cfunc
@cython.exceptval(check=False)
def zeros(out: cython.p_uchar, at: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Write the digit zero `count` times."""
    if cython.compiled:
        memset(out + at, 48, count)
    else:
        out[at : at + count] = b"0" * count
    return at + count


@cython.cfunc
@cython.exceptval(check=False)
def copied(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t, count: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write bytes as they are."""
    if cython.compiled:
        memcpy(out + at, p + start, count)
    else:
        out[at : at + count] = p[start : start + count]
    return at + count


@cython.cfunc
@cython.exceptval(check=False)
def is_utf8(p: cython.p_uchar, start: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.bint:
    """Return whether bytes are UTF-8: no surrogates, nothing longer than it must be, nothing beyond U+10FFFF."""
    if cython.compiled:
        at: cython.Py_ssize_t = start
        end: cython.Py_ssize_t = start + count
        eight: cython.ulonglong = 0
        byte: cython.uchar
        low: cython.uchar
        high: cython.uchar
        more: cython.int
        while at < end:
            if end - at >= 8:
                memcpy(cython.address(eight), p + at, 8)
                if eight & _HIGH_BITS == 0:
                    at += 8
                    continue
            byte = p[at]
            at += 1
            if byte < 0x80:
                continue
            low = 0x80
            high = 0xBF
            if byte < 0xC2 or byte > 0xF4:
                return False
            if byte < 0xE0:
                more = 1
            elif byte < 0xF0:
                more = 2
                if byte == 0xE0:
                    low = 0xA0
                elif byte == 0xED:
                    high = 0x9F
            else:
                more = 3
                if byte == 0xF0:
                    low = 0x90
                elif byte == 0xF4:
                    high = 0x8F
            if end - at < more or p[at] < low or p[at] > high:
                return False
            at += 1
            while more > 1:
                if p[at] & 0xC0 != 0x80:
                    return False
                at += 1
                more -= 1
        return True
    try:
        p[start : start + count].decode()
    except UnicodeDecodeError:
        return False
    return True


@cython.cfunc
@cython.exceptval(check=False)
def mapped(
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    table: cython.p_uchar,
) -> cython.Py_ssize_t:
    """Write text of a single-byte character set; `table` has four bytes for each: how many, and up to three."""
    index: cython.Py_ssize_t
    entry: cython.Py_ssize_t
    more: cython.int
    for index in range(start, start + count):
        entry = 4 * cython.cast(cython.Py_ssize_t, p[index])
        for more in range(table[entry]):
            out[at] = table[entry + 1 + more]
            at += 1
    return at


if cython.compiled:
    _lower = cython.declare(cython.uchar[512])
    _upper = cython.declare(cython.uchar[512])
    _n = cython.declare(cython.int)
    for _n in range(256):
        _lower[_n * 2] = _upper[_n * 2] = 48 + (_n >> 4) + (39 if _n >> 4 > 9 else 0)
        _lower[_n * 2 + 1] = _upper[_n * 2 + 1] = 48 + (_n & 15) + (39 if _n & 15 > 9 else 0)
        if _n >> 4 > 9:
            _upper[_n * 2] -= 32
        if _n & 15 > 9:
            _upper[_n * 2 + 1] -= 32
