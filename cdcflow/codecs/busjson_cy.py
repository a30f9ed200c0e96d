"""Frames to JSON messages: one object a row change in the envelope that was planned, and one of its key.

What is constant (schemas, names, what is said of the source) comes as ready pieces of text; here the rows go between.
This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.busimages_cy import Images, Made
    from cython.cimports.cdcflow.codecs.busjsoncell_cy import JsonCell
    from cython.cimports.cdcflow.codecs.frames_cy import pointer
    from cython.cimports.cdcflow.codecs.jsonoutput_cy import Output, write_string
    from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
else:
    from cdcflow.codecs import loading

    pointer = loading.plain("cdcflow.codecs.frames_cy").pointer
    _images = loading.plain("cdcflow.codecs.busimages_cy")
    Images, Made = _images.Images, _images.Made
    JsonCell = loading.plain("cdcflow.codecs.busjsoncell_cy").JsonCell
    _output = loading.plain("cdcflow.codecs.jsonoutput_cy")
    Output, write_string = _output.Output, _output.write_string

from cdcflow.codecs.busimages_cy import KeyAbsent
from cdcflow.codecs.copytext_cy import ImageError
from cdcflow.codecs.jsonoutput_cy import NotUtf8

__all__ = ["CHANGE", "FLAT", "ImageError", "KeyAbsent", "Layout", "NotUtf8", "Rows"]

# What a message's value is.
CHANGE = 0  # {"before":..,"after":..,"op":..}, with pieces before, between and behind
FLAT = 1  # the new row alone; a delete is a tombstone

_FLAT = cython.declare(cython.int, 1)

# What a stamp's pieces ask for.
_NUMBERED_HEAD = cython.declare(cython.int, 1)  # the row's number between the two parts of the head
_NUMBERED_TRANSACTION = cython.declare(cython.int, 2)  # the row's numbers behind `source`
_COPIED = cython.declare(cython.int, 4)  # rows of a copy: op r
_KEYED_HEAD = cython.declare(cython.int, 8)  # the key between the two parts of the head, as text in a string

_CREATED = cython.declare(cython.int, 99)
_DELETED = cython.declare(cython.int, 100)
_READ = cython.declare(cython.int, 114)

_NULL = cython.declare(cython.int, -1)
_ABSENT = cython.declare(cython.int, -2)


class Layout:
    """What stands around the rows of one writer, as ready pieces of JSON.

    form: CHANGE or FLAT. value_open, value_close, key_open, key_close: around each value and key (Connect's schemas).
    tombstones: a delete has one behind it. deletes, updates: whether such rows are written at all.
    """

    __slots__ = (
        "deletes",
        "form",
        "key_close",
        "key_open",
        "tombstones",
        "updates",
        "value_close",
        "value_open",
    )

    def __init__(
        self,
        form: int,
        value_open: bytes = b"",
        value_close: bytes = b"",
        key_open: bytes = b"",
        key_close: bytes = b"",
        tombstones: bool = True,
        deletes: bool = True,
        updates: bool = True,
    ) -> None:
        self.form = form
        self.value_open, self.value_close = value_open, value_close
        self.key_open, self.key_close = key_open, key_close
        self.tombstones, self.deletes, self.updates = tombstones, deletes, updates


@cython.final
@cython.cclass
class Rows:
    """Writes the rows of frames of one table in one shape.

    After `write`, `unsaid` holds (message, column, in the old image, cell) for each cell that JSON cannot say, and
    `absent` (message, column) for each column of a new image that was not logged.
    """

    images: Images
    made: Made
    cells: list
    form: cython.int
    tombstones: cython.bint
    value_open: bytes
    value_close: bytes
    key_open: bytes
    key_close: bytes
    out: Output
    key_out: Output
    unsaid: list
    absent: list
    tail: bytes

    def __init__(self, cells: list, places: tuple, key: tuple, width: int, layout: Layout):
        """Args:
        cells: a `JsonCell` for each column that goes out. places: where each is in the frame. key: places of the
            key's columns among them.
        """
        if len(cells) != len(places):
            raise ValueError("columns and places differ")
        for cell in cells:
            if not isinstance(cell, JsonCell):
                raise TypeError("a cell's writer is none")
        self.images = Images(places, key, width, layout.updates, layout.deletes)
        self.made = Made(0, False, False)
        self.cells = list(cells)
        self.form, self.tombstones = layout.form, layout.tombstones
        self.value_open, self.value_close = layout.value_open, layout.value_close
        self.key_open, self.key_close = layout.key_open, layout.key_close
        self.out, self.key_out = Output(), Output()
        self.unsaid, self.absent = [], []
        self.tail = b""

    def problems(self) -> tuple:
        """Return `unsaid` and `absent` of the last `write`."""
        return self.unsaid, self.absent

    def write(self, frame: tuple, numbers: tuple, stamps: list, tail: bytes) -> tuple:
        """Return (starts, keys, values, hashes, ops) as `bus.formats.Messages` has them.

        Args:
            frame: ops, after, after_sizes, before, before_sizes of `model.frame.RowBatch`.
            numbers: of_row, order, table_order of `bus.formats.Stamps`.
            stamps: for each of them (head, second head, source, flags): pieces of JSON around the rows, and bits that
                say which numbers go between.
            tail: what ends each change, behind its op.

        Raises:
            ImageError: the frame is not what it says. KeyAbsent: a key is not in its images.
            NotUtf8: a value is no text.
        """
        rows: Images = self.images
        op: cython.int
        flags: cython.int
        rows.open(frame, numbers, stamps, 4)
        self.made = Made(rows.rows, self.tombstones, self.form == _FLAT)
        self.unsaid, self.absent = [], []
        self.tail = tail
        while rows.step():
            self.made.begin()
            if rows.single:
                op = rows.single
                flags = rows.stamp[3]
                if op == _CREATED and flags & _COPIED:
                    op = _READ
                self.message(op, self.key_of(True), True, rows.has_old)
            if rows.gone:
                key = self.key_of(False)
                if self.form != _FLAT:
                    self.message(_DELETED, key, False, True)
                self.made.end_delete(key)
            if rows.again:
                self.message(_CREATED, self.key_of(True), True, False)
        self.made.begin()
        return self.made.taken()

    @cython.cfunc
    @cython.exceptval(-1)
    def message(self, op: cython.int, key: object, new: cython.bint, old: cython.bint) -> cython.int:
        """Write one message with the new image, the old one, or both."""
        return self.made.add(key, self.value(op, key, new, old), op)

    @cython.cfunc
    def key_of(self, new: cython.bint) -> object:
        """Return the key of a message with the new image or without it, None for a table without one."""
        out: Output = self.key_out
        rows: Images = self.images
        index: cython.int
        size: cython.int
        cell: JsonCell
        if not rows.keys:
            return None
        out.size = 0
        out.put(self.key_open)
        out.put(b"{")
        for index in range(rows.keys):
            size = rows.key_cell(index, new)
            cell = self.cells[rows.key[index]]
            if index:
                out.put(b",")
            out.put(cell.name)
            if size == _NULL:
                out.put(b"null")
            elif not cell.write(out, rows.base, rows.at, rows.at + size):
                # Two keys that cannot be said must not become one: here the text itself stands.
                out.put(b'"')
                write_string(out, rows.base, rows.at, rows.at + size)
                out.put(b'"')
        out.put(b"}")
        out.put(self.key_close)
        return out.taken()

    @cython.cfunc
    def value(self, op: cython.int, key: object, new: cython.bint, old: cython.bint) -> bytes:
        """Return a message's value."""
        out: Output = self.out
        rows: Images = self.images
        stamp: tuple = rows.stamp
        flags: cython.int = stamp[3]
        mark: bytes
        out.size = 0
        out.put(self.value_open)
        if self.form == _FLAT:
            self.image(False)
            out.put(self.value_close)
            return out.taken()
        out.put(stamp[0])
        if flags & _NUMBERED_HEAD:
            if flags & _KEYED_HEAD and key is not None:
                mark = key
                write_string(out, pointer(mark), len(self.key_open), len(mark) - len(self.key_close))
            else:
                out.number(rows.order)
            if op == _DELETED:
                out.put(b"d")  # an update that changes the key makes two events of one row
            out.put(stamp[1])
        out.put(b'{"before":')
        if old:
            self.image(True)
        else:
            out.put(b"null")
        out.put(b',"after":')
        if new:
            self.image(False)
        else:
            out.put(b"null")
        out.put(stamp[2])
        if flags & _NUMBERED_TRANSACTION:
            out.number(rows.order)
            out.put(b',"data_collection_order":')
            out.number(rows.table_order)
            out.put(b"}")
        out.put(b',"op":"')
        if out.size + 1 > out.capacity:
            out.grow(1)
        out.data[out.size] = op
        out.size += 1
        out.put(self.tail)
        out.put(self.value_close)
        return out.taken()

    @cython.cfunc
    @cython.exceptval(-1)
    def image(self, old: cython.bint) -> cython.int:
        """Append a row. Of an old one, columns that are not logged are left out."""
        out: Output = self.out
        rows: Images = self.images
        p: cython.p_uchar = rows.old if old else rows.new
        ats: cython.p_longlong = rows.old_at if old else rows.new_at
        sizes: cython.p_int = rows.old_size if old else rows.new_size
        at: cython.Py_ssize_t
        index: cython.int
        place: cython.int
        size: cython.int
        began: cython.bint = False
        cell: JsonCell
        out.put(b"{")
        for index in range(rows.count):
            place = rows.places[index]
            size = sizes[place]
            if size == _ABSENT and old:
                continue
            if cython.compiled:
                cell = cython.cast(JsonCell, self.cells[index])
            else:
                cell = self.cells[index]
            if began:
                out.put(b",")
            began = True
            out.put(cell.name)
            if size == _NULL:
                out.put(b"null")
            elif size == _ABSENT:
                out.put(cell.unavailable)
                self.absent.append((self.made.count, index))
            else:
                at = ats[place]
                if not cell.write(out, p, at, at + size):
                    out.put(b"null")
                    self.unsaid.append((self.made.count, index, old, _piece(p, at, size)))
        out.put(b"}")
        return 0


@cython.cfunc
def _piece(p: cython.p_uchar, at: cython.Py_ssize_t, size: cython.Py_ssize_t) -> bytes:
    if cython.compiled:
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, p + at), size)
    return p[at : at + size]
