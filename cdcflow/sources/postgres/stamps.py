"""Fingerprints that change when a table's rows were rewritten without row events.

A rewriting ALTER TABLE gives the table a new file *and* touches rows of pg_attribute, in one transaction. VACUUM
FULL, CLUSTER and TRUNCATE give a new file only; SET NOT NULL, RENAME, ADD COLUMN with a constant default and DROP
COLUMN touch pg_attribute only. So both together mean a rewrite. (Two harmless changes between two looks can seem
one rewrite: then the table is copied once more than needed.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import psycopg

# For a partitioned table: its own columns, its leaves' files. New and vanished leaves do not count.
_STAMPS = """
SELECT c.oid::int8,
       (SELECT md5(string_agg(a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum))
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
       CASE WHEN c.relkind = 'p'
            THEN (SELECT jsonb_object_agg(t.relid::oid::text, pg_relation_filenode(t.relid)::int8)
                  FROM pg_partition_tree(c.oid) t WHERE t.isleaf)
            ELSE jsonb_build_object(c.oid::text, pg_relation_filenode(c.oid)::int8) END
FROM pg_class c WHERE c.oid = ANY (%s::oid[])
"""


def stamps(connection: psycopg.Connection, table_ids: Sequence[int]) -> dict[int, str]:
    """Return each existing table's fingerprint as JSON text."""
    rows = connection.execute(_STAMPS, [list(table_ids)])
    return {oid: json.dumps({"columns": columns, "files": files or {}}, sort_keys=True) for oid, columns, files in rows}


def rewritten(before: str, now: str) -> bool:
    """Return whether the rows were rewritten between two fingerprints. An empty one says nothing."""
    if not before or not now or before == now:
        return False
    old, new = json.loads(before), json.loads(now)
    files = old["files"].keys() & new["files"].keys()
    return old["columns"] != new["columns"] and any(old["files"][file] != new["files"][file] for file in files)
