"""Frames to binary messages (Avro, Protobuf): one record a row change in the envelope that was planned, one of its key.

What is constant for a frame or for a transaction comes as ready bytes; here the rows go between.
This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.busbinary_cy import BinaryCell, put, put_length, put_varint
    from cython.cimports.cdcflow.codecs.busimages_cy import Images, Made
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
else:
    from cdcflow.codecs import loading

    _cells = loading.plain("cdcflow.codecs.busbinary_cy")
    BinaryCell, put, put_length, put_varint = _cells.BinaryCell, _cells.put, _cells.put_length, _cells.put_varint
    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena
    _images = loading.plain("cdcflow.codecs.busimages_cy")
    Images, Made = _images.Images, _images.Made

from cdcflow.codecs.busimages_cy import KeyAbsent
from cdcflow.codecs.copytext_cy import ImageError

__all__ = ["CHANGE", "FLAT", "ImageError", "KeyAbsent", "KeyUnsayable", "Layout", "Records"]

# What a message's value is.
CHANGE = 0  # the envelope with the images before and after
FLAT = 1  # the new row alone; a delete is a tombstone
_FLAT = cython.declare(cython.int, 1)

_CREATED = cython.declare(cython.int, 99)
_DELETED = cython.declare(cython.int, 100)
_READ = cython.declare(cython.int, 114)
_NULL = cython.declare(cython.int, -1)
_ABSENT = cython.declare(cython.int, -2)


class KeyUnsayable(ImageError):
    """A row's key holds a value that the format has no form for; two such keys must not become one. `column`: its place
    among the columns that go out."""

    def __init__(self, column: int) -> None:
        super().__init__("a key holds a value that the format cannot say")
        self.column = column


class Layout:
    """What stands around the rows of one writer, as ready bytes.

    form: CHANGE or FLAT. tagged: Protobuf. head, key_head: before each value and key (the schema's number). before,
    after: announce the images; nothing: stands for one that is not there. order, table_order: before the row's numbers
    in `transaction`, which is before that where `tagged` with its length. op: before the operation's letter.
    tombstones: a delete has one behind it. deletes, updates: whether such rows are written at all.
    """

    __slots__ = (
        "after",
        "before",
        "deletes",
        "form",
        "head",
        "key_head",
        "nothing",
        "op",
        "order",
        "table_order",
        "tagged",
        "tombstones",
        "transaction",
        "updates",
    )

    def __init__(
        self,
        form: int,
        tagged: bool,
        head: bytes = b"",
        key_head: bytes = b"",
        before: bytes = b"",
        after: bytes = b"",
        nothing: bytes = b"",
        transaction: bytes = b"",
        order: bytes = b"",
        table_order: bytes = b"",
        op: bytes = b"",
        tombstones: bool = True,
        deletes: bool = True,
        updates: bool = True,
    ) -> None:
        self.form, self.tagged = form, tagged
        self.head, self.key_head = head, key_head
        self.before, self.after, self.nothing = before, after, nothing
        self.transaction, self.order, self.table_order, self.op = transaction, order, table_order, op
        self.tombstones, self.deletes, self.updates = tombstones, deletes, updates


@cython.final
@cython.cclass
class Records:
    """Writes the rows of frames of one table in one shape.

    After `write`, `problems` holds what the format cannot say and what was not logged.
    """

    images: Images
    made: Made
    cells: list
    key_cells: list
    form: cython.int
    tagged: cython.bint
    tombstones: cython.bint
    head: bytes
    key_head: bytes
    before: bytes
    after: bytes
    nothing: bytes
    transaction: bytes
    order: bytes
    table_order: bytes
    op: bytes
    out: Arena
    key_out: Arena
    image_out: Arena
    inner: Arena
    body: Arena
    unsaid: list
    absent: list
    tail: bytes

    def __init__(self, cells: list, key_cells: list, places: tuple, key: tuple, width: int, layout: Layout):
        """Args:
        cells: a `BinaryCell` for each column that goes out. places: where each is in the frame. key: places of the
            key's columns among them. key_cells: a `BinaryCell` for each of those.
        """
        if len(cells) != len(places) or len(key_cells) != len(key):
            raise ValueError("columns and places differ")
        self.images = Images(places, key, width, layout.updates, layout.deletes)
        self.made = Made(0, False, False)
        self.cells, self.key_cells = list(cells), list(key_cells)
        for cell in self.cells + self.key_cells:
            if not isinstance(cell, BinaryCell):
                raise TypeError("a cell's writer is none")
        self.form, self.tagged, self.tombstones = layout.form, layout.tagged, layout.tombstones
        self.head, self.key_head = layout.head, layout.key_head
        self.before, self.after, self.nothing = layout.before, layout.after, layout.nothing
        self.transaction, self.order, self.table_order = layout.transaction, layout.order, layout.table_order
        self.op = layout.op
        self.out, self.key_out, self.image_out = Arena(), Arena(), Arena()
        self.inner, self.body = Arena(), Arena()
        self.unsaid, self.absent = [], []
        self.tail = b""

    def problems(self) -> tuple:
        """Return of the last `write` (message, column, in the old image, cell) for each cell that the format cannot
        say, and (message, column) for each column of a new image that was not logged."""
        return self.unsaid, self.absent

    def write(self, frame: tuple, numbers: tuple, stamps: list, tail: bytes) -> tuple:
        """Return (starts, keys, values, hashes, ops) as `bus.formats.Messages` has them.

        Args:
            frame: ops, after, after_sizes, before, before_sizes of `model.frame.RowBatch`.
            numbers: of_row, order, table_order of `bus.formats.Stamps`.
            stamps: for each of them (source, transaction, numbered, copied, lead): ready bytes; whether the row's
                numbers follow; whether rows are a copy's; None, or what stands before the envelope: the bytes before
                a text's length, the text, which the row's number ends, and the bytes behind.
            tail: what ends each change, behind its op.

        Raises:
            ImageError: the frame is not what it says. KeyAbsent, KeyUnsayable: a key cannot be written.
        """
        rows: Images = self.images
        op: cython.int
        rows.open(frame, numbers, stamps, 5)
        self.made = Made(rows.rows, self.tombstones, self.form == _FLAT)
        self.unsaid, self.absent = [], []
        self.tail = tail
        while rows.step():
            self.made.begin()
            if rows.single:
                op = rows.single
                if op == _CREATED and rows.stamp[3]:
                    op = _READ
                self.message(op, self.key_of(True), True, rows.whole)
            if rows.gone:
                key = self.key_of(False)
                if self.form != _FLAT:
                    self.message(_DELETED, key, False, rows.whole)
                self.made.end_delete(key)
            if rows.again:
                self.message(_CREATED, self.key_of(True), True, False)
        self.made.begin()
        return self.made.taken()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def message(self, op: cython.int, key: object, new: cython.bint, old: cython.bint) -> cython.int:
        """Write one message with the new image, the old one, or both."""
        return self.made.add(key, self.value(op, key, new, old), op)

    @cython.cfunc
    def key_of(self, new: cython.bint) -> object:
        """Return the key of a message with the new image or without it, None for a table without one."""
        rows: Images = self.images
        index: cython.int
        size: cython.int
        cell: BinaryCell
        if not rows.keys:
            return None
        self.key_out.cut(0)
        put(self.key_out, self.key_head)
        for index in range(rows.keys):
            size = rows.key_cell(index, new)
            cell = self.key_cells[index]
            if size == _NULL:
                put(self.key_out, cell.nothing)
            elif not cell.write(self.key_out, rows.base, rows.at, rows.at + size):
                raise KeyUnsayable(rows.key[index])
        return self.key_out.take(self.key_out.size)

    @cython.cfunc
    def value(self, op: cython.int, key, new: cython.bint, old: cython.bint) -> bytes:
        """Return a message's value. An old image that is not whole is not told of."""
        out: Arena = self.out
        stamp: tuple = self.images.stamp
        text: bytes
        out.cut(0)
        put(out, self.head)
        if stamp[4] is not None:
            before, text, behind = stamp[4]
            # An update that changes the key makes two events of one row.
            # In a copy rows have no numbers that last: there the key tells one from another.
            text += key.hex().encode() if stamp[3] and key is not None else b"%d" % self.images.order
            text += b"d" if op == _DELETED else b""
            put(out, before)
            put_length(out, len(text), self.tagged)
            put(out, text)
            put(out, behind)
            if self.tagged:
                self.body.cut(0)
                self.change(self.body, op, new, old)
                put_length(out, self.body.size, True)
                _append(out, self.body)
                return out.take(out.size)
        if self.form == _FLAT:
            self.image(out, False)
        else:
            self.change(out, op, new, old)
        return out.take(out.size)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def change(self, out: Arena, op: cython.int, new: cython.bint, old: cython.bint) -> cython.int:
        """Append the envelope."""
        inner: Arena = self.inner
        rows: Images = self.images
        stamp: tuple = rows.stamp
        if old:
            put(out, self.before)
            self.framed(out, True)
        else:
            put(out, self.nothing)
        if new:
            put(out, self.after)
            self.framed(out, False)
        else:
            put(out, self.nothing)
        put(out, stamp[0])
        if stamp[2]:
            inner.cut(0)
            put(inner, stamp[1])
            put(inner, self.order)
            put_varint(inner, cython.cast(cython.ulonglong, rows.order) << (0 if self.tagged else 1))
            put(inner, self.table_order)
            put_varint(inner, cython.cast(cython.ulonglong, rows.table_order) << (0 if self.tagged else 1))
            put(out, self.transaction)
            if self.tagged:
                put_length(out, inner.size, True)
            _append(out, inner)
        else:
            put(out, stamp[1])
        put(out, self.op)
        out.reserve(1)
        out.byte(op)
        put(out, self.tail)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def framed(self, out: Arena, old: cython.bint) -> cython.int:
        """Append a row, with its length before it where the format wants that."""
        if not self.tagged:
            return self.image(out, old)
        self.image_out.cut(0)
        self.image(self.image_out, old)
        put_length(out, self.image_out.size, True)
        _append(out, self.image_out)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def image(self, out: Arena, old: cython.bint) -> cython.int:
        """Append a row."""
        rows: Images = self.images
        p: cython.p_uchar = rows.old if old else rows.new
        ats: cython.p_longlong = rows.old_at if old else rows.new_at
        sizes: cython.p_int = rows.old_size if old else rows.new_size
        index: cython.int
        place: cython.int
        size: cython.int
        at: cython.Py_ssize_t
        cell: BinaryCell
        for index in range(rows.count):
            place = rows.places[index]
            size = sizes[place]
            if cython.compiled:
                cell = cython.cast(BinaryCell, self.cells[index])
            else:
                cell = self.cells[index]
            if size == _NULL:
                put(out, cell.nothing)
            elif size == _ABSENT:
                put(out, cell.unavailable)
                self.absent.append((self.made.count, index))
            else:
                at = ats[place]
                if not cell.write(out, p, at, at + size):
                    self.unsaid.append((self.made.count, index, old, p[at : at + size]))
        return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _append(out: Arena, inner: Arena) -> cython.int:
    out.reserve(inner.size)
    if cython.compiled:
        out.copy(inner.data, 0, inner.size)
    else:
        out.copy(inner.plain, 0, inner.size)
    return 0
