"""Indexes and foreign keys of PostgreSQL in MySQL's words: what means the same there, and why the rest does not.

A definition is what `pg_get_indexdef` or `pg_get_constraintdef` prints.
"""

from __future__ import annotations

import re
from typing import Final

from cdcflow.engines.mysql.names import ident, qualified
from cdcflow.model.route import Route
from cdcflow.model.schema import ForeignKey, Index
from cdcflow.targets.mysql import ddl, types
from cdcflow.targets.mysql.catalog import TargetColumn, TargetTable

# What of a longer text an index holds, in characters: the longest prefix that MySQL's own tools propose.
_PREFIX_CHARACTERS: Final = 255
_PREFIX_BYTES: Final = 767

_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_INDEX = re.compile(
    rf"^CREATE (?:UNIQUE )?INDEX {_NAME} ON (?:ONLY )?(?:{_NAME}\.)?{_NAME} USING (?P<method>\w+) \((?P<rest>.*)$",
    re.DOTALL,
)
_ENTRY = re.compile(
    rf"(?P<name>{_NAME})(?: COLLATE (?:{_NAME}\.)?{_NAME})?(?: (?!ASC\b|DESC\b|NULLS\b){_NAME})?"
    r"(?P<desc> DESC)?(?: NULLS (?:FIRST|LAST))?(?P<end>, |\))"
)
_TAIL = re.compile(r"^(?: INCLUDE \([^()]*\))?(?: NULLS NOT DISTINCT)?(?: WITH \([^()]*\))?(?: TABLESPACE \S+)?$")
_REFERENCES = re.compile(rf"\) REFERENCES (?:{_NAME}\.)?{_NAME}\([^)]*\)(?P<tail>.*)$", re.DOTALL)
_ACTION = re.compile(r" ON (?:UPDATE|DELETE) (?:CASCADE|RESTRICT|NO ACTION|SET NULL)(?! \()")
_HARMLESS = re.compile(r" (?:MATCH SIMPLE|NOT VALID|(?:NOT )?DEFERRABLE|INITIALLY (?:DEFERRED|IMMEDIATE))")


class Untranslatable(Exception):  # noqa: N818 - a reason, not a failure
    """An index or constraint cannot be made at the target; the message says why, for the log."""


def index_clause(route: Route, index: Index, table: TargetTable) -> str | None:
    """Return `ADD INDEX ..` for the target's table; None for one that its key is already.

    A unique index becomes a plain one: the source has checked the rows, and it checks at once, where rows of a batch
    are written as sets.

    Raises:
        Untranslatable: MySQL has no index like it, or a column of it is not replicated.
    """
    names = {column.name: name for column, name in route.columns}
    found = _INDEX.match(index.definition)
    if not found or index.constraint.startswith("EXCLUDE"):
        raise Untranslatable("it is none that MySQL has")
    if found["method"] not in ("btree", "hash"):
        raise Untranslatable(f"MySQL has no {found['method']} index")
    entries: list[tuple[str, str]] = []
    at, rest = 0, found["rest"]
    while True:
        entry = _ENTRY.match(rest, at)
        if entry is None:
            raise Untranslatable("it holds an expression in PostgreSQL's own words")
        entries.append((_unquoted(entry["name"]), entry["desc"] or ""))
        at = entry.end()
        if entry["end"] == ")":
            break
    if not _TAIL.match(rest[at:]):
        raise Untranslatable("it holds only some of the rows")
    for name, _ in entries:
        if name not in names:
            raise Untranslatable(f"column {ident(name)} of it is not replicated")
    columns = [(table.column(names[name]), desc) for name, desc in entries]
    if [name for name, _ in entries] in (list(route.key), list(route.source.primary_key)):
        return None
    pieces = [_piece(there, desc, len(columns)) for there, desc in columns]
    return f"ADD INDEX {ident(index.name)} ({', '.join(pieces)})"


def _piece(there: TargetColumn | None, desc: str, count: int) -> str:
    """Return a column as an index has it, of a long one the beginning."""
    if there is None:
        raise Untranslatable("a column of it is missing in the target")
    if there.kind in ("json", "vector") or types.is_geometry(there):
        raise Untranslatable(f"MySQL has no such index on a column of type {there.kind}")
    most = types.INDEX_BYTES // count
    long = there.kind.endswith(("text", "blob"))
    if not long and types.row_bytes(there.type) <= most:
        return ident(there.name) + desc
    if there.kind.endswith(("blob", "binary")):
        return f"{ident(there.name)}({min(_PREFIX_BYTES, most)}){desc}"
    return f"{ident(there.name)}({min(_PREFIX_CHARACTERS, most // 4)}){desc}"


def foreign_key_clause(route: Route, key: ForeignKey, referred: Route, table: TargetTable) -> str:
    """Return `ADD CONSTRAINT ..` for a foreign key between two routed tables.

    Raises:
        Untranslatable: MySQL has none like it, or the target holds other rows than the source.
    """
    found = _REFERENCES.search(key.definition)
    if not found:
        raise Untranslatable("its definition is not understood")
    if not ddl.is_mirror(route) or not ddl.is_mirror(referred):
        raise Untranslatable("the target does not hold the same rows as the source")
    actions = _ACTION.findall(found["tail"])
    if _HARMLESS.sub("", _ACTION.sub("", found["tail"])).strip():
        raise Untranslatable("it says what MySQL's foreign keys cannot")
    here, there = names(route, key.columns), names(referred, key.refers_columns)
    if set(key.refers_columns) not in (set(referred.key), set(referred.source.primary_key)):
        raise Untranslatable("it refers to columns that are not the key of their table, and have no unique index here")
    for name in here:
        column = table.column(name)
        if column is None or column.kind.endswith(("text", "blob")):
            raise Untranslatable("MySQL has no foreign key on a column of such a type")
    return (
        f"ADD CONSTRAINT {ident(key.name)} FOREIGN KEY ({ddl.column_list(here)})"
        f" REFERENCES {qualified(referred.target)} ({ddl.column_list(there)}){''.join(actions)}"
    )


def names(route: Route, columns: tuple[str, ...]) -> list[str]:
    """Return the target's names of columns. Raises Untranslatable where one is not replicated."""
    there = {column.name: name for column, name in route.columns}
    for name in columns:
        if name not in there:
            raise Untranslatable(f"column {ident(name)} of {route.source.name} is not replicated")
    return [there[name] for name in columns]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
