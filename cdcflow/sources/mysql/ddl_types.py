"""What a server makes of a column's definition: the type as `information_schema` shows it, charset, default."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cdcflow.model.schema import Column, NativeType
from cdcflow.sources.mysql import defaults, types
from cdcflow.sources.mysql.ddl_charsets import Charsets
from cdcflow.sources.mysql.ddl_defaults import default_of, escaped
from cdcflow.sources.mysql.ddl_intents import Definition, TypeSpec
from cdcflow.sources.mysql.ddl_tokens import Flavour, words

# The widths that servers show for integers without one: signed, unsigned.
_WIDTHS = {"tinyint": (4, 3), "smallint": (6, 5), "mediumint": (9, 8), "int": (11, 10), "bigint": (20, 20)}
# From here on MySQL shows no widths.
WITHOUT_WIDTHS = (8, 0, 19)
_KNOWN = words("bit decimal float double date datetime timestamp time year json vector uuid inet4 inet6")
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
        native = _native(definition, flavour, charsets, table_collation, doubts)
    except KeyError as unknown:
        doubts.append(f"charset or collation {unknown} is not one that is known")
        native = NativeType(definition.type.base or "?")
    nullable = definition.nullable is not False
    if types.base(native.text) == "timestamp" and definition.nullable is None and not explicit_timestamps:
        doubts.append("TIMESTAMP without NULL, explicit_defaults_for_timestamp is off")
    kept = default_of(definition.default, native, flavour)
    if kept.doubt:
        doubts.append(kept.doubt)
    generated = definition.generated if definition.generated in ("virtual", "stored") else ""
    column = Column(
        name,
        native,
        types.logical(native),
        nullable=nullable,
        default=f"({definition.expression})" if generated else kept.text,
        generated=generated,
        identity="by default" if definition.auto_increment else "",
        number=number,
        missing=None if generated else kept.missing,
    )
    return Resolved(with_implicit(column), tuple(dict.fromkeys(doubts)))


def with_implicit(column: Column) -> Column:
    """Return the column with what its NOT NULL puts into rows that are older than it."""
    if column.default is None and not column.nullable and not column.identity and not column.generated:
        return replace(column, missing=defaults.implicit(column.type))
    return column


def _native(
    definition: Definition, flavour: Flavour, charsets: Charsets, table_collation: str, doubts: list[str]
) -> NativeType:
    spec = definition.type
    maria = flavour.engine == "mariadb"
    if spec.base in types.TEXTS or spec.base in ("enum", "set"):
        charset, collation = charsets.resolve(spec.charset, spec.collation, spec.binary, table_collation)
        text = _text(spec, charsets.widths[charset], doubts)
        json = definition.json and maria and text == "longtext"
        return types.native(text, charset=charset, collation=collation, json=json)
    if spec.base == "json" and maria:
        charset, collation = charsets.resolve(spec.charset or "utf8mb4", spec.collation or "utf8mb4_bin", False, "")
        return types.native("longtext", charset=charset, collation=collation, json=True)
    text = _integer(spec, flavour) if spec.base in _WIDTHS else _other(spec, flavour, doubts)
    if spec.unsigned or spec.zerofill:
        text += " unsigned"
    return types.native(text + (" zerofill" if spec.zerofill else ""), srid=-1 if maria else spec.srid)


def _integer(spec: TypeSpec, flavour: Flavour) -> str:
    width = spec.args[0] if spec.args else _WIDTHS[spec.base][spec.unsigned or spec.zerofill]
    shown = flavour.engine == "mariadb" or flavour.version < WITHOUT_WIDTHS or spec.zerofill
    if not shown and spec.base == "tinyint" and width == 1 and not spec.unsigned:
        shown = True
    return f"{spec.base}({width})" if shown else spec.base


def _text(spec: TypeSpec, width: int, doubts: list[str]) -> str:
    if spec.base in ("enum", "set"):
        labels = ",".join(f"'{escaped(label)}'" for label in spec.labels)
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
    if base and base not in _KNOWN | types.BINARIES | types.GEOMETRIES:
        doubts.append("its type is not one that is known")
    return base
