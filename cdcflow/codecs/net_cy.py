"""Netting: of all changes to one key in a batch only the outcome is written.

This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

import sys
from array import array

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.keytable_cy import KeyTable
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, malloc
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs.keytable_cy import KeyTable

from cdcflow.codecs.keytable_cy import ImageError

__all__ = ["ImageError", "Netted", "net"]

_ORDER = sys.byteorder

_ABSENT = (-2).to_bytes(4, _ORDER, signed=True)

# What an entry of the key table is, bit by bit.
_EXISTED = cython.declare(cython.int, 1)  # the row was there before the batch
_ALIVE = cython.declare(cython.int, 2)  # the row is there now
_PARTIAL = cython.declare(cython.int, 4)  # its image has absent cells
_GONE = cython.declare(cython.int, 8)  # of a replayed frame: it was deleted, so what updates it finds nothing

# No image. Any other negative reference is -1 - the number of a merged image.
_NOTHING = cython.declare(cython.longlong, -(1 << 62))


class Netted:
    """The outcome of a frame's changes, one entry a key.

    merged: row images that were put together from several (a later partial one over an earlier one).
    inserted, updated: native int64 references to row images, in order of the key's first change: an offset
        into the frame's `after`, or, where negative, -1 - offset into `merged`.
    updated_masks: for each updated row the number of its mask in `masks`.
    masks: distinct sets of absent columns, as bytes, one byte a column (1 absent); number 0 is "none absent".
    deleted: native int64 pairs (start, size) into `keys`: the key cells one behind the other.
    exact: the changes must be applied one by one: a key holds NULL, or a row changed its key and keeps a
        value that the log does not have, or changed it in a replayed frame.
    """

    __slots__ = ("deleted", "exact", "inserted", "keys", "masks", "merged", "updated", "updated_masks")

    def __init__(self, exact, merged, inserted, updated, updated_masks, masks, deleted, keys):
        self.exact = exact
        self.merged = merged
        self.inserted = inserted
        self.updated = updated
        self.updated_masks = updated_masks
        self.masks = masks
        self.deleted = deleted
        self.keys = keys


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _flag(keys: KeyTable, entry: cython.Py_ssize_t) -> cython.int:
    if cython.compiled:
        return keys.flags[entry]
    return keys.plain_entries[entry][2]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _image_of(keys: KeyTable, entry: cython.Py_ssize_t) -> cython.longlong:
    if cython.compiled:
        return keys.images[entry]
    return keys.plain_entries[entry][3]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _set(keys: KeyTable, entry: cython.Py_ssize_t, flags: cython.int, image: cython.longlong) -> cython.void:
    if cython.compiled:
        keys.flags[entry] = cython.cast(cython.uchar, flags)
        keys.images[entry] = image
    else:
        keys.plain_entries[entry][2] = flags
        keys.plain_entries[entry][3] = image


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _int32(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    value: cython.int = 0
    if cython.compiled:
        memcpy(cython.address(value), p + at, 4)
        return value
    return int.from_bytes(p[at : at + 4], _ORDER, signed=True)


@cython.cfunc
@cython.exceptval(-1)
def _absent(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, width: cython.int) -> cython.int:
    """Return whether the image at `at` has an absent cell."""
    index: cython.int
    length: cython.int
    found: cython.int = 0
    for index in range(width):
        if at + 4 > end:
            raise ImageError("a row image ends before its cells")
        length = _int32(p, at)
        at += 4
        if length > 0:
            at += length
        elif length == -2:
            found = 1
        elif length < -2:
            at += -3 - cython.cast(cython.Py_ssize_t, length)
    if at != end:
        raise ImageError("a row image is longer than its cells")
    return found


def net(
    ops: bytes,
    after: bytes,
    after_sizes: bytes,
    before: bytes,
    before_sizes: bytes,
    width: int,
    key_columns: tuple,
    replayed: bool = False,
) -> Netted:
    """Net a frame (see `model.frame.RowBatch`) by the columns at `key_columns`.

    `replayed`: what the frame says of rows before it says nothing about the target, which may hold later ones. Each
    key's outcome is then what one statement after the other would leave: an inserted row overwrites, an update that
    stands alone may miss, and every last deletion is carried out.

    Raises:
        ImageError: the frame is not what it says.
    """
    rows: cython.Py_ssize_t = len(ops)
    columns: cython.int = width
    key: list = [number in key_columns for number in range(max(key_columns) + 1)]
    keys: KeyTable = KeyTable(rows * 2, len(after) + len(before))
    ops_at: cython.p_uchar
    a: cython.p_uchar
    b: cython.p_uchar
    a_sizes: cython.p_uchar
    b_sizes: cython.p_uchar
    merged: list = []
    row: cython.Py_ssize_t
    op: cython.int
    a_start: cython.Py_ssize_t = 0
    b_start: cython.Py_ssize_t = 0
    a_end: cython.Py_ssize_t
    b_end: cython.Py_ssize_t
    entry: cython.Py_ssize_t
    old: cython.Py_ssize_t
    reference: cython.longlong
    earlier: cython.longlong
    partial: cython.int
    replays: cython.bint = replayed
    if cython.compiled:
        ops_at = cython.cast(cython.p_uchar, PyBytes_AS_STRING(ops))
        a = cython.cast(cython.p_uchar, PyBytes_AS_STRING(after))
        b = cython.cast(cython.p_uchar, PyBytes_AS_STRING(before))
        a_sizes = cython.cast(cython.p_uchar, PyBytes_AS_STRING(after_sizes))
        b_sizes = cython.cast(cython.p_uchar, PyBytes_AS_STRING(before_sizes))
    else:
        ops_at, a, b, a_sizes, b_sizes = ops, after, before, after_sizes, before_sizes
    if len(after_sizes) != 4 * rows or len(before_sizes) != 4 * rows:
        raise ImageError("a frame has another number of sizes than rows")
    for row in range(rows):
        op = ops_at[row]
        a_end = a_start + _int32(a_sizes, row * 4)
        b_end = b_start + _int32(b_sizes, row * 4)
        if a_end < a_start or b_end < b_start or a_end > len(after) or b_end > len(before):
            raise ImageError("a frame is shorter than its rows")
        if op == 0x49:  # I
            entry = keys.entry(a, a_start, a_end, key, 0)
            if entry < 0:
                return _exact()
            _set(keys, entry, (0 if replays else _flag(keys, entry) & _EXISTED) | _ALIVE, a_start)
        elif op == 0x55:  # U
            partial = _absent(a, a_start, a_end, columns)
            reference = a_start
            if b_end > b_start:  # the key that the row had
                old = keys.entry(b, b_start, b_end, key, _EXISTED)
                if old < 0:
                    return _exact()
                entry = keys.entry(a, a_start, a_end, key, 0)
            else:
                old = entry = keys.entry(a, a_start, a_end, key, _EXISTED)
            if entry < 0 or (replays and old != entry):
                return _exact()
            if replays and _flag(keys, entry) & _GONE:
                a_start = a_end
                b_start = b_end
                continue
            if partial:
                earlier = _image_of(keys, old)
                if earlier != _NOTHING:
                    image = _over(_image(after, a_start, columns), _known(after, merged, earlier, columns), columns)
                    reference = -1 - cython.cast(cython.longlong, len(merged))
                    merged.append(image)
                    partial = _is_partial(image, columns)
                if partial and old != entry:
                    # The row moves to another key and keeps values that only the target has.
                    return _exact()
            if old != entry:
                _set(keys, old, _flag(keys, old) & _EXISTED, _NOTHING)
            _set(keys, entry, (_flag(keys, entry) & _EXISTED) | _ALIVE | (_PARTIAL if partial else 0), reference)
        elif op == 0x44:  # D
            entry = keys.entry(b, b_start, b_end, key, _EXISTED)
            if entry < 0:
                return _exact()
            _set(keys, entry, (_EXISTED | _GONE) if replays else _flag(keys, entry) & _EXISTED, _NOTHING)
        else:
            raise ImageError(f"unknown operation {op}")
        a_start = a_end
        b_start = b_end
    return _outcome(keys, after, merged, columns)


@cython.cfunc
def _exact() -> Netted:
    return Netted(True, b"", b"", b"", b"", [], b"", b"")


@cython.cfunc
def _outcome(keys: KeyTable, after: bytes, merged: list, width: cython.int) -> Netted:
    inserted: _Numbers = _Numbers(keys.count)
    updated: _Numbers = _Numbers(keys.count)
    masks_of: _Numbers = _Numbers(keys.count)
    deleted: _Numbers = _Numbers(keys.count * 2)
    masks: list = [bytes(width)]
    offsets: list = [0]
    entry: cython.Py_ssize_t
    flags: cython.int
    reference: cython.longlong
    for image in merged:
        offsets.append(offsets[len(offsets) - 1] + len(image))
    for entry in range(keys.count):
        flags = _flag(keys, entry)
        reference = _image_of(keys, entry)
        if flags & _ALIVE:
            number = 0
            if flags & _PARTIAL:
                mask = _mask(_known(after, merged, reference, width), width)
                if mask not in masks:
                    masks.append(mask)
                number = masks.index(mask)
            if reference < 0:
                reference = -1 - cython.cast(cython.longlong, offsets[-1 - reference])
            if flags & _EXISTED:
                updated.add(reference)
                masks_of.add(number)
            else:
                inserted.add(reference)
        elif flags & _EXISTED:
            if cython.compiled:
                deleted.add(keys.starts[entry])
                deleted.add(keys.sizes[entry])
            else:
                deleted.add(keys.plain_entries[entry][0])
                deleted.add(keys.plain_entries[entry][1])
    if cython.compiled:
        key_bytes = PyBytes_FromStringAndSize(cython.cast(cython.p_char, keys.buffer), keys.size)
    else:
        key_bytes = bytes(keys.plain)
    return Netted(
        False,
        b"".join(merged),
        inserted.taken(),
        updated.taken(),
        masks_of.taken() if len(masks) > 1 else b"",
        masks,
        deleted.taken(),
        key_bytes,
    )


@cython.final
@cython.cclass
class _Numbers:
    """Native int64 numbers, at most as many as announced."""

    data: cython.pointer[cython.longlong]
    count: cython.Py_ssize_t
    plain: list

    def __cinit__(self, *_args):
        if cython.compiled:
            self.data = cython.NULL

    def __init__(self, most: cython.Py_ssize_t):
        self.count = 0
        self.plain = []
        if cython.compiled:
            self.data = cython.cast(cython.pointer[cython.longlong], malloc(most * 8 + 8))
            if self.data == cython.NULL:
                raise MemoryError

    def __dealloc__(self):
        if cython.compiled:
            free(self.data)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def add(self, number: cython.longlong) -> cython.void:
        if cython.compiled:
            self.data[self.count] = number
        else:
            self.plain.append(number)
        self.count += 1

    @cython.cfunc
    def taken(self) -> bytes:
        if cython.compiled:
            return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data), self.count * 8)
        return array("q", self.plain).tobytes()


# What follows is for partial images only: rare enough for plain Python.


def _extent(buffer: bytes, at: int) -> int:
    """Return how many bytes stand behind the length at `at`."""
    length = int.from_bytes(buffer[at : at + 4], _ORDER, signed=True)
    return max(length, 0) if length >= -2 else -3 - length


def _cells(image: bytes) -> list:
    found: list = []
    at = 0
    while at < len(image):
        size = 4 + _extent(image, at)
        found.append(image[at : at + size])
        at += size
    return found


@cython.cfunc
def _image(buffer: bytes, start: cython.Py_ssize_t, width: cython.int) -> bytes:
    """Return the image of `width` cells that starts at `start`. Of an inserted row only the key was walked before."""
    end = start
    for _ in range(width):
        if end + 4 > len(buffer):
            raise ImageError("a row image ends before its cells")
        end += 4 + _extent(buffer, end)
    if end > len(buffer):
        raise ImageError("a row image ends inside a cell")
    return buffer[start:end]


@cython.cfunc
def _known(after: bytes, merged: list, reference: cython.longlong, width: cython.int) -> bytes:
    if reference < 0:
        return merged[-1 - reference]
    return _image(after, reference, width)


@cython.cfunc
def _over(image: bytes, earlier: bytes, width: cython.int) -> bytes:
    """Return `image` with its absent cells taken from `earlier`."""
    pairs = zip(_cells(image), _cells(earlier), strict=True)
    return b"".join(old if new == _ABSENT else new for new, old in pairs)


@cython.cfunc
@cython.exceptval(check=False)
def _is_partial(image: bytes, width: cython.int) -> cython.int:
    return 1 if _ABSENT in _cells(image) else 0


@cython.cfunc
def _mask(image: bytes, width: cython.int) -> bytes:
    return bytes([cell == _ABSENT for cell in _cells(image)])
