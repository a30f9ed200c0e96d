"""Bytes with the escapes that MySQL reads: within LOAD DATA text and within string literals.

Each function writes what stands in `p` from `at` to `end` at `out[to]`, where twice as many bytes must be, and returns
where it ends there. `mysqlliterals` does the same for plain Python.
This file runs as it is and is compiled by Cython where a compiler is there; mysqlescape_cy.pxd declares for other
compiled modules the functions. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.copylines_cy import meant
else:
    from cdcflow.codecs import loading

    meant = loading.plain("cdcflow.codecs.copylines_cy").meant


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def load_text(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_uchar, to: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write bytes for LOAD DATA."""
    while at < end:
        to = _escaped(p[at], out, to)
        at += 1
    return to


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def sql_text(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_uchar, to: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write bytes for the inside of a string literal."""
    byte: cython.uchar
    while at < end:
        byte = p[at]
        at += 1
        if byte == 39 or byte == 92 or byte == 0:
            out[to] = 92
            to += 1
            if byte == 0:
                byte = 48
        out[to] = byte
        to += 1
    return to


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def load_hex(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_uchar, to: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write for LOAD DATA the bytes that pairs of hex digits stand for; return -1 for what is no digit."""
    high: cython.int
    low: cython.int
    while at < end:
        high = _digit(p[at])
        low = _digit(p[at + 1])
        if high < 0 or low < 0:
            return -1
        at += 2
        to = _escaped(high * 16 + low, out, to)
    return to


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def load_copied(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_uchar, to: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write for LOAD DATA the bytes that a piece of COPY text stands for; return -1 where it ends inside an escape."""
    byte: cython.int
    while at < end:
        byte = p[at]
        at += 1
        if byte == 92:
            if at == end:
                return -1
            byte = meant(p[at])
            at += 1
        to = _escaped(byte, out, to)
    return to


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def is_number(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
    """Return whether bytes need no quotes to be read as a number."""
    byte: cython.uchar
    if at == end:
        return False
    while at < end:
        byte = p[at]
        at += 1
        if not (48 <= byte <= 57 or byte == 43 or byte == 45 or byte == 46 or byte == 101 or byte == 69):
            return False
    return True


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _escaped(byte: cython.int, out: cython.p_uchar, to: cython.Py_ssize_t) -> cython.Py_ssize_t:
    if byte == 9 or byte == 10 or byte == 92:
        out[to] = 92
        to += 1
        byte = 116 if byte == 9 else (110 if byte == 10 else 92)
    out[to] = cython.cast(cython.uchar, byte)
    return to + 1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _digit(byte: cython.uchar) -> cython.int:
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    if 65 <= byte <= 70:
        return byte - 55
    return -1
