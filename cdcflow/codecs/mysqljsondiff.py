"""A JSON document after the changes that a PARTIAL_UPDATE_ROWS event tells, as the text that the server prints.

Format of the changes: the comment on Json_diff_vector in the server's sql/json_diff.h. Documents that change by parts
are rare beside rows, so this is plain Python on a tree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from cdcflow.codecs.frames_cy import MessageError
from cdcflow.codecs.mysqldocuments import marks
from cdcflow.codecs.mysqljson_cy import JsonText

_REPLACE: Final = 0
_INSERT: Final = 1
_REMOVE: Final = 2
_DEEPEST: Final = 100

# `.key`, `."key"`, `[3]`, `[last]` and `[last-3]`, with spaces where the server takes them.
_LEG: Final = re.compile(
    rb"""\s*(?:\.\s*(?:("(?:[^"\\]|\\.)*")|([^\s".\[]+))|\[\s*(?:(last)\s*(?:-\s*([0-9]{1,9}))?|([0-9]{1,10}))\s*\])""",
    re.DOTALL,
)

# A node is the text of a scalar (bytes), a list of nodes, or a dict of nodes by the key's bytes.
Node = Any


class _Typed(bytes):
    """The text of a value of an SQL type."""

    type: int


class _Position(int):
    """A place in an array; negative counts from its end, -1 being the last."""


def patched(document: bytes, changes: bytes, *, typed: bool = False) -> bytes:
    """Apply changes to a binary document, in their order; return the text of what becomes of it, and with `typed`
    behind it what `mysqldocuments` reads, as `JsonText` does.

    Raises:
        MessageError: the document or a change is malformed, or a change does not fit the document.
    """
    root = [_tree(document)]  # one level above, so that the whole can be replaced too
    at = 0
    while at < len(changes):
        operation = changes[at]
        path, at = _piece(changes, at + 1)
        legs = _legs(path)
        if operation == _REMOVE:
            _remove(root, legs)
            continue
        if operation not in (_REPLACE, _INSERT):
            raise MessageError("a change of a JSON document of an unknown kind")
        value, at = _piece(changes, at)
        (_replace if operation == _REPLACE else _insert)(root, legs, _tree(value))
    parts: list[bytes] = []
    _print(root[0], parts, 0)
    types = [(number, node.type) for number, node in enumerate(_all(root[0])) if isinstance(node, _Typed)]
    if typed and types:
        parts.append(marks(types))
    return b"".join(parts)


def _piece(changes: bytes, at: int) -> tuple[bytes, int]:
    """Return what stands behind a length-encoded length at `at`, and where it ends."""
    sizes = {252: 2, 253: 3, 254: 8}
    if at >= len(changes) or changes[at] == 251 or changes[at] == 255:
        raise MessageError("a change of a JSON document ends early")
    length, start = changes[at], at + 1
    if length in sizes:
        start = at + 1 + sizes[length]
        length = int.from_bytes(changes[at + 1 : start], "little")
    if start + length > len(changes):
        raise MessageError("a change of a JSON document ends early")
    return changes[start : start + length], start + length


def _legs(path: bytes) -> list[bytes | _Position]:
    """Return the way from the root: keys of objects and places in arrays."""
    path = path.strip()
    if path[:1] != b"$":
        raise MessageError("a change of a JSON document has a path that is none")
    legs: list[bytes | _Position] = []
    at = 1
    while at < len(path):
        leg = _LEG.match(path, at)
        if leg is None:
            raise MessageError("a change of a JSON document has a path that is none")
        quoted, bare, last, before, place = leg.groups()
        if quoted is not None:
            try:
                legs.append(json.loads(quoted, strict=False).encode())
            except ValueError:
                raise MessageError("a change of a JSON document has a path that is none") from None
        elif bare is not None:
            legs.append(bare)
        elif last is not None:
            legs.append(_Position(-1 - int(before or 0)))
        else:
            legs.append(_Position(place))
        at = leg.end()
    return legs


def _tree(document: bytes) -> Node:
    if not document:
        return b"null"
    return _Document(document).node(document[0], 1, len(document), 0)


class _Document:
    """A binary document; `budget` bytes of it may still be read, as in `mysqljson_cy`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.budget = len(data)
        self.text = JsonText()

    def node(self, kind: int, at: int, end: int, depth: int) -> Node:
        if kind > 3:
            # The text of a scalar is as long as what it was made of, and more.
            text = self.text.scalar(kind, self.data, at, end)
            self.budget -= 1
            if kind in (12, 15):
                self.budget -= len(text) // 6
            if kind == 15:
                text = _Typed(text)
                text.type = self.data[at]
            return self._checked(text)
        unit = 4 if kind & 1 else 2
        if depth >= _DEEPEST or end - at < 2 * unit:
            raise MessageError("a JSON document is too deep or too short")
        count, size = self._number(at, unit), self._number(at + unit, unit)
        values = at + 2 * unit + (count * (unit + 2) if kind < 2 else 0)
        if size > end - at or values + count * (unit + 1) > at + size:
            raise MessageError("a JSON document ends inside its entries")
        self.budget -= values - at + count * unit
        self._checked(None)
        nodes = [self._entry(values + i * (unit + 1), unit, at, size, depth) for i in range(count)]
        if kind > 1:
            return nodes
        keys = []
        for i in range(count):
            entry = at + 2 * unit + i * (unit + 2)
            offset, length = self._number(entry, unit), self._number(entry + unit, 2)
            if offset + length > size:
                raise MessageError("a JSON document ends inside a key")
            self.budget -= length
            keys.append(self.data[at + offset : at + offset + length])
        self._checked(None)
        return dict(zip(keys, nodes, strict=True))

    def _entry(self, entry: int, unit: int, base: int, size: int, depth: int) -> Node:
        kind = self.data[entry]
        if 4 <= kind <= 6 or (unit == 4 and kind in (7, 8)):
            return self.node(kind, entry + 1, entry + 1 + unit, depth)
        offset = self._number(entry + 1, unit)
        if offset > size:
            raise MessageError("a JSON document ends before a value")
        return self.node(kind, base + offset, base + size, depth + 1)

    def _number(self, at: int, size: int) -> int:
        return int.from_bytes(self.data[at : at + size], "little")

    def _checked(self, node: Node) -> Node:
        if self.budget < 0:
            raise MessageError("a JSON document uses bytes twice")
        return node


def _all(node: Node) -> Iterator[Node]:
    """Yield every node in the order of the text, a container before what is in it."""
    yield node
    if isinstance(node, dict):
        for key in _sorted(node):
            yield from _all(node[key])
    elif isinstance(node, list):
        for inner in node:
            yield from _all(inner)


def _sorted(node: dict[bytes, Node]) -> list[bytes]:
    """Return the keys in the server's order: the shorter first."""
    return sorted(node, key=lambda key: (len(key), key))


def _print(node: Node, parts: list[bytes], depth: int) -> None:
    if depth > _DEEPEST:
        raise MessageError("a JSON document is too deep")
    if isinstance(node, bytes):
        parts.append(node)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            parts.append(b", " if index else b"[")
            _print(item, parts, depth + 1)
        parts.append(b"]" if node else b"[]")
    else:
        for index, key in enumerate(_sorted(node)):
            parts.append(b", " if index else b"{")
            parts.append(_quoted(key))
            parts.append(b": ")
            _print(node[key], parts, depth + 1)
        parts.append(b"}" if node else b"{}")


def _quoted(key: bytes) -> bytes:
    """Return a string's text, by way of a document that has only it."""
    length, head = len(key), bytearray([12])
    while length >= 128:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return JsonText().text(bytes(head) + key)


def _child(node: Node, leg: bytes | _Position) -> Node:
    if isinstance(leg, bytes):
        if isinstance(node, dict) and leg in node:
            return node[leg]
    elif isinstance(node, list):
        place = leg if leg >= 0 else len(node) + leg
        if 0 <= place < len(node):
            return node[place]
    raise MessageError("a change of a JSON document is at a path that it does not have")


def _parent(root: list[Node], legs: list[bytes | _Position]) -> tuple[Node, bytes | _Position]:
    """Return the container that the last leg is in, and that leg."""
    way: list[bytes | _Position] = [_Position(0), *legs]
    node: Node = root
    for leg in way[:-1]:
        node = _child(node, leg)
    return node, way[-1]


def _place(node: list[Node], leg: bytes | _Position) -> int:
    return int(leg) if int(leg) >= 0 else max(0, len(node) + int(leg))


def _replace(root: list[Node], legs: list[bytes | _Position], value: Node) -> None:
    node, leg = _parent(root, legs)
    _child(node, leg)
    node[leg if isinstance(leg, bytes) else _place(node, leg)] = value


def _insert(root: list[Node], legs: list[bytes | _Position], value: Node) -> None:
    node, leg = _parent(root, legs)
    if not legs:
        raise MessageError("a change of a JSON document adds a root")
    if isinstance(leg, bytes) and isinstance(node, dict) and leg not in node:
        node[leg] = value
    elif not isinstance(leg, bytes) and isinstance(node, list):
        node.insert(_place(node, leg), value)  # behind the end is at the end
    else:
        raise MessageError("a change of a JSON document adds what is there")


def _remove(root: list[Node], legs: list[bytes | _Position]) -> None:
    node, leg = _parent(root, legs)
    if not legs:
        raise MessageError("a change of a JSON document removes its root")
    _child(node, leg)
    del node[leg if isinstance(leg, bytes) else _place(node, leg)]
