"""What a column of each type may hold, and how the server is asked for the text of it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from cdcflow.codecs.floattext_cy import float4
from cdcflow.codecs.mysqlforms import NO_DEFAULT, ColumnForm, Missing

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A type in DDL, what is put into it, and the question whose answer `text` makes canonical."""

    type: str
    values: tuple[str, ...]
    question: str = "CAST({c} AS CHAR)"
    text: Callable[[str], bytes] = field(default=str.encode)


def fraction(text: str) -> bytes:
    """A time without the zeros at its end."""
    return (text.rstrip("0").rstrip(".") if "." in text else text).encode()


def moment(text: str) -> bytes:
    return fraction(text) + b"+00"


def shown_bytes(text: str) -> bytes:
    return b"\\x" + text.lower().encode()


def from_hex(text: str) -> bytes:
    return bytes.fromhex(text)


def vector(text: str) -> bytes:
    """Little-endian single precision numbers as an array."""
    return b"{" + b",".join(float4(number) for (number,) in struct.iter_unpack("<f", bytes.fromhex(text))) + b"}"


def ewkb(text: str) -> bytes:
    """SRID and WKB as PostGIS writes them together."""
    raw = bytes.fromhex(text)
    (srid,) = struct.unpack_from("<I", raw)
    (kind,) = struct.unpack_from("<I", raw, 5)
    head = struct.pack("<BII", 1, kind | 0x20000000, srid) if srid else raw[4:9]
    return (head + raw[9:]).hex().upper().encode()


BOTH: tuple[Column, ...] = (
    Column("TINYINT", ("0", "-128", "127", "NULL")),
    Column("TINYINT UNSIGNED", ("0", "255")),
    Column("SMALLINT", ("0", "-32768", "32767")),
    Column("SMALLINT UNSIGNED", ("65535",)),
    Column("MEDIUMINT", ("0", "-8388608", "8388607", "-1")),
    Column("MEDIUMINT UNSIGNED", ("16777215",)),
    Column("INT", ("0", "-2147483648", "2147483647", "-1", "99", "100", "101")),
    Column("INT UNSIGNED", ("4294967295",)),
    Column("BIGINT", ("0", "-9223372036854775808", "9223372036854775807", "-1")),
    Column("BIGINT UNSIGNED", ("18446744073709551615", "9223372036854775808")),
    Column("DECIMAL(10,2)", ("0", "-0.10", "99999999.99", "-99999999.99", "0.01", "-0.001", "12345678.9", "NULL")),
    Column("DECIMAL(65,30)", ("0", "12345678901234567890123456789012345.123456789012345678901234567891", "-1e-30")),
    Column("DECIMAL(65,0)", ("-" + "9" * 65, "1" + "0" * 64, "1000000000", "999999999")),
    Column("DECIMAL(30,30)", ("0." + "9" * 30, "-0.5", "0.000000000000000000000000000001")),
    Column("DECIMAL(1,0)", ("7", "-7", "0")),
    Column("DECIMAL(19,9)", ("1234567890.123456789", "-0.000000001")),
    Column("DECIMAL(38,10)", ("1", "-1234567890123456789012345678.0123456789")),
    Column("YEAR", ("0", "1901", "2155", "2024"), "CAST({c} + 0 AS CHAR)"),
    Column("BIT(1)", ("b'0'", "b'1'"), "LPAD(BIN({c}+0), 1, '0')"),
    Column("BIT(10)", ("b'1000000001'", "b'0'"), "LPAD(BIN({c}+0), 10, '0')"),
    Column("BIT(64)", ("x'8000000000000001'", "x'FFFFFFFFFFFFFFFF'"), "LPAD(BIN({c}+0), 64, '0')"),
    Column("DATE", ("'2024-02-29'", "'9999-12-31'", "'1000-01-01'", "'0001-01-01'", "NULL")),
    Column("TIME", ("'00:00:00'", "'-838:59:59'", "'838:59:59'", "'-00:00:01'", "'12:34:56'"), text=fraction),
    Column("TIME(1)", ("'-00:00:00.1'", "'1:2:3.9'", "'-838:59:58.9'"), text=fraction),
    Column("TIME(2)", ("'-00:00:01.99'", "'0:0:0.01'", "'-0:0:0.01'"), text=fraction),
    Column("TIME(3)", ("'-12:00:00.001'", "'12:00:00.1'"), text=fraction),
    Column("TIME(4)", ("'-12:00:00.9999'", "'12:00:00.0001'"), text=fraction),
    Column("TIME(5)", ("'-12:00:00.00001'", "'12:00:00.00001'"), text=fraction),
    Column("TIME(6)", ("'-838:59:58.999999'", "'-00:00:00.000001'", "'838:59:58.999999'", "'1:0:0'"), text=fraction),
    Column("DATETIME", ("'2024-01-31 12:00:00'", "'9999-12-31 23:59:59'", "'0001-01-01 00:00:00'"), text=fraction),
    *(
        Column(
            f"DATETIME({n})",
            ("'2024-01-31 12:34:56.123456'", "'1999-12-31 23:59:59'", "'2000-01-01 00:00:00.1'"),
            text=fraction,
        )
        for n in range(1, 7)
    ),
    Column("TIMESTAMP NULL", ("'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2024-02-29 23:59:59'"), text=moment),
    *(
        Column(f"TIMESTAMP({n}) NULL", ("'2024-01-31 12:34:56.123456'", "'2000-03-01 00:00:00'"), text=moment)
        for n in range(1, 7)
    ),
    Column("ENUM('a','b,c','', 'é')", ("'a'", "'b,c'", "4", "NULL"), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("ENUM(" + ",".join(f"'x{n}'" for n in range(300)) + ")", ("1", "256", "300")),
    Column("SET('a','b','c')", ("''", "'a,c'", "'a,b,c'")),
    Column(
        "SET(" + ",".join(f"'m{n}'" for n in range(64)) + ")",
        ("''", "'m63'", "'m0,m31,m32,m63'", "18446744073709551615"),
    ),
    Column("CHAR(10)", ("''", "'abc'", "'  a  '", "'äöü€😀'"), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("CHAR(255)", ("REPEAT('€', 255)", "'x'"), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("VARCHAR(60)", ("''", "'abc  '", "'tab\\t nl\\n \\\\'"), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("VARCHAR(300)", ("''", "REPEAT('é', 300)"), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("TINYTEXT", ("''", "REPEAT('x', 255)"), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("TEXT", ("REPEAT('é', 20000)",), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("MEDIUMTEXT", ("REPEAT('é', 70000)",), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("LONGTEXT", ("'x'", "REPEAT('é', 70000)"), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("BINARY(4)", ("x''", "x'0100'", "x'00000000'", "x'FF'", "x'20202020'"), "HEX({c})", shown_bytes),
    Column("BINARY(255)", ("x'01'", "REPEAT(x'FE', 255)"), "HEX({c})", shown_bytes),
    Column("VARBINARY(300)", ("x''", "x'0100'", "REPEAT(x'00', 300)"), "HEX({c})", shown_bytes),
    Column("TINYBLOB", ("x''", "REPEAT(x'FF', 255)"), "HEX({c})", shown_bytes),
    Column("BLOB", ("x''", "REPEAT(x'0D', 60000)"), "HEX({c})", shown_bytes),
    Column("MEDIUMBLOB", ("REPEAT(x'0D0A', 50000)",), "HEX({c})", shown_bytes),
    Column("LONGBLOB", ("x'5C'", "REPEAT(x'0D0A', 50000)"), "HEX({c})", shown_bytes),
    Column(
        "GEOMETRY",
        (
            *(
                f"ST_GeomFromText('{shape}')"
                for shape in (
                    "POINT(1 2)",
                    "LINESTRING(0 0, 1.5 -2)",
                    "POLYGON((0 0, 4 0, 4 4, 0 0))",
                    "MULTIPOINT(0 0, 1 1)",
                    "GEOMETRYCOLLECTION(POINT(1 1), LINESTRING(0 0, 1 1))",
                    "MULTIPOLYGON(((0 0, 4 0, 4 4, 0 0)))",
                )
            ),
            "ST_GeomFromText('POINT(10 20)', 4326)",
            "ST_GeomFromText('MULTIPOINT(1 2, 3 4)', 3857)",
        ),
        "HEX({c})",
        ewkb,
    ),
    Column("POINT", ("ST_GeomFromText('POINT(-0.5 1e10)')", "NULL"), "HEX({c})", ewkb),
)

_ADDRESSES = (
    "'::'", "'::1'", "'1::'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.128'", "'::192.0.2.128'", "'fe80::1:0:0:1'",
    "'1:0:0:2:0:0:0:3'", "'0:0:1::'", "'::ffff:0:0'", "'::fffe:1.2.3.4'", "'1:2:3:4:5:6:7:8'", "'1:2:3:4:5:6:7:0'",
    "'0:2:3:4:5:6:7:8'", "'::2:3'", "'::1:2:3'", "'1:0:0:0:1:0:0:0'", "'::ffff:1:2:3'", "'0:0:0:0:ffff:0:1:2'",
)  # fmt: skip

MARIADB: tuple[Column, ...] = (
    Column("VECTOR(3)", ("VEC_FromText('[1,-2.5,1e-7]')", "NULL"), "HEX({c})", vector),
    Column("UUID", ("'123e4567-e89b-12d3-a456-426614174000'", "'ffffffff-ffff-ffff-ffff-ffffffffff00'", "NULL")),
    Column("UUID", ("'00000000-0000-0000-0000-000000000000'", "'01890a5d-ac96-774b-bcce-b302099a8057'")),
    Column("INET4", ("'0.0.0.0'", "'10.0.0.0'", "'255.255.255.255'", "'1.2.3.4'")),
    Column("INET6", _ADDRESSES),
    Column("JSON", ('\'{"b": 1,  "a": [ ]}\'', "NULL"), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column(
        "TEXT COMPRESSED",
        ("''", "'short'", "REPEAT('long é ', 5000)"),
        "HEX(CONVERT({c} USING utf8mb4))",
        from_hex,
    ),
    Column("VARCHAR(200) COMPRESSED", ("''", "'a'", "REPEAT('ä', 200)"), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("VARCHAR(8000) COMPRESSED", ("REPEAT('ä', 8000)",), "HEX(CONVERT({c} USING utf8mb4))", from_hex),
    Column("BLOB COMPRESSED", ("x''", "REPEAT(x'00FF', 20000)"), "HEX({c})", shown_bytes),
    Column("VARBINARY(9000) COMPRESSED", ("x''", "x'00'", "REPEAT(x'00FF', 4000)"), "HEX({c})", shown_bytes),
)

_JSON = (
    "'null'", "'true'", "'1'", "'-1.5'", "'\"text\"'", "'[]'", "'{}'", "NULL",
    "'[1, -1, 32767, 32768, -32769, 65535, 65536, 2147483648, 4294967295, 4294967296, 18446744073709551615]'",
    "'[1.0, 0.1, 1e15, 1e16, 1e-15, 1e-16, 1.7976931348623157e308, 5e-324, -0.0, 123456789012345680]'",
    '\'{"bb": {"c": [1, [2, [3]]]}, "a": null, "": "empty", "é": "ü😀", "q\\\\"uote": "\\\\u0001\\\\n\\\\\\\\"}\'',
    "JSON_ARRAY(CAST('2024-02-29' AS DATE), CAST('-12:34:56.5' AS TIME(1)), CAST('2024-01-01 01:02:03' AS DATETIME))",
    "JSON_ARRAY(CAST(1.50 AS DECIMAL(10,2)), CAST(-0.001 AS DECIMAL(30,20)), 12345678901234567890.5)",
    "JSON_ARRAY(x'616263', b'101', CAST('x' AS BINARY(3)), REPEAT(x'61', 500))",
    "JSON_ARRAY(ST_GeomFromText('POINT(1 2)'))",
    "JSON_ARRAY(CURRENT_TIMESTAMP)",
    "CONCAT('[\"', REPEAT('long ', 20000), '\", 1, 70000, 5000000000, true]')",
    "CONCAT('{\"k\": [', REPEAT('1, 100000, ', 9000), '0], \"z\": {\"a\": 1}}')",
    "CONCAT(REPEAT('[', 99), '1', REPEAT(']', 99))",
)  # fmt: skip

MYSQL: tuple[Column, ...] = (Column("JSON", _JSON, "HEX(CAST({c} AS CHAR CHARACTER SET utf8mb4))", from_hex),)

# From MySQL 9.0 on.
NEWER: tuple[Column, ...] = (
    Column("VECTOR(3)", ("TO_VECTOR('[1,-2.5,1e-7]')", "NULL"), "HEX({c})", vector),
    Column("VECTOR", ("TO_VECTOR('[0.1]')", "TO_VECTOR('[3e38,0,-0]')"), "HEX({c})", vector),
)


def form(described: Row, type_and_meta: tuple[int, int], default: bytes | Missing | None = NO_DEFAULT) -> ColumnForm:
    """Return the form of a column from information_schema and the table map.

    `described` is (COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME).
    """
    name, native, column_type, charset = (str(word or "") for word in described)
    labels: tuple[str, ...] = ()
    if native in ("enum", "set"):
        inside = column_type[column_type.index("(") + 1 : column_type.rindex(")")]
        labels = tuple(label.replace("''", "'") for label in inside[1:-1].split("','"))
    return ColumnForm(
        type_and_meta[0],
        type_and_meta[1],
        unsigned="unsigned" in column_type,
        charset=charset,
        labels=labels,
        native=native,
        default=default,
        name=name,
    )
