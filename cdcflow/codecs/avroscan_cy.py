"""Avro messages to row images: a schema's flat program walks each message once, and cells come out as canonical text.

This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.avrocursor_cy import AvroCursor
    from cython.cimports.cdcflow.codecs.bustext_cy import (
        is_unavailable,
        put_bytes,
        put_decimal,
        put_float4,
        put_float8,
        put_number,
    )
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
    from cython.cimports.cdcflow.codecs.scancells_cy import (
        end_cell,
        ints,
        offsets,
        put_bool,
        put_item,
        put_piece,
    )
else:
    from cdcflow.codecs import loading

    _text = loading.plain("cdcflow.codecs.bustext_cy")
    is_unavailable, put_decimal, put_number = _text.is_unavailable, _text.put_decimal, _text.put_number
    put_bytes, put_float4, put_float8 = _text.put_bytes, _text.put_float4, _text.put_float8
    _cells = loading.plain("cdcflow.codecs.scancells_cy")
    end_cell, ints, offsets = _cells.end_cell, _cells.ints, _cells.offsets
    put_bool, put_item, put_piece = _cells.put_bool, _cells.put_item, _cells.put_piece
    AvroCursor = loading.plain("cdcflow.codecs.avrocursor_cy").AvroCursor
    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena

from cdcflow.codecs.frames_cy import MessageError

# The numbers of avroprogram.Op.
_NULL = cython.declare(cython.int, 0)
_BOOLEAN = cython.declare(cython.int, 1)
_INT = cython.declare(cython.int, 2)
_LONG = cython.declare(cython.int, 3)
_FLOAT = cython.declare(cython.int, 4)
_DOUBLE = cython.declare(cython.int, 5)
_BYTES = cython.declare(cython.int, 6)
_STRING = cython.declare(cython.int, 7)
_FIXED = cython.declare(cython.int, 8)
_ENUM = cython.declare(cython.int, 9)
_ARRAY = cython.declare(cython.int, 10)
_UNION = cython.declare(cython.int, 12)
_RECORD = cython.declare(cython.int, 13)

_ABSENT = cython.declare(cython.int, -2)
_MOST_INT = cython.declare(cython.longlong, 2147483647)
_NO_VALUE = cython.declare(cython.int, -1)


@cython.final
@cython.cclass
class Scanner:
    """Reads messages of one schema, for one table.

    Args:
        nodes, links, symbols, names: as `avrocursor_cy.AvroCursor` has them; names are needed of those records that a
            function is given.
        places: for each link out of a record that is a row the table's column, else -1.
        forms: (form, parameter) of each node: how its value becomes text (`scanforms.Form`).
        calls: functions from a Python value to canonical text (None: NULL), by node.
        width: columns of the table.
        path: fields that lead from the message's root to the envelope, and its node.
        before, after, op: fields of the envelope, -1 where it has none. With no `after` the envelope is the row.
        hides: whether `__debezium_unavailable_value` stands for a value that was not logged.
    """

    cursor: AvroCursor
    places: cython.p_int
    forms: cython.p_int
    parameters: cython.p_int
    at_of: cython.p_longlong
    node_of: cython.p_int
    kept: list
    calls: dict
    path: tuple
    root: cython.int
    width: cython.int
    before: cython.int
    after: cython.int
    op: cython.int
    hides: cython.bint
    absent: cython.bint
    out: Arena
    element: Arena

    def __init__(
        self,
        nodes: list,
        links: list,
        places: list,
        forms: list,
        symbols: dict,
        calls: dict,
        names: dict,
        width: int,
        root: int,
        path: tuple,
        before: int,
        after: int,
        op: int,
        hides: bool,
    ):
        self.cursor = AvroCursor(nodes, links, symbols, names)
        self.kept = []
        self.places = ints(self.kept, places)
        self.forms = ints(self.kept, [form for form, _ in forms])
        self.parameters = ints(self.kept, [parameter for _, parameter in forms])
        self.node_of, self.at_of = ints(self.kept, [-1] * width), offsets(self.kept, width)
        self.calls, self.width = calls, width
        self.root, self.path = root, path
        self.before, self.after, self.op = before, after, op
        self.hides, self.absent = hides, False
        self.out, self.element = Arena(), Arena()

    def read(self, message: bytes, start: cython.Py_ssize_t) -> tuple:
        """Return (op or None, before or None, after or None) of the message that begins at `start`.

        Raises:
            MessageError: it is not of the schema.
        """
        cursor: AvroCursor = self.cursor
        node: cython.int
        field: cython.int
        child: cython.int
        before = after = op = None
        cursor.open(message, start)
        node = self._envelope()
        if self.after < 0:
            after = self._image(node)
        else:
            for field in range(cursor.counts[node]):
                child = cursor.links[cursor.starts[node] + field]
                if field == self.before:
                    before = self._row(child)
                elif field == self.after:
                    after = self._row(child)
                elif field == self.op:
                    op = cursor.value(child, 1)
                else:
                    cursor.skip(child, 1)
        if not self.path and cursor.at != cursor.end:
            raise MessageError("a message is longer than its schema says")
        cursor.close()
        return op, before, after

    def value(self, message: bytes, start: cython.Py_ssize_t) -> object:
        """Return the whole message as Python values: records and maps as dicts. Raises MessageError."""
        cursor: AvroCursor = self.cursor
        cursor.open(message, start)
        found = cursor.value(self.root, 0)
        if cursor.at != cursor.end:
            raise MessageError("a message is longer than its schema says")
        return found

    @cython.cfunc
    @cython.exceptval(-1)
    def _envelope(self) -> cython.int:
        """Go to the envelope; return its node."""
        cursor: AvroCursor = self.cursor
        node: cython.int = cursor.branch(self.root)
        wanted: cython.int
        field: cython.int
        for wanted in self.path:
            for field in range(wanted):
                cursor.skip(cursor.links[cursor.starts[node] + field], 1)
            node = cursor.branch(cursor.links[cursor.starts[node] + wanted])
        if cursor.ops[node] != _RECORD:
            raise MessageError("a message is not a record where its row should be")
        return node

    @cython.cfunc
    def _row(self, node: cython.int) -> object:
        node = self.cursor.branch(node)
        if self.cursor.ops[node] == _NULL:
            return None
        if self.cursor.ops[node] != _RECORD:
            raise MessageError("a row is not a record")
        return self._image(node)

    @cython.cfunc
    def _image(self, node: cython.int) -> bytes:
        """Read a record and return its cells in the order of the table's columns."""
        cursor: AvroCursor = self.cursor
        column: cython.int
        field: cython.int
        link: cython.int
        after: cython.Py_ssize_t
        for column in range(self.width):
            self.at_of[column] = -1
        for field in range(cursor.counts[node]):
            link = cursor.starts[node] + field
            column = self.places[link]
            if column >= 0:
                self.at_of[column] = cursor.at
                self.node_of[column] = cursor.links[link]
            cursor.skip(cursor.links[link], 1)
        after = cursor.at
        self.out.cut(0)
        for column in range(self.width):
            if self.at_of[column] < 0:
                self.out.reserve(4)
                self.out.int32(_ABSENT)
            else:
                cursor.at = self.at_of[column]
                self._cell(self.node_of[column])
        cursor.at = after
        return self.out.take(self.out.size)

    @cython.cfunc
    @cython.exceptval(-1)
    def _cell(self, node: cython.int) -> cython.int:
        start: cython.Py_ssize_t = self.out.size
        good: cython.int
        if self.cursor.ops[node] == _UNION:
            node = self.cursor.branch(node)
        self.out.reserve(4)
        if self.cursor.ops[node] == _NULL:
            self.out.int32(_NO_VALUE)
            return 0
        self.out.int32(0)
        good = self._text(node, self.out, 1)
        end_cell(self.out, start, good, self.absent, self.hides)
        self.absent = False
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _text(self, node: cython.int, out: Arena, depth: cython.int) -> cython.int:
        """Append a value's canonical text; return 0 where it is NULL. What was not logged sets `absent`."""
        cursor: AvroCursor = self.cursor
        op: cython.int = cursor.ops[node]
        form: cython.int = self.forms[node]
        number: cython.longlong
        at: cython.Py_ssize_t
        end: cython.Py_ssize_t
        if form == 21:  # CALL
            found = self.calls[node](cursor.value(node, depth))
            if found is None:
                return 0
            put_bytes(out, found)
        elif op == _INT or op == _LONG:
            number = cursor.varint()
            if op == _INT and (number > _MOST_INT or number < -_MOST_INT - 1):
                raise MessageError("an int is longer than 32 bits")
            put_number(out, number, form)
        elif op == _STRING or op == _BYTES or op == _FIXED:
            end = cursor.length(node)
            at = cursor.at
            end += at
            if form == 19 and not (self.hides and is_unavailable(cursor.p, at, end)):  # DECIMAL
                put_decimal(out, cursor.p, at, end, self.parameters[node])
            elif put_piece(out, cursor.p, at, end, form, self.hides):
                self.absent = True
            cursor.at = end
        elif op == _BOOLEAN:
            put_bool(out, cursor.byte() != 0, form)
        elif op == _DOUBLE:
            put_float8(out, cursor.floating(8))
        elif op == _FLOAT:
            put_float4(out, cursor.floating(4))
        elif op == _ENUM:
            put_bytes(out, cursor.symbol(node))
        elif op == _ARRAY:
            self._array(node, out, depth)
        else:
            raise MessageError("a value is of a type that no column has")
        return 1

    @cython.cfunc
    @cython.exceptval(-1)
    def _array(self, node: cython.int, out: Arena, depth: cython.int) -> cython.int:
        cursor: AvroCursor = self.cursor
        left: cython.longlong
        item: cython.int = cursor.links[cursor.starts[node]]
        child: cython.int
        first: cython.bint = True
        good: cython.int
        # Elements that are arrays themselves are for functions (CALL), so one arena is enough.
        element: Arena = self.element
        out.reserve(1)
        out.byte(123)
        left = cursor.following(1)
        while left:
            child = cursor.branch(item) if cursor.ops[item] == _UNION else item
            element.cut(0)
            if cursor.ops[child] == _ARRAY:
                raise MessageError("an array of arrays is no column's value")
            good = 0
            if cursor.ops[child] != _NULL:
                good = self._text(child, element, depth + 1)
            put_item(out, element, good, first, self.parameters[node])
            first = False
            left = cursor.following(left)
        out.reserve(1)
        out.byte(125)
        return 0
