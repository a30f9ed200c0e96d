"""An Avro message under a cursor: by a schema's flat program values are passed over, or read as Python values.

Binary encoding: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
This file runs as it is and is compiled by Cython where a compiler is there; avrocursor_cy.pxd declares for other
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
_MAP = cython.declare(cython.int, 11)
_UNION = cython.declare(cython.int, 12)
_RECORD = cython.declare(cython.int, 13)

# Deeper than any schema that is not recursive; recursive ones are deep where a message says so.
_DEEPEST = cython.declare(cython.int, 128)
# Steps that a message may take beyond some for each of its bytes: types without bytes (null, empty records) could
# otherwise be asked for without end.
_FREE_STEPS = cython.declare(cython.longlong, 200000)


@cython.final
@cython.cclass
class AvroCursor:
    """A place, `at`, in a message of one schema, whose bytes are `p` up to `end`.

    Args:
        nodes: (op, links' start, links' count, size of a fixed) of each node of the program.
        links: nodes that nodes lead to.
        symbols: bytes of each enum's symbols, by node.
        names: of records' fields, by node.
    """

    def __init__(self, nodes: list, links: list, symbols: dict, names: dict):
        ops, starts, counts, sizes = ([node[place] for node in nodes] for place in range(4))
        kept: list = []
        self.kept = kept
        self.ops, self.starts, self.counts = ints(kept, ops), ints(kept, starts), ints(kept, counts)
        self.sizes, self.links = ints(kept, sizes), ints(kept, links)
        self.symbols, self.names = symbols, names
        self.held = b""
        self.at = self.end = 0
        self.steps = 0

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
        self.steps = _FREE_STEPS + 16 * self.end
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close(self) -> cython.int:
        """Forget the message."""
        self.held = b""
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def branch(self, node: cython.int) -> cython.int:
        """Return the node itself, or the branch that the message says of a union."""
        chosen: cython.longlong
        if self.ops[node] == _UNION:
            chosen = self.varint()
            if chosen < 0 or chosen >= self.counts[node]:
                raise MessageError("a union has no such branch")
            node = self.links[self.starts[node] + chosen]
        return node

    @cython.cfunc
    @cython.exceptval(-1)
    def skip(self, node: cython.int, depth: cython.int) -> cython.int:
        """Go past a value."""
        op: cython.int = self.ops[node]
        size: cython.Py_ssize_t
        left: cython.longlong
        field: cython.int
        self._step(depth)
        if op == _UNION:
            node = self.branch(node)
            op = self.ops[node]
        if op == _NULL:
            return 0
        if op == _INT or op == _LONG:
            while self.byte() >= 128:
                pass
            return 0
        if op == _STRING or op == _BYTES or op == _FIXED:
            size = self.length(node)
        elif op == _BOOLEAN:
            size = 1
        elif op == _FLOAT:
            size = 4
        elif op == _DOUBLE:
            size = 8
        elif op == _RECORD:
            for field in range(self.counts[node]):
                self.skip(self.links[self.starts[node] + field], depth + 1)
            return 0
        elif op == _ARRAY or op == _MAP:
            left = self.following(1)
            while left:
                if op == _MAP:
                    size = self._length()
                    self.at += size
                self.skip(self.links[self.starts[node]], depth + 1)
                left = self.following(left)
            return 0
        elif op == _UNION:
            return self.skip(node, depth + 1)
        else:
            self.varint()
            return 0
        if size > self.end - self.at:
            raise MessageError("a message ends inside a value")
        self.at += size
        return 0

    @cython.cfunc
    def value(self, node: cython.int, depth: cython.int) -> object:
        """Read a value as a Python value: records and maps as dicts."""
        op: cython.int
        size: cython.Py_ssize_t
        left: cython.longlong
        field: cython.int
        piece: bytes
        self._step(depth)
        node = self.branch(node)
        op = self.ops[node]
        if op == _NULL:
            return None
        if op == _BOOLEAN:
            return self.byte() != 0
        if op == _INT or op == _LONG:
            return self.varint()
        if op == _FLOAT:
            return self.floating(4)
        if op == _DOUBLE:
            return self.floating(8)
        if op == _STRING or op == _BYTES or op == _FIXED:
            size = self.length(node)
            self.at += size
            if op == _STRING:
                return utf8(self.p, self.at - size, self.at)
            piece = self.p[self.at - size : self.at]
            return piece
        if op == _ENUM:
            return self.symbol(node).decode("utf-8")
        if op == _RECORD:
            names = self.names[node]
            record = {}
            for field in range(self.counts[node]):
                record[names[field]] = self.value(self.links[self.starts[node] + field], depth + 1)
            return record
        if op == _UNION:
            return self.value(node, depth + 1)
        items: list = []
        mapped: dict = {}
        left = self.following(1)
        while left:
            if op == _MAP:
                size = self._length()
                piece = self.p[self.at : self.at + size]
                self.at += size
                mapped[piece.decode("utf-8", "replace")] = self.value(self.links[self.starts[node]], depth + 1)
            else:
                items.append(self.value(self.links[self.starts[node]], depth + 1))
            left = self.following(left)
        return mapped if op == _MAP else items

    @cython.cfunc
    def symbol(self, node: cython.int) -> bytes:
        """Read an enum's symbol."""
        chosen: cython.longlong = self.varint()
        if chosen < 0 or chosen >= len(self.symbols[node]):
            raise MessageError("an enum has no such symbol")
        return self.symbols[node][chosen]

    @cython.cfunc
    @cython.exceptval(-1)
    def following(self, left: cython.longlong) -> cython.longlong:
        """Return how many items an array or map has from here on in its block, 0 behind the last; `left` is how many
        there were before the item that has been read, and 1 before the first."""
        if left > 1:
            return left - 1
        left = self.varint()
        if left < 0:
            if left < -_FREE_STEPS - 16 * self.end:
                raise MessageError("a block holds more values than bytes")
            left = -left
            self.varint()  # its size in bytes is not needed
        if left > _FREE_STEPS + self.end:
            raise MessageError("a block holds more values than bytes")
        self._step(0)
        return left

    @cython.cfunc
    @cython.exceptval(-1)
    def length(self, node: cython.int) -> cython.Py_ssize_t:
        """Return how many bytes a text, bytes or a fixed has: they begin at `at` then, and are there whole."""
        if self.ops[node] != _FIXED:
            return self._length()
        if self.sizes[node] > self.end - self.at:
            raise MessageError("a message ends inside a value")
        return self.sizes[node]

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def _length(self) -> cython.Py_ssize_t:
        size: cython.longlong = self.varint()
        if size < 0 or size > self.end - self.at:
            raise MessageError("a message ends inside a value")
        return size

    @cython.cfunc
    @cython.exceptval(-1)
    def varint(self) -> cython.longlong:
        """Read a number in zigzag form."""
        shift: cython.int = 0
        byte: cython.int
        found: cython.ulonglong = 0
        while True:
            byte = self.byte()
            if shift == 63 and byte > 1:
                raise MessageError("a number is longer than 64 bits")
            found |= cython.cast(cython.ulonglong, byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        if found & 1:
            return -cython.cast(cython.longlong, found >> 1) - 1
        return cython.cast(cython.longlong, found >> 1)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def byte(self) -> cython.int:
        """Read a byte."""
        if self.at >= self.end:
            raise MessageError("a message ends inside a value")
        self.at += 1
        return self.p[self.at - 1]

    @cython.cfunc
    @cython.exceptval(-1)
    def floating(self, size: cython.int) -> cython.double:
        """Read a number of eight or of four bytes."""
        value: cython.double = floating(self.p, self.at, self.end, size)
        self.at += size
        return value

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def _step(self, depth: cython.int) -> cython.int:
        self.steps -= 1
        if depth > _DEEPEST:
            raise MessageError("a message is nested too deeply")
        if self.steps < 0:
            raise MessageError("a message holds more values than bytes")
        return 0
