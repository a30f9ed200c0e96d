"""What a table looks like: columns with the source's own types, keys, indexes, and what a copy needs besides."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Logical(StrEnum):
    """What a value means, whatever engine it came from. Targets map these to their own types."""

    BOOL = "bool"
    INT2 = "int2"
    INT4 = "int4"
    INT8 = "int8"
    UINT8 = "uint8"
    DECIMAL = "decimal"
    FLOAT4 = "float4"
    FLOAT8 = "float8"
    TEXT = "text"
    BYTES = "bytes"
    DATE = "date"
    TIME = "time"
    TIMETZ = "timetz"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    INTERVAL = "interval"
    UUID = "uuid"
    JSON = "json"
    ARRAY = "array"
    ENUM = "enum"
    SET = "set"
    BIT = "bit"
    GEOMETRY = "geometry"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class NativeType:
    """A source's own type, loss-free.

    `text` is how the engine writes it in DDL, qualified where it is not built in
    (`numeric(12,2)`, `"shop"."mood"`, `int unsigned`). `oid` and `modifier` are PostgreSQL's (0 and -1
    elsewhere); `unsigned`, `charset`, `collation`, `srid` (-1: none given) and the `labels` of an enum or set are
    MySQL's. `element` is an array's element type; `base` a domain's base type; `fields` a composite's
    attributes, name and type (empty where they are not known: its value is then read as text per field).
    """

    text: str
    oid: int = 0
    modifier: int = -1
    unsigned: bool = False
    charset: str = ""
    labels: tuple[str, ...] = ()
    element: NativeType | None = None
    base: NativeType | None = None
    fields: tuple[tuple[str, NativeType], ...] = ()
    collation: str = ""
    srid: int = -1


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `default` is the source's expression text, None where there is none.

    `generated` is '' or 'stored' or 'virtual'; `identity` is '' or 'always' or 'by default'. `number` is the
    engine's own number for the column, which survives a rename (PostgreSQL: attnum); 0 where unknown. `missing`
    is the value, as canonical text, that rows older than the column hold without having been rewritten
    (PostgreSQL: attmissingval; MySQL: the literal default, which is also what a row image without the column
    means in an insert); None where there is none.
    """

    name: str
    type: NativeType
    logical: Logical
    nullable: bool = True
    default: str | None = None
    generated: str = ""
    identity: str = ""
    number: int = field(default=0, compare=False)
    missing: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A table's qualified name, unquoted."""

    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


class ReplicaIdentity(StrEnum):
    """What of the old row the source logs for an UPDATE or DELETE."""

    DEFAULT = "default"  # the primary key
    INDEX = "index"  # the columns of one unique index
    FULL = "full"  # every column
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Index:
    """An index or unique constraint. `definition` is the engine's own DDL with the table's name quoted in it."""

    name: str
    columns: tuple[str, ...]
    unique: bool
    definition: str
    constraint: str = ""  # the constraint's definition where the index backs one: `UNIQUE (a) DEFERRABLE`


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key. `definition` is what follows `ADD CONSTRAINT name`."""

    name: str
    columns: tuple[str, ...]
    refers_to: TableName
    refers_columns: tuple[str, ...]
    definition: str


@dataclass(frozen=True, slots=True)
class UserType:
    """A type that a target must have before it can have the table: enum, domain, composite or range.

    `requires` are the names of user types that must be there first.
    """

    name: TableName
    kind: str  # enum | domain | composite | range
    definition: str  # what follows CREATE TYPE/DOMAIN name
    requires: tuple[TableName, ...] = ()


# Whose dates may be none of the calendar's, and the types of such dates.
_ZERO_DATE_ENGINES = ("mysql", "mariadb")
_ZERO_DATE_TYPES = (Logical.DATE, Logical.TIMESTAMP, Logical.TIMESTAMPTZ)


@dataclass(frozen=True, slots=True)
class Table:
    """One version of a table's shape.

    `id` is the engine's own number for the table (PostgreSQL: oid), which survives a rename. `key` are the
    columns that find one row: the primary key, else the replica identity index, else the rule's key; empty
    for a table without one, which is then matched by all columns. `version` counts the shapes seen.
    `partitioned` is set on the root of a partition tree, `partition_of` (the root's name) on each of its leaves:
    the rows are captured through one or the other, never both. `engine` says in whose words the column types are
    written: `postgresql`, `mysql` or `mariadb`. The latter two have no number for a table: there `id` stands for the
    name, and `collation` is what a text column gets that says none ('' where it is not known). `described`: only the
    messages of others tell of the table, and which of two shapes is the newer one is not told.
    """

    name: TableName
    id: int
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    primary_key: tuple[str, ...] = ()
    identity: ReplicaIdentity = ReplicaIdentity.DEFAULT
    version: int = 0
    indexes: tuple[Index, ...] = field(default=(), compare=False)
    foreign_keys: tuple[ForeignKey, ...] = field(default=(), compare=False)
    types: tuple[UserType, ...] = field(default=(), compare=False)
    estimated_rows: int = field(default=-1, compare=False)
    bytes: int = field(default=0, compare=False)
    partitioned: bool = field(default=False, compare=False)
    partition_of: TableName | None = field(default=None, compare=False)
    comment: str = field(default="", compare=False)
    engine: str = "postgresql"
    collation: str = field(default="", compare=False)
    described: bool = field(default=False, compare=False)

    def column(self, name: str) -> Column:
        """Return the column called `name`. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def may_hold_zero_dates(self, column: Column) -> bool:
        """Return whether the column's engine lets it hold dates that no calendar has: see `model.route.ZeroDates`."""
        return self.engine in _ZERO_DATE_ENGINES and column.logical in _ZERO_DATE_TYPES

    def gives_names_away(self, before: Table) -> bool:
        """Return whether the name of a column that was there before is free now, or is another column's."""
        now = {column.name: column for column in self.columns}
        return any(
            column.name not in now or (column.number and now[column.name].number not in (0, column.number))
            for column in before.columns
        )

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def key_indexes(self) -> tuple[int, ...]:
        """Positions of the key's columns within `columns`."""
        names = self.column_names
        return tuple(names.index(name) for name in self.key)
