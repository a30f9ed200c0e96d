"""A table's next shape: what the log says, completed by the catalog, which may be ahead of the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cdcflow.codecs.pgmessages import Relation, RelationColumn
from cdcflow.model.schema import Column, Logical, NativeType, ReplicaIdentity, Table, TableName

Describe = Callable[[int], Table | None]
TypeOf = Callable[[int, int], tuple[NativeType, Logical]]

_IDENTITIES = {
    "d": ReplicaIdentity.DEFAULT,
    "i": ReplicaIdentity.INDEX,
    "f": ReplicaIdentity.FULL,
    "n": ReplicaIdentity.NOTHING,
}


def reshape(relation: Relation, known: Table, *, describe: Describe, type_of: TypeOf) -> Table:
    """Return `known` itself where the log shows the same shape, else the new shape.

    The log has names, type oids, modifiers and the identity; default, nullability and what else a column has
    come from the catalog as it is now. It may be later than the log: a column that it lacks by now is taken
    from `known`, or described by its type alone. A column that became NOT NULL is left nullable, since rows
    before that are still to come; one that lost NOT NULL is loosened at once.
    """
    current = describe(relation.oid)
    columns = tuple(
        _column(column, index, relation, known, current, type_of) for index, column in enumerate(relation.columns)
    )
    name = TableName(relation.schema, relation.table)
    identity = _IDENTITIES.get(relation.identity, ReplicaIdentity.DEFAULT)
    logged = tuple(column.name for column in relation.columns if column.key)
    unlogged = _unlogged(relation, known, current)
    key = _key(identity, logged, known, current, {column.name for column in columns})
    described = current or known
    if described.partitioned:  # what is logged of an old row is for its partitions to say
        identity, key = described.identity, described.key
    if (
        name == known.name
        and identity == known.identity
        and key == known.key
        and _plain(columns) == _plain(tuple(column for column in known.columns if not column.generated))
    ):
        return known
    return replace(
        current or known,
        name=name,
        id=relation.oid,
        columns=columns + unlogged,
        key=key,
        primary_key=current.primary_key if current else tuple(part for part in known.primary_key if part in key),
        identity=identity,
        version=known.version + 1,
    )


def _plain(columns: tuple[Column, ...]) -> list[tuple[str, int, int, bool]]:
    return [(column.name, column.type.oid, column.type.modifier, column.nullable) for column in columns]


def _column(
    described: RelationColumn, index: int, relation: Relation, known: Table, current: Table | None, type_of: TypeOf
) -> Column:
    old = _find(known, described.name)
    new = _find(current, described.name) if current else None
    if old and new and _same_type(new, described) and _moved_away(old, described.name, relation, current):
        return new if new.missing is not None else replace(new, nullable=True)
    if old and _same_type(old, described):
        loosened = old.nullable or (new is not None and new.nullable)
        return replace(old, nullable=loosened) if loosened != old.nullable else old
    if new and _same_type(new, described):
        # Where the catalog is ahead, rows without a value may still come before NOT NULL was set.
        return new if new.missing is not None else replace(new, nullable=True)
    before = old or _renamed_from(described, index, relation, known)
    native, logical = type_of(described.type_oid, described.modifier)
    return Column(
        described.name,
        native,
        logical,
        nullable=before.nullable if before else True,
        number=before.number if before else (new.number if new else 0),
    )


def _moved_away(old: Column, name: str, relation: Relation, current: Table | None) -> bool:
    """Whether the column that had the name is in the log's shape under another one."""
    now = next((column.name for column in current.columns if column.number == old.number), name) if current else name
    return now != name and any(column.name == now for column in relation.columns)


def _renamed_from(described: RelationColumn, index: int, relation: Relation, known: Table) -> Column | None:
    """Find the column that a later rename hides: same place, same type, its name gone from the log's shape."""
    plain = [column for column in known.columns if not column.generated]
    names = {column.name for column in relation.columns}
    if len(plain) == len(relation.columns) and plain[index].name not in names and _same_type(plain[index], described):
        return plain[index]
    return None


def _unlogged(relation: Relation, known: Table, current: Table | None) -> tuple[Column, ...]:
    names = {column.name for column in relation.columns}
    return tuple(column for column in (current or known).columns if column.generated and column.name not in names)


def _key(
    identity: ReplicaIdentity, logged: tuple[str, ...], known: Table, current: Table | None, names: set[str]
) -> tuple[str, ...]:
    """Return the columns that find one row; under FULL every column is logged as key, so the catalog decides."""
    if identity in (ReplicaIdentity.DEFAULT, ReplicaIdentity.INDEX):
        return logged if set(logged) != set(known.key) else known.key
    for table in (known, current):
        if table is not None and table.key and set(table.key) <= names:
            return table.key
    return ()


def _find(table: Table, name: str) -> Column | None:
    return next((column for column in table.columns if column.name == name), None)


def _same_type(column: Column, described: RelationColumn) -> bool:
    return column.type.oid == described.type_oid and column.type.modifier == described.modifier
