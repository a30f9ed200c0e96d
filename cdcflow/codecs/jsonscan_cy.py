"""JSON messages to row images: one pass over each message, and no Python object for a value.

Columns are found by name, in any order; what a message has and the table has not is stepped over, what the table has
and the message has not is absent.
This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.jsoncell_cy import ColumnForm
    from cython.cimports.cdcflow.codecs.jsonoutput_cy import Output
    from cython.cimports.cdcflow.codecs.jsontext_cy import Cursor
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.stdlib import calloc, free
    from cython.cimports.libc.string import memcmp
else:
    from cdcflow.codecs import loading

    Output = loading.plain("cdcflow.codecs.jsonoutput_cy").Output
    Cursor = loading.plain("cdcflow.codecs.jsontext_cy").Cursor
    ColumnForm = loading.plain("cdcflow.codecs.jsoncell_cy").ColumnForm

from cdcflow.codecs.jsontext_cy import ScanError

__all__ = ["ChangeReader", "ScanError"]

_NULL = cython.declare(cython.Py_ssize_t, -1)
_ABSENT = cython.declare(cython.Py_ssize_t, -2)

# Envelopes in envelopes: CloudEvents' data, Connect's payload, the change.
_DEEPEST_ENVELOPE = cython.declare(cython.int, 4)


@cython.final
@cython.cclass
class ChangeReader:
    """Reads messages whose rows have these columns (a `jsoncell_cy.ColumnForm` each).

    `foreign`: the message has no headers of ours, so `__debezium_unavailable_value` is no value.
    """

    if cython.compiled:
        columns: list
        places: dict
        count: cython.int
        ats: cython.pointer[cython.Py_ssize_t]
        sizes: cython.pointer[cython.Py_ssize_t]
        cursor: Cursor
        cells: Output
        scratch: Output
        built: Output
        before: object
        after: object
        seen: cython.int
        op: cython.int
        foreign: cython.bint
        field: str

    def __cinit__(self, columns: list):
        if cython.compiled:
            self.ats = cython.cast(cython.pointer[cython.Py_ssize_t], calloc(len(columns) + 1, 8))
            self.sizes = cython.cast(cython.pointer[cython.Py_ssize_t], calloc(len(columns) + 1, 8))
            if self.ats == cython.NULL or self.sizes == cython.NULL:
                raise MemoryError

    def __init__(self, columns: list):
        if not cython.compiled:
            self.ats, self.sizes = [0] * len(columns), [0] * len(columns)
        self.columns = list(columns)
        self.count = len(columns)
        self.places = {column.label(): place for place, column in enumerate(columns)}
        self.cursor = Cursor()
        self.cells, self.scratch, self.built = Output(), Output(), Output()
        self.before = self.after = None
        self.seen = self.op = 0
        self.foreign = False
        self.field = ""

    def __dealloc__(self):
        if cython.compiled:
            free(self.ats)
            free(self.sizes)

    def where(self) -> str:
        """Return the column at which the last `ScanError` was raised, '' for none."""
        return self.field

    def change(self, text: bytes, foreign: bool) -> tuple:
        """Read a change: `{"before": .., "after": .., "op": ..}`, alone, as a `payload` or as an event's `data`.

        Returns (op, before, after): '' where it has no op; row images, None where it has none.

        Raises:
            ScanError: the text is not that.
        """
        self.begin(text, foreign)
        self.envelope(0)
        self.finish()
        return chr(self.op) if self.op else "", self.before, self.after

    def row(self, text: bytes, foreign: bool):
        """Read a row alone, or under `payload` beside a `schema`; return its image, None for null.

        Raises:
            ScanError: the text is not that.
        """
        found: object
        self.begin(text, foreign)
        if b"payload" not in self.places or b"schema" not in self.places:
            self.unwrap()
        found = self.image(1)
        if self.cursor.peek() == 125 and self.seen:
            self.cursor.at += 1
        self.finish()
        return found

    @cython.cfunc
    @cython.exceptval(-1)
    def begin(self, text: bytes, foreign: cython.bint) -> cython.int:
        self.cursor.open(text)
        self.before = self.after = None
        self.field = ""
        self.op = self.seen = 0
        self.foreign = foreign
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def finish(self) -> cython.int:
        if self.cursor.peek() != -1:
            raise ScanError(f"not JSON: something behind the end at byte {self.cursor.at}")
        self.cursor.owner = b""  # the cursor is opened again before anything is read
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def unwrap(self) -> cython.int:
        """Step to the row of `{"schema": .., "payload": row}`; stay where the text does not begin so."""
        cursor: Cursor = self.cursor
        begun: cython.Py_ssize_t = cursor.at
        byte: cython.int
        if cursor.peek() != 123:
            return 0
        cursor.at += 1
        if cursor.peek() == 34:
            self.scratch.size = 0
            cursor.string(self.scratch)
            if self.scratch.taken() == b"schema":
                cursor.expect(58)
                byte = cursor.peek()
                if byte == 123 or byte == 110:
                    cursor.skip(self.scratch, 1)
                    if cursor.peek() == 44:
                        cursor.at += 1
                        cursor.peek()
                        self.scratch.size = 0
                        cursor.string(self.scratch)
                        if self.scratch.taken() == b"payload":
                            cursor.expect(58)
                            self.seen = 1
                            return 0
        cursor.at = begun
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def envelope(self, depth: cython.int) -> cython.int:
        cursor: Cursor = self.cursor
        name: bytes
        if depth > _DEEPEST_ENVELOPE:
            raise ScanError("envelopes in envelopes")
        cursor.expect(123)
        if cursor.peek() == 125:
            cursor.at += 1
            return 0
        while True:
            cursor.peek()
            self.scratch.size = 0
            cursor.string(self.scratch)
            name = self.scratch.taken()
            cursor.expect(58)
            if name == b"before" or name == b"after":
                if self.seen & (1 if name == b"before" else 2):
                    raise ScanError("two images of one name")
                self.seen |= 1 if name == b"before" else 2
                if name == b"before":
                    self.before = self.image(depth + 1)
                else:
                    self.after = self.image(depth + 1)
            elif (name == b"op" or name == b"iodebeziumop") and cursor.peek() == 34:
                self.scratch.size = 0
                cursor.string(self.scratch)
                if self.scratch.size != 1:
                    raise ScanError("an op that is no letter")
                self.op = self.scratch.data[0]
            elif (name == b"payload" or name == b"data") and cursor.peek() == 123:
                self.envelope(depth + 1)
            else:
                cursor.skip(self.scratch, depth + 1)
            if not cursor.more(125):
                return 0

    @cython.cfunc
    def image(self, depth: cython.int) -> object:
        """Read a row; return its image, None for null."""
        cursor: Cursor = self.cursor
        cells: Output = self.cells
        built: Output = self.built
        column: ColumnForm
        place: cython.int
        hint: cython.int = 0
        size: cython.Py_ssize_t
        if cursor.peek() == 110:
            cursor.word()
            return None
        for place in range(self.count):
            self.sizes[place] = _ABSENT
        cells.size = 0
        cursor.expect(123)
        if cursor.peek() == 125:
            cursor.at += 1
        else:
            while True:
                place = self.column(hint)
                cursor.expect(58)
                if place < 0:
                    cursor.skip(self.scratch, depth + 1)
                else:
                    hint = place + 1
                    if cython.compiled:
                        column = cython.cast(ColumnForm, self.columns[place])
                    else:
                        column = self.columns[place]
                    size = cells.size
                    self.ats[place] = size
                    try:
                        place_size: cython.Py_ssize_t = column.read(cursor, cells, self.scratch, depth, self.foreign)
                    except ScanError:
                        self.field = column.label().decode("utf-8", "replace")
                        raise
                    self.sizes[place] = place_size if place_size < 0 else cells.size - size
                if not cursor.more(125):
                    break
        built.size = 0
        for place in range(self.count):
            size = self.sizes[place]
            if size > 0x7FFFFFFF:
                raise ScanError("a value of more than 2 GB")
            built.uint32(cython.cast(cython.uint, size & 0xFFFFFFFF))
            if size > 0:
                built.copy(cells.data, self.ats[place], self.ats[place] + size)
        return built.taken()

    @cython.cfunc
    @cython.exceptval(-2)
    def column(self, hint: cython.int) -> cython.int:
        """Step over a name; return the column's place, -1 where there is none. `hint`: which is the likeliest."""
        cursor: Cursor = self.cursor
        start: cython.Py_ssize_t
        size: cython.Py_ssize_t
        name: bytes
        column: ColumnForm
        cursor.peek()
        begun: cython.Py_ssize_t = cursor.at
        start = cursor.step()
        if start >= 0:
            size = cursor.at - 1 - start
            if hint < self.count:
                if cython.compiled:
                    column = cython.cast(ColumnForm, self.columns[hint])
                    if len(column.name) == size and memcmp(PyBytes_AS_STRING(column.name), cursor.p + start, size) == 0:
                        return hint
                elif self.columns[hint].name == cursor.p[start : start + size]:
                    return hint
            name = cursor.slice(start, start + size)
        else:
            cursor.at = begun
            self.scratch.size = 0
            cursor.string(self.scratch)
            name = self.scratch.taken()
        place = self.places.get(name)
        return -1 if place is None else place
