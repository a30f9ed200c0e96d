"""Avro: rows as records under schemas that a registry keeps, as Debezium's Avro converter writes them, and back.

Messages: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdcflow.bus.config import Decoding, Encoding
from cdcflow.bus.formats.avro_reading import Envelope, column_names, described, envelope, scanner
from cdcflow.bus.formats.avro_writing import avro_writer
from cdcflow.bus.formats.framing import HEAD_BYTES, schema_number
from cdcflow.bus.formats.jsonpieces import Origin
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
from cdcflow.codecs.avroprogram import Program, parse
from cdcflow.codecs.avroscan_cy import Scanner
from cdcflow.codecs.frames_cy import MessageError
from cdcflow.codecs.values_kinds import BadValue
from cdcflow.errors import DecodeError
from cdcflow.model.route import Route
from cdcflow.model.schema import Table


class AvroFormat:
    """See `bus.formats.Format`. pipeline, database: what messages say of where they come from."""

    def __init__(
        self, coding: Encoding | Decoding, registry: SchemaRegistry, pipeline: str = "cdcflow", database: str = ""
    ) -> None:
        self._coding, self._registry = coding, registry
        self._pipeline, self._database = pipeline, database
        self._flat = coding.envelope == "flat"
        self._programs = Schemas(registry, "AVRO", parse)

    def ready(self) -> None:
        """See `bus.formats.Format`."""
        self._registry.ready()

    def writer(self, topic: str, route: Route, names: tuple[str, ...]) -> RecordWriter:
        """See `bus.formats.Format`."""
        assert isinstance(self._coding, Encoding)
        origin = Origin(self._pipeline, route.source.engine, self._database, route.source.name)
        return avro_writer(self._registry, self._coding, topic, wire_plan(route, names), route, origin)

    def mark(self, value: bytes) -> bytes | None:
        """See `bus.formats.Format`."""
        return mark(value)

    def begin(self, tables: Sequence[Table]) -> None:
        """See `bus.formats.Format`. Its messages have schemas."""

    def described(self, topic: str, key: bytes | None, value: bytes) -> Table:
        """See `bus.formats.Format`."""
        program = self._programs.of(begun(value)[0])
        found = envelope(program, flat=self._flat)
        source: Mapping[str, Any] = {}
        if not self._flat:
            said = _values(program, found, value)
            for at in found.path:
                said = said.get(program.nodes[program.root].names[at]) or {}
            source = said.get("source") or {}
        key_names: list[str] = []
        if key is not None and schema_number(key) is not None:
            keys = self._programs.of(begun(key)[0])
            key_names = column_names(keys.nodes[keys.plain(keys.root)])
        return described_table(topic, source, described(program, found.rows), key_names)

    def reader(self, table: Table, mark: bytes | None) -> RecordReader[int]:
        """See `bus.formats.Format`."""

        def made(number: int, row: bool, hides: bool) -> Scanner:
            program = self._programs.of(number)
            return scanner(program, table, envelope(program, flat=row), hides=hides)

        return RecordReader(table, begun, made, flat=self._flat)


def _values(program: Program, found: Envelope, value: bytes) -> dict[str, Any]:
    """Return a whole message as Python values."""
    empty = Table(table_name("a.b", {}), 0, ())
    try:
        said = scanner(program, empty, found, hides=False).value(value, HEAD_BYTES)
    except (MessageError, BadValue) as error:
        raise DecodeError(f"a message cannot be read: {error}") from None
    return said if isinstance(said, dict) else {}


def open_avro(
    config: Encoding | Decoding, pipeline: str = "cdcflow", registry: SchemaRegistry | None = None, database: str = ""
) -> AvroFormat:
    """Return the format that a configuration asks for; `registry` in place of the one that it names.

    Raises:
        ConfigError: it names no registry, or one that cannot be used.
    """
    return AvroFormat(config, registry or opened(config), pipeline, database)
