"""What a server makes of a column's definition: the type as `information_schema` shows it, charset, default."""

from __future__ import annotations

from dataclasses import dataclass

from cdcflow.model.schema import Column, Logical, NativeType
from cdcflow.sources.mysql.ddl_charsets import Charsets
from cdcflow.sources.mysql.ddl_columns import TEXTS
from cdcflow.sources.mysql.ddl_defaults import default_of
from cdcflow.sources.mysql.ddl_intents import Definition, TypeSpec
from cdcflow.sources.mysql.ddl_tokens import Flavour, words

# The widths that servers show for integers without one: signed, unsigned.
_WIDTHS = {"tinyint": (4, 3), "smallint": (6, 5), "mediumint": (9, 8), "int": (11, 10), "bigint": (20, 20)}
WITHOUT_WIDTHS = (8, 0, 19)
_INTEGERS = {
    "tinyint": (Logical.INT2, Logical.INT2),
    "smallint": (Logical.INT2, Logical.INT4),
    "mediumint": (Logical.INT4, Logical.INT4),
    "int": (Logical.INT4, Logical.INT8),
    "bigint": (Logical.INT8, Logical.UINT8),
}
_LOGICAL = {
    "bit": Logical.BIT,
    "decimal": Logical.DECIMAL,
    "float": Logical.FLOAT4,
    "double": Logical.FLOAT8,
    "date": Logical.DATE,
    "datetime": Logical.TIMESTAMP,
    "timestamp": Logical.TIMESTAMPTZ,
    "time": Logical.INTERVAL,
    "year": Logical.INT2,
    "enum": Logical.ENUM,
    "set": Logical.SET,
    "json": Logical.JSON,
    "vector": Logical.ARRAY,
    "uuid": Logical.UUID,
    "inet4": Logical.TEXT,
    "inet6": Logical.TEXT,
    **dict.fromkeys(TEXTS, Logical.TEXT),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), Logical.BYTES),
}
GEOMETRIES = words(
    "geometry point linestring polygon multipoint multilinestring multipolygon geometrycollection geomcollection"
)
# Largest size in bytes of the four lengths of TEXT and BLOB.
SIZES = {"tiny": 255, "": 65_535, "medium": 16_777_215, "long": 4_294_967_295}
MAX_VARCHAR_BYTES = 65_535
_MAX_FLOAT_BITS = 24
_MARIADB_ONLY = ("uuid", "inet4", "inet6")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A column, and what of it is not certain."""

    column: Column
    doubts: tuple[str, ...] = ()


def resolve(
    name: str,
    definition: Definition,
    flavour: Flavour,
    charsets: Charsets,
    table_collation: str,
    *,
    number: int = 0,
    explicit_timestamps: bool = True,
) -> Resolved:
    """Return the column that the server makes of `definition` in a table with this default collation."""
    doubts = list(definition.doubts)
    try:
        native = _native(definition.type, flavour, charsets, table_collation, doubts)
    except KeyError as unknown:
        doubts.append(f"charset or collation {unknown} is not one that is known")
        native = NativeType(definition.type.base or "?")
    base = base_of(native)
    logical = logical_of(native)
    if definition.json and base == "longtext":
        logical = Logical.JSON
    nullable = definition.nullable is not False
    if base == "timestamp" and definition.nullable is None and not explicit_timestamps:
        doubts.append("TIMESTAMP without NULL, explicit_defaults_for_timestamp is off")
    found = default_of(definition.default, native, logical, flavour)
    if found.doubt:
        doubts.append(found.doubt)
    return Resolved(
        Column(
            name,
            native,
            logical,
            nullable=nullable,
            default=None if definition.generated else found.text,
            generated=definition.generated if definition.generated in ("virtual", "stored") else "",
            identity="by default" if definition.auto_increment else "",
            number=number,
            missing=found.missing,
        ),
        tuple(dict.fromkeys(doubts)),
    )


def base_of(native: NativeType) -> str:
    """Return the type's name: `int` of `int(10) unsigned`."""
    return native.text.partition("(")[0].partition(" ")[0]


def logical_of(native: NativeType) -> Logical:
    """Return what the type's values mean."""
    base = base_of(native)
    if base in _INTEGERS:
        return _INTEGERS[base][native.unsigned]
    if base in GEOMETRIES:
        return Logical.GEOMETRY
    return _LOGICAL.get(base, Logical.OTHER)


def _native(
    spec: TypeSpec, flavour: Flavour, charsets: Charsets, table_collation: str, doubts: list[str]
) -> NativeType:
    base = spec.base
    maria = flavour.engine == "mariadb"
    if base in TEXTS or base in ("enum", "set"):
        charset, collation = charsets.resolve(spec.charset, spec.collation, spec.binary, table_collation)
        text = _text(spec, charsets.widths[charset], doubts)
        if spec.compressed:
            text += " /*M!100301 COMPRESSED*/"
        return NativeType(text, charset=charset, collation=collation, labels=spec.labels)
    if base == "json" and maria:
        charset, collation = charsets.resolve(spec.charset or "utf8mb4", spec.collation or "utf8mb4_bin", False, "")
        return NativeType("longtext", charset=charset, collation=collation)
    if base in _WIDTHS:
        return NativeType(_integer(spec, flavour), unsigned=spec.unsigned)
    text = _other(spec, flavour, doubts)
    if base in ("decimal", "float", "double") and spec.unsigned:
        text += " unsigned"
    if spec.zerofill:
        text += " zerofill"
    element = NativeType("float") if base == "vector" else None
    return NativeType(text, unsigned=spec.unsigned, srid=spec.srid, element=element)


def _integer(spec: TypeSpec, flavour: Flavour) -> str:
    width = spec.args[0] if spec.args else _WIDTHS[spec.base][spec.unsigned]
    shown = flavour.engine == "mariadb" or flavour.version < WITHOUT_WIDTHS or spec.zerofill
    if not shown and spec.base == "tinyint" and width == 1 and not spec.unsigned:
        shown = True
    text = f"{spec.base}({width})" if shown else spec.base
    return text + (" unsigned" if spec.unsigned else "") + (" zerofill" if spec.zerofill else "")


def _text(spec: TypeSpec, width: int, doubts: list[str]) -> str:
    if spec.base in ("enum", "set"):
        labels = ",".join(f"'{_shown(label)}'" for label in spec.labels)
        return f"{spec.base}({labels})"
    if spec.base == "char":
        size = spec.args[0] if spec.args else 1
        if size > 255:
            doubts.append("CHAR of more than 255 characters")
        return f"char({size})"
    if spec.base == "varchar":
        if not spec.args or spec.args[0] * width > MAX_VARCHAR_BYTES:
            doubts.append("VARCHAR of no size or of one that does not fit")
        return f"varchar({spec.args[0] if spec.args else 0})"
    if spec.base == "text" and spec.args:
        return sized("text", spec.args[0] * width)
    return spec.base


def _shown(label: str) -> str:
    """Return a label as servers write it within a type."""
    escaped = label.replace("\\", "\\\\").replace("\0", "\\0").replace("\n", "\\n").replace("\r", "\\r")
    return escaped.replace("'", "''")


def sized(word: str, size: int) -> str:
    """Return the smallest of the four lengths of TEXT or BLOB that holds so many bytes."""
    if size == 0:
        return word
    return next(prefix + word for prefix, limit in SIZES.items() if size <= limit or prefix == "long")


def _other(spec: TypeSpec, flavour: Flavour, doubts: list[str]) -> str:
    base, args = spec.base, spec.args
    maria = flavour.engine == "mariadb"
    if base == "decimal":
        digits, scale = (*args, *((10, 0)[len(args) :]))[:2]
        return f"decimal({digits or 10},{scale})"
    if base in ("float", "double"):
        if len(args) == 2:
            return f"{base}({args[0]},{args[1]})"
        return "double" if base == "double" or (args and args[0] > _MAX_FLOAT_BITS) else "float"
    if base in ("bit", "binary"):
        return f"{base}({args[0] if args else 1})" if not args or args[0] or base == "binary" else "bit(1)"
    if base == "varbinary":
        if not args or args[0] > MAX_VARCHAR_BYTES:
            doubts.append("VARBINARY of no size or of one that does not fit")
        return f"varbinary({args[0] if args else 0})"
    if base == "blob" and args:
        return sized("blob", args[0])
    if base in ("time", "datetime", "timestamp"):
        return f"{base}({args[0]})" if args and args[0] else base
    if base == "year":
        return "year(4)" if maria or flavour.version < WITHOUT_WIDTHS else "year"
    if base == "vector":
        if not args and maria:
            doubts.append("VECTOR without a size")
        return f"vector({args[0] if args else 2048})"
    if base == "geometrycollection" and not maria:
        return "geomcollection"
    if base in _MARIADB_ONLY and not maria:
        doubts.append("its type is not one that is known")
    if base and base not in _LOGICAL and base not in GEOMETRIES:
        doubts.append("its type is not one that is known")
    return base
