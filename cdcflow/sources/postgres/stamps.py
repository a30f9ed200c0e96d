"""Fingerprints of tables, to notice rows that changed without row events.

A rewriting ALTER TABLE gives the table a new file *and* writes rows of pg_attribute, in one transaction. VACUUM
FULL, CLUSTER, TRUNCATE and SET ACCESS METHOD give a new file only; SET NOT NULL, RENAME, ADD COLUMN with a constant
default and a widened varchar write pg_attribute only; DROP COLUMN leaves the rows of the other columns as they are.
So a new file and a column that was written since mean a rewrite. What looks the same and is harmless (a RENAME and
a VACUUM FULL between two looks; the first VACUUM FULL after ADD COLUMN .. DEFAULT, which moves the default into the
rows) costs one copy more than needed; the other way round nothing is missed, because a rewrite always does both.

A name that stands for another column now (dropped and added again, or swapped with another) cannot be told from the
log, which has names and types only: such a table is copied again too.

ATTACH PARTITION brings rows without events, too. A partition that was made as one has its row of pg_inherits from
the transaction that made the table, and columns that nobody has written since; one that was attached does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import psycopg

# The catalogue's xmin is the transaction that wrote the row last; freezing leaves it as it is. System columns (-1 is
# ctid) are written when the table is made and never again. Generated columns are not copied, so they do not count.
_STAMPS: Final = """
WITH RECURSIVE tree (root, oid, attached) AS (
    SELECT c.oid, c.oid, NULL::text FROM pg_class c WHERE c.oid = ANY (%s::oid[])
  UNION ALL
    SELECT t.root, i.inhrelid,
           CASE WHEN i.xmin <> born.xmin
                  OR NOT EXISTS (SELECT FROM pg_attribute a
                                  WHERE a.attrelid = i.inhrelid AND a.attnum > 0 AND NOT a.attisdropped
                                    AND a.xmin = born.xmin AND a.cmin = born.cmin)
                THEN i.xmin::text END
      FROM tree t
      JOIN pg_inherits i ON i.inhparent = t.oid
      JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
      JOIN pg_attribute born ON born.attrelid = i.inhrelid AND born.attnum = -1
)
SELECT t.root::bigint,
       jsonb_build_object(
         'columns', coalesce((SELECT jsonb_object_agg(a.attnum, a.xmin::text)
                                FROM pg_attribute a
                               WHERE a.attrelid = t.root AND a.attnum > 0 AND NOT a.attisdropped
                                 AND a.attgenerated = ''), '{}'),
         'names', coalesce((SELECT jsonb_object_agg(a.attname, a.attnum)
                              FROM pg_attribute a
                             WHERE a.attrelid = t.root AND a.attnum > 0 AND NOT a.attisdropped
                               AND a.attgenerated = ''), '{}'),
         'files', coalesce(jsonb_object_agg(t.oid, c.relfilenode::bigint) FILTER (WHERE c.relkind = 'r'), '{}'),
         'attached', coalesce(jsonb_object_agg(t.oid, t.attached) FILTER (WHERE t.attached IS NOT NULL), '{}'))::text
  FROM tree t
  JOIN pg_class c ON c.oid = t.oid
 GROUP BY t.root
"""


def stamps(connection: psycopg.Connection, table_ids: Sequence[int]) -> dict[int, str]:
    """Return each existing table's fingerprint as JSON text; a partitioned table's covers its partitions."""
    return dict(connection.execute(_STAMPS, [list(table_ids)]).fetchall())


def rewritten(before: str, now: str) -> bool:
    """Return whether rows changed without row events between two fingerprints. An empty one says nothing."""
    if not before or not now or before == now:
        return False
    old, new = json.loads(before), json.loads(now)
    if any(old["attached"].get(oid) != attached for oid, attached in new["attached"].items()):
        return True
    known = old.get("names", {})
    if any(known.get(name, number) != number for name, number in new.get("names", {}).items()):
        return True
    moved = any(oid in old["files"] and old["files"][oid] != file for oid, file in new["files"].items())
    written = any(old["columns"].get(number) != xmin for number, xmin in new["columns"].items())
    return moved and written
