"""How each column of a table is compared: by its type's own operator, wherever that stands, or as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import Connection

from cdcflow.engines.postgres.names import ident


@dataclass(frozen=True, slots=True)
class Equality:
    """`operator` says that two values are equal, as SQL writes it; '' where the type has none.

    exact: equal values print the same (1.0 and 1.00 do not).
    """

    operator: str = "="
    exact: bool = True

    def match(self, left: str, right: str, type_name: str) -> str:
        """Return the condition that two values are the same in every digit and letter."""
        # Without the cast the server takes a composite's parameter for an anonymous record.
        # And with the column's own collation the texts could be equal again.
        texts = f'{left}::text COLLATE "C" = {right}::{type_name}::text'
        if not self.operator:
            return texts
        equal = f"{left} {self.operator} {right}::{type_name}"
        return equal if self.exact else f"{equal} AND {texts}"


Equalities = Mapping[str, Equality]

# `part` takes each column's type apart until types without parts are left: a domain into its base, an array into its
# element, a composite into its columns. All of them need an operator. The server resolves it as `lookup_type_cache`
# does: by the default B-tree or hash class of the type, or of one that it is binary coercible to.
# https://www.postgresql.org/docs/current/xindex.html, https://www.postgresql.org/docs/current/sql-createcast.html
_EQUALITIES = """
WITH RECURSIVE part(attnum, type, own) AS (
  SELECT a.attnum, a.atttypid, true FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT p.attnum, d.type, p.own AND t.typtype = 'd'
  FROM part p JOIN pg_type t ON t.oid = p.type CROSS JOIN LATERAL (
    SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT t.typelem WHERE t.typtype = 'b' AND t.typcategory = 'A' AND t.typelem <> 0
    UNION ALL SELECT f.atttypid FROM pg_attribute f
      WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
  ) d(type)
), leaf AS (
  SELECT p.attnum, p.own, t.oid AS type, t.typtype, o.name, o.schema
  FROM part p JOIN pg_type t ON t.oid = p.type LEFT JOIN LATERAL (
    SELECT r.oprname::text AS name, n.nspname::text AS schema
    FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod AND m.amname IN ('btree', 'hash')
    JOIN pg_amop x ON x.amopfamily = c.opcfamily AND x.amoplefttype = c.opcintype AND x.amoprighttype = c.opcintype
      AND x.amopstrategy = CASE m.amname WHEN 'btree' THEN 3 ELSE 1 END
    JOIN pg_operator r ON r.oid = x.amopopr JOIN pg_namespace n ON n.oid = r.oprnamespace
    WHERE c.opcdefault AND (c.opcintype = t.oid OR EXISTS (
      SELECT FROM pg_cast k WHERE k.castsource = t.oid AND k.casttarget = c.opcintype
        AND k.castmethod = 'b' AND k.castcontext = 'i'))
    ORDER BY c.opcintype = t.oid DESC, m.amname LIMIT 1
  ) o ON true
  WHERE t.typtype NOT IN ('d', 'c') AND NOT (t.typtype = 'b' AND t.typcategory = 'A' AND t.typelem <> 0)
)
SELECT a.attname::text,
       bool_and(l.name IS NOT NULL OR l.typtype IN ('e', 'r', 'm')),
       max(l.name) FILTER (WHERE l.own), max(l.schema) FILTER (WHERE l.own),
       bool_and(l.typtype = 'e' OR l.type = ANY ('{bool,int2,int4,int8,oid,text,varchar,name,bytea,uuid,date,time,
         timestamp,timestamptz,inet,cidr,macaddr,macaddr8,pg_lsn,bit,varbit}'::regtype[]))
         AND coalesce(bool_and(g.collisdeterministic), true)
FROM leaf l JOIN pg_attribute a ON a.attrelid = %s AND a.attnum = l.attnum
LEFT JOIN pg_collation g ON g.oid = a.attcollation GROUP BY a.attname
"""


def equalities(connection: Connection, oid: int) -> Equalities:
    """Return how each column of a table is compared, by its name. A composite without columns is compared as text."""
    return {
        name: Equality(_operator(operator, schema) if comparable else "", exact)
        for name, comparable, operator, schema, exact in connection.execute(_EQUALITIES, (oid, oid))
    }


def _operator(name: str | None, schema: str | None) -> str:
    if name is None or schema is None or schema == "pg_catalog":
        return name or "="
    return f"OPERATOR({ident(schema)}.{name})"
