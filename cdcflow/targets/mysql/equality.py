"""Which values of a key the source tells apart, and which the target does: by the collations of both."""

from __future__ import annotations

from cdcflow.engines.mysql.names import ident, literal
from cdcflow.model.schema import Column, Logical, Table
from cdcflow.targets.mysql import types
from cdcflow.targets.mysql.catalog import Server, TargetColumn

_EXACT = frozenset({"case", "accents", "bytes"})


def is_looser(source: Table, column: Column, there: TargetColumn) -> bool:
    """Whether the target's column holds texts for equal that are two at the source.

    Padding is not looked at, nor what two languages make of a letter: only that case, accents or bytes count.
    """
    if not there.collation or there.charset == "binary":
        return False
    return not _at_source(source, column) <= _tells_apart(there.collation)


def mend(source: Table, column: Column, there: TargetColumn, server: Server) -> str:
    """Return the column's definition with a collation that tells apart what the source does."""
    charset, collation = "utf8mb4", server.binary
    if types.is_family(source):
        near = types.collation_of(column.type.charset, column.type.collation, server)
        if _at_source(source, column) <= _tells_apart(near[1]):
            charset, collation = near
    line = f"{ident(there.name)} {there.type} CHARACTER SET {charset} COLLATE {collation}"
    line += " NOT NULL" if there.not_null else " NULL"
    if there.default is None:
        return line
    plain = server.mariadb or there.default.startswith("(")
    return f"{line} DEFAULT {there.default if plain else literal(there.default)}"


def _at_source(source: Table, column: Column) -> frozenset[str]:
    """Return what two keys may differ in at the source; nothing where that is not known."""
    if column.logical not in (Logical.TEXT, Logical.ENUM):
        return frozenset()
    if types.is_family(source):
        return _tells_apart(column.type.collation) if column.type.collation else frozenset()
    # A column that only messages of a bus tell of has no number, and may come from any server.
    if not column.number or types.base(column.type).text.strip('"').endswith("citext"):
        return frozenset()
    return _EXACT


def _tells_apart(collation: str) -> frozenset[str]:
    """Read a collation's name: https://dev.mysql.com/doc/refman/8.4/en/charset-collation-names.html"""
    words = collation.lower().removesuffix("_ks").split("_")
    if words[-1] in ("bin", "binary"):
        return _EXACT
    accents, case = ["", *words][-2], words[-1]
    found = {"case"} if case == "cs" else set()
    if accents == "as" or (case == "cs" and accents != "ai"):
        found.add("accents")
    return frozenset(found)
