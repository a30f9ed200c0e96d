"""Row images of a MySQL or MariaDB binlog to cells of canonical text.

Rows events: https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Rows__event.html
An image is a bitmap of the columns that are NULL, one bit for each column that the event holds, and then the values,
each of a fixed size or behind its length.

This file runs as it is and is compiled by Cython where a compiler is there; binlogrow_cy.pxd declares for other
compiled modules what a shape holds. It does no I/O.
"""

from __future__ import annotations

import sys

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs import binlogtime_cy as moments
    from cython.cimports.cdcflow.codecs.binlognumbers_cy import bits, decimal, digits, float4, float8, integer, little
    from cython.cimports.cdcflow.codecs.binlogtext_cy import copied, hexed, is_utf8, mapped, zeros
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
    from cython.cimports.cdcflow.codecs.mysqljson_cy import JsonText
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.stdlib import calloc, free
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs import loading

    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena
    JsonText = loading.plain("cdcflow.codecs.mysqljson_cy").JsonText
    moments = loading.plain("cdcflow.codecs.binlogtime_cy")
    _numbers = loading.plain("cdcflow.codecs.binlognumbers_cy")
    _text = loading.plain("cdcflow.codecs.binlogtext_cy")
    bits, decimal, digits, float4 = _numbers.bits, _numbers.decimal, _numbers.digits, _numbers.float4
    float8, integer, little = _numbers.float8, _numbers.integer, _numbers.little
    copied, hexed, is_utf8, mapped, zeros = _text.copied, _text.hexed, _text.is_utf8, _text.mapped, _text.zeros

from cdcflow.codecs import mysqljsondiff
from cdcflow.codecs.binlogkinds import inflated, plan
from cdcflow.codecs.frames_cy import MessageError

__all__ = ["MessageError", "MissingValue", "PartialValue", "RowShape", "UnrealDate"]

_ORDER = sys.byteorder
_NULL = cython.declare(cython.int, -1)
_ABSENT = cython.declare(cython.int, -2)
_UNREAL = cython.declare(cython.Py_ssize_t, -2)
_LONGEST_CELL = cython.declare(cython.Py_ssize_t, 0x7FFFFFFF)


class PartialValue(MessageError):
    """A change of a JSON document whose old value the log does not hold."""


class MissingValue(MessageError):
    """An insert without a column that has no literal default: what the row holds there is not in the log."""


class UnrealDate(MessageError):
    """A date that no calendar has, where the rules say that its row is rejected."""


@cython.final
@cython.cclass
class RowShape:
    """How the rows of one table stand in the log, planned once for all of them.

    Args:
        forms: the columns of the table map, in its order.
        table: the table's name, for messages.

    Raises:
        MessageError: a form that no row can have.
    """

    def __cinit__(self, forms, table: str):
        if cython.compiled:
            count: cython.Py_ssize_t = max(1, len(forms))
            self.kinds = cython.cast(cython.p_int, calloc(count, cython.sizeof(cython.int)))
            self.sizes = cython.cast(cython.p_int, calloc(count, cython.sizeof(cython.int)))
            self.details = cython.cast(cython.p_int, calloc(count, cython.sizeof(cython.int)))
            self.kept = cython.cast(cython.p_int, calloc(count, cython.sizeof(cython.int)))
            self.policies = cython.cast(cython.p_int, calloc(count, cython.sizeof(cython.int)))
            self.documents = cython.cast(
                cython.pointer(cython.Py_ssize_t), calloc(2 * count, cython.sizeof(cython.Py_ssize_t))
            )
            if (
                self.kinds == cython.NULL
                or self.sizes == cython.NULL
                or self.details == cython.NULL
                or self.kept == cython.NULL
                or self.policies == cython.NULL
                or self.documents == cython.NULL
            ):
                raise MemoryError

    def __init__(self, forms, table: str):
        self.columns = len(forms)
        if not cython.compiled:
            self.kinds, self.sizes, self.details, self.kept, self.policies = ([0] * self.columns for _ in range(5))
            self.documents = [0] * (2 * self.columns)
        self.table = table
        self.names = []
        self.objects = []
        self.defaults = []
        self.json = JsonText()
        self.json_columns = 0
        self.width = 0
        self.current = -1
        for index, form in enumerate(forms):
            planned = plan(form)
            self.kinds[index] = planned.kind
            self.sizes[index] = planned.size
            self.details[index] = planned.detail
            self.kept[index] = form.keep
            self.policies[index] = planned.policy
            self.names.append(form.name or f"number {index + 1}")
            self.objects.append(planned.object)
            self.defaults.append(planned.default)
            self.json_columns += planned.kind == 29
            self.width += form.keep

    def __dealloc__(self):
        if cython.compiled:
            free(self.kinds)
            free(self.sizes)
            free(self.details)
            free(self.kept)
            free(self.policies)
            free(self.documents)

    def decode(self, data: bytes, at: int, present: bytes, fill: bool) -> tuple:
        """Return the cells of the image that starts at `at`, and where it ended.

        Raises:
            MessageError: the image is not one of this shape.
        """
        arena: Arena = Arena()
        joined: bytes = present + data
        p: cython.p_uchar
        if len(present) != (self.columns + 7) // 8 or not 0 <= at <= len(data):
            raise MessageError("columns that are not the table's")
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(joined))
        else:
            p = joined
        stopped = self.image(arena, p, len(present) + at, len(joined), 0, fill)
        return arena.take(arena.size), stopped - len(present)

    def decode_all(self, data: bytes, present: tuple) -> tuple:
        """Return the cells of all images of an event, and how many images that were.

        Args:
            data: what stands behind the bitmaps.
            present: the bitmap of each image of a row: one, or for an update two.

        Raises:
            MessageError: an image is not one of this shape.
        """
        arena: Arena = Arena()
        size: cython.Py_ssize_t = (self.columns + 7) // 8
        kinds: cython.Py_ssize_t = len(present)
        joined: bytes = b"".join(present) + data
        at: cython.Py_ssize_t = size * kinds
        end: cython.Py_ssize_t = len(joined)
        images: cython.Py_ssize_t = 0
        p: cython.p_uchar
        if kinds == 0 or end - len(data) != at:
            raise MessageError("columns that are not the table's")
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(joined))
        else:
            p = joined
        while at < end:
            at = self.image(arena, p, at, end, size * (images % kinds), False)
            images += 1
        return arena.take(arena.size), images

    def decode_partial(self, data: bytes, before_present: bytes, after_present: bytes) -> tuple:
        """Return the cells of a row of a PARTIAL_UPDATE_ROWS event, before and after, and where it ended.

        Raises:
            MessageError: the row is not one of this shape.
        """
        before: Arena = Arena()
        after: Arena = Arena()
        size: cython.Py_ssize_t = (self.columns + 7) // 8
        joined: bytes = before_present + after_present + data
        p: cython.p_uchar
        if len(before_present) != size or len(after_present) != size:
            raise MessageError("columns that are not the table's")
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(joined))
        else:
            p = joined
        stopped = self.partial(before, after, p, 2 * size, len(joined), 0, size)
        return before.take(before.size), after.take(after.size), stopped - 2 * size

    @cython.cfunc
    @cython.exceptval(-1)
    def image(
        self,
        arena: Arena,
        p: cython.p_uchar,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        present: cython.Py_ssize_t,
        fill: cython.bint,
    ) -> cython.Py_ssize_t:
        """Append the cells of the image at `at` to `arena`; return where the image ended.

        `p[present]` starts the bitmap of the columns that the event holds. A column that it does not hold is absent,
        or, with `fill`, what an insert without it holds. After an error `arena` is as it was.
        """
        size: cython.Py_ssize_t = arena.size
        self.current = -1
        try:
            return self._image(arena, p, at, end, present, fill, -1)
        except MessageError as error:
            arena.cut(size)
            raise self._placed(error) from None

    @cython.cfunc
    @cython.exceptval(-1)
    def partial(
        self,
        before: Arena,
        after: Arena,
        p: cython.p_uchar,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        before_present: cython.Py_ssize_t,
        after_present: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """Append the two images of a row of a PARTIAL_UPDATE_ROWS event; return where the row ended.

        Between them stand options, and, where these say so, one bit for each JSON column of the table: its value is
        a list of changes to the document before.
        """
        index: cython.int
        before_size: cython.Py_ssize_t = before.size
        after_size: cython.Py_ssize_t = after.size
        partials: cython.Py_ssize_t = -1
        self.current = -1
        for index in range(self.columns):
            self.documents[2 * index + 1] = -1
        try:
            at = self._image(before, p, at, end, before_present, False, -1)
            self.current = -1
            if at >= end or p[at] > 1:
                raise MessageError("the options of a partial update are not known")
            at += 1
            if p[at - 1] == 1:
                partials = at
                at += (self.json_columns + 7) // 8
                if at > end:
                    raise MessageError("a partial update ends before its values")
            return self._image(after, p, at, end, after_present, False, partials)
        except MessageError as error:
            before.cut(before_size)
            after.cut(after_size)
            raise self._placed(error) from None

    def _placed(self, error):
        """Return the error with the place where it happened."""
        if self.current < 0:
            return type(error)(f"{error} (table {self.table})")
        return type(error)(f"{error} (column {self.names[self.current]} of table {self.table})")

    @cython.cfunc
    @cython.exceptval(-1)
    def _image(
        self,
        arena: Arena,
        p: cython.p_uchar,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        present: cython.Py_ssize_t,
        fill: cython.bint,
        partials: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        index: cython.int
        bit: cython.int = 0
        document: cython.int = 0
        nulls: cython.Py_ssize_t = at
        size: cython.Py_ssize_t
        patch: cython.bint
        if present < 0 or at < 0 or present + (self.columns + 7) // 8 > end:
            raise MessageError("an event ends inside its columns")
        for index in range(self.columns):
            bit += (p[present + (index >> 3)] >> (index & 7)) & 1
        at += (bit + 7) // 8
        if at > end:
            raise MessageError("a row ends before its values")
        bit = 0
        for index in range(self.columns):
            patch = False
            if self.kinds[index] == 29:
                patch = partials >= 0 and (p[partials + (document >> 3)] >> (document & 7)) & 1
                document += 1
            if not (p[present + (index >> 3)] >> (index & 7)) & 1:
                if self.kept[index]:
                    self.current = index
                    self._absent(arena, index, fill)
                continue
            if (p[nulls + (bit >> 3)] >> (bit & 7)) & 1:
                bit += 1
                if self.kept[index]:
                    arena.reserve(4)
                    arena.int32(_NULL)
                if self.kinds[index] == 29 and partials < 0:
                    self.documents[2 * index + 1] = -2
                continue
            bit += 1
            self.current = index
            size = self.sizes[index]
            if size < 0:
                if end - at < -size:
                    raise MessageError("a row ends inside a length")
                at -= size
                size = cython.cast(cython.Py_ssize_t, little(p, at + size, -size))
            if size > end - at:
                raise MessageError("a row ends inside a value")
            if self.kept[index]:
                if patch:
                    self._patched(arena, index, p, at, size)
                else:
                    self._value(arena, index, p, at, size)
                    if self.kinds[index] == 29 and partials < 0:
                        self.documents[2 * index] = at
                        self.documents[2 * index + 1] = size
            at += size
        return at

    @cython.cfunc
    @cython.exceptval(-1)
    def _absent(self, arena: Arena, index: cython.int, fill: cython.bint) -> cython.int:
        default: bytes
        if not fill:
            arena.reserve(4)
            arena.int32(_ABSENT)
            return 0
        default = self.defaults[index]
        if default is None:
            raise MissingValue("a row without the value of a column that has no literal default")
        arena.reserve(len(default))
        if cython.compiled:
            arena.copy(cython.cast(cython.p_uchar, PyBytes_AS_STRING(default)), 0, len(default))
        else:
            arena.copy(default, 0, len(default))
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _value(
        self,
        arena: Arena,
        index: cython.int,
        p: cython.p_uchar,
        start: cython.Py_ssize_t,
        count: cython.Py_ssize_t,
    ) -> cython.int:
        """Append one cell: the value of which the bytes stand from `start` on."""
        kind: cython.int = self.kinds[index]
        if kind < 16:
            return self._scalar(arena, index, kind, p, start, count)
        if kind < 23:
            return self._moment(arena, index, kind, p, start, count)
        if kind < 25:
            return self._choice(arena, index, kind, p, start, count)
        return self._string(arena, index, kind, p, start, count)

    @cython.cfunc
    @cython.exceptval(-1)
    def _scalar(
        self,
        arena: Arena,
        index: cython.int,
        kind: cython.int,
        p: cython.p_uchar,
        start: cython.Py_ssize_t,
        count: cython.Py_ssize_t,
    ) -> cython.int:
        out: cython.p_uchar
        begun: cython.Py_ssize_t = arena.size
        at: cython.Py_ssize_t = begun + 4
        detail: cython.int = self.details[index]
        _room(arena, 120)
        if cython.compiled:
            out = arena.data
        else:
            out = arena.plain
        if kind <= 2:  # an integer, signed or unsigned
            at = integer(out, at, p, start, count, kind == 2)
        elif kind == 11:
            at = float4(out, at, p, start)
        elif kind == 12:
            at = float8(out, at, p, start)
        elif kind == 13:
            at = decimal(out, at, p, start, detail & 0xFF, detail >> 8)
        elif kind == 14:  # YEAR, of which zero is one
            at = digits(out, at, 1900 + p[start] if p[start] else 0)
        else:  # 15, BIT
            at = bits(out, at, p, start, count, detail)
        return _close(arena, begun, at)

    @cython.cfunc
    @cython.exceptval(-1)
    def _moment(
        self,
        arena: Arena,
        index: cython.int,
        kind: cython.int,
        p: cython.p_uchar,
        start: cython.Py_ssize_t,
        count: cython.Py_ssize_t,
    ) -> cython.int:
        out: cython.p_uchar
        epoch: bytes
        begun: cython.Py_ssize_t = arena.size
        at: cython.Py_ssize_t = begun + 4
        _room(arena, 64)
        if cython.compiled:
            out = arena.data
        else:
            out = arena.plain
        if kind == 16:
            at = moments.date(out, at, p, start)
        elif kind == 17:
            at = moments.time(out, at, p, start, count)
        elif kind == 18:
            at = moments.datetime(out, at, p, start, count)
        elif kind == 19:
            at = moments.timestamp(out, at, p, start, count)
        elif kind == 20:
            at = moments.old_time(out, at, p, start)
        elif kind == 21:
            at = moments.old_datetime(out, at, p, start)
        else:
            at = moments.old_timestamp(out, at, p, start)
        if at != _UNREAL:
            return _close(arena, begun, at)
        arena.cut(begun)
        if self.policies[index] == 2:
            raise UnrealDate("a date that no calendar has, and the rules say zero_dates: fail")
        if self.policies[index] == 0:
            arena.int32(_NULL)
            return 0
        epoch = self.objects[index]
        return self._object(arena, epoch)

    @cython.cfunc
    @cython.exceptval(-1)
    def _object(self, arena: Arena, text: bytes) -> cython.int:
        """Append a cell of text that is there already."""
        size: cython.Py_ssize_t = len(text)
        if size > _LONGEST_CELL:
            raise MessageError("a value of more than two gigabytes")
        arena.reserve(size + 4)
        arena.int32(cython.cast(cython.int, size))
        if cython.compiled:
            arena.copy(cython.cast(cython.p_uchar, PyBytes_AS_STRING(text)), 0, size)
        else:
            arena.copy(text, 0, size)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _choice(
        self,
        arena: Arena,
        index: cython.int,
        kind: cython.int,
        p: cython.p_uchar,
        start: cython.Py_ssize_t,
        count: cython.Py_ssize_t,
    ) -> cython.int:
        """Append an ENUM (23): a number from one on, zero for '', or a SET (24): a bit for each label."""
        labels: list = self.objects[index]
        label: bytes
        chosen: cython.ulonglong = little(p, start, count)
        if kind == 23:
            if chosen > cython.cast(cython.ulonglong, len(labels)):
                raise MessageError("a label that the column does not have")
            label = b"" if chosen == 0 else labels[cython.cast(cython.Py_ssize_t, chosen) - 1]
            return self._object(arena, label)
        if len(labels) < 64 and chosen >> len(labels):
            raise MessageError("a label that the column does not have")
        return self._object(arena, b",".join([labels[place] for place in range(len(labels)) if (chosen >> place) & 1]))

    @cython.cfunc
    @cython.exceptval(-1)
    def _string(
        self,
        arena: Arena,
        index: cython.int,
        kind: cython.int,
        p: cython.p_uchar,
        start: cython.Py_ssize_t,
        count: cython.Py_ssize_t,
    ) -> cython.int:
        """Append a value of text or bytes. Inside of a kind above 63 there is one that the server compressed."""
        out: cython.p_uchar
        table: bytes
        begun: cython.Py_ssize_t = arena.size
        at: cython.Py_ssize_t = begun + 4
        word: cython.Py_ssize_t
        detail: cython.Py_ssize_t = self.details[index]
        if kind >= 64:
            table = inflated(p[start : start + count])
            if cython.compiled:
                return self._string(
                    arena, index, kind - 64, cython.cast(cython.p_uchar, PyBytes_AS_STRING(table)), 0, len(table)
                )
            return self._string(arena, index, kind - 64, table, 0, len(table))
        # The widest: a byte of a vector's number becomes four, one of a character set's text three.
        if 4 * count + detail > _LONGEST_CELL and count + count + detail > _LONGEST_CELL:
            raise MessageError("a value of more than two gigabytes")
        if kind == 25:  # UTF-8
            if not is_utf8(p, start, count):
                raise MessageError("text that is not UTF-8")
            _room(arena, count + 4)
            if cython.compiled:
                at = copied(arena.data, at, p, start, count)
            else:
                at = copied(arena.plain, at, p, start, count)
        elif kind == 26:  # one byte a character
            table = self.objects[index]
            _room(arena, 3 * count + 4)
            if cython.compiled:
                at = mapped(arena.data, at, p, start, count, cython.cast(cython.p_uchar, PyBytes_AS_STRING(table)))
            else:
                at = mapped(arena.plain, at, p, start, count, table)
        elif kind == 28:  # bytes; the zeros that the log leaves out at the end of a BINARY are put back
            _room(arena, 2 * (count if count > detail else detail) + 6)
            if cython.compiled:
                out = arena.data
            else:
                out = arena.plain
            out[at] = 92  # \
            out[at + 1] = 120  # x
            at = hexed(out, at + 2, p, start, count, False)
            if count < detail:
                at = zeros(out, at, 2 * (detail - count))
        elif kind == 29:
            _room(arena, 4)
            arena.size = at
            self.json.write(arena, p, start, count)
            at = arena.size
        elif kind == 30:
            # SRID and well-known binary; as EWKB, which says with a bit in the type that the SRID follows it.
            if count < 9 or p[start + 4] != 1 or p[start + 8]:
                raise MessageError("a geometry that is none")
            _room(arena, 2 * count + 4)
            if cython.compiled:
                out = arena.data
            else:
                out = arena.plain
            at = hexed(out, at, p, start + 4, 5, True)
            if little(p, start, 4):
                out[at - 2] = 50  # 0x20 in the highest byte of the type
                at = hexed(out, at, p, start, 4, True)
            at = hexed(out, at, p, start + 9, count - 9, True)
        elif kind == 31:  # single precision numbers
            if count & 3:
                raise MessageError("a vector that ends inside a number")
            _room(arena, 6 * count + 64)
            if cython.compiled:
                out = arena.data
            else:
                out = arena.plain
            out[at] = 123  # {
            at += 1
            for word in range(count // 4):
                if word > 0:
                    out[at] = 44
                    at += 1
                at = float4(out, at, p, start + 4 * word)
            out[at] = 125
            at += 1
        else:  # 27: what Python functions make of the bytes
            return self._object(arena, self.objects[index](p[start : start + count]))
        if at - begun > _LONGEST_CELL:
            raise MessageError("a value of more than two gigabytes")
        return _close(arena, begun, at)

    @cython.cfunc
    @cython.exceptval(-1)
    def _patched(
        self,
        arena: Arena,
        index: cython.int,
        p: cython.p_uchar,
        start: cython.Py_ssize_t,
        count: cython.Py_ssize_t,
    ) -> cython.int:
        """Append a JSON document that the event tells as changes to the one before."""
        was: cython.Py_ssize_t = self.documents[2 * index]
        size: cython.Py_ssize_t = self.documents[2 * index + 1]
        if size == -1:
            raise PartialValue("a change of a document whose old value is not in the log")
        if size == -2:
            raise MessageError("a change of a document where there was none")
        return self._object(arena, mysqljsondiff.patched(p[was : was + size], p[start : start + count]))


@cython.cfunc
@cython.inline
@cython.exceptval(-1)
def _room(arena: Arena, more: cython.Py_ssize_t) -> cython.int:
    """Make room at the arena's end for functions that write there themselves."""
    if cython.compiled:
        if arena.size + more > arena.capacity:
            arena.reserve(more)
    else:
        arena.plain += bytes(more)
    return 0


@cython.cfunc
@cython.inline
@cython.exceptval(-1)
def _close(arena: Arena, begun: cython.Py_ssize_t, at: cython.Py_ssize_t) -> cython.int:
    """End the cell that begins at `begun` with its length and was written up to `at`."""
    if cython.compiled:
        size: cython.int = cython.cast(cython.int, at - begun - 4)
        memcpy(arena.data + begun, cython.address(size), 4)
    else:
        del arena.plain[at:]
        arena.plain[begun : begun + 4] = (at - begun - 4).to_bytes(4, _ORDER)
    arena.size = at
    return 0
