"""Protobuf schemas of keys, rows and envelopes: proto3, with `optional` so that NULL is told from empty.

What is written is one file of messages, the one of the topic first; what is read back is that text, or what the
registry gives as descriptors. Language: https://protobuf.dev/reference/protobuf/proto3-spec/
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError as BrokenDescriptor

from cdcflow.bus.formats.avro_schema import EVENT_TEXTS, field_names, namespace, source_fields
from cdcflow.codecs.buskinds import Kind, WireKind
from cdcflow.errors import DecodeError
from cdcflow.model.schema import Table

Field = descriptor_pb2.FieldDescriptorProto

_TYPES: Final = {
    Kind.BOOL: "bool",
    Kind.BIT1: "bool",
    Kind.INT16: "int32",
    Kind.INT32: "int32",
    Kind.INT64: "int64",
    Kind.UINT64: "uint64",
    Kind.FLOAT32: "float",
    Kind.FLOAT64: "double",
    Kind.BYTES: "bytes",
    Kind.BITS: "bytes",
    Kind.DATE: "int32",
    Kind.TIME: "int64",
    Kind.TIMESTAMP: "int64",
}
_SCALARS: Final = {
    "double": Field.TYPE_DOUBLE,
    "float": Field.TYPE_FLOAT,
    "int64": Field.TYPE_INT64,
    "uint64": Field.TYPE_UINT64,
    "int32": Field.TYPE_INT32,
    "bool": Field.TYPE_BOOL,
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
}
_OF_CONNECT: Final = {"string": "string", "int64": "int64", "int32": "int32"}
# Numbers that Protobuf keeps for itself, and the last one that there is.
_KEPT_NUMBERS: Final = range(19000, 20000)
_LAST_NUMBER: Final = 536870911
_MOST_CHARACTERS: Final = 16 * 1024 * 1024

_STATEMENT: Final = re.compile(
    r"\s*(?:"
    r"(?P<head>syntax\s*=\s*\"proto3\"|package\s+(?P<package>[\w.]+)|option\s[^;]*)\s*;"
    r"|message\s+(?P<message>\w+)\s*\{"
    r"|(?P<close>\})\s*;?"
    r"|reserved\s+(?P<reserved>[\d\s,to]+?)\s*;"
    r"|(?P<label>optional\s+|repeated\s+)?(?P<type>\.?[A-Za-z_][\w.]*)\s+(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<number>\d{1,9})"
    r"(?:\s*\[\s*json_name\s*=\s*(?P<own>\"(?:[^\"\\]|\\.)*\")\s*\])?\s*;"
    r")"
)
_COMMENT: Final = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(slots=True)
class Message:
    """A message type as it is written: fields are (label, type, name, number, own name or '')."""

    name: str
    fields: list[tuple[str, str, str, int, str]] = field(default_factory=list)
    inner: list[Message] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)

    def text(self, indent: str = "") -> str:
        """Return it in the language."""
        within = indent + "  "
        lines = [f"{indent}message {self.name} {{"]
        if self.reserved:
            lines.append(f"{within}reserved {', '.join(str(number) for number in self.reserved)};")
        lines += [message.text(within) for message in self.inner]
        for label, kind, name, number, own in self.fields:
            said = f" [json_name = {json.dumps(own)}]" if own else ""
            lines.append(f"{within}{label + ' ' if label else ''}{kind} {name} = {number}{said};")
        return "\n".join([*lines, f"{indent}}}"])


@dataclass(frozen=True, slots=True)
class Row:
    """A row's message, and the number of each column's field."""

    message: Message
    numbers: tuple[int, ...]


def row_message(
    table: Table, kinds: Sequence[WireKind], name: str, before: descriptor_pb2.DescriptorProto | None
) -> Row:
    """Return the message of a row: `Value`, or `Key` with the key's columns alone.

    Args:
        before: the same message of the last schema that was registered: numbers of its fields stay theirs, and those
            of columns that are gone are never given away.
    """
    known = {each.json_name or each.name: each.number for each in before.field} if before is not None else {}
    taken = set(known.values())
    if before is not None:
        taken |= {number for span in before.reserved_range for number in range(span.start, span.end)}
    chosen = [
        (column, kind, allowed)
        for column, kind, allowed in zip(table.columns, kinds, field_names(table.column_names), strict=True)
        if name != "Key" or column.name in table.key
    ]
    message = Message(name)
    numbers = []
    last = max(taken, default=0)
    for column, kind, allowed in chosen:
        number = known.get(column.name)
        if number is None:
            last += 1
            while last in _KEPT_NUMBERS:
                last += 1
            number = last
        if number > _LAST_NUMBER:
            raise DecodeError(f"a Protobuf schema of table {table.name} has no number left for a new column")
        numbers.append(number)
        message.fields.append(("optional", _type(kind, f"{allowed}_list", message), allowed, number, column.name))
    message.reserved = sorted(taken - set(numbers))
    return Row(message, tuple(numbers))


def file_text(topic: str, messages: Sequence[Message]) -> str:
    """Return a whole file; the topic's message is the first one."""
    parts = ['syntax = "proto3";', f"package {namespace(topic)};", *(message.text() for message in messages)]
    return "\n\n".join(parts) + "\n"


def envelope_messages(row: Message, engine: str) -> list[Message]:
    """Return Debezium's envelope, and what it is made of, around a row."""
    source = Message("Source")
    for number, (name, kind, optional) in enumerate(source_fields(engine), 1):
        source.fields.append(("optional" if optional else "", _OF_CONNECT[kind], name, number, name))
    transaction = Message("Transaction")
    for number, (name, kind) in enumerate(
        (("id", "string"), ("total_order", "int64"), ("data_collection_order", "int64")), 1
    ):
        transaction.fields.append(("", kind, name, number, name))
    envelope = Message("Envelope")
    of_envelope = (
        ("before", row.name),
        ("after", row.name),
        ("source", "Source"),
        ("transaction", "Transaction"),
        ("op", "string"),
        ("ts_ms", "int64"),
        ("ts_us", "int64"),
        ("ts_ns", "int64"),
    )
    for number, (name, kind) in enumerate(of_envelope, 1):
        envelope.fields.append(("" if name == "op" else "optional", kind, name, number, name))
    return [envelope, row, source, transaction]


def event_message() -> Message:
    """Return a CloudEvent in structured mode, around an envelope."""
    event = Message("CloudEvent")
    for number, name in enumerate((*EVENT_TEXTS, "time"), 1):
        event.fields.append(("optional" if name == "time" else "", "string", name, number, name))
    event.fields.append(("", "Envelope", "data", len(event.fields) + 1, "data"))
    return event


def parse(text: str, references: Sequence[tuple[str, str]] = ()) -> list[descriptor_pb2.FileDescriptorProto]:
    """Return the descriptors of a schema, then of those that it refers to.

    Args:
        text: base64 of a FileDescriptorProto, as registries give it on demand, or the language as far as it is written
            here.

    Raises:
        DecodeError: it is neither.
    """
    return [_file(text), *(_file(referred) for _, referred in references)]


def _file(text: str) -> descriptor_pb2.FileDescriptorProto:
    if len(text) > _MOST_CHARACTERS:
        raise _bad("it is longer than any table's")
    try:
        found = descriptor_pb2.FileDescriptorProto.FromString(b64decode(text, validate=True))
    except (Base64Error, BrokenDescriptor, ValueError):
        found = _parsed(text)
    return found


def _parsed(text: str) -> descriptor_pb2.FileDescriptorProto:
    text = _COMMENT.sub(" ", text)
    found = descriptor_pb2.FileDescriptorProto(syntax="proto3")
    open_: list[descriptor_pb2.DescriptorProto] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _STATEMENT.match(text, at)
        if match is None:
            raise _bad("it uses more of the language than is read here, and the registry gives no descriptor of it")
        at = match.end()
        if match["message"]:
            owner = open_[-1].nested_type if open_ else found.message_type
            open_.append(owner.add(name=match["message"]))
            if len(open_) > 32:
                raise _bad("it is nested too deeply")
        elif match["head"]:
            found.package = match["package"] or found.package
        elif not open_:
            raise _bad("a statement stands outside of messages")
        elif match["close"]:
            open_.pop()
        elif match["reserved"]:
            for part in match["reserved"].split(","):
                numbers = [int(number) for number in part.split() if number.isdecimal()]
                open_[-1].reserved_range.add(start=numbers[0], end=numbers[-1] + 1)
        else:
            _add_field(open_[-1], match)
    if open_ or not found.message_type:
        raise _bad("a message does not end")
    return found


def _add_field(message: descriptor_pb2.DescriptorProto, match: re.Match[str]) -> None:
    label = (match["label"] or "").strip()
    made = message.field.add(name=match["name"], number=int(match["number"]))
    made.label = Field.LABEL_REPEATED if label == "repeated" else Field.LABEL_OPTIONAL
    made.proto3_optional = label == "optional"
    made.json_name = json.loads(match["own"]) if match["own"] else match["name"]
    scalar = _SCALARS.get(match["type"])
    if scalar is not None:
        made.type = scalar
    else:
        made.type, made.type_name = Field.TYPE_MESSAGE, match["type"]


def _type(kind: WireKind, list_name: str, within: Message) -> str:
    if kind.kind is Kind.ARRAY:
        assert kind.element is not None
        item = Message("Item")
        item.fields.append(("optional", _type(kind.element, "items", item), "value", 1, "value"))
        made = Message(list_name, inner=[item])
        made.fields.append(("repeated", "Item", "items", 1, "items"))
        within.inner.append(made)
        return list_name
    if kind.kind is Kind.GEOMETRY:
        if all(message.name != "Geometry" for message in within.inner):
            geometry = Message("Geometry")
            geometry.fields.append(("optional", "bytes", "wkb", 1, "wkb"))
            geometry.fields.append(("optional", "int32", "srid", 2, "srid"))
            within.inner.append(geometry)
        return "Geometry"
    return _TYPES.get(kind.kind, "string")


def _bad(why: str) -> DecodeError:
    return DecodeError("a message's Protobuf schema cannot be read", why=why)
