"""What the target database has already: tables, keys, user types, schemas and extensions, read in a few queries."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from psycopg import Connection

from cdcflow.engines.postgres.names import qualified
from cdcflow.model.route import Route
from cdcflow.model.schema import Logical, TableName
from cdcflow.targets.postgres.foreign import is_foreign, localized

# Stands at the end of the comment of each table that `create` made: only those get indexes, foreign keys and
# sequences, and only those are brought into the source's shape before a copy starts over.
_MARK = "[made by cdcflow, pipeline {}]"
_MARKED = re.compile(r"\[made by cdcflow, pipeline ([a-z0-9_]+)\]$")


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """One column of a target table. `type` is as `format_type` writes it with nothing but pg_catalog in the path."""

    name: str
    type: str
    not_null: bool = False
    default: str | None = None
    identity: str = ""  # '' | 'always' | 'by default'
    generated: bool = False


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index on plain columns that `ON CONFLICT` can name: valid, whole and not deferrable."""

    name: str
    columns: tuple[str, ...]
    primary: bool = False
    constraint: bool = False


@dataclass(frozen=True, slots=True)
class TargetTable:
    """A relation of the target. `kind` is pg_class.relkind: `r` a table, `p` a partitioned one."""

    name: TableName
    oid: int
    kind: str
    columns: tuple[TargetColumn, ...]
    keys: tuple[UniqueKey, ...] = ()
    comment: str = ""

    @property
    def made_by(self) -> str:
        """The pipeline that made the table, '' where a person did."""
        found = _MARKED.search(self.comment)
        return found[1] if found else ""

    @property
    def alone(self) -> str:
        """The table as UPDATE, DELETE, SELECT and TRUNCATE name it without tables that inherit from it."""
        return f"ONLY {qualified(self.name)}" if self.kind == "r" else qualified(self.name)

    def column(self, name: str) -> TargetColumn | None:
        return next((column for column in self.columns if column.name == name), None)

    def finds_one_row_by(self, columns: tuple[str, ...]) -> bool:
        """Whether a unique key has exactly these columns, in any order."""
        return any(set(key.columns) == set(columns) for key in self.keys)

    @property
    def primary_key(self) -> UniqueKey | None:
        return next((key for key in self.keys if key.primary), None)


@dataclass(frozen=True, slots=True)
class TargetType:
    """A type of the target by pg_type.typtype: `e` enum, `d` domain, `c` composite, `r` range, `b` base."""

    kind: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetForeignKey:
    """A foreign key that a table has, or that refers to it. `columns` are those on the side of that table."""

    table: TableName  # the one that has it
    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guard:
    """A unique index or an exclusion constraint: what may refuse a row for another one. `columns` has '' for an
    expression. `constraint` says that ALTER TABLE drops it, not DROP INDEX."""

    name: TableName
    columns: tuple[str, ...]
    constraint: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """What the target has of everything that one route needs. `extensions` gives each one's schema, and
    whether it can be moved to another.

    `foreign_keys` are the table's own, `references` those of any table that refer to it.
    """

    version: int  # server_version_num
    table: TargetTable | None
    types: dict[TableName, TargetType] = field(default_factory=dict)
    schemas: frozenset[str] = frozenset()
    extensions: dict[str, tuple[str, bool]] = field(default_factory=dict)
    foreign_keys: tuple[TargetForeignKey, ...] = ()
    references: tuple[TargetForeignKey, ...] = ()
    guards: tuple[Guard, ...] = ()


def mark(pipeline: str, comment: str) -> str:
    """Return the table comment that says who made the table, behind the source's own."""
    return f"{comment}\n{_MARK.format(pipeline)}" if comment else _MARK.format(pipeline)


def shape(connection: Connection, route: Route) -> Shape:
    """Read what the target has of a route's table, types, schemas and extensions.

    Runs in the connection's open transaction if there is one, so DDL that was not committed yet is seen. Raises
    psycopg's errors.
    """
    types = [each for each in route.source.types if each.kind != "extension"]
    extensions = [each.name.table for each in route.source.types if each.kind == "extension"]
    schemas = {route.target.schema, *(each.name.schema for each in route.source.types)}
    there = table(connection, route.target)
    return Shape(
        connection.info.server_version,
        there,
        _types(connection, [each.name for each in types]) if types else {},
        _schemas(connection, schemas),
        _extensions(connection, extensions) if extensions else {},
        _foreign_keys(connection, _OWN, there.oid) if there else (),
        _foreign_keys(connection, _REFERENCES, there.oid) if there else (),
        _guards(connection, there.oid) if there and there.made_by else (),
    )


_TABLE = """
SELECT c.oid::int8, c.relkind::text, coalesce(obj_description(c.oid, 'pg_class'), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
       CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' ELSE '' END, a.attgenerated <> ''
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

# `indkey` counts INCLUDE columns too; the first `indnkeyatts` are the key. NULL marks an expression.
_KEYS = """
SELECT i.relname, x.indisprimary, k.oid IS NOT NULL,
       (SELECT array_agg(a.attname::text ORDER BY p.at)
        FROM generate_series(0, x.indnkeyatts - 1) p(at)
        LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[p.at] AND a.attnum > 0)
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u')
WHERE x.indrelid = %s AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL
ORDER BY x.indisprimary DESC, i.relname
"""


def table(connection: Connection, name: TableName) -> TargetTable | None:
    """Read one relation; None where there is none of that name."""
    row = connection.execute(_TABLE, (name.schema, name.table)).fetchone()
    if row is None:
        return None
    oid, kind, comment = row
    columns = tuple(TargetColumn(*each) for each in connection.execute(_COLUMNS, (oid,)))
    keys = tuple(
        UniqueKey(index, tuple(names), primary, constraint)
        for index, primary, constraint, names in connection.execute(_KEYS, (oid,))
        if None not in names
    )
    return TargetTable(name, oid, kind, columns, keys, comment)


_TYPES = """
SELECT n.nspname, t.typname, t.typtype::text,
       (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
JOIN unnest(%s::text[], %s::text[]) AS wanted(schema, name) ON wanted.schema = n.nspname AND wanted.name = t.typname
"""


_GUARDS = """
SELECT n.nspname::text, i.relname::text, k.oid IS NOT NULL,
       (SELECT array_agg(coalesce(a.attname::text, '') ORDER BY p.at)
        FROM generate_series(0, x.indnkeyatts - 1) p(at)
        LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[p.at] AND a.attnum > 0)
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u', 'x')
WHERE x.indrelid = %s AND (x.indisunique OR x.indisexclusion) ORDER BY 1, 2
"""


def _guards(connection: Connection, oid: int) -> tuple[Guard, ...]:
    rows = connection.execute(_GUARDS, (oid,))
    return tuple(Guard(TableName(schema, name), tuple(columns), held) for schema, name, held, columns in rows)


def types_of(connection: Connection, route: Route) -> dict[TableName, TargetType]:
    """Read only what the target has of a route's types. Waits for no lock on a table."""
    return _types(connection, [each.name for each in route.source.types if each.kind != "extension"])


def _types(connection: Connection, names: list[TableName]) -> dict[TableName, TargetType]:
    rows = connection.execute(_TYPES, ([n.schema for n in names], [n.table for n in names]))
    return {TableName(schema, name): TargetType(kind, tuple(labels or ())) for schema, name, kind, labels in rows}


def _schemas(connection: Connection, names: set[str]) -> frozenset[str]:
    rows = connection.execute("SELECT nspname::text FROM pg_namespace WHERE nspname = ANY(%s::text[])", (list(names),))
    return frozenset(name for (name,) in rows)


_EXTENSIONS = """
SELECT e.extname::text, n.nspname::text, e.extrelocatable FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = ANY(%s::text[])
"""


def _extensions(connection: Connection, names: list[str]) -> dict[str, tuple[str, bool]]:
    rows = connection.execute(_EXTENSIONS, (names,))
    return {str(name): (str(schema), bool(movable)) for name, schema, movable in rows}


_GEOMETRY = """
SELECT format_type(t.oid, NULL) FROM pg_extension e
JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_type'::regclass
JOIN pg_type t ON t.oid = d.objid AND t.typname = 'geometry' WHERE e.extname = 'postgis'
"""


def local(connection: Connection, *routes: Route) -> tuple[Route, ...]:
    """Return the routes in PostgreSQL's words (see `foreign.localized`), as this database can hold their values."""
    geometry = ""
    if any(
        is_foreign(route.source) and any(c.logical is Logical.GEOMETRY for c, _ in route.columns) for route in routes
    ):
        row = connection.execute(_GEOMETRY).fetchone()
        geometry = str(row[0]) if row else ""
    return tuple(localized(route, geometry) for route in routes)


_KEYS_OF = """
SELECT n.nspname::text, c.relname::text, k.conname::text,
       (SELECT array_agg(a.attname::text) FROM pg_attribute a WHERE a.attrelid = k.{side} AND a.attnum = ANY (k.{keys}))
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND k.{side} = %s ORDER BY 1, 2, 3
"""
_OWN = _KEYS_OF.format(side="conrelid", keys="conkey")
_REFERENCES = _KEYS_OF.format(side="confrelid", keys="confkey")


def _foreign_keys(connection: Connection, query: str, oid: int) -> tuple[TargetForeignKey, ...]:
    rows = connection.execute(query, (oid,))
    return tuple(TargetForeignKey(TableName(schema, name), key, tuple(columns)) for schema, name, key, columns in rows)
