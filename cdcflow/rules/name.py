"""Patterns that match table names, and templates that make them.

Both are written `schema.table`. A part, or a piece of one, in double quotes stands for itself: `"my.schema"."t*"`
is one table, and `""` in it is one quote. Of MySQL and MariaDB the schema is the database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate

from cdcflow.model.schema import TableName

Piece = tuple[str, bool]
"""Text, and whether it stood in quotes."""

# Where engines keep their own tables, and cdcflow its state. PostgreSQL reserves the prefix `pg_`.
STATE_SCHEMA = "cdcflow"
_POSTGRES = re.compile(r"pg_.*|information_schema|" + STATE_SCHEMA)
_MYSQL = re.compile(r"mysql|sys|performance_schema|information_schema|" + STATE_SCHEMA)
_SYSTEM = {"mysql": _MYSQL, "mariadb": _MYSQL}


def reserved(schema: str, engine: str = "postgresql") -> bool:
    """Return whether a schema is the engine's own or holds cdcflow's state: no rule reaches it."""
    return _SYSTEM.get(engine, _POSTGRES).fullmatch(schema) is not None


def split(text: str) -> list[list[Piece]]:
    """Split at the dots that stand outside quotes.

    Raises:
        ValueError: a quote is not closed, or there are not two parts with something in each.
    """
    parts: list[list[Piece]] = [[]]
    for quoted, plain, dot in re.findall(r'"((?:[^"]|"")*)"|([^".]+)|(\.)', text):
        if dot:
            parts.append([])
        elif plain:
            parts[-1].append((plain, False))
        else:
            parts[-1].append((quoted.replace('""', '"'), True))
    if text.count('"') % 2:
        raise ValueError("has a quote that is not closed")
    if len(parts) != 2 or not all(any(piece for piece, _ in part) for part in parts):
        raise ValueError("must be schema.table")
    return parts


@dataclass(frozen=True, slots=True)
class Pattern:
    """A glob over schema and table: `*`, `?`, `[abc]`, `[!abc]`; case matters, as in the catalog."""

    text: str
    schema: re.Pattern[str]
    table: re.Pattern[str]
    exact: bool

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read `schema.table`; `*` alone is every table.

        Raises:
            ValueError: what is wrong, to be put behind the key's name.
        """
        schema, table = split("*.*" if text == "*" else text)
        exact = not any(
            mark in piece for part in (schema, table) for piece, quoted in part if not quoted for mark in "*?["
        )
        return cls(text, _regex(schema), _regex(table), exact)

    def matches(self, name: TableName, engine: str = "postgresql") -> bool:
        """Return whether a rule with this pattern speaks of the table. Never true for a schema that the engine, whose
        table it is, or cdcflow has for itself."""
        return (
            self.schema.match(name.schema) is not None
            and self.table.match(name.table) is not None
            and not reserved(name.schema, engine)
        )


def _regex(part: list[Piece]) -> re.Pattern[str]:
    # `translate` ends its pattern with \Z (\z since 3.14), which may only stand behind the last piece.
    globs = (re.escape(piece) if quoted else translate(piece)[:-2] for piece, quoted in part)
    return re.compile("".join(globs) + r"\Z")


@dataclass(frozen=True, slots=True)
class Template:
    """A target table's name with `{schema}` and `{table}` to be filled in; `{{` and `}}` are braces."""

    text: str
    schema: tuple[str, ...]  # odd pieces are placeholders' names
    table: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a template.

        Raises:
            ValueError: what is wrong, to be put behind the key's name.
        """
        schema, table = split(text)
        return cls(text, _placeholders(schema), _placeholders(table))

    def fill(self, name: TableName) -> TableName:
        """Return the target's name for a source table."""
        return TableName(_fill(self.schema, name), _fill(self.table, name))


def _placeholders(part: list[Piece]) -> tuple[str, ...]:
    pieces = [""]
    for text, _ in part:
        for literal, brace, name in re.findall(r"([^{}]+)|(\{\{|\}\})|(\{[^{}]*\}|[{}])", text):
            if name:
                if name not in ("{schema}", "{table}"):
                    raise ValueError(f"has an unknown placeholder {name}: there are {{schema}} and {{table}}")
                pieces += [name[1:-1], ""]
            else:
                pieces[-1] += literal or brace[0]
    return tuple(pieces)


def _fill(pieces: tuple[str, ...], name: TableName) -> str:
    values = {"schema": name.schema, "table": name.table}
    return "".join(values[piece] if index % 2 else piece for index, piece in enumerate(pieces))
