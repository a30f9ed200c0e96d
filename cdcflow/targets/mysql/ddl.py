"""What makes a target table like its source: pure functions from a route to statements."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b

from cdcflow.engines.mysql.names import ident, literal, qualified
from cdcflow.model.route import SOFT_DELETE_COLUMN, Mode, OnDelete, OnTruncate, Route
from cdcflow.model.schema import Column, Logical
from cdcflow.targets.mysql import catalog, defaults, types
from cdcflow.targets.mysql.catalog import Server

SOFT_DELETE_TYPE = "datetime(6) NULL"

# A zero date in the source becomes NULL, even where its column takes none (`zero_dates: null`).
_DATES = (Logical.DATE, Logical.TIMESTAMP, Logical.TIMESTAMPTZ)

# What a column of a key takes at the most whose type has a size of its own: a TEXT of a UUID, an enum's label.
_FIXED_KEY_BYTES = 256

_WORD = re.compile(r"`((?:[^`]|``)+)`|'(?:[^'\\]|''|\\.)*'|([A-Za-z_][\w$]*)")


def key_columns(route: Route) -> tuple[str, ...]:
    """Return the source's names of the columns that the target's indexes on keys hold."""
    names = {column.name for column, _ in route.columns}
    primary = route.source.primary_key if all(name in names for name in route.source.primary_key) else ()
    return tuple(dict.fromkeys((*route.key, *primary)))


def key_room(route: Route) -> int:
    """Return the bytes of the index that each column of the key without a size of its own may take."""
    keys = [route.source.column(name) for name in key_columns(route)]
    open_ended = [column for column in keys if types.is_sized(route.source, column)]
    fixed = _FIXED_KEY_BYTES * (len(keys) - len(open_ended))
    return (types.INDEX_BYTES - fixed) // max(len(open_ended), 1) // 4 * 4


def column_types(route: Route, server: Server) -> dict[str, str]:
    """Return the type of each kept column by the source's name. Where the row would be too long, the longest columns
    outside the key become TEXT."""
    keys, room = key_columns(route), key_room(route)
    found = {
        column.name: types.ddl_type(route.source, column, server, key_bytes=room if column.name in keys else 0)
        for column, _ in route.columns
    }
    sizes = {name: types.row_bytes(text) for name, text in found.items()}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if sum(sizes.values()) <= types.ROW_BYTES - 256:
            break
        if name in keys or not found[name].startswith(("varchar(", "varbinary(")):
            continue
        size = found[name].index(")") + 1
        found[name] = ("longtext" if found[name].startswith("varchar") else "longblob") + found[name][size:]
        sizes[name] = 12
    return found


def column_line(
    route: Route, column: Column, name: str, type_text: str, *, nullable: bool | None = None, auto: bool = False
) -> str:
    """Return one column of CREATE TABLE or ADD COLUMN."""
    missing = column.nullable if nullable is None else nullable
    if column.logical in _DATES and types.is_family(route.source) and column.name not in key_columns(route):
        missing = True
    line = f"{ident(name)} {type_text} {'NULL' if missing else 'NOT NULL'}"
    return f"{line} AUTO_INCREMENT" if auto else line


def create_table(
    route: Route, server: Server, pipeline: str, *, generated: bool = True, defaulting: bool = True
) -> str:
    """Return CREATE TABLE with all kept columns in the source's order and the key.

    Without `generated` or `defaulting` generated columns or defaults are left out, for a target that does not
    understand them.
    """
    kept = {column.name: name for column, name in route.columns}
    texts = column_types(route, server)
    keys = key_lines(route)
    lines = []
    for column in route.source.columns:
        if column.name in kept:
            auto = is_auto(route, column)
            line = column_line(route, column, kept[column.name], texts[column.name], auto=auto)
            if defaulting and not auto:
                line += default_of(route, column, texts[column.name])
            lines.append(line)
        elif generated and is_computable(route, column):
            lines.append(generated_line(route, column, server))
    if route.on_delete is OnDelete.SOFT:
        lines.append(f"{ident(SOFT_DELETE_COLUMN)} {SOFT_DELETE_TYPE}")
    body = ",\n  ".join([*lines, *keys])
    comment = literal(catalog.mark(pipeline, route.source.comment, seal(route)))
    return (
        f"CREATE TABLE {qualified(route.target)} (\n  {body}\n) ENGINE=InnoDB ROW_FORMAT=DYNAMIC"
        f" DEFAULT CHARACTER SET utf8mb4 COMMENT={comment}"
    )


def is_auto(route: Route, column: Column) -> bool:
    """Whether the target's column counts by itself too: the server wants it first in a key."""
    if not column.identity or not types.is_family(route.source):
        return False
    keys = [route.key, () if keeps_deleted_versions(route) else route.source.primary_key]
    return any(key[:1] == (column.name,) for key in keys)


def default_of(route: Route, column: Column, type_text: str) -> str:
    """Return ` DEFAULT ..` where the source's words mean the same here."""
    if column.default is None or column.generated:
        return ""
    if types.is_family(route.source):
        return f" DEFAULT {column.default}"
    default = defaults.expression(column, type_text)
    return f" DEFAULT {default}" if default is not None else ""


def generated_line(route: Route, column: Column, server: Server) -> str:
    """Return a generated column with the source's own expression."""
    kind = "VIRTUAL" if column.generated == "virtual" else "STORED"
    type_text = types.ddl_type(route.source, column, server)
    return f"{ident(column.name)} {type_text} GENERATED ALWAYS AS ({column.default}) {kind}"


def is_computable(route: Route, column: Column) -> bool:
    """Whether a generated column's expression means the same at the target: all it names is there by that name."""
    if not column.generated or not column.default or not types.is_family(route.source):
        return False
    kept = {c.name: name for c, name in route.columns}
    if column.name in kept.values():
        return False
    changed = {c.name for c in route.source.columns if not c.generated and kept.get(c.name) != c.name}
    return not words(column.default) & changed


def words(expression: str) -> set[str]:
    """Return every identifier in a piece of SQL, unquoted."""
    return {
        quoted.replace("``", "`") if quoted else plain for quoted, plain in _WORD.findall(expression) if quoted or plain
    }


def key_lines(route: Route) -> list[str]:
    """Return what gives the new table its key: the source's primary key, and a unique index for another key."""
    names = {column.name: name for column, name in route.columns}
    primary = route.source.primary_key
    made = []
    if primary and all(name in names for name in primary) and not keeps_deleted_versions(route):
        made.append(f"PRIMARY KEY ({column_list(names[name] for name in primary)})")
    if route.key and (not made or set(route.key) != set(primary)):
        made.append(f"UNIQUE KEY `cdcflow_key` ({column_list(route.key_in_target)})")
    return made


def keeps_deleted_versions(route: Route) -> bool:
    """Whether the target may hold rows that are gone at the source under a key other than the route's own."""
    return not is_mirror(route) and set(route.key) != set(route.source.primary_key)


def is_mirror(route: Route) -> bool:
    """Whether the target holds just the rows that the source holds, so that its constraints hold there too."""
    return route.on_delete is OnDelete.DELETE and route.on_truncate is OnTruncate.TRUNCATE and route.mode is Mode.MIRROR


def column_list(names: Iterable[str]) -> str:
    return ", ".join(ident(name) for name in names)


def fingerprint(route: Route) -> str:
    """Return a short text that differs when the route's shape in the target does."""
    parts = [
        f"{name}\0{column.type.text}\0{column.type.collation}\0{column.nullable}" for column, name in route.columns
    ]
    parts += [str(route.key_in_target), str(route.on_delete)]
    return blake2b("\1".join(parts).encode(), digest_size=6).hexdigest()


def numbers(route: Route) -> str:
    """Return a short text that differs when a name stands for another column of the source than before."""
    # As a log counts them whose server gives columns no numbers.
    numbered = all(column.number for column in route.source.columns)
    places = {column.name: place for place, column in enumerate(route.source.columns, 1)}
    found = [column.number if numbered else places[column.name] for column, _ in route.columns]
    return blake2b(str(found).encode(), digest_size=4).hexdigest()


def seal(route: Route) -> str:
    """Return what the mark of a table says that has the route's shape."""
    return fingerprint(route) + numbers(route)
