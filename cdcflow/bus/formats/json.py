"""The JSON format: what writes and reads messages in it, in every envelope."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cdcflow.bus.config import Decoding, Encoding
from cdcflow.bus.formats import EXACT, OP, SCHEMA, UNCHANGED, Reader, Writer, jsonregistered, jsonschemas, named_by
from cdcflow.bus.formats.framing import HEAD_BYTES, MAGIC, plain, schema_number
from cdcflow.bus.formats.jsonwriter import JsonWriter
from cdcflow.bus.formats.wire import parse_exact, parse_exact_before, parse_unchanged, wire_kinds
from cdcflow.codecs.buskinds import WireKind
from cdcflow.codecs.jsonscan_cy import ChangeReader, ScanError
from cdcflow.errors import DecodeError
from cdcflow.model.frame import UNCHANGED as ABSENT
from cdcflow.model.frame import cells, image
from cdcflow.model.route import Route
from cdcflow.model.schema import Table, TableName

if TYPE_CHECKING:  # its client is imported only where it is asked for
    from cdcflow.bus.registry import SchemaRegistry

_OPS: Final = frozenset("cudrt")
_MAGIC: Final = bytes([MAGIC])


class JsonFormat:
    """See `bus.formats.Format`."""

    def __init__(
        self,
        config: Encoding | Decoding,
        pipeline: str,
        database: str = "",
        registry: SchemaRegistry | None = None,
    ) -> None:
        self._config, self._pipeline, self._database, self._registry = config, pipeline, database, registry
        # What the values of topics without schemas looked like so far: a shape only becomes wider.
        self._looks: dict[str, dict[str, jsonschemas.Seen]] = {}
        self._begun: dict[TableName, dict[str, jsonschemas.Seen]] = {}
        self._keys: dict[str, tuple[str, ...]] = {}

    def ready(self) -> None:
        """See `bus.formats.Format`."""
        if self._registry is not None:
            self._registry.ready()

    def writer(self, topic: str, route: Route, names: tuple[str, ...]) -> Writer:
        """See `bus.formats.Format`."""
        encoding = self._config if isinstance(self._config, Encoding) else Encoding(envelope=self._config.envelope)
        return JsonWriter(encoding, topic, route, names, self._pipeline, self._database, self._registry)

    def mark(self, value: bytes) -> bytes | None:
        """Return what a message begins with where its schema is a registered one, else the schema part of it, as it
        stands there; None where it has none."""
        if schema_number(value) is not None:
            return value[:HEAD_BYTES]
        return jsonschemas.schema_of(value) or None

    def begin(self, tables: Sequence[Table]) -> None:
        """See `bus.formats.Format`."""
        self._begun = {table.name: jsonschemas.seen_in_table(table) for table in tables}

    def described(self, topic: str, key: bytes | None, value: bytes) -> Table:
        """See `bus.formats.Format`. Without a schema part, what the values look like, together with what earlier ones
        of the topic did and what the table is known for: a column that was NULL at first stays text. A table of which
        nothing was told but that it was emptied has no columns."""
        schema = self._schema(self.mark(value))
        message = jsonschemas.parsed(plain(value))
        body = message
        if schema is not None and schema_number(value) is None and isinstance(message, dict):
            body = message.get("payload")
        flat = self._config.envelope == "flat"
        change = {} if flat else _change(body)
        row = body if flat else change.get("after") or change.get("before")
        defaults: dict[str, str] = {}
        if schema is not None:
            seen = jsonschemas.seen_in_schema(schema)
            defaults = jsonschemas.defaults_in_schema(schema, seen)
        else:
            # A truncate has no row: the table is what earlier messages said.
            looks = self._looks.setdefault(topic, {})
            if not isinstance(row, dict) and not looks and change.get("op") != "t":
                raise DecodeError("the message has neither a schema nor a row", at=f"topic {topic}")
            row = row if isinstance(row, dict) else {}
            begun = self._begun.get(_named(topic, change), {})
            for name, (look, _) in jsonschemas.seen_in_values(row).items():
                before = looks.get(name) or begun.get(name)
                looks[name] = before or look
                if before is not None and before.kind.kind != look.kind.kind and row[name] is not None:
                    kind = WireKind(jsonschemas.wider(before.kind.kind, look.kind.kind))
                    looks[name] = jsonschemas.of_kind(kind)
            seen = {name: (look, True) for name, look in looks.items()}
        columns = tuple(
            jsonschemas.column(name, look, nullable, defaults.get(name)) for name, (look, nullable) in seen.items()
        )
        found = _key(key, seen) or self._keys.get(topic, ())
        self._keys[topic] = found
        return jsonschemas.table(_named(topic, change), columns, found)

    def reader(self, table: Table, mark: bytes | None) -> Reader:
        """See `bus.formats.Format`."""
        kinds = wire_kinds(table)
        schema = self._schema(mark)
        seen = jsonschemas.seen_in_schema(schema) if schema is not None else {}
        forms = [
            seen[column.name][0].form(column.name)
            if column.name in seen
            else jsonschemas.form_of_kind(kind, column.name)
            for column, kind in zip(table.columns, kinds, strict=True)
        ]
        framed = self._registry is not None
        return JsonReader(table, ChangeReader(forms), flat=self._config.envelope == "flat", framed=framed)

    def _schema(self, mark: bytes | None) -> dict[str, Any] | None:
        """Return the schema of a row, as Connect has it, out of what `mark` returned.

        Raises:
            DecodeError: there is none, or no registry to ask.
            SourceUnavailable: it cannot be asked now.
        """
        if mark is None:
            return None
        number = schema_number(mark)
        if number is None:
            return jsonschemas.parse_schema(mark)
        if self._registry is None:
            raise unregistered()
        found = self._registry.definition(number)
        if found.kind != "JSON":
            raise DecodeError(f"schema {number} of a message is of type {found.kind}, not JSON")
        return jsonschemas.of_row(jsonregistered.connect_of(found.text, found.references))


class JsonReader:
    """See `bus.formats.Reader`. framed: messages may begin with the number of a registered schema."""

    def __init__(self, table: Table, rows: ChangeReader, *, flat: bool, framed: bool) -> None:
        self._rows, self._flat, self._framed = rows, flat, framed
        self._at = f"table {table.name}"
        self._names = table.column_names
        self._key = [name in table.key for name in table.column_names]

    def read(
        self, key: bytes | None, value: bytes | None, headers: dict[str, bytes]
    ) -> tuple[str, bytes | None, bytes | None]:
        """See `bus.formats.Reader`."""
        op = headers[OP].decode("ascii", "replace") if OP in headers else ""
        before: bytes | None = None
        after: bytes | None = None
        if value is None:
            if not self._flat or key is None:
                return "", None, None
            op = "d"
        else:
            if value[:1] == _MAGIC:
                if not self._framed:
                    raise unregistered()
                value = plain(value)
            foreign = SCHEMA not in headers and OP not in headers
            try:
                if self._flat:
                    after = self._rows.row(value, foreign)
                else:
                    said, before, after = self._rows.change(value, foreign)
                    op = said or op
            except ScanError as error:
                raise self._unreadable("message", error) from None
            op = op or ("c" if after is not None else "")
        if op not in _OPS or op == "":
            raise DecodeError("the message does not say what happened to its row", at=self._at)
        if op == "t":
            return op, None, None
        if op == "d":
            after = None
            if before is None:
                before = self._of_key(key)
        elif after is None:
            raise DecodeError(f"the message has no new row, but its op is {op}", at=self._at)
        if UNCHANGED in headers or EXACT in headers:
            before, after = self._restored(before, after, headers)
        return op, before, after

    def _of_key(self, key: bytes | None) -> bytes:
        """Return an image with the key's cells, all others absent."""
        if key is None or not any(self._key):
            raise DecodeError("a delete has neither an old row nor a key", at=self._at)
        try:
            found = self._rows.row(plain(key), False)
        except ScanError as error:
            raise self._unreadable("message's key", error) from None
        if found is None:
            raise DecodeError("a delete has neither an old row nor a key", at=self._at)
        values = cells(found, 0, len(self._names))
        return image([value if ours else ABSENT for value, ours in zip(values, self._key, strict=True)])

    def _restored(
        self, before: bytes | None, after: bytes | None, headers: dict[str, bytes]
    ) -> tuple[bytes | None, bytes | None]:
        """Put back what JSON could not say, and take out what the source did not log."""
        if after is not None:
            values = cells(after, 0, len(self._names))
            unchanged = parse_unchanged(headers[UNCHANGED]) if UNCHANGED in headers else frozenset()
            exact = parse_exact(headers[EXACT]) if EXACT in headers else {}
            for place, name in enumerate(self._names):
                if name in unchanged:
                    values[place] = ABSENT
                elif name in exact:
                    values[place] = exact[name]
            after = image(values)
        if before is not None and EXACT in headers:
            values = cells(before, 0, len(self._names))
            exact = parse_exact_before(headers[EXACT])
            before = image([exact.get(name, value) for name, value in zip(self._names, values, strict=True)])
        return before, after

    def _unreadable(self, what: str, error: ScanError) -> DecodeError:
        field = self._rows.where()
        return DecodeError(f"the {what} cannot be read: {error}", at=self._at + (f", field {field}" if field else ""))


def open_json(
    config: Encoding | Decoding, pipeline: str = "", registry: SchemaRegistry | None = None, database: str = ""
) -> JsonFormat:
    """Return the JSON format as a configuration asks for it.

    Args:
        pipeline: what Debezium calls the connector's logical name. database: the source's, where its engine has
            schemas in databases; only told to readers. registry: in place of the one that the configuration names, if
            any.

    Raises:
        ConfigError: it names one that cannot be used.
    """
    if registry is None and config.registry is not None:
        registry = import_module("cdcflow.bus.registry").opened(config)
    return JsonFormat(config, pipeline, database, registry)


def unregistered() -> DecodeError:
    """Return the error for a message under a registered schema where no registry is named."""
    return DecodeError(
        "the message is not plain JSON: it begins with the number of a schema",
        why="it was written with a schema registry",
        do="name the writer's registry with `registry:` under source:, or set the `format:` that it was written in",
    )


def _named(topic: str, change: dict[str, Any]) -> TableName:
    """Return a table's name: as the change's source says it, else by the end of the topic's."""
    source = change.get("source")
    if isinstance(source, dict) and isinstance(source.get("table"), str) and source["table"]:
        schema = source.get("schema") or source.get("db")
        if isinstance(schema, str) and schema:
            return TableName(schema, source["table"])
    return named_by(topic)


def _key(key: bytes | None, seen: dict[str, Any]) -> tuple[str, ...]:
    """Return the columns that a message's key names."""
    if key is None:
        return ()
    found = jsonschemas.parsed(plain(key))
    if isinstance(found, dict) and "schema" in found and isinstance(found.get("payload"), dict):
        found = found["payload"]
    if not isinstance(found, dict):
        return ()
    return tuple(found) if all(name in seen for name in found) else ()


def _change(body: Any) -> dict[str, Any]:
    """Return the change inside of an event."""
    for _ in range(3):
        if not isinstance(body, dict) or "after" in body or "before" in body:
            break
        inner = body.get("data", body.get("payload"))
        if not isinstance(inner, dict):
            break
        body = inner
    return body if isinstance(body, dict) else {}
