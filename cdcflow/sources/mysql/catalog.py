"""The source's tables as information_schema describes them, in a few queries for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import pymysql
from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.engines.mysql.names import ident, literal, qualified, table_id
from cdcflow.model.schema import Column, ForeignKey, Index, Logical, ReplicaIdentity, Table, TableName
from cdcflow.sources.mysql import defaults, types

SYSTEM_DATABASES: Final = ("mysql", "sys", "information_schema", "performance_schema", "ndbinfo", "cdcflow")

# What a table under MariaDB's system versioning has behind its own columns, in the log too, where nobody named them.
HIDDEN_PERIOD: Final = (("row_start", "ROW START"), ("row_end", "ROW END"))
ROW_END: Final = "ROW END"

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """How a table is stored, for `check`. `transactional` is what the server says of the engine."""

    name: TableName
    engine: str
    transactional: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which tables are asked for: `where` is SQL over a schema's and a table's column."""

    flavour: Flavour
    where: str

    def on(self, schema: str = "table_schema", table: str = "table_name") -> str:
        return self.where.replace("{schema}", schema).replace("{table}", table)


# A table without rows of its own (a view, a sequence) is no BASE TABLE.
_TABLES: Final = """
SELECT table_schema, table_name, table_type = 'SYSTEM VERSIONED', table_rows, data_length, table_comment,
       table_collation
FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND {wanted}
"""

_COLUMNS: Final = """
SELECT table_schema, table_name, column_name, column_type, is_nullable = 'YES', column_default, extra,
       character_set_name, collation_name, generation_expression, {srid}, column_key = 'PRI'
FROM information_schema.columns WHERE {wanted}
ORDER BY table_schema, table_name, ordinal_position
"""

_INDEXES: Final = """
SELECT table_schema, table_name, index_name, non_unique = 0, column_name, sub_part, index_type, {expression},
       collation, {hidden}
FROM information_schema.statistics WHERE {wanted}
ORDER BY table_schema, table_name, index_name, seq_in_index
"""

_ACTIONS: Final = """
SELECT constraint_schema, table_name, constraint_name, update_rule, delete_rule
FROM information_schema.referential_constraints WHERE {wanted}
"""

_FOREIGN_KEYS: Final = """
SELECT table_schema, table_name, constraint_name, column_name, referenced_table_schema, referenced_table_name,
       referenced_column_name
FROM information_schema.key_column_usage WHERE referenced_table_name IS NOT NULL AND {wanted}
ORDER BY table_schema, table_name, constraint_name, ordinal_position
"""

# MariaDB's JSON is text with a check of the column's own name.
_JSON_CHECKS: Final = """
SELECT constraint_schema, table_name, check_clause FROM information_schema.check_constraints
WHERE check_clause LIKE 'json\\_valid(%' AND {wanted}
"""

_REACHES: Final = """
SELECT EXISTS (SELECT 1 FROM information_schema.views WHERE table_schema = {schema} AND table_name = {table})
    OR EXISTS (SELECT 1 FROM information_schema.triggers
        WHERE event_object_schema = {schema} AND event_object_table = {table})
"""
_STORAGE: Final = """
SELECT t.table_schema, t.table_name, t.engine, e.transactions = 'YES'
FROM information_schema.tables t LEFT JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND {wanted}
ORDER BY t.table_schema, t.table_name
"""


def tables(connection: Connection, flavour: Flavour, database: str | None = None) -> list[Table]:
    """Read all user tables, or those of one database, by name.

    Raises pymysql's errors.
    """
    if database:
        return _read(connection, _Wanted(flavour, f"{{schema}} = {literal(database)}"))
    system = ", ".join(map(literal, SYSTEM_DATABASES))
    return _read(connection, _Wanted(flavour, f"{{schema}} NOT IN ({system})"))


def reaches_others(connection: Connection, name: TableName) -> bool:
    """Return whether a statement that names this table may change another one: it is a view, or has a trigger.

    Triggers are only shown to a user who may make some.
    """
    wanted = {"schema": literal(name.schema), "table": literal(name.table)}
    with connection.cursor() as cursor:
        cursor.execute(_REACHES.format(**wanted))
        return bool((cursor.fetchone() or (0,))[0])


def shape_of(connection: Connection, flavour: Flavour, name: TableName) -> Table | None:
    """Read one table as it is now; None where there is none of that name.

    Raises pymysql's errors.
    """
    where = f"{{schema}} = {literal(name.schema)} AND {{table}} = {literal(name.table)}"
    found = _read(connection, _Wanted(flavour, where))
    return found[0] if found else None


def storage(connection: Connection, names: Iterable[TableName]) -> dict[TableName, Storage]:
    """Return how the tables that exist are stored."""
    wanted = set(names)
    databases = ", ".join(sorted({literal(name.schema) for name in wanted}))
    if not databases:
        return {}
    rows = _rows(connection, _STORAGE.format(wanted=f"t.table_schema IN ({databases})"))
    made = (Storage(TableName(row[0], row[1]), row[2] or "", bool(row[3])) for row in rows)
    return {each.name: each for each in made if each.name in wanted}


def _read(connection: Connection, wanted: _Wanted) -> list[Table]:
    flavour = wanted.flavour
    mysql, version = flavour.engine == "mysql", flavour.version
    if mysql and version >= (8, 0, 30):
        _run(connection, "SET SESSION show_gipk_in_create_table_and_information_schema = ON")
    if mysql and version >= (8,):
        _run(connection, "SET SESSION information_schema_stats_expiry = 0")  # else sizes are of yesterday
    ((image,),) = _rows(connection, "SELECT @@GLOBAL.binlog_row_image")
    found = sorted(_rows(connection, _TABLES.format(wanted=wanted.on())), key=lambda row: row[:2])
    if not found:
        return []
    columns = _grouped(
        connection,
        _COLUMNS.format(srid="srs_id" if mysql and version >= (8, 0, 3) else "NULL", wanted=wanted.on()),
    )
    indexes = _grouped(
        connection,
        _INDEXES.format(
            expression="expression" if mysql and version >= (8, 0, 13) else "NULL",
            hidden="is_visible = 'NO'" if mysql and version >= (8,) else ("0" if mysql else "ignored = 'YES'"),
            wanted=wanted.on(),
        ),
    )
    # MariaDB opens every table for each of these: the second is asked only where the first has found something.
    actions = _rows(connection, _ACTIONS.format(wanted=wanted.on("constraint_schema")))
    rules = {row[:3]: row[3:] for row in actions}
    foreign_keys: dict[Row, list[Row]] = defaultdict(list)
    if rules:
        for each in _rows(connection, _FOREIGN_KEYS.format(wanted=wanted.on("constraint_schema"))):
            if each[:3] in rules:
                foreign_keys[each[:2]].append((*each, *rules[each[:3]]))
    json_columns = frozenset[tuple[str, str, str]]()
    if not mysql and any(row[3] == "longtext" for each in columns.values() for row in each):
        checks = _rows(connection, _JSON_CHECKS.format(wanted=wanted.on("constraint_schema")))
        json_columns = frozenset((row[0], row[1], _checked(row[2])) for row in checks)
    return [
        _table(
            connection,
            flavour,
            row,
            str(image).startswith("FULL"),
            [_column(flavour, each, json_columns) for each in columns[row[:2]]],
            [(each, _defaulted(flavour, each, json_columns)) for each in columns[row[:2]]],
            indexes[row[:2]],
            foreign_keys[row[:2]],
        )
        for row in found
    ]


def _table(
    connection: Connection,
    flavour: Flavour,
    row: Row,
    whole: bool,
    columns: list[Column],
    texts: list[tuple[Row, str | None]],
    indexes: list[Row],
    foreign_keys: list[Row],
) -> Table:
    schema, table, versioned, rows, size, comment, collation = row
    name = TableName(schema, table)
    columns = _sure(connection, flavour, name, columns, [text for _, text in texts])
    if versioned and not any(column.default == ROW_END and column.generated for column in columns):
        stamp = types.native("timestamp(6)")
        columns += [
            Column(each, stamp, types.logical(stamp), nullable=False, default=period, generated="stored")
            for each, period in HIDDEN_PERIOD
        ]
    by_index: dict[str, list[Row]] = defaultdict(list)
    for each in indexes:
        by_index[each[2]].append(each)
    period_ends = {column.name for column in columns if column.generated and column.default == ROW_END}
    primary = tuple(each[4] for each in by_index.get("PRIMARY", ()) if each[4] not in period_ends)
    chosen = {each[2] for each, _ in texts if each[11]}
    key = _key(columns, primary, by_index, chosen, period_ends)
    return Table(
        name,
        table_id(name),
        tuple(columns),
        key=key,
        primary_key=primary,
        # Of a table without a key every old value is in the log, whatever binlog_row_image says.
        identity=ReplicaIdentity.FULL if whole or not key else ReplicaIdentity.DEFAULT,
        indexes=tuple(_index(name, index, parts) for index, parts in sorted(by_index.items()) if index != "PRIMARY"),
        foreign_keys=_foreign_keys(foreign_keys),
        estimated_rows=-1 if rows is None else int(rows),
        bytes=int(size or 0),
        comment=comment or "",
        engine=flavour.engine,
        collation=collation or "",
    )


def _column(flavour: Flavour, row: Row, json_columns: frozenset[tuple[str, str, str]]) -> Column:
    schema, table, name, text, nullable, default, extra, charset, collation, expression, srid, _ = row
    native = types.native(
        text,
        charset=charset or "",
        collation=collation or "",
        srid=-1 if srid is None else int(srid),
        json=text == "longtext" and (schema, table, name) in json_columns,
    )
    generated = "stored" if "STORED GENERATED" in extra or "PERSISTENT" in extra else ""
    generated = "virtual" if "VIRTUAL GENERATED" in extra else generated
    written, plain = defaults.sql(
        native, default, generated="DEFAULT_GENERATED" in extra, quoted=flavour.engine == "mariadb"
    )
    missing = defaults.canonical(native, plain) if plain is not None else None
    increments = "auto_increment" in extra
    if written is None and not nullable and not increments and not generated:
        missing = defaults.implicit(native)
    return Column(
        name,
        native,
        types.logical(native),
        nullable=bool(nullable),
        default=defaults.unescape_expression(expression) if generated else written,
        generated=generated,
        identity="by default" if increments else "",
        missing=None if generated else missing,
    )


def _defaulted(flavour: Flavour, row: Row, json_columns: frozenset[tuple[str, str, str]]) -> str | None:
    """Return a doubtful literal default's plain text; None for one that is certain, or none."""
    column = _column(flavour, row, json_columns)
    quoted = flavour.engine == "mariadb"
    if column.generated:
        return None
    _, plain = defaults.sql(column.type, row[5], generated="DEFAULT_GENERATED" in row[6], quoted=quoted)
    return plain if defaults.doubtful(column.type, plain, quoted=quoted) else None


def _sure(
    connection: Connection, flavour: Flavour, name: TableName, columns: list[Column], doubtful: Sequence[str | None]
) -> list[Column]:
    """Ask the server for the defaults that information_schema may have wrong; unknown ones have no `missing`."""
    asked = [index for index, text in enumerate(doubtful) if text is not None]
    if not asked:
        return columns
    values: Sequence[Any] = [None] * len(asked)
    # A row of NULLs joined to nothing still has its table's defaults, so an empty table answers too.
    wanted = ", ".join(defaults.question(columns[i].type, f"t.{ident(columns[i].name)}") for i in asked)
    with suppress(pymysql.Error):
        (values,) = _rows(
            connection, f"SELECT {wanted} FROM (SELECT 1) AS one LEFT JOIN {qualified(name)} AS t ON FALSE"
        )
    sure = list(columns)
    for index, value in zip(asked, values, strict=True):
        column = columns[index]
        if value is None:
            sure[index] = replace(column, missing=None)
            continue
        text = str(value)
        written = text if column.logical in (Logical.FLOAT4, Logical.BYTES) else literal(text)
        sure[index] = replace(column, default=written, missing=defaults.canonical(column.type, text))
    return sure


def _key(
    columns: list[Column],
    primary: tuple[str, ...],
    indexes: dict[str, list[Row]],
    chosen: set[str],
    left_out: set[str],
) -> tuple[str, ...]:
    """Return the columns that find one row: the primary key, else the first unique index without NULLs.

    `chosen` are the columns that the server takes for the primary key, and logs of an old row where
    binlog_row_image is MINIMAL. Generated columns stay behind, so they can be in no key.
    """
    fit = {column.name for column in columns if not column.nullable and not column.generated}
    if primary and fit.issuperset(primary):
        return primary
    found = []
    for name, parts in sorted(indexes.items()):
        names = tuple(part[4] for part in parts if part[4] not in left_out)
        if name != "PRIMARY" and parts[0][3] and names and all(each in fit for each in names):
            found.append(names)
    return next((names for names in found if set(names) == chosen), found[0] if found else ())


def _index(table: TableName, name: str, parts: list[Row]) -> Index:
    unique, kind, hidden = bool(parts[0][3]), parts[0][6], bool(parts[0][9])
    pieces = []
    for part in parts:
        column, length, expression, order = part[4], part[5], part[7], part[8]
        piece = f"({defaults.unescape_expression(expression)})" if column is None else ident(column)
        if length is not None and kind not in ("FULLTEXT", "SPATIAL"):
            piece += f"({length})"
        pieces.append(piece + (" DESC" if order == "D" else ""))
    prefix = f"{kind} " if kind in ("FULLTEXT", "SPATIAL", "VECTOR") else "UNIQUE " if unique else ""
    using = " USING HASH" if kind == "HASH" else ""
    columns = tuple(part[4] for part in parts if part[4] is not None)
    definition = f"CREATE {prefix}INDEX {ident(name)} ON {qualified(table)} ({', '.join(pieces)}){using}"
    return Index(name, columns, unique, definition + (" /* not used by the optimizer */" if hidden else ""))


def _foreign_keys(rows: list[Row]) -> tuple[ForeignKey, ...]:
    parts: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        parts[row[2]].append(row)
    made = []
    for name, each in parts.items():
        refers_to = TableName(each[0][4], each[0][5])
        columns, refers = tuple(row[3] for row in each), tuple(row[6] for row in each)
        on_update, on_delete = each[0][7], each[0][8]
        definition = (
            f"FOREIGN KEY ({', '.join(map(ident, columns))}) REFERENCES {qualified(refers_to)}"
            f" ({', '.join(map(ident, refers))}) ON DELETE {on_delete} ON UPDATE {on_update}"
        )
        made.append(ForeignKey(name, columns, refers_to, refers, definition))
    return tuple(made)


def _checked(clause: str) -> str:
    """Return the column of ``json_valid(`doc`)``, '' where the check says more."""
    inside = clause.removeprefix("json_valid(").removesuffix(")")
    quoted = inside.startswith("`") and inside.endswith("`") and len(inside) > 2
    return inside[1:-1].replace("``", "`") if quoted else ""


def _grouped(connection: Connection, query: str) -> dict[Row, list[Row]]:
    groups: dict[Row, list[Row]] = defaultdict(list)
    for row in _rows(connection, query):
        groups[row[:2]].append(row)
    return groups


def _rows(connection: Connection, query: str) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def _run(connection: Connection, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
