"""Indexes, constraints and foreign keys of the source, rewritten for the names that the target has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cdcflow.engines.postgres.names import ident, qualified
from cdcflow.model.route import Route
from cdcflow.model.schema import ForeignKey, Index, TableName
from cdcflow.targets.postgres.ddl import changed_names, column_list, is_mirror, words
from cdcflow.targets.postgres.foreign import is_foreign, shortened

_NAME = r'(?:"(?:[^"]|"")+"|[^\s".(]+)'
_DEFINITION = re.compile(
    rf"^CREATE (?P<unique>UNIQUE )?INDEX {_NAME} ON (?:ONLY )?{_NAME}(?:\.{_NAME})? USING (?P<rest>.*)$", re.DOTALL
)
_PLAIN_ENTRY = re.compile(r'^\s*("(?:[^"]|"")+"|[^\W\d][\w$]*)(?=\s|$)')
_DEFERRABLE = re.compile(r" DEFERRABLE(?: INITIALLY DEFERRED)?")
_REFERENCES = re.compile(rf"\) REFERENCES (?:{_NAME}\.)?{_NAME}\((?P<columns>[^)]*)\)(?P<tail>.*)$", re.DOTALL)
_STRING_OR_NAME = re.compile(r"""'(?:[^']|'')*'|"([a-z_][a-z0-9_]*)"|"(?:[^"]|"")+\"""")

# In the words of MySQL, once names in backquotes are emptied.
_BACKQUOTED = re.compile(r"""`(?:[^`]|``)*`|"(?:[^"]|"")*\"""")
_OTHER_KIND = re.compile(r"\b(FULLTEXT|SPATIAL|VECTOR)\b", re.IGNORECASE)
_PREFIX = re.compile(r"\(\s*\d+\s*\)")
# RESTRICT is MySQL's word for what both do when nothing is said: refuse. Here it would refuse earlier.
_ACTION = re.compile(r"\bON (DELETE|UPDATE) (CASCADE|SET NULL|SET DEFAULT)\b")

_STRANGE = "its definition is not understood"


class Untranslatable(Exception):  # noqa: N818 - a reason, not a failure
    """An index or constraint cannot be made at the target; the message says why, for the log."""


@dataclass(frozen=True, slots=True)
class TargetIndex:
    """An index to make. `rest` is everything behind USING; two indexes with one `rest` are the same.

    `constraint` is what follows `ADD CONSTRAINT name UNIQUE USING INDEX name`, None for a plain index.
    `statement` is set where only ALTER TABLE can make it (an exclusion constraint).
    """

    name: str
    unique: bool
    rest: str
    constraint: str | None = None
    statement: str = ""

    def create(self, table: TableName, *, concurrently: bool, named: bool = True) -> str:
        """Return CREATE INDEX; without its name where that is taken by something else."""
        unique = "UNIQUE " if self.unique else ""
        how = "CONCURRENTLY " if concurrently else ""
        name = f"{ident(self.name)} " if named else ""
        return f"CREATE {unique}INDEX {how}{name}ON {qualified(table)} USING {self.rest}"


def parse(definition: str) -> tuple[bool, str]:
    """Return whether an index is unique, and what follows USING in its `pg_get_indexdef`."""
    found = _DEFINITION.match(definition)
    if not found:
        raise Untranslatable(_STRANGE)
    return bool(found["unique"]), found["rest"]


def same(rest: str) -> str:
    """Return what follows USING with no quotes around names that need none, to compare what was asked for with what
    the server prints."""
    return _STRING_OR_NAME.sub(lambda found: found[1] if found[1] else found[0], rest)


def target_index(route: Route, index: Index) -> TargetIndex | None:
    """Translate one index; None for the primary key, which `create` made.

    Raises:
        Untranslatable: a column of it is not replicated, or an expression in it names a renamed column.
    """
    if index.constraint.startswith("PRIMARY KEY"):
        return None
    if is_foreign(route.source):
        return _foreign_index(route, index)
    unique, rest = parse(index.definition)
    rest = _renamed(route, rest)
    unique = unique and is_mirror(route)
    if index.constraint.startswith("EXCLUDE") or " WITHOUT OVERLAPS" in index.constraint:
        if not is_mirror(route):
            raise Untranslatable("the target keeps rows that the source deletes, and they would collide")
        if any(word in dict(changed_names(route)) for word in words(index.constraint)):
            raise Untranslatable("a column of it has another name in the target")
        statement = f"ALTER TABLE {qualified(route.target)} ADD CONSTRAINT {ident(index.name)} {index.constraint}"
        return TargetIndex(index.name, False, rest, statement=statement)
    constraint = None
    if index.constraint and unique:
        found = _DEFERRABLE.search(index.constraint)
        constraint = found[0] if found else ""
    return TargetIndex(index.name, unique, rest, constraint)


def _foreign_index(route: Route, index: Index) -> TargetIndex | None:
    """Make an index of the columns alone: the definition is another engine's, which names an index within its table
    and not, as here, within the schema."""
    if index.name.upper() == "PRIMARY":
        return None
    bare = _BACKQUOTED.sub("``", index.definition)
    if kind := _OTHER_KIND.search(bare):
        raise Untranslatable(f"PostgreSQL has no {kind[1].lower()} index like it")
    entries = bare.partition("(")[2]
    if not index.columns or not all(index.columns) or "(" in _PREFIX.sub("", entries):
        raise Untranslatable("it holds an expression in the source engine's own words")
    if _PREFIX.search(entries):
        raise Untranslatable("it holds only the beginning of a column")
    types = {column.name: column.type.text for column, _ in route.columns}
    if "USING HASH" in bare.upper() and any(types.get(name) in ("text", "bytea") for name in index.columns):
        raise Untranslatable("values may be longer than an entry of PostgreSQL's index")
    columns = column_list(_names(route, index.columns))
    name = shortened(f"{route.target.table}_{index.name}")
    return TargetIndex(name, index.unique and is_mirror(route), f"btree ({columns})")


def _renamed(route: Route, rest: str) -> str:
    """Put the target's column names into what follows USING."""
    changed = dict(changed_names(route))
    used = {word: changed[word] for word in words(rest) if word in changed}
    if not used:
        return rest
    method, entries, tail = _parts(rest)
    plain = [_PLAIN_ENTRY.match(entry) for entry in entries]
    if not all(plain) or " WHERE " in tail:
        raise Untranslatable("an expression in it names a column that has another name in the target or is left out")

    def rename(name: str) -> str:
        return _name_in_target(name, used)

    columns = ", ".join(_swap_first(entry, rename) for entry in entries)
    if tail.startswith(" INCLUDE "):
        _, included, tail = _parts(tail)
        columns += ") INCLUDE (" + ", ".join(_swap_first(entry, rename) for entry in included)
    return f"{method}({columns}){tail}"


def _name_in_target(name: str, used: Mapping[str, str | None]) -> str:
    plain = name[1:-1].replace('""', '"') if name.startswith('"') else name
    if plain not in used:
        return name
    new = used[plain]
    if new is None:
        raise Untranslatable(f"column {ident(plain)} of it is not replicated")
    return ident(new)


def _swap_first(entry: str, rename: Callable[[str], str]) -> str:
    found = _PLAIN_ENTRY.match(entry)
    assert found is not None
    return rename(found[1]) + entry[found.end(1) :].rstrip()


def _parts(text: str) -> tuple[str, list[str], str]:
    """Divide `btree (a, f(b, c) DESC) WHERE ..` into `btree `, its entries, and what follows the parenthesis."""
    start = text.find("(")
    depth, at, begin = 0, max(start, 0), start + 1
    entries: list[str] = []
    while at < len(text):
        mark = text[at]
        if mark in "\"'":
            at = text.find(mark, at + 1)  # a doubled quote closes and opens again
            if at < 0:
                break
        elif mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
            if depth == 0:
                entries.append(text[begin:at].strip())
                return text[:start], entries, text[at + 1 :]
        elif mark == "," and depth == 1:
            entries.append(text[begin:at].strip())
            begin = at + 1
        at += 1
    raise Untranslatable(_STRANGE)


def target_foreign_key(route: Route, key: ForeignKey, referred: Route) -> str:
    """Return what follows `ADD CONSTRAINT name` for a foreign key between two routed tables.

    Raises:
        Untranslatable: a column on either side is not replicated, or the target keeps deleted rows.
    """
    if is_foreign(route.source):
        return _foreign_foreign_key(route, key, referred)
    found = _REFERENCES.search(key.definition)
    if not found or "PERIOD" in words(key.definition) or " NOT ENFORCED" in key.definition:
        raise Untranslatable(_STRANGE)
    if not is_mirror(route) or not is_mirror(referred):
        raise Untranslatable("the target does not hold the same rows as the source")
    tail = found["tail"].replace(" NOT VALID", "")
    here, there = _names(route, key.columns), _names(referred, key.refers_columns)
    partial = "SET NULL (" in tail or "SET DEFAULT (" in tail  # they name columns again
    if partial and tuple(here) != key.columns:
        raise Untranslatable("a column of it has another name in the target")
    return f"FOREIGN KEY ({column_list(here)}) REFERENCES {qualified(referred.target)} ({column_list(there)}){tail}"


def _foreign_foreign_key(route: Route, key: ForeignKey, referred: Route) -> str:
    if not is_mirror(route) or not is_mirror(referred):
        raise Untranslatable("the target does not hold the same rows as the source")
    here, there = _names(route, key.columns), _names(referred, key.refers_columns)
    actions = _ACTION.findall(_BACKQUOTED.sub("``", key.definition).upper())
    tail = "".join(f" ON {event} {action}" for event, action in actions)
    return f"FOREIGN KEY ({column_list(here)}) REFERENCES {qualified(referred.target)} ({column_list(there)}){tail}"


def _names(route: Route, columns: tuple[str, ...]) -> list[str]:
    names = {column.name: name for column, name in route.columns}
    for name in columns:
        if name not in names:
            raise Untranslatable(f"column {ident(name)} of {route.source.name} is not replicated")
    return [names[name] for name in columns]
