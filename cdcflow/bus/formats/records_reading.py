"""What Avro and Protobuf share in reading: which schema a message names, and the reader of one table's messages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Generic, Protocol, TypeVar

from cdcflow.bus.formats import EXACT, OP, UNCHANGED, named_by
from cdcflow.bus.formats.framing import HEAD_BYTES, schema_number
from cdcflow.bus.formats.wire import parse_exact, parse_exact_before, parse_unchanged
from cdcflow.bus.registry import Kind, SchemaRegistry
from cdcflow.codecs.frames_cy import MessageError
from cdcflow.codecs.values_kinds import BadValue
from cdcflow.errors import DecodeError
from cdcflow.model import frame as frames
from cdcflow.model.schema import Column, Table, TableName

# Schemas and readers that are kept: one for each schema that is met.
_KEPT: Final = 1000

_T = TypeVar("_T")
_S = TypeVar("_S", bound=Hashable)


class Schemas(Generic[_T]):
    """The schemas of one kind that messages were written under, as `parse` makes them of text and references."""

    def __init__(
        self, registry: SchemaRegistry, kind: Kind, parse: Callable[[str, Sequence[tuple[str, str]]], _T]
    ) -> None:
        self._registry, self._kind, self._parse = registry, kind, parse
        self._kept: OrderedDict[int, _T] = OrderedDict()

    def of(self, number: int) -> _T:
        """Return the schema with that number.

        Raises:
            DecodeError: it is of another kind, or cannot be parsed.
            SourceUnavailable: the registry cannot be asked now.
        """
        found = self._kept.get(number)
        if found is None:
            definition = self._registry.definition(number)
            if definition.kind != self._kind:
                raise DecodeError(f"schema {number} of a message is of type {definition.kind}, not {self._kind}")
            found = self._kept[number] = self._parse(definition.text, definition.references)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found


class Scans(Protocol):
    """Takes messages of one schema apart: `codecs.avroscan_cy.Scanner`, `codecs.protoscan_cy.ProtoScanner`."""

    def read(self, message: bytes, start: int) -> tuple[str | None, bytes | None, bytes | None]:
        """Return (op, before, after) of the message whose body begins at `start`. Raises MessageError, BadValue."""


class RecordReader(Generic[_S]):
    """Reads messages of one table, whatever schema each was written under. One thread.

    begin: of a message, which schema it names and where its body begins. scanner: of such a schema, whether its
    messages are rows (else changes), and whether the marks for values that were not logged may stand in them.
    """

    def __init__(
        self,
        table: Table,
        begin: Callable[[bytes], tuple[_S, int]],
        scanner: Callable[[_S, bool, bool], Scans],
        *,
        flat: bool,
    ) -> None:
        self._table, self._begin, self._scanner, self._flat = table, begin, scanner, flat
        self._scanners: dict[tuple[_S, bool, bool], Scans] = {}

    def read(
        self, key: bytes | None, value: bytes | None, headers: dict[str, bytes]
    ) -> tuple[str, bytes | None, bytes | None]:
        """See `bus.formats.Reader`."""
        said = headers.get(OP)
        if not value:
            if value is not None and said == b"t":
                return "t", None, None
            return ("d", self._key(key), None) if self._flat else ("", None, None)
        hides = said is None
        op, before, after = self._scanned(value, self._flat, hides, "a message")
        if self._flat:
            op = said.decode("ascii", "replace") if said is not None else "c"
        elif op is None:
            raise DecodeError("a message does not say its operation")
        if op == "d" and before is None:
            before = self._key(key)
        if op == "d":
            after = None
        elif op not in ("c", "u", "r", "t"):
            raise DecodeError("the message does not say what happened to its row", at=f"table {self._table.name}")
        if not hides:
            before, after = _restored(before, after, headers, self._table)
        return op, before, after

    def _key(self, key: bytes | None) -> bytes | None:
        """Return the cells that a message's key says; all others are absent."""
        if key is None or schema_number(key) is None:
            return None
        return self._scanned(key, True, False, "a message's key")[2]

    def _scanned(
        self, message: bytes, row: bool, hides: bool, what: str
    ) -> tuple[str | None, bytes | None, bytes | None]:
        schema, start = self._begin(message)
        found = self._scanners.get((schema, row, hides))
        try:
            if found is None:
                found = self._scanner(schema, row, hides)
                if len(self._scanners) >= _KEPT:
                    self._scanners.clear()
                self._scanners[schema, row, hides] = found
            return found.read(message, start)
        except (MessageError, BadValue) as error:
            raise DecodeError(f"{what} cannot be read: {error}") from None


def begun(message: bytes) -> tuple[int, int]:
    """Return the number of the schema that a message was written under, and where what follows it begins.

    Raises:
        DecodeError: it does not begin so.
    """
    number = schema_number(message)
    if number is None:
        raise DecodeError("a message does not begin with the number of a schema")
    return number, HEAD_BYTES


def mark(message: bytes) -> bytes | None:
    """Return what tells the schema of a message. See `bus.formats.Format`."""
    return message[:HEAD_BYTES] if len(message) >= HEAD_BYTES else None


def described_table(topic: str, source: Mapping[str, object], columns: Sequence[Column], key: Sequence[str]) -> Table:
    """Return the table that messages describe. source: their block `source`. key: names of their keys' fields."""
    names = {column.name for column in columns}
    ours = tuple(name for name in key if name in names)
    made = tuple(replace(column, nullable=column.nullable and column.name not in ours) for column in columns)
    return Table(table_name(topic, source), 0, made, key=ours, primary_key=ours)


def _restored(
    before: bytes | None, after: bytes | None, headers: dict[str, bytes], table: Table
) -> tuple[bytes | None, bytes | None]:
    """Return the images with what only the headers say: cells that were not logged, and exact texts.

    Raises:
        DecodeError: a header is not what it should be.
    """
    exact = headers.get(EXACT)
    unchanged = headers.get(UNCHANGED)
    if exact is not None:
        before = _replaced(before, table, parse_exact_before(exact), frozenset())
        after = _replaced(after, table, parse_exact(exact), frozenset())
    if unchanged is not None:
        after = _replaced(after, table, {}, parse_unchanged(unchanged))
    return before, after


def _replaced(image: bytes | None, table: Table, exact: dict[str, bytes], unchanged: frozenset[str]) -> bytes | None:
    if image is None:
        return None
    cells = frames.cells(image, 0, len(table.columns))
    for place, name in enumerate(table.column_names):
        if name in unchanged:
            cells[place] = frames.UNCHANGED
        elif name in exact:
            cells[place] = exact[name]
    return frames.image(cells)


def table_name(topic: str, source: Mapping[str, object]) -> TableName:
    """Return the table that a message's block `source` says it belongs to, else the end of its topic's name."""
    table, schema = source.get("table"), source.get("schema") or source.get("db")
    if isinstance(table, str) and table and isinstance(schema, str) and schema:
        return TableName(schema, table)
    return named_by(topic)
