"""Whether the target tells apart the keys that the source does: by the collations of both."""

from __future__ import annotations

from cdcflow.engines.mysql.names import ident, literal
from cdcflow.model.schema import Column, Table
from cdcflow.targets.mysql import types
from cdcflow.targets.mysql.catalog import Server, TargetColumn
from cdcflow.targets.sql.keys import differ_in, tells_apart


def is_looser(source: Table, column: Column, there: TargetColumn) -> bool:
    """Whether the target's column holds texts for equal that are two at the source.

    Padding is not looked at, nor what two languages make of a letter: only that case, accents or bytes count.
    """
    if not there.collation or there.charset == "binary":
        return False
    return not differ_in(source, column) <= tells_apart(there.collation)


def mend(source: Table, column: Column, there: TargetColumn, server: Server) -> str:
    """Return the column's definition with a collation that tells apart what the source does."""
    charset, collation = "utf8mb4", server.binary
    if types.is_family(source):
        near = types.collation_of(column.type.charset, column.type.collation, server)
        if differ_in(source, column) <= tells_apart(near[1]):
            charset, collation = near
    line = f"{ident(there.name)} {there.type} CHARACTER SET {charset} COLLATE {collation}"
    line += " NOT NULL" if there.not_null else " NULL"
    if there.default is None:
        return line
    plain = server.mariadb or there.default.startswith("(")
    return f"{line} DEFAULT {there.default if plain else literal(there.default)}"
