"""An Avro schema as a flat list of nodes: names resolved, checked once, so that a message is read without asking again.

Schemas: https://avro.apache.org/docs/1.12.0/specification/#schema-declaration
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, unique
from typing import Any, Final

from cdcflow.errors import DecodeError

# Registries take schemas of some megabytes; a table of 4,096 columns with parameters has one.
MOST_BYTES: Final = 16 * 1024 * 1024
MOST_NODES: Final = 100_000
DEEPEST: Final = 64


@unique
class Op(IntEnum):
    """What stands in the bytes at a node."""

    NULL = 0
    BOOLEAN = 1
    INT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    BYTES = 6
    STRING = 7
    FIXED = 8
    ENUM = 9
    ARRAY = 10
    MAP = 11
    UNION = 12
    RECORD = 13


_PRIMITIVES: Final = {op.name.lower(): op for op in Op if op <= Op.STRING}
_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(slots=True)
class Node:
    """One place of a schema.

    children: nodes of a record's fields, a union's branches, an array's items, a map's values. names: of a record's
    fields, or an enum's symbols. size: of a fixed. said: what the schema says beside (logicalType, connect.name,
    default, ...). fields: the same for each of a record's fields.
    """

    op: Op
    name: str = ""
    children: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    size: int = 0
    said: Mapping[str, Any] = field(default_factory=dict)
    fields: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def logical(self) -> str:
        """The logical type, '' where there is none."""
        kind = self.said.get("logicalType")
        return kind if isinstance(kind, str) else ""

    @property
    def connect(self) -> str:
        """The name that Connect knows the schema by, '' where there is none."""
        name = self.said.get("connect.name")
        return name if isinstance(name, str) else ""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Connect's parameters of the schema."""
        found = self.said.get("connect.parameters")
        return found if isinstance(found, dict) else _NOTHING


@dataclass(frozen=True, slots=True)
class Program:
    """A schema's nodes; the message begins at node `root`."""

    nodes: list[Node]
    root: int

    def plain(self, node: int) -> int:
        """Return the node behind `["null", T]`, the node itself where it is no such union."""
        found = self.nodes[node]
        if found.op is Op.UNION:
            rest = [child for child in found.children if self.nodes[child].op is not Op.NULL]
            if len(rest) == 1:
                return rest[0]
        return node

    def nullable(self, node: int) -> bool:
        """Return whether a node may be null."""
        found = self.nodes[node]
        return found.op is Op.NULL or (
            found.op is Op.UNION and any(self.nodes[child].op is Op.NULL for child in found.children)
        )


def parse(text: str, references: Sequence[tuple[str, str]] = ()) -> Program:
    """Return the program of a schema.

    Args:
        references: (name, text) of the schemas whose types it names, the innermost first.

    Raises:
        DecodeError: it is no Avro schema, or larger than any that a table has.
    """
    parser = _Parser()
    try:
        for _, referred in references:
            parser.read(_loaded(referred), "", 0)
        root = parser.read(_loaded(text), "", 0)
    except RecursionError:
        raise _bad("it is nested too deeply") from None
    return Program(parser.nodes, root)


def _loaded(text: str) -> Any:
    if len(text) > MOST_BYTES:
        raise _bad(f"it is longer than {MOST_BYTES} bytes")
    try:
        return json.loads(text)
    except ValueError:
        # A schema of one primitive type may be registered as the bare word.
        if text.strip() in _PRIMITIVES:
            return text.strip()
        raise _bad("it is not JSON") from None


class _Parser:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._named: dict[str, int] = {}

    def read(self, schema: Any, namespace: str, depth: int) -> int:
        if depth > DEEPEST:
            raise _bad("it is nested too deeply")
        if isinstance(schema, str):
            return self._by_name(schema, namespace, _NOTHING)
        if isinstance(schema, list):
            node, at = self._add(Op.UNION, {})
            node.children = [self.read(branch, namespace, depth + 1) for branch in schema]
            if not node.children:
                raise _bad("a union has no branches")
            return at
        if not isinstance(schema, dict):
            raise _bad("a type is neither name, object nor list")
        kind = schema.get("type")
        if isinstance(kind, dict | list):  # {"type": {"type": ...}}
            at = self.read(kind, namespace, depth + 1)
            self.nodes[at].said = {**schema, **self.nodes[at].said}
            return at
        match kind:
            case "record" | "error":
                return self._record(schema, namespace, depth)
            case "enum":
                return self._enum(schema, namespace)
            case "fixed":
                return self._fixed(schema, namespace)
            case "array":
                node, at = self._add(Op.ARRAY, schema)
                node.children = [self.read(schema.get("items"), namespace, depth + 1)]
                return at
            case "map":
                node, at = self._add(Op.MAP, schema)
                node.children = [self.read(schema.get("values"), namespace, depth + 1)]
                return at
            case str():
                return self._by_name(kind, namespace, schema)
        raise _bad("an object has no type")

    def _by_name(self, name: str, namespace: str, said: Mapping[str, Any]) -> int:
        if name in _PRIMITIVES:
            return self._add(_PRIMITIVES[name], said)[1]
        for full in (name,) if "." in name or not namespace else (f"{namespace}.{name}", name):
            if full in self._named:
                return self._named[full]
        raise _bad("it names a type that is not defined")

    def _record(self, schema: Mapping[str, Any], namespace: str, depth: int) -> int:
        node, at, inner = self._name(Op.RECORD, schema, namespace)
        fields = schema.get("fields")
        if not isinstance(fields, list):
            raise _bad("a record has no fields")
        for one in fields:
            if not isinstance(one, dict) or not isinstance(one.get("name"), str):
                raise _bad("a field has no name")
            node.names.append(one["name"])
            node.fields.append(one)
            node.children.append(self.read(one.get("type"), inner, depth + 1))
        return at

    def _enum(self, schema: Mapping[str, Any], namespace: str) -> int:
        node, at, _ = self._name(Op.ENUM, schema, namespace)
        symbols = schema.get("symbols")
        if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
            raise _bad("an enum has no symbols")
        node.names = list(symbols)
        return at

    def _fixed(self, schema: Mapping[str, Any], namespace: str) -> int:
        node, at, _ = self._name(Op.FIXED, schema, namespace)
        size = schema.get("size")
        if not isinstance(size, int) or not 0 <= size <= MOST_BYTES:
            raise _bad("a fixed has no size")
        node.size = size
        return at

    def _name(self, op: Op, schema: Mapping[str, Any], namespace: str) -> tuple[Node, int, str]:
        """Add a named type; return it, its place, and the namespace inside it."""
        name = schema.get("name")
        if not isinstance(name, str) or not name:
            raise _bad("a named type has no name")
        given = schema.get("namespace")
        if "." in name:
            full = name
        else:
            space = given if isinstance(given, str) else namespace
            full = f"{space}.{name}" if space else name
        inner = full.rpartition(".")[0]
        node, at = self._add(op, schema)
        node.name = full
        self._named[full] = at
        aliases = schema.get("aliases")
        for alias in aliases if isinstance(aliases, list) else ():
            if isinstance(alias, str):
                self._named.setdefault(alias if "." in alias or not inner else f"{inner}.{alias}", at)
        return node, at, inner

    def _add(self, op: Op, said: Mapping[str, Any]) -> tuple[Node, int]:
        if len(self.nodes) >= MOST_NODES:
            raise _bad(f"it has more than {MOST_NODES} places")
        node = Node(op, said=said)
        self.nodes.append(node)
        return node, len(self.nodes) - 1


def _bad(why: str) -> DecodeError:
    return DecodeError("a message's Avro schema cannot be read", why=why)
