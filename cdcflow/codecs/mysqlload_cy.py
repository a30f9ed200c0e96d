"""Row images and COPY text to the blocks of rows in which they reach MySQL.

This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

import sys
from array import array

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

from cdcflow.codecs.mysqlblocks_cy import BLOCK, LOAD, SQL
from cdcflow.codecs.mysqlliterals import ImageError, unescaped

if cython.compiled:
    from cython.cimports.cdcflow.codecs.mysqlblocks_cy import Blocks
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs import loading

    Blocks = loading.plain("cdcflow.codecs.mysqlblocks_cy").Blocks

__all__ = ["LOAD", "SQL", "Encoder", "ImageError"]

_ORDER = sys.byteorder


@cython.final
@cython.cclass
class Encoder:
    """Writes rows of one shape in one of the two forms.

    `kinds`: one byte for each written column. Rows of LOAD text are lines; rows of SQL are `(1,'a')`, separated by
    commas within a block.
    """

    blocks: Blocks
    parted: cython.bint  # a line is open, of which more is to come
    column: cython.int  # its next field
    inside: cython.bint  # that field has been begun
    held: bytearray  # what of a field (of a line, for SQL) came and needs the rest

    def __init__(self, kinds: bytes, form: cython.int):
        self.blocks = Blocks(kinds, form)
        self.parted = False
        self.column = 0
        self.inside = False
        self.held = bytearray()

    def images(self, after: bytes, merged: bytes, references: bytes, width: int, columns: tuple, write, most=BLOCK):
        """Encode row images and pass them on in blocks of whole rows; return the number of rows.

        Args:
            references: native int64 a row: an offset into `after`, or, where negative, -1 - offset into `merged`.
            width: cells in each image.
            columns: which cells go out, by position, in this order.
            write: called with each block and the number of its rows.
            most: a block is handed over before it has more bytes than this, unless one row alone has.

        Raises:
            ImageError: an image is not what it says, or an asked cell is absent.
        """
        blocks: Blocks = self.blocks
        chosen: cython.int = len(columns)
        cells: cython.int = width
        row: cython.Py_ssize_t
        rows: cython.Py_ssize_t = len(references) // 8
        at: cython.Py_ssize_t
        limit: cython.Py_ssize_t
        start: cython.Py_ssize_t
        count: cython.Py_ssize_t = 0
        index: cython.int
        length: cython.int = 0
        reference: cython.longlong
        p: cython.p_uchar
        if len(references) % 8 or chosen != len(blocks.kinds):
            raise ImageError("the references end inside one, or the columns are others")
        places: bytes = array("i", columns).tobytes()
        if cython.compiled:
            # Where each cell starts, and how long it is.
            starts: bytes = bytes(8 * (cells + 1))
            lengths: bytes = bytes(4 * (cells + 1))
            s: cython.pointer[cython.longlong] = cython.cast(cython.pointer[cython.longlong], PyBytes_AS_STRING(starts))
            n: cython.pointer[cython.int] = cython.cast(cython.pointer[cython.int], PyBytes_AS_STRING(lengths))
            r: cython.pointer[cython.longlong] = cython.cast(
                cython.pointer[cython.longlong], PyBytes_AS_STRING(references)
            )
            w: cython.pointer[cython.int] = cython.cast(cython.pointer[cython.int], PyBytes_AS_STRING(places))
        else:
            s, n, r, w = [0] * cells, [0] * cells, array("q", references), columns
        for row in range(rows):
            reference = r[row]
            if reference >= 0:
                p = after if not cython.compiled else cython.cast(cython.p_uchar, PyBytes_AS_STRING(after))
                at = reference
                limit = len(after)
            else:
                p = merged if not cython.compiled else cython.cast(cython.p_uchar, PyBytes_AS_STRING(merged))
                at = -1 - reference
                limit = len(merged)
            for index in range(cells):
                if at > limit - 4 or at < 0:
                    raise ImageError("a row image ends before its cells")
                length = _int32(p, at)
                at += 4
                s[index] = at
                n[index] = length
                if length > 0:
                    if length > limit - at:
                        raise ImageError("a row image ends inside a cell")
                    at += length
                elif length < -2:
                    if -3 - cython.cast(cython.Py_ssize_t, length) > limit - at:
                        raise ImageError("a row image ends inside a cell")
                    at += -3 - cython.cast(cython.Py_ssize_t, length)
            start = blocks.begin(count)
            for index in range(chosen):
                at = s[w[index]]
                length = n[w[index]]
                if length >= 0:
                    blocks.cell(index, p, at, length, write)
                elif length == -1:
                    blocks.null(index)
                elif length < -2:
                    blocks.raw(index, p, at, at - 3 - length, write)
                else:
                    raise ImageError("an absent cell was asked for")
            blocks.end()
            count = blocks.flush(start, count + 1, write, most)
        if count:
            blocks.hand_over(count, write)
        return rows

    def lines(self, block: bytes, write, most=BLOCK):
        """Encode lines of COPY text; return how many ended.

        Of a large row a block may hold a part: up to somewhere inside a value, but not inside an escape or between the
        two hex digits of a byte. `ended` says whether one is open.

        Raises:
            ImageError: as `images`.
        """
        blocks: Blocks = self.blocks
        chosen: cython.int = len(blocks.kinds)
        end: cython.Py_ssize_t = len(block)
        at: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t
        count: cython.Py_ssize_t = 0
        rows: cython.Py_ssize_t = 0
        index: cython.int
        stop: cython.Py_ssize_t
        escapes: cython.int
        p: cython.p_uchar
        p = block if not cython.compiled else cython.cast(cython.p_uchar, PyBytes_AS_STRING(block))
        if self.parted or (end and block[end - 1] != 10):
            return self._part(block, write, most)
        while at < end:
            start = blocks.begin(count)
            for index in range(chosen):
                stop = at
                escapes = 0
                while p[stop] != 9 and p[stop] != 10:
                    if p[stop] == 92:
                        escapes = 1
                    stop += 1
                if (p[stop] == 10) != (index == chosen - 1):
                    raise ImageError("a line of COPY text has another number of fields")
                if not escapes:
                    blocks.cell(index, p, at, stop - at, None)
                elif stop - at == 2 and p[at + 1] == 78:
                    blocks.null(index)
                else:
                    blocks.value(index, unescaped(block[at:stop]))
                at = stop + 1
            if not chosen:
                at = block.index(b"\n", at) + 1
            blocks.end()
            rows += 1
            count = blocks.flush(start, count + 1, write, most)
        if count:
            blocks.hand_over(count, write)
        return rows

    def ended(self) -> bool:
        """Return whether the last line that `lines` was given is whole."""
        return not self.parted

    @cython.cfunc
    def _part(self, block: bytes, write: object, most: cython.Py_ssize_t) -> object:
        """Encode a block that begins or ends inside a line. Statements need whole rows; LOAD DATA text does not."""
        blocks: Blocks = self.blocks
        at: cython.Py_ssize_t = 0
        end: cython.Py_ssize_t = len(block)
        stop: cython.Py_ssize_t
        rows: cython.Py_ssize_t = 0
        count: cython.Py_ssize_t = 0
        chosen: cython.int = len(blocks.kinds)
        kind: cython.int
        whole: cython.bint
        if blocks.form:
            stop = block.rfind(b"\n") + 1
            if not stop:
                self.held += block
                self.parted = True
                return 0
            lines = bytes(self.held) + block[:stop]
            self.held = bytearray(block[stop:])
            self.parted = False
            found = self.lines(lines, write, most)
            self.parted = stop < end
            return found
        while at < end:
            stop = _field_end(block, at)
            whole = stop < end
            if self.column >= chosen:
                raise ImageError("a line of COPY text has another number of fields")
            kind = blocks.kinds[self.column]
            if self.inside:
                blocks.copied(block, at, stop, kind)
            elif not whole and not self.held and kind in (0, 3) and stop - at > 3:
                blocks.separate(self.column)
                if kind == 3 and block[at : at + 3] != b"\\\\x":
                    raise ImageError("a cell holds no bytes")
                self.inside = True
                blocks.copied(block, at + (3 if kind == 3 else 0), stop, kind)
            elif not whole:
                self.held += block[at:stop]
            else:
                field = bytes(self.held) + block[at:stop]
                self.held.clear()
                if field == b"\\N":
                    blocks.null(self.column)
                else:
                    blocks.value(self.column, unescaped(field))
            at = stop
            self.parted = True
            if whole:
                at += 1
                self.inside = False
                self.column += 1
                if (block[stop] == 10) != (self.column == chosen):
                    raise ImageError("a line of COPY text has another number of fields")
                if self.column == chosen:
                    blocks.end()
                    self.column = 0
                    self.parted = False
                    rows += 1
                    count += 1
            if blocks.size >= most:
                blocks.hand_over(count, write)
                count = 0
        if blocks.size:
            blocks.hand_over(count, write)
        return rows


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _int32(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    value: cython.int = 0
    if cython.compiled:
        memcpy(cython.address(value), p + at, 4)
        return value
    return int.from_bytes(p[at : at + 4], _ORDER, signed=True)


def _field_end(block: bytes, at: int) -> int:
    """Return where the next tab or newline is, or the block ends."""
    newline = block.find(b"\n", at)
    if newline < 0:
        newline = len(block)
    tab = block.find(b"\t", at, newline)
    return newline if tab < 0 else tab
