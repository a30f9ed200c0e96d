"""JSON Schemas of keys and values as a registry keeps them: what Confluent's JsonSchemaConverter makes of Connect's
schemas, and back.

https://github.com/confluentinc/schema-registry/blob/master/json-schema-converter/src/main/java/io/confluent/connect/json/JsonSchemaData.java
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from cdcflow.bus.formats.jsonpieces import Around
from cdcflow.errors import DecodeError

Schema = dict[str, Any]

DIALECT: Final = "http://json-schema.org/draft-07/schema#"

# Connect's types: how they stand in JSON, and what `connect.type` says of them where the former does not tell.
_WRITTEN: Final = {
    "boolean": ("boolean", ""),
    "int8": ("integer", "int8"),
    "int16": ("integer", "int16"),
    "int32": ("integer", "int32"),
    "int64": ("integer", "int64"),
    "float": ("number", "float32"),
    "double": ("number", "float64"),
    "bytes": ("string", "bytes"),
    "string": ("string", ""),
}
_READ: Final = {"float32": "float", "float64": "double", "integer": "int64", "number": "double", "object": "struct"}
_DECIMAL: Final = "org.apache.kafka.connect.data.Decimal"
_EVENT_TEXTS: Final = ("specversion", "id", "source", "type", "datacontenttype", "subject", "time")
# References within a schema may lead to one another.
_DEEPEST: Final = 32


def registered(connect: Schema, form: Around, topic: str) -> tuple[str, str]:
    """Return the full name and the text of the JSON Schema for keys or values with a schema of Connect's. form: what
    stands around them; "flat" for keys."""
    made = _made(connect)
    if form == "structured":
        texts: Schema = {name: {"type": "string"} for name in _EVENT_TEXTS}
        made = {"type": "object", "title": f"{topic}.Event", "properties": {**texts, "data": made}}
    return made["title"], json.dumps({"$schema": DIALECT, **made})


def connect_of(text: str, references: Sequence[tuple[str, str]] = ()) -> Schema:
    """Return the schema of Connect's that a JSON Schema stands for. references: names and texts of those that it
    refers to.

    Raises:
        DecodeError: it is none.
    """
    try:
        root = json.loads(text)
        known = {name: json.loads(other) for name, other in references}
        return _connect(root, root, known, 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DecodeError("a registered schema is no JSON Schema of a row") from None


def _made(connect: Schema) -> Schema:
    """Return the JSON Schema of a value that is there."""
    made: Schema
    kind = connect["type"]
    if kind == "struct":
        fields: list[Schema] = connect["fields"]
        properties = {field["field"]: _of_field(field, number) for number, field in enumerate(fields)}
        made = {"type": "object", "properties": properties}
        needed = [field["field"] for field in fields if not field.get("optional")]
        if needed:
            made["required"] = needed
        if connect.get("closed"):
            made["additionalProperties"] = False
    elif kind == "array":
        made = {"type": "array", "items": _of_field(connect["items"], None)}
    else:
        written, said = _WRITTEN[kind]
        made = {"type": "number" if connect.get("name") == _DECIMAL else written}
        if said:
            made["connect.type"] = said
    if connect.get("name"):
        made["title"] = connect["name"]
    if connect.get("version") is not None:
        made["connect.version"] = connect["version"]
    if connect.get("parameters"):
        made["connect.parameters"] = connect["parameters"]
    return made


def _of_field(field: Schema, number: int | None) -> Schema:
    made = _made(field)
    index = {} if number is None else {"connect.index": number}
    return {"oneOf": [{"type": "null"}, made], **index} if field.get("optional") else made | index


def _connect(schema: Any, root: Schema, known: dict[str, Schema], depth: int) -> Schema:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    schema, optional = _present(schema, root, known)
    kind = schema.get("type")
    if isinstance(kind, list):
        optional = optional or "null" in kind
        kind = next((each for each in kind if each != "null"), "string")
    said = schema.get("connect.type") or kind
    made: Schema = {"type": _READ.get(said, said), "optional": optional}
    if "properties" in schema:
        found: dict[str, Schema] = schema["properties"]
        needed = schema.get("required", [])
        if not isinstance(found, dict):
            raise ValueError("properties that are none")
        order = sorted(found, key=lambda name: found[name].get("connect.index", len(found)))
        fields = [{**_connect(found[name], root, known, depth + 1), "field": name} for name in order]
        made["fields"] = [{**field, "optional": field["optional"] or field["field"] not in needed} for field in fields]
    elif said == "object":
        made["type"] = "map"
    elif said == "array":
        items = schema.get("items")
        made["items"] = _connect(items if isinstance(items, dict) else {}, root, known, depth + 1)
    for ours, theirs in (("name", "title"), ("parameters", "connect.parameters"), ("default", "default")):
        if schema.get(theirs) is not None:
            made[ours] = schema[theirs]
    return made


def _present(schema: Schema, root: Schema, known: dict[str, Schema]) -> tuple[Schema, bool]:
    """Return the schema of a value that is there, behind references, and whether it may be null."""
    optional = False
    for _ in range(_DEEPEST):
        if "$ref" in schema:
            schema = _referred(schema["$ref"], root, known)
            continue
        arms = schema.get("oneOf") or schema.get("anyOf")
        if not arms:
            return schema, optional
        there = [arm for arm in arms if arm.get("type") != "null"]
        optional = optional or len(there) < len(arms)
        # Several types have no column of their own: as text.
        schema = there[0] if len(there) == 1 else {"type": "string"}
    raise ValueError("references in a circle")


def _referred(reference: str, root: Schema, known: dict[str, Schema]) -> Schema:
    name, _, path = reference.partition("#")
    found: Any = known[name] if name else root
    for part in filter(None, path.split("/")):
        found = found[part]
    if not isinstance(found, dict):
        raise ValueError("no schema")
    return found
