"""Protobuf: rows as messages under schemas that a registry keeps, and back.

Messages: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cdcflow.bus.config import Decoding, Encoding
from cdcflow.bus.formats import proto_schema
from cdcflow.bus.formats.framing import schema_number
from cdcflow.bus.formats.jsonpieces import Origin
from cdcflow.bus.formats.proto_reading import Types, described, envelope, own_name, root, scanner, types
from cdcflow.bus.formats.proto_writing import proto_writer
from cdcflow.bus.formats.records import RecordWriter
from cdcflow.bus.formats.records_reading import (
    RecordReader,
    Schemas,
    begun,
    described_table,
    mark,
    table_name,
)
from cdcflow.bus.formats.wire import wire_plan
from cdcflow.bus.registry import SchemaRegistry, opened
from cdcflow.codecs.frames_cy import MessageError
from cdcflow.codecs.protoscan_cy import ProtoScanner
from cdcflow.codecs.values_kinds import BadValue
from cdcflow.errors import DecodeError
from cdcflow.model.route import Route
from cdcflow.model.schema import Table

_MOST_INDEXES: Final = 32

# The number of a schema, and the indexes of a type in it.
Place = tuple[int, tuple[int, ...]]


class ProtobufFormat:
    """See `bus.formats.Format`. pipeline, database: what messages say of where they come from."""

    def __init__(
        self, coding: Encoding | Decoding, registry: SchemaRegistry, pipeline: str = "cdcflow", database: str = ""
    ) -> None:
        self._coding, self._registry = coding, registry
        self._pipeline, self._database = pipeline, database
        self._flat = coding.envelope == "flat"
        self._types = Schemas(registry, "PROTOBUF", _parsed)

    def ready(self) -> None:
        """See `bus.formats.Format`."""
        self._registry.ready()

    def writer(self, topic: str, route: Route, names: tuple[str, ...]) -> RecordWriter:
        """See `bus.formats.Format`."""
        assert isinstance(self._coding, Encoding)
        origin = Origin(self._pipeline, route.source.engine, self._database, route.source.name)
        return proto_writer(self._registry, self._coding, topic, wire_plan(route, names), route, origin)

    def mark(self, value: bytes) -> bytes | None:
        """See `bus.formats.Format`."""
        return mark(value)

    def begin(self, tables: Sequence[Table]) -> None:
        """See `bus.formats.Format`. Its messages have schemas."""

    def described(self, topic: str, key: bytes | None, value: bytes) -> Table:
        """See `bus.formats.Format`."""
        (number, indexes), start = begin(value)
        found = self._types.of(number)
        where = envelope(found, root(found, indexes), flat=self._flat)
        source: Mapping[str, Any] = {}
        if not self._flat:
            try:
                empty = Table(table_name(topic, {}), 0, ())
                said = scanner(found, empty, where, hides=False).value(value, start)
            except (MessageError, BadValue) as error:
                raise DecodeError(f"a message cannot be read: {error}") from None
            inside = said.get("data", said) if where.path and isinstance(said, dict) else said
            source = inside.get("source", {}) if isinstance(inside, dict) else {}
        key_names: list[str] = []
        if key is not None and schema_number(key) is not None:
            (key_number, key_indexes), _ = begin(key)
            keys = self._types.of(key_number)
            key_names = [own_name(one) for one in keys.messages[root(keys, key_indexes)].field]
        return described_table(topic, source, described(found, where.rows[-1]), key_names)

    def reader(self, table: Table, mark: bytes | None) -> RecordReader[Place]:
        """See `bus.formats.Format`."""

        def made(place: Place, row: bool, hides: bool) -> ProtoScanner:
            number, indexes = place
            found = self._types.of(number)
            return scanner(found, table, envelope(found, root(found, indexes), flat=row), hides=hides)

        return RecordReader(table, begin, made, flat=self._flat)


def begin(message: bytes) -> tuple[Place, int]:
    """Return which type a message is of, and where its body begins.

    Raises:
        DecodeError: it does not begin so.
    """
    number, at = begun(message)
    if message[at : at + 1] == b"\0":
        return (number, (0,)), at + 1
    count, at = _zigzag(message, at)
    if not 0 < count <= _MOST_INDEXES:
        raise DecodeError("a message does not say its type within the schema")
    indexes = []
    for _ in range(count):
        index, at = _zigzag(message, at)
        indexes.append(index)
    if min(indexes) < 0:
        raise DecodeError("a message does not say its type within the schema")
    return (number, tuple(indexes)), at


def _parsed(text: str, references: Sequence[tuple[str, str]]) -> Types:
    return types(proto_schema.parse(text, references))


def _zigzag(message: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while shift < 35:
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return (found >> 1) ^ -(found & 1), at
        shift += 7
    raise DecodeError("a message does not say its type within the schema")


def open_protobuf(
    config: Encoding | Decoding, pipeline: str = "cdcflow", registry: SchemaRegistry | None = None, database: str = ""
) -> ProtobufFormat:
    """Return the format that a configuration asks for; `registry` in place of the one that it names.

    Raises:
        ConfigError: it names no registry, or one that cannot be used.
    """
    return ProtobufFormat(config, registry or opened(config), pipeline, database)
