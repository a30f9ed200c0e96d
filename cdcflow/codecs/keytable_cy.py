"""The keys of a frame: a hash table from key cells to the entry that says what became of the row.

This file runs as it is and is compiled by Cython where a compiler is there; keytable_cy.pxd declares for other
compiled modules what the table holds. It does no I/O.
"""

from __future__ import annotations

import sys

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.libc.stdlib import calloc, free, malloc
    from cython.cimports.libc.string import memcmp, memcpy

_ORDER = sys.byteorder

# No image: what a new entry holds.
_NOTHING = cython.declare(cython.longlong, -(1 << 62))


class ImageError(ValueError):
    """A row image ends before its cells do."""


@cython.final
@cython.cclass
class KeyTable:
    """A hash table from key bytes to an entry number; what was appended last is what is looked for."""

    def __cinit__(self, *_args):
        if cython.compiled:
            self.buffer = cython.NULL
            self.starts = cython.NULL
            self.sizes = cython.NULL
            self.flags = cython.NULL
            self.images = cython.NULL
            self.table = cython.NULL

    def __init__(self, most: cython.Py_ssize_t, most_bytes: cython.Py_ssize_t):
        """`most`: entries at the most; `most_bytes`: bytes of all keys at the most (touched as they are used)."""
        self.size = 0
        self.count = 0
        self.plain = bytearray()
        self.plain_entries: list = []
        self.plain_table: dict = {}
        if cython.compiled:
            slots: cython.size_t = 16
            while slots < cython.cast(cython.size_t, most) * 2:
                slots *= 2
            self.mask = slots - 1
            self.buffer = cython.cast(cython.p_uchar, malloc(most_bytes + 16))
            self.starts = cython.cast(cython.pointer[cython.longlong], malloc((most + 1) * 8))
            self.sizes = cython.cast(cython.pointer[cython.int], malloc((most + 1) * 4))
            self.flags = cython.cast(cython.p_uchar, malloc(most + 1))
            self.images = cython.cast(cython.pointer[cython.longlong], malloc((most + 1) * 8))
            self.table = cython.cast(cython.pointer[cython.int], calloc(slots, 4))
            if (
                self.buffer == cython.NULL
                or self.starts == cython.NULL
                or self.sizes == cython.NULL
                or self.flags == cython.NULL
                or self.images == cython.NULL
                or self.table == cython.NULL
            ):
                raise MemoryError

    def __dealloc__(self):
        if cython.compiled:
            free(self.buffer)
            free(self.starts)
            free(self.sizes)
            free(self.flags)
            free(self.images)
            free(self.table)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def append(self, p: cython.p_uchar, start: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.void:
        if cython.compiled:
            memcpy(self.buffer + self.size, p + start, count)
        else:
            self.plain += p[start : start + count]
        self.size += count

    @cython.cfunc
    @cython.exceptval(-2)
    def entry(
        self,
        p: cython.p_uchar,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        key: list,
        flags_if_new: cython.int,
    ) -> cython.Py_ssize_t:
        """Return the entry of the key in the image from `at` to `end`, adding one where there is none.

        -1 where a key cell is NULL or absent. `key` says of each cell, up to the last one of the key, whether it
        belongs to it.
        """
        length: cython.int
        size: cython.Py_ssize_t
        index: cython.Py_ssize_t
        start: cython.Py_ssize_t = self.size
        whole: cython.int = 1
        for index in range(len(key)):
            if at + 4 > end:
                raise ImageError("a row image ends before its key")
            length = _int32(p, at)
            size = 4 + (length if length > 0 else -3 - cython.cast(cython.Py_ssize_t, length) if length < -2 else 0)
            if at + size > end:
                raise ImageError("a row image ends inside its key")
            if key[index]:
                self.append(p, at, size)
                if length < 0:
                    whole = 0
            at += size
        return self.find(start, flags_if_new) if whole else -1

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def find(self, start: cython.Py_ssize_t, flags_if_new: cython.int) -> cython.Py_ssize_t:
        """Return the entry of the key that was appended from `start` on, adding one where there is none."""
        entry: cython.Py_ssize_t
        size: cython.int = self.size - start
        if cython.compiled:
            at: cython.size_t
            known: cython.int
            code: cython.ulonglong = _hash(self.buffer + start, size)
            at = code & self.mask
            while True:
                known = self.table[at]
                if known == 0:
                    break
                entry = known - 1
                if (
                    self.sizes[entry] == size
                    and memcmp(self.buffer + self.starts[entry], self.buffer + start, size) == 0
                ):
                    self.size = start
                    return entry
                at = (at + 1) & self.mask
            entry = self.count
            self.table[at] = cython.cast(cython.int, entry + 1)
            self.starts[entry] = start
            self.sizes[entry] = size
            self.flags[entry] = cython.cast(cython.uchar, flags_if_new)
            self.images[entry] = _NOTHING
            self.count += 1
            return entry
        key = bytes(self.plain[start:])
        found = self.plain_table.get(key)
        if found is not None:
            del self.plain[start:]
            self.size = start
            return found
        entry = self.count
        self.plain_table[key] = entry
        self.plain_entries.append([start, size, flags_if_new, _NOTHING])
        self.count += 1
        return entry


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _hash(p: cython.p_uchar, size: cython.Py_ssize_t) -> cython.ulonglong:
    """FNV-1a over the bytes, its high bits folded in: keys are short. Compiled only."""
    code: cython.ulonglong = 2166136261
    prime: cython.ulonglong = 1099511628211
    index: cython.Py_ssize_t
    for index in range(size):
        code = (code ^ p[index]) * prime
    return code ^ (code >> 29)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _int32(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    value: cython.int = 0
    if cython.compiled:
        memcpy(cython.address(value), p + at, 4)
        return value
    return int.from_bytes(p[at : at + 4], _ORDER, signed=True)
