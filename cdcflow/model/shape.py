"""A table's shape as JSON text and back: what is remembered of it, and what a bus tells its readers."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from cdcflow.model.schema import Column, Logical, NativeType, ReplicaIdentity, Table, TableName, UserType

# What a copy needs and a stream does not; it is read afresh at every start. Types are kept: a bus has no catalogue.
_NOT_KEPT: Final = (
    "indexes",
    "foreign_keys",
    "estimated_rows",
    "bytes",
    "partitioned",
    "described",
    "partition_of",
    "comment",
)


def to_json(table: Table) -> dict[str, Any]:
    """Return the shape as what `json.dumps` takes."""
    kept = asdict(table)
    for name in _NOT_KEPT:
        kept.pop(name, None)
    if not table.collation:  # as in shapes on record, and on a bus, from before it was kept
        del kept["collation"]
    return kept


def from_json(kept: dict[str, Any]) -> Table:
    """Return the table that `to_json` was given, without what is not kept.

    Raises:
        ValueError: it is not such a shape.
    """
    try:
        kept = dict(kept)
        kept["name"] = TableName(**kept["name"])
        kept["identity"] = ReplicaIdentity(kept["identity"])
        kept["key"], kept["primary_key"] = tuple(kept["key"]), tuple(kept["primary_key"])
        kept["types"] = tuple(_user_type(each) for each in kept.get("types", ()))
        kept["columns"] = tuple(_column(column) for column in kept["columns"])
        return Table(**kept)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a table's shape: {error}") from error


def text(value: object) -> str:
    """Return JSON on one line, as it is kept everywhere."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _user_type(kept: dict[str, Any]) -> UserType:
    requires = tuple(TableName(**name) for name in kept["requires"])
    return UserType(TableName(**kept["name"]), kept["kind"], kept["definition"], requires)


def _column(kept: dict[str, Any]) -> Column:
    return Column(**{**kept, "type": _type(kept["type"]), "logical": Logical(kept["logical"])})


def _type(kept: dict[str, Any]) -> NativeType:
    nested = {name: _type(kept[name]) for name in ("element", "base") if kept.get(name) is not None}
    fields = tuple((name, _type(kind)) for name, kind in kept["fields"])
    return NativeType(**{**kept, "labels": tuple(kept["labels"]), "fields": fields, **nested})
