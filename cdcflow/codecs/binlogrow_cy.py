"""Row images of a MySQL or MariaDB binlog to cells of canonical text.

Rows events: https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Rows__event.html
An image is a bitmap of the columns that are NULL, one bit for each column that the event holds, and then the values,
each of a fixed size or behind its length.

This file runs as it is and is compiled by Cython where a compiler is there; binlogrow_cy.pxd declares for other
compiled modules what a shape holds. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.binlogcell_cy import cell, text_cell
    from cython.cimports.cdcflow.codecs.binlognumbers_cy import little
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
    from cython.cimports.cdcflow.codecs.mysqljson_cy import JsonText
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.stdlib import calloc, free
else:
    from cdcflow.codecs import loading

    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena
    JsonText = loading.plain("cdcflow.codecs.mysqljson_cy").JsonText
    _cells = loading.plain("cdcflow.codecs.binlogcell_cy")
    cell, text_cell = _cells.cell, _cells.text_cell
    little = loading.plain("cdcflow.codecs.binlognumbers_cy").little

from cdcflow.codecs import mysqljsondiff
from cdcflow.codecs.binlogcell_cy import UnrealDate
from cdcflow.codecs.binlogkinds import plan
from cdcflow.codecs.frames_cy import MessageError

__all__ = ["MessageError", "MissingValue", "PartialValue", "RowShape", "UnrealDate"]

_NULL = cython.declare(cython.int, -1)
_ABSENT = cython.declare(cython.int, -2)

# An old value of this size is not kept where only the key of the old row is needed. No key has one.
_LARGE = cython.declare(cython.Py_ssize_t, 4194304)


class PartialValue(MessageError):
    """A change of a JSON document whose old value the log does not hold."""


class MissingValue(MessageError):
    """An insert without a column that has no literal default: what the row holds there is not in the log."""


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
        self.json = JsonText(any(form.typed for form in forms))
        self.json_columns = 0
        self.width = 0
        self.current = -1
        self.lean = False
        self.dropping = False
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
        begun: cython.Py_ssize_t = 0
        p: cython.p_uchar
        if kinds == 0 or end - len(data) != at:
            raise MessageError("columns that are not the table's")
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(joined))
        else:
            p = joined
        # An insert of nothing but defaults, logged without any column, is a row of no bytes; such a row is alone.
        while at < end or images == 0 or images % kinds:
            if images > 0 and images % kinds == 0 and at == begun:
                raise MessageError("a row without any column")
            if images % kinds == 0:
                begun = at
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
        column = "" if self.current < 0 else f"column {self.names[self.current]} of "
        placed = type(error)(f"{error} ({column}table {self.table})")
        placed.table = self.table
        return placed

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
                if self.dropping and size >= _LARGE and 25 <= self.kinds[index] <= 28:
                    arena.reserve(4)
                    arena.int32(_ABSENT)
                elif patch:
                    self._patched(arena, index, p, at, size)
                else:
                    cell(
                        arena,
                        self.json,
                        self.kinds[index],
                        self.details[index],
                        self.policies[index],
                        self.objects[index],
                        p,
                        at,
                        size,
                    )
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
        document = mysqljsondiff.patched(p[was : was + size], p[start : start + count], typed=self.json.typed)
        return text_cell(arena, document)
