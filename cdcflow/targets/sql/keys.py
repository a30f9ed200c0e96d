"""What two keys of a source may differ in, so that a target has to tell them apart."""

from __future__ import annotations

from typing import Final

from cdcflow.model.schema import Column, Logical, NativeType, Table

EXACT: Final = frozenset({"case", "accents", "bytes"})

_FAMILY: Final = ("mysql", "mariadb")


def differ_in(source: Table, column: Column) -> frozenset[str]:
    """Return what tells two texts of a key's column apart at the source: some of `EXACT`; nothing where that is not
    known."""
    if column.logical not in (Logical.TEXT, Logical.ENUM):
        return frozenset()
    if source.engine in _FAMILY:
        return tells_apart(column.type.collation) if column.type.collation else frozenset()
    # A column that only messages of a bus tell of has no number, and may come from any server.
    if not column.number or is_citext(_base(column.type).text):
        return frozenset()
    return EXACT


def tells_apart(collation: str) -> frozenset[str]:
    """Read the name of a collation of MySQL: https://dev.mysql.com/doc/refman/8.4/en/charset-collation-names.html"""
    words = collation.lower().removesuffix("_ks").split("_")
    if words[-1] in ("bin", "binary"):
        return EXACT
    accents, case = ["", *words][-2], words[-1]
    found = {"case"} if case == "cs" else set()
    if accents == "as" or (case == "cs" and accents != "ai"):
        found.add("accents")
    return frozenset(found)


def is_citext(type_text: str) -> bool:
    """Whether PostgreSQL's name of a type is that of `citext`, in whatever schema it is."""
    return type_text.rpartition(".")[2].strip('"') == "citext"


def _base(type_: NativeType) -> NativeType:
    while type_.base is not None:
        type_ = type_.base
    return type_
