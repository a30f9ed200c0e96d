"""The elements of arrays' canonical text (`{a,"b c",NULL}`), quoted and without their quotes.

Text: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
This file runs as it is and is compiled by Cython where a compiler is there; arraytext_cy.pxd declares for other
compiled modules what is here. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs import loading

    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena

# What `step` has come to.
_REFUSED = cython.declare(cython.int, -1)
_END = cython.declare(cython.int, 0)
_ELEMENT = cython.declare(cython.int, 1)
_NULL = cython.declare(cython.int, 2)


@cython.final
@cython.cclass
class ArrayText:
    """Goes through the elements of an array of one dimension. That which it is at stands in `text` from `at` to `stop`.

    Refused is what PostgreSQL would have printed in another way: it would not come back as it was.
    """

    def __init__(self):
        self.bare = Arena()
        self.next = self.end = self.at = self.stop = 0
        self.delimiter = 44
        self.begun = False

    @cython.cfunc
    @cython.exceptval(check=False)
    def open(
        self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, delimiter: cython.int
    ) -> cython.bint:
        """Begin another array; return False for what is none."""
        if end - at < 2 or p[at] != 123 or p[end - 1] != 125:
            return False
        self.p, self.delimiter = p, delimiter
        self.next, self.end = at + 1, end - 1
        self.begun = False
        return True

    @cython.cfunc
    @cython.exceptval(-2, check=False)
    def step(self) -> cython.int:
        """Go to the next element; return 1 for one, 2 for NULL, 0 behind the last, -1 for what is refused."""
        p: cython.p_uchar = self.p
        at: cython.Py_ssize_t = self.next
        byte: cython.int
        if at == self.end:
            return _END
        if self.begun:
            if p[at] != self.delimiter or at + 1 == self.end:
                return _REFUSED
            at += 1
        self.begun = True
        if p[at] == 34:
            return self._quoted(at + 1)
        self.text, self.at = p, at
        while at < self.end and p[at] != self.delimiter:
            byte = p[at]
            if byte == 34 or byte == 92 or byte == 123 or byte == 125 or byte == 32 or 9 <= byte <= 13:
                return _REFUSED
            at += 1
        self.stop = self.next = at
        if at == self.at:
            return _REFUSED
        if _is_null(p, self.at, at):
            at = self.at
            return _NULL if p[at] == 78 and p[at + 1] == 85 and p[at + 2] == 76 and p[at + 3] == 76 else _REFUSED
        return _ELEMENT

    @cython.cfunc
    @cython.exceptval(-2, check=False)
    def _quoted(self, at: cython.Py_ssize_t) -> cython.int:
        """Take an element in quotes, which begins at `at`."""
        p: cython.p_uchar = self.p
        room: cython.p_uchar
        size: cython.Py_ssize_t = 0
        byte: cython.int
        needed: cython.bint = False
        if cython.compiled:
            self.bare.reserve(self.end - at)
            room = self.bare.data
        else:
            room = self.bare.plain
            room.extend(bytes(max(self.end - at - len(room), 0)))
        while at < self.end and p[at] != 34:
            byte = p[at]
            if byte == 92:
                at += 1
                if at >= self.end or (p[at] != 34 and p[at] != 92):
                    return _REFUSED
                byte = p[at]
                needed = True
            elif byte == 123 or byte == 125 or byte == self.delimiter or byte == 32 or 9 <= byte <= 13:
                needed = True
            room[size] = byte
            size += 1
            at += 1
        if at >= self.end:
            return _REFUSED
        self.text = room if cython.compiled else bytes(room[:size])
        self.at, self.stop = 0, size
        self.next = at + 1
        if not needed and size and not _is_null(room, 0, size):
            return _REFUSED
        return _ELEMENT


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_element(
    p: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    delimiter: cython.int,
    out: cython.p_uchar,
    to: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Write a cell as an element, in quotes where it could be taken for something else, at `out[to]`, where twice its
    bytes and two more must be; return where it ends there."""
    index: cython.Py_ssize_t
    byte: cython.int
    quoted: cython.bint = end == at or _is_null(p, at, end)
    for index in range(at, end):
        byte = p[index]
        if byte <= 125 and (
            byte == 34 or byte == 92 or byte == 123 or byte == 125 or byte == delimiter or byte == 32 or 9 <= byte <= 13
        ):
            quoted = True
            break
    if not quoted:
        if cython.compiled:
            memcpy(out + to, p + at, end - at)
        else:
            out[to : to + end - at] = p[at:end]
        return to + end - at
    out[to] = 34
    to += 1
    for index in range(at, end):
        byte = p[index]
        if byte == 34 or byte == 92:
            out[to] = 92
            to += 1
        out[to] = byte
        to += 1
    out[to] = 34
    return to + 1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _is_null(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
    """Return whether it is the word NULL in any case."""
    if end - at != 4:
        return False
    return p[at] & 0xDF == 78 and p[at + 1] & 0xDF == 85 and p[at + 2] & 0xDF == 76 and p[at + 3] & 0xDF == 76
