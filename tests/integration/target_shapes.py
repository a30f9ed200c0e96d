"""Routes for tests of the target, written by hand so that a test says just what it is about."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Index, Logical, NativeType, Table, TableName

_ids = itertools.count(20_000)


def column(name: str, kind: str = "text", number: int = 0, **more: Any) -> Column:
    """Return a column; `kind` is its type as PostgreSQL writes it."""
    return Column(name, NativeType(kind), Logical.OTHER, number=number, **more)


def key_column(name: str = "id", number: int = 1) -> Column:
    return column(name, "integer", number, nullable=False)


def table(*columns: Column, key: tuple[str, ...] = ("id",), name: str = "public.t", **more: Any) -> Table:
    """Return a table whose primary key is `key`, with its columns numbered by place where a test does not say."""
    schema, _, plain = name.partition(".")
    numbered = tuple(replace(c, number=c.number or at) for at, c in enumerate(columns, 1))
    more.setdefault("primary_key", key)
    return Table(TableName(schema, plain), next(_ids), numbered, key, **more)


def route(
    source: Table, to: str = "", rename: dict[str, str] | None = None, without: tuple[str, ...] = (), **more: Any
) -> Route:
    """Return the route of a table: all columns but generated ones and `without`, some under other names."""
    names = rename or {}
    schema, _, plain = (to or str(source.name)).partition(".")
    kept = [c for c in source.columns if not c.generated and c.name not in without]
    more.setdefault("key", source.key)
    return Route(source, TableName(schema, plain), tuple((c, names.get(c.name, c.name)) for c in kept), **more)


def primary_key(table: str = "public.t", columns: str = "id") -> Index:
    definition = f"CREATE UNIQUE INDEX t_pkey ON {table} USING btree ({columns})"
    return Index("t_pkey", tuple(columns.split(", ")), True, definition, f"PRIMARY KEY ({columns})")


def index(name: str, using: str, *, unique: bool = False, constraint: str = "", table: str = "public.t") -> Index:
    """Return an index as `pg_get_indexdef` would tell it, without its columns (the target reads the definition)."""
    kind = "UNIQUE INDEX" if unique else "INDEX"
    return Index(name, (), unique, f"CREATE {kind} {name} ON {table} USING {using}", constraint)
