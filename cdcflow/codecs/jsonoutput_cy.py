"""Bytes that grow, and text as JSON strings in them.

JSON: https://www.rfc-editor.org/rfc/rfc8259
This file runs as it is and is compiled by Cython where a compiler is there; jsonoutput_cy.pxd declares for other
compiled modules what is here. It does no I/O.
"""

from __future__ import annotations

import sys

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, realloc
    from cython.cimports.libc.string import memcpy

_NATIVE = sys.byteorder
_HEX = b"0123456789abcdef"
if cython.compiled:
    _hex = cython.declare(cython.p_uchar, cython.cast(cython.p_uchar, PyBytes_AS_STRING(_HEX)))
else:
    _hex = _HEX


class NotUtf8(ValueError):
    """A cell holds bytes that are no UTF-8, so no JSON can hold them."""


@cython.final
@cython.cclass
class Output:
    """Bytes that grow at the end. Plain Python has a bytearray in `data`, so the same code writes to both."""

    def __cinit__(self):
        if cython.compiled:
            self.data = cython.NULL
        self.size = 0
        self.capacity = 0

    def __init__(self):
        if not cython.compiled:
            self.data = bytearray()
            self.size = self.capacity = 0

    def __dealloc__(self):
        if cython.compiled:
            free(self.data)

    @cython.cfunc
    @cython.exceptval(-1)
    def grow(self, more: cython.Py_ssize_t) -> cython.int:
        """Make room for `more` bytes where there is none."""
        capacity: cython.Py_ssize_t = self.capacity + self.capacity // 2 + more + 1024
        if cython.compiled:
            grown: cython.p_uchar = cython.cast(cython.p_uchar, realloc(self.data, capacity))
            if grown == cython.NULL:
                raise MemoryError
            self.data = grown
        else:
            self.data.extend(bytes(capacity - self.capacity))
        self.capacity = capacity
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def copy(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        if self.size + (end - at) > self.capacity:
            self.grow(end - at)
        if cython.compiled:
            memcpy(self.data + self.size, p + at, end - at)
        else:
            self.data[self.size : self.size + end - at] = p[at:end]
        self.size += end - at
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def put(self, text: bytes) -> cython.int:
        if cython.compiled:
            return self.copy(cython.cast(cython.p_uchar, PyBytes_AS_STRING(text)), 0, len(text))
        return self.copy(text, 0, len(text))

    @cython.cfunc
    @cython.exceptval(-1)
    def uint32(self, value: cython.uint) -> cython.int:
        """Append a native number."""
        if self.size + 4 > self.capacity:
            self.grow(4)
        if cython.compiled:
            memcpy(self.data + self.size, cython.address(value), 4)
        else:
            self.data[self.size : self.size + 4] = value.to_bytes(4, _NATIVE)
        self.size += 4
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def number(self, value: cython.longlong) -> cython.int:
        """Append a number's digits."""
        digits: cython.int = 1
        # As unsigned: the most negative number has no positive one.
        rest: cython.ulonglong
        probe: cython.ulonglong
        at: cython.Py_ssize_t
        if self.size + 24 > self.capacity:
            self.grow(24)
        if value < 0:
            self.data[self.size] = 45
            self.size += 1
            rest = cython.cast(cython.ulonglong, -(value + 1)) + 1
        else:
            rest = value
        probe = rest // 10
        while probe:
            digits += 1
            probe //= 10
        at = self.size + digits
        self.size = at
        while digits:
            at -= 1
            self.data[at] = 48 + cython.cast(cython.int, rest % 10)
            rest //= 10
            digits -= 1
        return 0

    @cython.cfunc
    def taken(self) -> bytes:
        """Return what was written, and begin anew."""
        size: cython.Py_ssize_t = self.size
        self.size = 0
        if cython.compiled:
            found: bytes = PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data), size)
            if self.capacity > 16777216:  # a value of many megabytes came by: do not keep its room for ever
                free(self.data)
                self.data = cython.NULL
                self.capacity = 0
            return found
        return bytes(self.data[:size])


@cython.cfunc
@cython.exceptval(-1)
def write_string(out: Output, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
    """Append what stands between the quotes of a JSON string."""
    start: cython.Py_ssize_t = at
    byte: cython.int
    d: cython.p_uchar
    n: cython.Py_ssize_t
    size: cython.int
    while at < end:
        byte = p[at]
        if byte >= 128:
            size = utf8_size(p, at, end)
            if size == 0:
                raise NotUtf8("a value is not UTF-8")
            at += size
            continue
        if byte >= 32 and byte != 34 and byte != 92:
            at += 1
            continue
        out.copy(p, start, at)
        if out.size + 6 > out.capacity:
            out.grow(6)
        d = out.data
        n = out.size
        d[n] = 92
        size = 2
        if byte == 34 or byte == 92:
            d[n + 1] = byte
        elif byte == 10:
            d[n + 1] = 110
        elif byte == 13:
            d[n + 1] = 114
        elif byte == 9:
            d[n + 1] = 116
        elif byte == 8:
            d[n + 1] = 98
        elif byte == 12:
            d[n + 1] = 102
        else:
            d[n + 1] = 117
            d[n + 2] = 48
            d[n + 3] = 48
            d[n + 4] = _hex[byte >> 4]
            d[n + 5] = _hex[byte & 15]
            size = 6
        out.size = n + size
        at += 1
        start = at
    return out.copy(p, start, end)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def utf8_size(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
    """Return the bytes of the character of several at `at`, 0 where it is none (RFC 3629)."""
    lead: cython.int = p[at]
    low: cython.int = 0x80
    high: cython.int = 0xBF
    size: cython.int
    index: cython.int
    if lead < 0xC2 or lead > 0xF4:
        return 0
    if lead < 0xE0:
        size = 2
    elif lead < 0xF0:
        size = 3
        if lead == 0xE0:
            low = 0xA0
        elif lead == 0xED:
            high = 0x9F
    else:
        size = 4
        if lead == 0xF0:
            low = 0x90
        elif lead == 0xF4:
            high = 0x8F
    if end - at < size or not low <= p[at + 1] <= high:
        return 0
    for index in range(2, size):
        if p[at + index] & 0xC0 != 0x80:
            return 0
    return size
