"""Protobuf messages to row images: driven by the writer's descriptors, cells come out as canonical text.

This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.bustext_cy import (
        put_bytes,
        put_cell_size,
        put_digits,
        put_float4,
        put_float8,
        put_number,
        put_unsigned,
    )
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
    from cython.cimports.cdcflow.codecs.protocursor_cy import ProtoCursor
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
    put_bytes, put_cell_size = _text.put_bytes, _text.put_cell_size
    put_digits, put_unsigned = _text.put_digits, _text.put_unsigned
    put_float4, put_float8, put_number = _text.put_float4, _text.put_float8, _text.put_number
    _cells = loading.plain("cdcflow.codecs.scancells_cy")
    end_cell, ints, offsets = _cells.end_cell, _cells.ints, _cells.offsets
    put_bool, put_item, put_piece = _cells.put_bool, _cells.put_item, _cells.put_piece
    ProtoCursor = loading.plain("cdcflow.codecs.protocursor_cy").ProtoCursor
    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena

from cdcflow.codecs.frames_cy import MessageError

# The numbers of FieldDescriptorProto.Type.
_DOUBLE = cython.declare(cython.int, 1)
_FLOAT = cython.declare(cython.int, 2)
_UINT64 = cython.declare(cython.int, 4)
_FIXED64 = cython.declare(cython.int, 6)
_BOOL = cython.declare(cython.int, 8)
_STRING = cython.declare(cython.int, 9)
_MESSAGE = cython.declare(cython.int, 11)
_BYTES = cython.declare(cython.int, 12)
_ENUM = cython.declare(cython.int, 14)

_ABSENT = cython.declare(cython.int, -2)
_NO_VALUE = cython.declare(cython.int, -1)
_CALL = cython.declare(cython.int, 21)
_ARRAY = cython.declare(cython.int, 20)


@cython.final
@cython.cclass
class ProtoScanner:
    """Reads messages of one type, for one table.

    Args:
        messages: (first field, fields) of each message type.
        fields: of each field (number, type, message type of it or -1, column or -1, form, parameter, repeated,
            whether one that is not there is its type's default); sorted by number within a message type. A column that
            is a list of ours has as parameter 256 times the field of its elements' value, and the delimiter.
        names: of the fields. symbols: of fields that are enums, a dict from number to name.
        calls: functions from a Python value to canonical text (None: NULL), by field.
        width: columns of the table. root: the message's type. path: numbers of fields that lead to the envelope.
        before, after, op: numbers of the envelope's fields, 0 where it has none. With no `after` it is the row.
        hides: whether `__debezium_unavailable_value` stands for a value that was not logged.
    """

    cursor: ProtoCursor
    columns: cython.p_int
    forms: cython.p_int
    parameters: cython.p_int
    implicit: cython.p_int
    field_of: cython.p_int
    size_of: cython.p_longlong
    at_of: cython.p_longlong
    kept: list
    names: list
    symbols: dict
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
        messages: list,
        fields: list,
        names: list,
        symbols: dict,
        calls: dict,
        width: int,
        root: int,
        path: tuple,
        before: int,
        after: int,
        op: int,
        hides: bool,
    ):
        self.cursor = ProtoCursor(messages, [(*field[:3], field[6]) for field in fields], names)
        columns, forms, parameters, implicit = ([field[place] for field in fields] for place in (3, 4, 5, 7))
        self.kept = []
        self.columns, self.forms = ints(self.kept, columns), ints(self.kept, forms)
        self.parameters, self.implicit = ints(self.kept, parameters), ints(self.kept, implicit)
        self.field_of = ints(self.kept, [-1] * width)
        self.at_of, self.size_of = offsets(self.kept, width), offsets(self.kept, width)
        self.names, self.symbols, self.calls = names, symbols, calls
        self.width, self.root, self.path = width, root, path
        self.before, self.after, self.op = before, after, op
        self.hides, self.absent = hides, False
        self.out, self.element = Arena(), Arena()

    def read(self, message: bytes, start: cython.Py_ssize_t) -> tuple:
        """Return (op or None, before or None, after or None) of the message that begins at `start`.

        Raises:
            MessageError: it is not of its type.
        """
        cursor: ProtoCursor = self.cursor
        kind: cython.int
        number: cython.int
        end: cython.Py_ssize_t
        before = after = op = None
        cursor.open(message, start)
        kind = self.root
        for wanted in self.path:
            kind = self._descend(kind, wanted)
        if self.after == 0:
            after = self._image(kind)
        else:
            end = cursor.end
            while cursor.at < end:
                number = cursor.step()
                if number in (self.before, self.after, self.op) and cursor.wire == 2:
                    cursor.end = cursor.at + cursor.size
                    if number == self.op:
                        op = cursor.piece().decode("utf-8", "replace")
                        cursor.at = cursor.end
                    elif number == self.before:
                        before = self._image(cursor.inner(kind, number))
                    else:
                        after = self._image(cursor.inner(kind, number))
                    cursor.end = end
                else:
                    cursor.at += cursor.size
        cursor.close()
        return op, before, after

    def value(self, message: bytes, start: cython.Py_ssize_t) -> object:
        """Return the whole message as Python values: messages as dicts, enums as their numbers. Raises MessageError."""
        self.cursor.open(message, start)
        return self.cursor.message(self.root, 0)

    @cython.cfunc
    @cython.exceptval(-1)
    def _descend(self, kind: cython.int, wanted: cython.int) -> cython.int:
        """Go into a field's message; it is all that there is from here on."""
        cursor: ProtoCursor = self.cursor
        number: cython.int
        while cursor.at < cursor.end:
            number = cursor.step()
            if number == wanted and cursor.wire == 2:
                cursor.end = cursor.at + cursor.size
                return cursor.inner(kind, number)
            cursor.at += cursor.size
        raise MessageError("a message has no data")

    @cython.cfunc
    def _image(self, kind: cython.int) -> bytes:
        """Read a row, all up to `end`, and return its cells in the order of the table's columns."""
        cursor: ProtoCursor = self.cursor
        start: cython.Py_ssize_t = cursor.at
        end: cython.Py_ssize_t = cursor.end
        column: cython.int
        field: cython.int
        for column in range(self.width):
            self.at_of[column] = -1
            self.field_of[column] = -1
        for field in range(cursor.firsts[kind], cursor.firsts[kind] + cursor.counts[kind]):
            if self.columns[field] >= 0:
                self.field_of[self.columns[field]] = field
        cursor.hint = cursor.firsts[kind]
        while cursor.at < end:
            field = cursor.field(kind, cursor.step())
            if field >= 0 and self.columns[field] >= 0:
                cursor.expect(field)
                self.at_of[self.columns[field]] = cursor.at
                self.size_of[self.columns[field]] = cursor.size
            cursor.at += cursor.size
        self.out.cut(0)
        for column in range(self.width):
            field = self.field_of[column]
            self.out.reserve(4)
            if field < 0:
                self.out.int32(_ABSENT)
            elif cursor.repeats[field]:
                cursor.at, cursor.end = start, end
                self._cell(kind, field, True)
            elif self.at_of[column] < 0:
                if self.implicit[field]:
                    self._default(field)
                else:
                    self.out.int32(_NO_VALUE)
            else:
                cursor.at = self.at_of[column]
                cursor.end = cursor.at + self.size_of[column]
                self._cell(kind, field, False)
        cursor.at = cursor.end = end
        return self.out.take(self.out.size)

    @cython.cfunc
    @cython.exceptval(-1)
    def _cell(self, kind: cython.int, field: cython.int, many: cython.bint) -> cython.int:
        start: cython.Py_ssize_t = self.out.size
        good: cython.int = 1
        self.out.int32(0)
        if many and self.forms[field] == _CALL:
            found = self.calls[field](self.cursor.message(kind, 1).get(self.names[field]))
            if found is None:
                good = 0
            else:
                put_bytes(self.out, found)
        elif many:
            self._repeated(field)
        else:
            good = self._text(field, self.out)
        end_cell(self.out, start, good, self.absent, self.hides)
        self.absent = False
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _default(self, field: cython.int) -> cython.int:
        """Append the cell of a field without presence that is not there: its type's default."""
        type_: cython.int = self.cursor.types[field]
        start: cython.Py_ssize_t = self.out.size
        self.out.int32(0)
        if type_ == _STRING:
            pass
        elif type_ == _BYTES:
            put_bytes(self.out, b"\\x")
        elif type_ == _BOOL:
            put_bytes(self.out, b"f")
        elif type_ == _ENUM:
            put_bytes(self.out, self.symbols[field].get(0, b"0"))
        elif type_ == _DOUBLE or type_ == _FLOAT:
            put_bytes(self.out, b"0")
        else:
            put_number(self.out, 0, self.forms[field])
        put_cell_size(self.out, start)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _text(self, field: cython.int, out: Arena) -> cython.int:
        """Append the canonical text of the value from `at` to `end`; return 0 where it is NULL."""
        cursor: ProtoCursor = self.cursor
        type_: cython.int = cursor.types[field]
        form: cython.int = self.forms[field]
        number: cython.longlong
        if form == _CALL:
            found = self.calls[field](cursor.value(field, 1))
            if found is None:
                return 0
            put_bytes(out, found)
        elif type_ == _STRING or type_ == _BYTES:
            if put_piece(out, cursor.p, cursor.at, cursor.end, form, self.hides):
                self.absent = True
        elif type_ == _BOOL:
            put_bool(out, cursor.integer(type_) != 0, form)
        elif type_ == _DOUBLE:
            put_float8(out, cursor.floating(type_))
        elif type_ == _FLOAT:
            put_float4(out, cursor.floating(type_))
        elif type_ == _UINT64 or type_ == _FIXED64:
            put_unsigned(
                out,
                cython.cast(cython.ulonglong, cursor.integer(type_))
                if cython.compiled
                else cursor.integer(type_) & 0xFFFFFFFFFFFFFFFF,
            )
        elif type_ == _ENUM:
            number = cursor.integer(type_)
            symbol = self.symbols[field].get(number)
            if symbol is None:
                put_digits(out, number)
            else:
                put_bytes(out, symbol)
        elif type_ == _MESSAGE and form == _ARRAY:
            self._list(field, out)
        elif type_ == _MESSAGE:
            raise MessageError("a value is of a type that no column has")
        else:
            put_number(out, cursor.integer(type_), form)
        return 1

    @cython.cfunc
    @cython.exceptval(-1)
    def _list(self, field: cython.int, out: Arena) -> cython.int:
        """Append a list of ours: each element is a message that holds its value, or nothing for NULL."""
        cursor: ProtoCursor = self.cursor
        end: cython.Py_ssize_t = cursor.end
        item_end: cython.Py_ssize_t
        of: cython.int = self.parameters[field] >> 8
        delimiter: cython.int = self.parameters[field] & 255
        first: cython.bint = True
        found: cython.bint
        out.reserve(1)
        out.byte(123)
        while cursor.at < end:
            if cursor.step() != 1 or cursor.wire != 2:
                cursor.at += cursor.size
                continue
            item_end = cursor.at + cursor.size
            cursor.end = item_end
            found = False
            while cursor.at < item_end:
                if cursor.step() == cursor.numbers[of] and not found:
                    cursor.expect(of)
                    cursor.end = cursor.at + cursor.size
                    self._item(of, out, first, delimiter)
                    found = True
                    cursor.at = cursor.end
                    cursor.end = item_end
                else:
                    cursor.at += cursor.size
            if not found:
                put_item(out, self.element, False, first, delimiter)
            first = False
            cursor.at = item_end
            cursor.end = end
        out.reserve(1)
        out.byte(125)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _repeated(self, field: cython.int) -> cython.int:
        """Append the values of a repeated field as an array: it may come in pieces, packed or one by one."""
        cursor: ProtoCursor = self.cursor
        end: cython.Py_ssize_t = cursor.end
        stop: cython.Py_ssize_t
        number: cython.int
        first: cython.bint = True
        put_bytes(self.out, b"{")
        while cursor.at < end:
            number = cursor.step()
            stop = cursor.at + cursor.size
            if number == cursor.numbers[field]:
                if cursor.packed(field):
                    while cursor.at < stop:
                        cursor.next_packed(field, stop)
                        self._item(field, self.out, first, 44)
                        cursor.at = cursor.end
                        first = False
                else:
                    cursor.end = stop
                    self._item(field, self.out, first, 44)
                    first = False
            cursor.at = stop
            cursor.end = end
        put_bytes(self.out, b"}")
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _item(self, field: cython.int, out: Arena, first: cython.bint, delimiter: cython.int) -> cython.int:
        element: Arena = self.element
        good: cython.int
        element.cut(0)
        good = self._text(field, element)
        put_item(out, element, good, first, delimiter)
        return 0
