"""Reads a column's definition: its type with every synonym, and its attributes."""

from __future__ import annotations

from dataclasses import replace

from cdcflow.sources.mysql.ddl_intents import Default, DefaultKind, Definition, TypeSpec
from cdcflow.sources.mysql.ddl_tokens import ORACLE, REAL_AS_FLOAT, Mark, Reader, UnreadError, words

SYNONYMS = {
    "INT1": "tinyint",
    "INT2": "smallint",
    "INT3": "mediumint",
    "MIDDLEINT": "mediumint",
    "INT4": "int",
    "INTEGER": "int",
    "INT8": "bigint",
    "DEC": "decimal",
    "NUMERIC": "decimal",
    "FIXED": "decimal",
    "FLOAT4": "float",
    "FLOAT8": "double",
    "CHARACTER": "char",
    "VARCHARACTER": "varchar",
    "GEOMCOLLECTION": "geometrycollection",
}
_PLAIN = words(
    "BIT TINYINT SMALLINT MEDIUMINT INT BIGINT DECIMAL FLOAT DOUBLE DATE TIME TIMESTAMP DATETIME YEAR CHAR VARCHAR "
    "BINARY VARBINARY TINYBLOB BLOB MEDIUMBLOB LONGBLOB TINYTEXT TEXT MEDIUMTEXT LONGTEXT ENUM SET JSON GEOMETRY POINT "
    "LINESTRING POLYGON MULTIPOINT MULTILINESTRING MULTIPOLYGON GEOMETRYCOLLECTION VECTOR UUID INET4 INET6"
)
_NATIONAL = ("NATIONAL", "NCHAR", "NVARCHAR")
_NOW = ("CURRENT_TIMESTAMP", "NOW", "LOCALTIME", "LOCALTIMESTAMP")
# Types whose charset `binary` makes them another one.
_AS_BYTES = {
    "char": "binary",
    "varchar": "varbinary",
    "tinytext": "tinyblob",
    "text": "blob",
    "mediumtext": "mediumblob",
    "longtext": "longblob",
}
TEXTS = frozenset(_AS_BYTES)
# Where Oracle's mode of MariaDB gives other types.
_ORACLE_ONLY = {"VARCHAR2", "NUMBER", "CLOB", "RAW"}


def read_definition(reader: Reader, sql_mode: int = 0) -> Definition:
    """Read type and attributes from behind the column's name up to FIRST, AFTER or the end.

    What is not understood stands in `doubts`.

    Raises:
        UnreadError: not even a type could be found.
    """
    definition = _read_type(reader, sql_mode)
    while not reader.ended and not _at_place(reader):
        before = reader.at
        definition = _attribute(reader, definition)
        if reader.at == before:
            raise UnreadError(f"no progress at {reader.now.start}")
    return _settled(definition)


def _at_place(reader: Reader) -> bool:
    """Whether FIRST, AFTER or a table's partitioning follows the definition."""
    if reader.now.word == "FIRST" or reader.sees("PARTITION", "BY") or reader.sees("REMOVE", "PARTITIONING"):
        return True
    return reader.now.word == "AFTER" and reader.ahead().mark in (Mark.WORD, Mark.NAME)


def _settled(definition: Definition) -> Definition:
    """Apply what several parts say together."""
    spec = definition.type
    if spec.charset == "binary" and spec.base in _AS_BYTES:
        spec = replace(spec, base=_AS_BYTES[spec.base], charset="", collation="", binary=False)
    if spec.collation == "binary" and spec.base in _AS_BYTES and not spec.charset:
        spec = replace(spec, base=_AS_BYTES[spec.base], collation="", binary=False)
    nullable = definition.nullable
    if definition.key == "primary" or (definition.auto_increment and nullable is None):
        nullable = False
    return replace(definition, type=spec, nullable=nullable)


def _read_type(reader: Reader, sql_mode: int) -> Definition:
    word = reader.now.word
    if not word:
        if reader.now.mark is Mark.NAME or reader.ended:
            raise UnreadError(f"a type expected at {reader.now.start}")
        reader.next()
        return Definition(TypeSpec(""), doubts=("its type is not one that is known",))
    if reader.take("AS") or reader.sees("GENERATED", "ALWAYS", "AS"):  # MariaDB's ROW START has a type, too
        raise UnreadError("a generated column without a type")
    if sql_mode & ORACLE and word in ("VARCHAR", "DATE", "BLOB", "FLOAT", *_ORACLE_ONLY):
        reader.next()
        return Definition(_options(reader, TypeSpec("", _numbers(reader))), doubts=("sql_mode=ORACLE",))
    reader.next()
    if word == "SERIAL":
        return Definition(TypeSpec("bigint", unsigned=True), nullable=False, auto_increment=True, key="unique")
    if word in ("BOOL", "BOOLEAN"):
        return Definition(_options(reader, TypeSpec("tinyint", (1,))))
    if word == "REAL":
        reader.take("PRECISION")
        base = "float" if sql_mode & REAL_AS_FLOAT else "double"
        return Definition(_options(reader, TypeSpec(base, _numbers(reader))))
    if word == "LONG":
        return Definition(_options(reader, _long(reader)))
    if word in _NATIONAL:
        base = _national(reader, word)
        return Definition(_options(reader, TypeSpec(base, _numbers(reader), charset="utf8mb3")))
    if word in ("ENUM", "SET"):
        return _labelled(reader, word.lower())
    base = SYNONYMS.get(word, word.lower())
    if base.upper() not in _PLAIN:
        _numbers(reader)
        return Definition(_options(reader, TypeSpec("")), doubts=("its type is not one that is known",))
    if base == "json":
        return Definition(_options(reader, TypeSpec("json")), json=True)
    if base == "double":
        reader.take("PRECISION")
    if base == "char" and reader.take_any("VARYING"):
        base = "varchar"
    if base == "char" and reader.take("BYTE"):
        base = "binary"
    return Definition(_options(reader, TypeSpec(base, _numbers(reader))))


def _long(reader: Reader) -> TypeSpec:
    if reader.take("VARBINARY"):
        return TypeSpec("mediumblob")
    if reader.take_any("CHAR", "CHARACTER"):
        reader.take("VARYING")
    else:
        reader.take_any("VARCHAR", "VARCHARACTER")
    return TypeSpec("mediumtext")


def _national(reader: Reader, word: str) -> str:
    if word == "NVARCHAR":
        return "varchar"
    if reader.take_any("VARCHAR", "VARCHARACTER"):
        return "varchar"
    if word == "NATIONAL":
        reader.take_any("CHAR", "CHARACTER")
    return "varchar" if reader.take("VARYING") else "char"


def _numbers(reader: Reader) -> tuple[int, ...]:
    """Read `(10)` or `(10, 2)`; nothing there: ()."""
    if not reader.sees_symbol("("):
        return ()
    found = [token.text for part in reader.inside().split() for token in part.items if token.mark is not Mark.END]
    if not all(text.isdecimal() and len(text) < 11 for text in found):
        raise UnreadError("a type's size is not a number")
    return tuple(int(text) for text in found)


def _labelled(reader: Reader, base: str) -> Definition:
    labels: list[str] = []
    doubts: tuple[str, ...] = ()
    for part in reader.inside().split():
        token = part.next()
        if token.mark is not Mark.STRING or token.charset or not part.ended:
            doubts = ("a label is not a plain string",)
        labels.append(token.text.rstrip(" "))
    return Definition(_options(reader, TypeSpec(base, labels=tuple(labels))), doubts=doubts)


def _options(reader: Reader, spec: TypeSpec) -> TypeSpec:
    """Read what belongs to the type: sign, charset, BINARY."""
    while True:
        word = reader.now.word
        if word in ("UNSIGNED", "SIGNED", "ZEROFILL"):
            reader.next()
            spec = replace(
                spec, unsigned=spec.unsigned or word != "SIGNED", zerofill=spec.zerofill or word == "ZEROFILL"
            )
        elif word == "BINARY":
            reader.next()
            spec = replace(spec, binary=True)
        elif word == "ASCII":
            reader.next()
            spec = replace(spec, charset="latin1")
        elif word == "UNICODE":
            reader.next()
            spec = replace(spec, charset="ucs2")
        elif word == "BYTE":
            reader.next()
            spec = replace(spec, charset="binary")
        elif charset_words(reader):
            spec = replace(spec, charset=charset_name(reader.next().text))
        else:
            return spec


def charset_words(reader: Reader) -> bool:
    """Go past CHARACTER SET or CHARSET, or stay."""
    return reader.take("CHARSET") or reader.take("CHARACTER", "SET") or reader.take("CHAR", "SET")


def charset_name(text: str) -> str:
    """Return a charset's name in lower case; what `utf8` stands for is for the server to say."""
    return text.lower()


def _attribute(reader: Reader, so_far: Definition) -> Definition:
    """Read one attribute."""
    word = reader.now.word
    if reader.take("NOT", "NULL"):
        return replace(so_far, nullable=False)
    if reader.take("NULL"):
        return replace(so_far, nullable=True)
    if reader.take("DEFAULT"):
        return replace(so_far, default=read_default(reader))
    if reader.take("ON", "UPDATE"):
        _now(reader)
        return replace(so_far, on_update=True)
    if reader.take("AUTO_INCREMENT"):
        return replace(so_far, auto_increment=True)
    if reader.take("SERIAL", "DEFAULT", "VALUE"):
        return replace(so_far, nullable=False, auto_increment=True, key=so_far.key or "unique")
    if reader.take("PRIMARY", "KEY") or reader.take("PRIMARY") or reader.take("KEY"):
        return replace(so_far, key="primary")
    if reader.take("UNIQUE"):
        reader.take("KEY")
        return replace(so_far, key=so_far.key or "unique")
    if reader.take("COLLATE"):
        reader.symbol("=")
        return replace(so_far, type=replace(so_far.type, collation=reader.next().text.lower()))
    if charset_words(reader):
        return replace(so_far, type=replace(so_far.type, charset=charset_name(reader.next().text)))
    if word in ("GENERATED", "AS"):
        return _generated(reader, so_far)
    if reader.take_any("VIRTUAL"):
        return replace(so_far, generated="virtual")
    if reader.take_any("STORED", "PERSISTENT"):
        return replace(so_far, generated="stored")
    if reader.take("INVISIBLE"):
        return replace(so_far, invisible=True)
    if reader.take("SRID") or reader.take("REF_SYSTEM_ID"):
        reader.symbol("=")
        srid = reader.next().text
        return replace(so_far, type=replace(so_far.type, srid=int(srid) if srid.isdecimal() else -1))
    if reader.take("COMPRESSED"):
        if reader.symbol("="):
            reader.next()
        return replace(so_far, type=replace(so_far.type, compressed=True))
    if reader.take("CHECK"):
        check = reader.inside()
        return replace(so_far, json=so_far.json or check.now.word == "JSON_VALID")
    if _skipped(reader):
        return so_far
    token = reader.next()
    return replace(so_far, doubts=(*so_far.doubts, f"{token.text} is not an attribute that is known"))


def _skipped(reader: Reader) -> bool:
    """Go past an attribute that concerns neither shape nor values."""
    if reader.take("VISIBLE") or reader.take("NOT", "SECONDARY") or reader.take("NOT", "ENFORCED"):
        return True
    if reader.take("ENFORCED") or reader.take("WITHOUT", "SYSTEM", "VERSIONING"):
        return True
    if reader.take("WITH", "SYSTEM", "VERSIONING"):
        return True
    if reader.take_any("COMMENT", "COLUMN_FORMAT", "STORAGE", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE"):
        reader.symbol("=")
        reader.next()
        return True
    if reader.take("CONSTRAINT"):
        if reader.now.word != "CHECK":
            reader.next()
        return True
    if reader.take("REFERENCES"):
        _references(reader)
        return True
    if reader.ahead().text == "=" and reader.now.mark in (Mark.WORD, Mark.NAME):  # a MariaDB engine's own option
        reader.next()
        reader.next()
        reader.next()
        return True
    return False


def _references(reader: Reader) -> None:
    reader.name()
    if reader.symbol("."):
        reader.name()
    if reader.sees_symbol("("):
        reader.inside()
    while True:
        if reader.take("MATCH"):
            reader.next()
        elif reader.sees("ON", "DELETE") or (
            reader.sees("ON", "UPDATE") and reader.ahead(2).word in ("CASCADE", "RESTRICT", "SET", "NO")
        ):
            reader.at += 2
            if not (reader.take("SET", "NULL") or reader.take("SET", "DEFAULT") or reader.take("NO", "ACTION")):
                reader.next()
        else:
            return


def _generated(reader: Reader, so_far: Definition) -> Definition:
    if reader.take("GENERATED"):
        reader.take("ALWAYS")
    if not reader.take("AS"):
        return replace(so_far, doubts=(*so_far.doubts, "GENERATED without AS"))
    if reader.take_any("ROW"):
        reader.take_any("START", "END")
        return replace(so_far, generated="row", doubts=(*so_far.doubts, "it belongs to a system-versioned table"))
    return replace(so_far, generated="virtual", expression=reader.inside().text())


def read_default(reader: Reader) -> Default:
    """Read what follows DEFAULT.

    Raises:
        UnreadError: nothing that can be a default.
    """
    token = reader.now
    if reader.take("NULL"):
        return Default(DefaultKind.NULL)
    if reader.take_any("TRUE", "FALSE"):
        return Default(DefaultKind.NUMBER, "1" if token.word == "TRUE" else "0")
    if token.word in _NOW:
        return Default(DefaultKind.NOW, _now(reader))
    if token.mark is Mark.WORD and token.text.startswith("_") and reader.ahead().mark in (Mark.STRING, Mark.BITS):
        reader.next()
        kind = DefaultKind.LITERAL if reader.now.mark is Mark.STRING else DefaultKind.BITS
        return Default(kind, _strings(reader), charset_name(token.text[1:]))
    if token.mark is Mark.STRING:
        return Default(DefaultKind.LITERAL, _strings(reader), token.charset)
    if token.word in ("DATE", "TIME", "TIMESTAMP") and reader.ahead().mark is Mark.STRING:
        reader.next()
        return Default(DefaultKind.LITERAL, _strings(reader))
    if token.mark is Mark.BITS:
        reader.next()
        return Default(DefaultKind.BITS, token.text)
    if token.mark is Mark.NUMBER:
        reader.next()
        return Default(DefaultKind.NUMBER, token.text)
    if token.mark is Mark.SYMBOL and token.text in "+-" and reader.ahead().mark is Mark.NUMBER:
        reader.next()
        return Default(DefaultKind.NUMBER, ("-" if token.text == "-" else "") + reader.next().text)
    if reader.sees_symbol("("):
        return Default(DefaultKind.EXPRESSION, reader.inside().text())
    return _call(reader)


def _strings(reader: Reader) -> str:
    """Read one string and those that follow it: they are one."""
    parts = [reader.next().text]
    while reader.now.mark is Mark.STRING and not reader.now.charset:
        parts.append(reader.next().text)
    return "".join(parts)


def _now(reader: Reader) -> str:
    """Go past CURRENT_TIMESTAMP or one of its other names; return its digits of a second, '' for none."""
    reader.next()
    if not reader.sees_symbol("("):
        return ""
    return reader.inside().text()


def _call(reader: Reader) -> Default:
    """Read a function call, which MariaDB takes without parentheses around it."""
    first = reader.now
    if first.mark not in (Mark.WORD, Mark.NAME):
        raise UnreadError(f"a default expected at {first.start}")
    last = reader.next()
    if first.word == "NEXT" and reader.take("VALUE", "FOR"):
        reader.name()
        last = reader.items[reader.at - 1]
    while reader.symbol("."):
        last = reader.next()
    if reader.sees_symbol("("):
        reader.inside()
        last = reader.items[reader.at - 1]
    return Default(DefaultKind.EXPRESSION, reader.sql[first.start : last.end])
