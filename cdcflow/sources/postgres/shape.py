"""What PostgreSQL types mean: native type, logical type, and the user types that a table needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from cdcflow.codecs.values import BUILT_IN
from cdcflow.engines.postgres.names import ident, literal
from cdcflow.model.schema import Logical, NativeType, TableName, UserType

# pg_type.dat; the numbers are fixed for ever.
_LOGICAL: Final = {entry.oid: entry.logical for entry in BUILT_IN}
_LOGICAL_IN_EXTENSIONS: Final = {
    ("citext", "citext"): Logical.TEXT,
    ("ltree", "ltree"): Logical.TEXT,
    ("postgis", "geometry"): Logical.GEOMETRY,
    ("postgis", "geography"): Logical.GEOMETRY,
}
_BUILT_IN: Final = ("pg_catalog", "information_schema")

# Every type that the given ones are made of: elements, domains' bases, ranges' subtypes, attributes.
_TYPES: Final = """
WITH RECURSIVE needed (oid) AS (
    SELECT DISTINCT unnest(%s::oid[])
  UNION
    SELECT part.oid
      FROM needed
      JOIN pg_type t ON t.oid = needed.oid
      LEFT JOIN pg_range r ON r.rngtypid = t.oid
      LEFT JOIN pg_range m ON m.rngmultitypid = t.oid
     CROSS JOIN LATERAL (
           VALUES (t.typelem), (t.typbasetype), (r.rngsubtype), (m.rngtypid)
            UNION ALL
           SELECT a.atttypid FROM pg_attribute a
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
           ) AS part (oid)
     WHERE part.oid <> 0
)
SELECT t.oid, n.nspname, t.typname, t.typtype::text,
       CASE WHEN e.typarray = t.oid THEN t.typelem ELSE 0 END AS element,
       t.typbasetype AS base, t.typtypmod AS modifier,
       CASE WHEN t.typbasetype <> 0 THEN format_type(t.typbasetype, t.typtypmod) END AS base_text,
       t.typnotnull, pg_get_expr(t.typdefaultbin, 0) AS default_text,
       CASE WHEN t.typtype = 'd' AND t.typcollation <> b.typcollation
            THEN (SELECT quote_ident(cn.nspname) || '.' || quote_ident(co.collname)
                    FROM pg_collation co JOIN pg_namespace cn ON cn.oid = co.collnamespace
                   WHERE co.oid = t.typcollation) END AS collation,
       x.extname, xn.nspname AS extension_schema,
       c.relkind::text,
       (SELECT json_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid) AS labels,
       CASE WHEN t.typtype = 'd' THEN
            (SELECT json_agg(json_build_array(k.conname, pg_get_constraintdef(k.oid)) ORDER BY k.conname)
               FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c') END AS checks,
       CASE WHEN t.typtype = 'c' THEN
            (SELECT json_agg(json_build_array(a.attname, a.atttypid::bigint, a.atttypmod,
                                              format_type(a.atttypid, a.atttypmod),
                                              CASE WHEN a.attcollation <> at.typcollation
                                                   THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END)
                             ORDER BY a.attnum)
               FROM pg_attribute a
               JOIN pg_type at ON at.oid = a.atttypid
               LEFT JOIN pg_collation co ON co.oid = a.attcollation
               LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
              WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) END AS attributes,
       (SELECT json_build_array(r.rngsubtype::bigint, format_type(r.rngsubtype, NULL),
                                quote_ident(mn.nspname) || '.' || quote_ident(m.typname),
                                CASE WHEN NOT o.opcdefault
                                     THEN quote_ident(opn.nspname) || '.' || quote_ident(o.opcname) END,
                                CASE WHEN r.rngcollation <> s.typcollation
                                     THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END,
                                CASE WHEN dn.nspname = 'pg_catalog'
                                     THEN quote_ident(dn.nspname) || '.' || quote_ident(d.proname) END)
          FROM pg_range r
          JOIN pg_type s ON s.oid = r.rngsubtype
          JOIN pg_type m ON m.oid = r.rngmultitypid
          JOIN pg_namespace mn ON mn.oid = m.typnamespace
          JOIN pg_opclass o ON o.oid = r.rngsubopc
          JOIN pg_namespace opn ON opn.oid = o.opcnamespace
          LEFT JOIN pg_collation co ON co.oid = r.rngcollation
          LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
          LEFT JOIN pg_proc d ON d.oid = r.rngsubdiff
          LEFT JOIN pg_namespace dn ON dn.oid = d.pronamespace
         WHERE r.rngtypid = t.oid) AS range_parts,
       (SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid) AS range_of
  FROM needed
  JOIN pg_type t ON t.oid = needed.oid
  JOIN pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_type e ON e.oid = t.typelem
  LEFT JOIN pg_type b ON b.oid = t.typbasetype
  LEFT JOIN pg_class c ON c.oid = t.typrelid
  LEFT JOIN pg_depend p ON p.classid = 'pg_type'::regclass AND p.objid = t.oid AND p.deptype = 'e'
                       AND p.refclassid = 'pg_extension'::regclass
  LEFT JOIN pg_extension x ON x.oid = p.refobjid
  LEFT JOIN pg_namespace xn ON xn.oid = x.extnamespace
"""


@dataclass(frozen=True, slots=True)
class _Attribute:
    name: str
    type: int
    modifier: int
    text: str
    collation: str


@dataclass(frozen=True, slots=True)
class _Type:
    """One row of pg_type with what it is made of, by oid."""

    oid: int
    name: TableName
    kind: str  # pg_type.typtype
    element: int
    base: int
    base_modifier: int
    base_text: str
    not_null: bool
    default: str | None
    collation: str
    extension: TableName | None
    relation_kind: str
    labels: tuple[str, ...]
    checks: tuple[tuple[str, str], ...]
    attributes: tuple[_Attribute, ...]
    range_parts: tuple[Any, ...]
    range_of: int


class Types:
    """The types that a set of columns needs, read once."""

    def __init__(self, connection: psycopg.Connection, oids: Iterable[int]) -> None:
        rows = connection.execute(_TYPES, [sorted(set(oids))]).fetchall()
        self._types = {kind.oid: kind for kind in map(_type, rows)}
        self._native: dict[tuple[int, int, str], NativeType] = {}
        self._needed: dict[int, tuple[UserType, ...]] = {}

    def native(self, oid: int, modifier: int, text: str) -> NativeType:
        """Return the loss-free type; `text` is what format_type prints."""
        known = self._native.get((oid, modifier, text))
        if known is None:
            known = self._native[oid, modifier, text] = self._build(oid, modifier, text)
        return known

    def logical(self, oid: int) -> Logical:
        """Return what values of the type mean; a domain means what its base means."""
        plain = _LOGICAL.get(oid)
        if plain is not None:
            return plain
        found = self._types.get(oid)
        if found is None:
            return Logical.OTHER
        if found.kind == "d":
            return self.logical(found.base)
        if found.kind == "e":
            return Logical.ENUM
        if found.element:
            return Logical.ARRAY
        if found.extension is not None:
            return _LOGICAL_IN_EXTENSIONS.get((found.extension.table, found.name.table), Logical.OTHER)
        return Logical.OTHER

    def needed(self, oids: Iterable[int]) -> tuple[UserType, ...]:
        """Return the user types that columns of these types need, each behind what it requires itself."""
        found: dict[tuple[str, TableName], UserType] = {}
        for oid in oids:
            for user_type in self._closure(oid, ()):
                found.setdefault((user_type.kind, user_type.name), user_type)
        return tuple(found.values())

    def _build(self, oid: int, modifier: int, text: str) -> NativeType:
        found = self._types.get(oid)
        if found is None:
            return NativeType(text, oid, modifier)
        element = base = None
        fields: tuple[tuple[str, NativeType], ...] = ()
        if found.element:
            element = self.native(found.element, modifier, text.removesuffix("[]"))
        if found.kind == "d":
            base = self.native(found.base, found.base_modifier, found.base_text)
        if found.kind == "c":
            fields = tuple((a.name, self.native(a.type, a.modifier, a.text)) for a in found.attributes)
        return NativeType(text, oid, modifier, labels=found.labels, element=element, base=base, fields=fields)

    def _closure(self, oid: int, above: tuple[int, ...]) -> tuple[UserType, ...]:
        known = self._needed.get(oid)
        if known is not None:
            return known
        found = self._types.get(oid)
        if found is None or oid in above:
            return ()
        if found.extension is not None:
            extension = found.extension
            closure: tuple[UserType, ...] = (
                UserType(extension, "extension", f"WITH SCHEMA {ident(extension.schema)}"),
            )
        else:
            parts = [found.element, found.base, found.range_of, *(a.type for a in found.attributes)]
            if found.range_parts:
                parts.append(int(found.range_parts[0]))
            below: dict[tuple[str, TableName], UserType] = {}
            for part in parts:
                for user_type in self._closure(part, (*above, oid)) if part else ():
                    below.setdefault((user_type.kind, user_type.name), user_type)
            closure = tuple(below.values())
            own = _definition(found)
            if own is not None:
                kind, text = own
                closure = (*closure, UserType(found.name, kind, text, tuple(name for _, name in below)))
        self._needed[oid] = closure
        return closure


def _definition(found: _Type) -> tuple[str, str] | None:
    """Return kind and DDL of a type that a person made; None for what every server has, arrays and row types."""
    if found.name.schema in _BUILT_IN:
        return None
    if found.kind == "e":
        return "enum", f"AS ENUM ({', '.join(map(literal, found.labels))})"
    if found.kind == "d":
        words = [f"AS {found.base_text}"]
        if found.collation:
            words.append(f"COLLATE {found.collation}")
        if found.default is not None:
            words.append(f"DEFAULT {found.default}")
        if found.not_null:
            words.append("NOT NULL")
        words.extend(f"CONSTRAINT {ident(name)} {check}" for name, check in found.checks)
        return "domain", " ".join(words)
    if found.kind == "c" and found.relation_kind == "c":
        attributes = (
            f"{ident(a.name)} {a.text}" + (f" COLLATE {a.collation}" if a.collation else "") for a in found.attributes
        )
        return "composite", f"AS ({', '.join(attributes)})"
    if found.kind == "r":
        # CANONICAL is left out: it needs the user's C function, and stored values are canonical already.
        _, subtype, multirange, operators, collation, difference = found.range_parts
        options = [f"SUBTYPE = {subtype}"]
        options.extend(
            f"{option} = {value}"
            for option, value in (
                ("SUBTYPE_OPCLASS", operators),
                ("COLLATION", collation),
                ("SUBTYPE_DIFF", difference),
                ("MULTIRANGE_TYPE_NAME", multirange),
            )
            if value
        )
        return "range", f"AS RANGE ({', '.join(options)})"
    return None


def _type(row: tuple[Any, ...]) -> _Type:
    (oid, schema, name, kind, element, base, modifier, base_text, not_null, default, collation, extension,
     extension_schema, relation_kind, labels, checks, attributes, range_parts, range_of) = row  # fmt: skip
    return _Type(
        oid,
        TableName(schema, name),
        kind,
        element,
        base,
        modifier,
        base_text or "",
        not_null,
        default,
        collation or "",
        TableName(extension_schema, extension) if extension else None,
        relation_kind or "",
        tuple(labels or ()),
        tuple((constraint, text) for constraint, text in checks or ()),
        tuple(_Attribute(a, t, m, text, coll or "") for a, t, m, text, coll in attributes or ()),
        tuple(range_parts or ()),
        range_of or 0,
    )
