"""The source's tables as its catalogue describes them, in a few set-based queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import psycopg

from cdcflow.model.schema import Column, ForeignKey, Index, ReplicaIdentity, Table, TableName
from cdcflow.sources.postgres.shape import Types

_IDENTITIES: Final = {
    "d": ReplicaIdentity.DEFAULT,
    "i": ReplicaIdentity.INDEX,
    "f": ReplicaIdentity.FULL,
    "n": ReplicaIdentity.NOTHING,
}

# Ordinary and partitioned tables that a person made: temporary and unlogged ones are not in the log, and what an
# extension made is made by CREATE EXTENSION on the other side. The size is what the last VACUUM or ANALYZE saw; only
# where there was none are the files measured, which waits for whoever has locked the table.
_TABLES: Final = """
SELECT c.oid::int8, n.nspname, c.relname, c.relkind = 'p', c.relreplident::text, c.reltuples::int8,
       CASE WHEN c.relkind <> 'r' THEN 0
            WHEN c.relpages > 0 THEN c.relpages * current_setting('block_size')::int8
            ELSE coalesce(pg_relation_size(c.oid), 0) END,
       coalesce(obj_description(c.oid, 'pg_class'), ''), pn.nspname, p.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
LEFT JOIN pg_class p ON p.oid = coalesce(
  (SELECT relid FROM pg_partition_ancestors(c.oid) AS a(relid) WHERE c.relispartition
   ORDER BY (SELECT relispartition FROM pg_class WHERE oid = relid) LIMIT 1), i.inhparent)
  AND c.relispartition
LEFT JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cdcflow') AND n.nspname NOT LIKE 'pg\\_%%'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.deptype = 'e')
  AND (%(oids)s::oid[] IS NULL OR c.oid = ANY (%(oids)s::oid[]))
ORDER BY n.nspname, c.relname
"""

_COLUMNS: Final = """
SELECT a.attrelid::int8, a.attnum, a.attname, a.atttypid::int8, a.atttypmod, format_type(a.atttypid, a.atttypmod),
       a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity::text, a.attgenerated::text,
       CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] END
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

# `indimmediate` is false for an index of a deferrable constraint, which cannot be a replica identity.
_INDEXES: Final = """
SELECT x.indrelid::int8, i.relname, x.indisprimary, x.indisreplident, x.indimmediate, x.indisunique,
       pg_get_indexdef(x.indexrelid), coalesce(pg_get_constraintdef(k.oid), ''),
       (SELECT coalesce(array_agg(a.attname::text ORDER BY p.at), '{}')
        FROM generate_series(0, x.indnkeyatts - 1) p(at)
        JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[p.at] AND a.attnum > 0)
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u', 'x')
WHERE x.indrelid = ANY (%s::oid[]) AND x.indisvalid
ORDER BY x.indrelid, i.relname
"""

# A key that refers to a partitioned table has a shadow for each partition of it, whose parent is on the same table.
_FOREIGN_KEYS: Final = """
SELECT k.conrelid::int8, k.conname, n.nspname, c.relname, pg_get_constraintdef(k.oid),
       (SELECT array_agg(a.attname::text ORDER BY p.at) FROM unnest(k.conkey) WITH ORDINALITY AS p(num, at)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = p.num),
       (SELECT array_agg(a.attname::text ORDER BY p.at) FROM unnest(k.confkey) WITH ORDINALITY AS p(num, at)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = p.num)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.conrelid = ANY (%s::oid[]) AND k.contype = 'f'
  AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
ORDER BY k.conrelid, k.conname
"""


# The log has of an old row what the partition that holds it says, whatever the root says.
_LEAVES: Final = """
WITH RECURSIVE tree (root, oid) AS (
    SELECT c.oid, c.oid FROM pg_class c WHERE c.oid = ANY (%s::oid[])
  UNION ALL
    SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
    JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
)
SELECT t.root::int8, c.relreplident::text, c.reltuples::int8, c.relpages * current_setting('block_size')::int8,
       (SELECT coalesce(array_agg(a.attname::text), '{}') FROM pg_index x
        JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])
        WHERE x.indrelid = c.oid AND x.indisvalid AND x.indimmediate
          AND CASE c.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident END)
FROM tree t JOIN pg_class c ON c.oid = t.oid
WHERE c.relkind = 'r' AND c.relpersistence = 'p'
"""


# Rows of what a person made (numbers from 16384 on) and of what is looked at of them, with the transaction that wrote
# them last. What VACUUM and ANALYZE write in place is not seen, and need not be.
_STATE: Final = """
SELECT count(*), bit_xor(hashint8extended(row.id << 32 | row.xmin::text::int8, row.part))
FROM (SELECT oid::int8, xmin, 0 FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p')
      UNION ALL SELECT attrelid::int8, xmin, attnum FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0
      UNION ALL SELECT oid::int8, xmin, 1 FROM pg_attrdef
      UNION ALL SELECT indexrelid::int8, xmin, 2 FROM pg_index WHERE indexrelid >= 16384
      UNION ALL SELECT oid::int8, xmin, 3 FROM pg_constraint WHERE oid >= 16384
      UNION ALL SELECT oid::int8, xmin, 4 FROM pg_type WHERE oid >= 16384
      UNION ALL SELECT oid::int8, xmin, 5 FROM pg_enum
      UNION ALL SELECT inhrelid::int8, xmin, 6 FROM pg_inherits
      UNION ALL SELECT oid::int8, xmin, 7 FROM pg_namespace
      UNION ALL SELECT oid::int8, xmin, 8 FROM pg_extension
      UNION ALL SELECT objoid::int8, xmin, 9 FROM pg_description WHERE objoid >= 16384) AS row (id, xmin, part)
"""


def state(connection: psycopg.Connection) -> tuple[int, ...]:
    """Return what stays the same as long as `tables` would, sizes apart. A tenth of its cost, and none of it ours."""
    return tuple(connection.execute(_STATE).fetchone() or ())


def tables(connection: psycopg.Connection, oids: Sequence[int] | None = None) -> list[Table]:
    """Read all tables, or those with these oids. The connection should be inside one snapshot."""
    found = connection.execute(_TABLES, {"oids": list(oids) if oids is not None else None}).fetchall()
    ids = [row[0] for row in found]
    columns = _grouped(connection, _COLUMNS, ids)
    types = Types(connection, {row[3] for rows in columns.values() for row in rows})
    indexes = _grouped(connection, _INDEXES, ids)
    foreign_keys = _grouped(connection, _FOREIGN_KEYS, ids)
    made = [_table(row, columns[row[0]], indexes[row[0]], foreign_keys[row[0]], types) for row in found]
    leaves = _grouped(connection, _LEAVES, [table.id for table in made if table.partitioned])
    # The levels between a root and its leaves hold no rows.
    return [
        _with_leaves(table, leaves[table.id]) if table.partitioned else table
        for table in made
        if not table.partitioned or table.partition_of is None
    ]


def _grouped(connection: psycopg.Connection, query: str, ids: list[int]) -> dict[int, list[tuple[Any, ...]]]:
    groups: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for row in connection.execute(query, [ids]):
        groups[row[0]].append(row)
    return groups


def _table(
    row: tuple[Any, ...],
    columns: list[tuple[Any, ...]],
    indexes: list[tuple[Any, ...]],
    foreign_keys: list[tuple[Any, ...]],
    types: Types,
) -> Table:
    oid, schema, name, partitioned, identity, tuples, size, comment, parent_schema, parent = row
    primary = next((each for each in indexes if each[2]), None)
    return Table(
        TableName(schema, name),
        oid,
        tuple(_column(each, types) for each in columns),
        key=_key(identity, primary, indexes),
        primary_key=tuple(primary[8]) if primary else (),
        identity=_IDENTITIES[identity],
        indexes=tuple(_index(each) for each in indexes if not each[2]),
        foreign_keys=tuple(_foreign_key(each) for each in foreign_keys),
        types=types.needed(each[3] for each in columns),
        estimated_rows=tuples,
        bytes=size,
        partitioned=partitioned,
        comment=comment,
        partition_of=TableName(parent_schema, parent) if parent else None,
    )


def _column(row: tuple[Any, ...], types: Types) -> Column:
    _, number, name, oid, modifier, text, not_null, default, identity, generated, missing = row
    return Column(
        name,
        types.native(oid, modifier, text),
        types.logical(oid),
        nullable=not not_null,
        default=default,
        generated={"s": "stored", "v": "virtual"}.get(generated, ""),
        identity={"a": "always", "d": "by default"}.get(identity, ""),
        number=number,
        missing=missing,
    )


def _key(identity: str, primary: tuple[Any, ...] | None, indexes: list[tuple[Any, ...]]) -> tuple[str, ...]:
    """Return the columns by which the log can name one row, or by which FULL rows can be found."""
    if identity == "i":
        chosen = next((each for each in indexes if each[3]), None)
        return tuple(chosen[8]) if chosen else ()
    return tuple(primary[8]) if primary and primary[4] else ()


def _index(row: tuple[Any, ...]) -> Index:
    _, name, _, _, _, unique, definition, constraint, columns = row
    return Index(name, tuple(columns), unique, definition, constraint)


def _foreign_key(row: tuple[Any, ...]) -> ForeignKey:
    _, name, schema, table, definition, columns, refers = row
    return ForeignKey(name, tuple(columns), TableName(schema, table), tuple(refers), definition)


def _with_leaves(root: Table, leaves: list[tuple[Any, ...]]) -> Table:
    """Give a partitioned table the size of its leaves, and of their replica identities the least.

    `nothing` where a leaf would refuse updates, or logs other columns of an old row than the key.
    """
    kinds = {_IDENTITIES[identity] for _, identity, *_ in leaves}
    apart = any(
        identity == "n" or (identity != "f" and set(columns) != set(root.key)) for _, identity, _, _, columns in leaves
    )
    if apart:
        identity = ReplicaIdentity.NOTHING
    elif kinds == {ReplicaIdentity.FULL}:
        identity = ReplicaIdentity.FULL
    elif root.identity is ReplicaIdentity.FULL:
        identity = ReplicaIdentity.DEFAULT  # a new partition does not inherit it
    else:
        identity = root.identity
    counts = [tuples for _, _, tuples, _, _ in leaves]
    return replace(
        root,
        identity=identity,
        estimated_rows=sum(counts) if counts and min(counts) >= 0 else -1,
        bytes=sum(size for _, _, _, size, _ in leaves),
    )
