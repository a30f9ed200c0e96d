"""A Protobuf message under a cursor: by the writer's descriptors fields are passed over, or read as Python values.

Encoding: https://protobuf.dev/programming-guides/encoding/
This file runs as it is and is compiled by Cython where a compiler is there; protocursor_cy.pxd declares for other
compiled modules what the class holds. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.frames_cy import pointer
    from cython.cimports.cdcflow.codecs.scancells_cy import floating, ints, utf8
else:
    from cdcflow.codecs import loading

    _cells = loading.plain("cdcflow.codecs.scancells_cy")
    floating, ints, utf8 = _cells.floating, _cells.ints, _cells.utf8
    pointer = loading.plain("cdcflow.codecs.frames_cy").pointer

from cdcflow.codecs.frames_cy import MessageError

# The numbers of FieldDescriptorProto.Type.
_DOUBLE = cython.declare(cython.int, 1)
_FLOAT = cython.declare(cython.int, 2)
_UINT64 = cython.declare(cython.int, 4)
_FIXED64 = cython.declare(cython.int, 6)
_FIXED32 = cython.declare(cython.int, 7)
_BOOL = cython.declare(cython.int, 8)
_STRING = cython.declare(cython.int, 9)
_MESSAGE = cython.declare(cython.int, 11)
_BYTES = cython.declare(cython.int, 12)
_UINT32 = cython.declare(cython.int, 13)
_ENUM = cython.declare(cython.int, 14)
_SFIXED32 = cython.declare(cython.int, 15)
_SFIXED64 = cython.declare(cython.int, 16)
_SINT32 = cython.declare(cython.int, 17)
_SINT64 = cython.declare(cython.int, 18)
_INT32 = cython.declare(cython.int, 5)

_DEEPEST = cython.declare(cython.int, 100)
# Named, because a literal beyond 31 bits is a Python object to the compiler.
_MOST_UINT32 = cython.declare(cython.ulonglong, 4294967295)
_TWO_TO_32 = cython.declare(cython.longlong, 4294967296)


@cython.final
@cython.cclass
class ProtoCursor:
    """A place, `at`, in a message, whose bytes are `p` up to `end`, or in one of those within it.

    Args:
        messages: (first field, fields) of each message type.
        fields: of each field (number, type, message type of it or -1, repeated); sorted by number within a message
            type.
        names: of the fields.
    """

    def __init__(self, messages: list, fields: list, names: list):
        firsts, counts = ([message[place] for message in messages] for place in range(2))
        numbers, types, inners, repeats = ([field[place] for field in fields] for place in range(4))
        kept: list = []
        self.kept = kept
        self.firsts, self.counts = ints(kept, firsts), ints(kept, counts)
        self.numbers, self.types = ints(kept, numbers), ints(kept, types)
        self.inners, self.repeats = ints(kept, inners), ints(kept, repeats)
        self.names = names
        self.held = b""
        self.at = self.end = self.size = 0
        self.wire = self.hint = 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def open(self, message: bytes, start: cython.Py_ssize_t) -> cython.int:
        """Go to `start` in another message, which is held until `close`."""
        if start < 0 or start > len(message):
            raise MessageError("a message has no body")
        self.held = message
        self.p = pointer(message)
        self.at = start
        self.end = len(message)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close(self) -> cython.int:
        """Forget the message."""
        self.held = b""
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def step(self) -> cython.int:
        """Read a field's number and go to its value: of `size` bytes, stored as `wire` says."""
        tag: cython.ulonglong = self.varint()
        if tag < 8 or tag > _MOST_UINT32:
            raise MessageError("a field has no such number")
        self.wire = tag & 7
        self.measure()
        return cython.cast(cython.int, tag >> 3)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1, check=False)
    def measure(self) -> cython.int:
        """Note in `size` how many bytes the value has that begins at `at`, or behind its length there."""
        size: cython.ulonglong
        at: cython.Py_ssize_t = self.at
        if self.wire == 0:
            while at < self.end and self.p[at] >= 128:
                at += 1
            size = at + 1 - self.at
        elif self.wire == 1:
            size = 8
        elif self.wire == 2:
            size = self.varint()
        elif self.wire == 5:
            size = 4
        else:
            raise MessageError("a field is stored in a way that is not known")
        if size > cython.cast(cython.ulonglong, self.end - self.at):
            raise MessageError("a message ends inside a value")
        self.size = cython.cast(cython.Py_ssize_t, size)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def field(self, kind: cython.int, number: cython.int) -> cython.int:
        """Return the field with that number, -1 for one that the type does not have."""
        low: cython.int = self.firsts[kind]
        high: cython.int = low + self.counts[kind]
        middle: cython.int
        # Most come in the order of their numbers.
        if low <= self.hint < high and self.numbers[self.hint] == number:
            self.hint += 1
            return self.hint - 1
        while low < high:
            middle = (low + high) // 2
            if self.numbers[middle] < number:
                low = middle + 1
            else:
                high = middle
        if low < self.firsts[kind] + self.counts[kind] and self.numbers[low] == number:
            self.hint = low + 1
            return low
        return -1

    @cython.cfunc
    @cython.exceptval(-1)
    def inner(self, kind: cython.int, number: cython.int) -> cython.int:
        """Return the message type of the field with that number."""
        field: cython.int = self.field(kind, number)
        if field < 0 or self.inners[field] < 0:
            raise MessageError("a row is not a message")
        return self.inners[field]

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def expect(self, field: cython.int) -> cython.int:
        """Check that a field's value is stored as its type is, or packed."""
        wire: cython.int = _wire(self.types[field])
        if self.wire != wire and not (self.repeats[field] and self.wire == 2 and wire != 3):
            raise MessageError("a field is not stored as its type is")
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def packed(self, field: cython.int) -> cython.bint:
        """Return whether a repeated field's values stand here one behind another."""
        return self.wire == 2 and _wire(self.types[field]) != 2

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def next_packed(self, field: cython.int, stop: cython.Py_ssize_t) -> cython.int:
        """Set `end` to that of the next of the values that stand one behind another up to `stop`."""
        self.wire = _wire(self.types[field])
        self.end = stop
        self.measure()
        self.end = self.at + self.size
        return 0

    @cython.cfunc
    def message(self, kind: cython.int, depth: cython.int) -> object:
        """Read a message up to `end` as a dict."""
        end: cython.Py_ssize_t = self.end
        stop: cython.Py_ssize_t
        number: cython.int
        field: cython.int
        found: dict = {}
        if depth > _DEEPEST:
            raise MessageError("a message is nested too deeply")
        while self.at < end:
            number = self.step()
            stop = self.at + self.size
            field = self.field(kind, number)
            if field >= 0:
                self.expect(field)
                name = self.names[field]
                if self.repeats[field] and self.packed(field):
                    while self.at < stop:
                        self.next_packed(field, stop)
                        found.setdefault(name, []).append(self.value(field, depth))
                        self.at = self.end
                else:
                    self.end = stop
                    one = self.value(field, depth)
                    if self.repeats[field]:
                        found.setdefault(name, []).append(one)
                    else:
                        found[name] = one
            self.at = stop
            self.end = end
        return found

    @cython.cfunc
    def value(self, field: cython.int, depth: cython.int) -> object:
        """Return the value from `at` to `end`: a message as a dict, an enum as its number."""
        type_: cython.int = self.types[field]
        if type_ == _MESSAGE:
            if self.inners[field] < 0:
                return None
            return self.message(self.inners[field], depth + 1)
        if type_ == _STRING:
            return utf8(self.p, self.at, self.end)
        if type_ == _BYTES:
            return self.piece()
        if type_ == _DOUBLE or type_ == _FLOAT:
            return self.floating(type_)
        number = self.integer(type_)
        if type_ == _BOOL:
            return number != 0
        return number & 0xFFFFFFFFFFFFFFFF if type_ == _UINT64 or type_ == _FIXED64 else number

    @cython.cfunc
    def piece(self) -> bytes:
        """Return the bytes from `at` to `end`."""
        return self.p[self.at : self.end]

    @cython.cfunc
    @cython.exceptval(-1)
    def floating(self, type_: cython.int) -> cython.double:
        """Return the number at `at`."""
        return floating(self.p, self.at, self.end, 8 if type_ == _DOUBLE else 4)

    @cython.cfunc
    @cython.exceptval(-1)
    def integer(self, type_: cython.int) -> cython.longlong:
        """Read the whole number at `at`. Unsigned ones of 64 bits come with the sign that their bits have."""
        found: cython.ulonglong = 0
        index: cython.int
        size: cython.int
        if type_ == _FIXED64 or type_ == _SFIXED64 or type_ == _FIXED32 or type_ == _SFIXED32:
            size = 8 if type_ == _FIXED64 or type_ == _SFIXED64 else 4
            if self.end - self.at < size:
                raise MessageError("a message ends inside a number")
            for index in range(size):
                found |= cython.cast(cython.ulonglong, self.p[self.at + index]) << (8 * index)
            self.at += size
            if type_ == _SFIXED32 and found > 2147483647:
                return cython.cast(cython.longlong, found) - _TWO_TO_32
        else:
            found = self.varint()
            if type_ == _SINT32 or type_ == _SINT64:
                if found & 1:
                    return -cython.cast(cython.longlong, found >> 1) - 1
                return cython.cast(cython.longlong, found >> 1)
            if type_ == _UINT32:
                return cython.cast(cython.longlong, found & _MOST_UINT32)
            if type_ == _INT32 or type_ == _ENUM:
                found &= _MOST_UINT32  # a reader of 32 bits takes the lower ones
                return cython.cast(cython.longlong, found) - (_TWO_TO_32 if found > 2147483647 else 0)
        if cython.compiled:
            return cython.cast(cython.longlong, found)
        return found - (1 << 64) if found >> 63 else found

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def varint(self) -> cython.ulonglong:
        """Read a number that is as long as it says itself."""
        if self.at < self.end and self.p[self.at] < 128:  # most are
            self.at += 1
            return self.p[self.at - 1]
        return self._varint()

    @cython.cfunc
    @cython.exceptval(-1)
    def _varint(self) -> cython.ulonglong:
        shift: cython.int = 0
        byte: cython.int
        found: cython.ulonglong = 0
        while True:
            if self.at >= self.end:
                raise MessageError("a message ends inside a number")
            byte = self.p[self.at]
            self.at += 1
            if shift == 63 and byte > 1:
                raise MessageError("a number is longer than 64 bits")
            found |= cython.cast(cython.ulonglong, byte & 127) << shift
            if byte < 128:
                return found
            shift += 7


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _wire(type_: cython.int) -> cython.int:
    """Return how values of a type are stored: 0 varint, 1 and 5 8 and 4 bytes, 2 behind a length, 3 not at all."""
    if type_ == _STRING or type_ == _BYTES or type_ == _MESSAGE:
        return 2
    if type_ == _DOUBLE or type_ == _FIXED64 or type_ == _SFIXED64:
        return 1
    if type_ == _FLOAT or type_ == _FIXED32 or type_ == _SFIXED32:
        return 5
    return 3 if type_ == 10 else 0
