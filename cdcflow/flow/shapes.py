"""A table's shape as text, for the record that the state keeps of it: what the stream's next rows look like."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from cdcflow.model.schema import Column, Logical, NativeType, ReplicaIdentity, Table, TableName

# What a copy needs and a stream does not; it is read afresh at every start.
_NOT_KEPT = ("indexes", "foreign_keys", "types", "estimated_rows", "bytes", "partitioned", "partition_of", "comment")


def to_text(table: Table) -> str:
    """Return `table` as one line of JSON."""
    kept = asdict(table)
    for name in _NOT_KEPT:
        kept.pop(name, None)
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def from_text(text: str) -> Table:
    """Return the table that `to_text` wrote.

    Raises:
        ValueError: the text is not such a table.
    """
    try:
        kept: dict[str, Any] = json.loads(text)
        kept["name"] = TableName(**kept["name"])
        kept["identity"] = ReplicaIdentity(kept["identity"])
        kept["key"], kept["primary_key"] = tuple(kept["key"]), tuple(kept["primary_key"])
        kept["columns"] = tuple(_column(column) for column in kept["columns"])
        return Table(**kept)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a table's shape: {error}") from error


def _column(kept: dict[str, Any]) -> Column:
    return Column(**{**kept, "type": _type(kept["type"]), "logical": Logical(kept["logical"])})


def _type(kept: dict[str, Any]) -> NativeType:
    nested = {name: _type(kept[name]) for name in ("element", "base") if kept.get(name) is not None}
    fields = tuple((name, _type(kind)) for name, kind in kept["fields"])
    return NativeType(**{**kept, "labels": tuple(kept["labels"]), "fields": fields, **nested})
