"""How one cell of canonical text becomes what a MySQL column takes: as bytes, as LOAD DATA text, as an SQL literal.

LOAD DATA: https://dev.mysql.com/doc/refman/8.0/en/load-data.html; literals:
https://dev.mysql.com/doc/refman/8.0/en/literals.html (without NO_BACKSLASH_ESCAPES). `mysqlblocks_cy` does the same for
whole rows, the frequent kinds by itself.
"""

from __future__ import annotations

import struct

from cdcflow.codecs import mysqldocuments

# How a column's canonical text becomes what the target's column takes.
TEXT = 0  # as it is
NUMBER = 1  # as it is; in SQL without quotes
BOOL = 2  # t, f -> 1, 0
BYTES = 3  # \x6162 -> the bytes
INSTANT = 4  # a time zone that is always +00 goes
BITS = 5  # 0101 -> the bytes of the number
GEOMETRY = 6  # EWKB in hex -> SRID and WKB as MySQL stores them
VECTOR = 7  # {1,2.5} -> little-endian floats
PADDED = 8  # trailing spaces go: a CHAR column does not keep them
YEAR = 9  # 0 -> 0000, which would be read as the year 2000
FLAG = 10  # t, f -> the byte 1 or 0, for a BIT column
SINGLE = 11  # as it is, but for the largest number of single precision
DOCUMENT = 12  # a JSON document, with the types of its values where they are told; those take a literal
UNTYPED = 13  # its text alone, for a column that is not JSON

# The shortest text of the largest number is larger than it, and the server refuses what is out of range before it
# rounds.
_LARGEST_SINGLE = {
    b"3.4028235e+38": b"3.4028234663852886e+38",
    b"-3.4028235e+38": b"-3.4028234663852886e+38",
}

_NUMBER_BYTES = b"0123456789+-.eE"

# https://postgis.net/docs/ST_AsEWKB.html: flags in the geometry's type.
_EWKB_Z, _EWKB_M, _EWKB_SRID = 0x80000000, 0x40000000, 0x20000000


class ImageError(ValueError):
    """A row image or a line ends before its cells do, or a cell is not what its column's type says."""


def converted(kind: int, text: bytes) -> bytes:
    """Return a cell's canonical text as the bytes that the column takes.

    Raises:
        ImageError: it is not what the kind says. The message never holds the value.
    """
    if kind == BOOL:
        return {b"t": b"1", b"f": b"0"}.get(text, text)
    if kind == BYTES:
        return _unhexed(text[2:]) if text[:2] == b"\\x" else _strange("bytes")
    if kind == INSTANT:
        return text[:-3] if text[-3:] == b"+00" else text
    if kind == BITS:
        if not text or text.strip(b"01"):
            return _strange("bits")
        return int(text, 2).to_bytes((len(text) + 7) // 8, "big")
    if kind == GEOMETRY:
        return geometry(text)
    if kind == VECTOR:
        return _vector(text)
    if kind == PADDED:
        return text.rstrip(b" ")
    if kind == FLAG:
        return {b"t": b"\x01", b"f": b"\x00"}.get(text) or _strange("truth value")
    if kind == YEAR:
        return b"0000" if text == b"0" else text
    if kind == SINGLE:
        return _LARGEST_SINGLE.get(text, text)
    if kind == UNTYPED:
        return mysqldocuments.untyped(text)
    if kind == DOCUMENT and text[-1:] == mysqldocuments.END:
        return _strange("document without types")
    return text


def literal(kind: int, text: bytes) -> bytes:
    """Return a cell's canonical text as an SQL literal for its column."""
    if kind == NUMBER and text and not text.strip(_NUMBER_BYTES):
        return text
    if kind == BOOL and text in (b"t", b"f"):
        return b"1" if text == b"t" else b"0"
    if kind == BITS:
        converted(kind, text)
        return b"b'" + text + b"'"
    if kind == DOCUMENT:
        try:
            return mysqldocuments.expression(text, quoted)
        except mysqldocuments.DocumentError as error:
            raise ImageError(str(error)) from None
    value = converted(kind, text)
    if kind in (BYTES, GEOMETRY, VECTOR, FLAG):
        return b"X'" + value.hex().encode() + b"'"
    return quoted(value)


def quoted(text: bytes) -> bytes:
    """Return a string literal."""
    return b"'" + text.replace(b"\\", b"\\\\").replace(b"'", b"\\'").replace(b"\0", b"\\0") + b"'"


def geometry(text: bytes) -> bytes:
    """Return MySQL's form of EWKB in hex: the SRID in four bytes, then WKB without one.

    https://dev.mysql.com/doc/refman/8.0/en/gis-data-formats.html#gis-internal-format

    Raises:
        ImageError: it has a third or fourth dimension, or is big-endian, or is no EWKB.
    """
    raw = _unhexed(text)
    if len(raw) < 5 or raw[0] != 1:
        return _strange("geometry")
    (kind,) = struct.unpack_from("<I", raw, 1)
    if kind & (_EWKB_Z | _EWKB_M):
        raise ImageError("a geometry has more than two dimensions")
    if not kind & _EWKB_SRID:
        return bytes(4) + raw
    if len(raw) < 9:
        return _strange("geometry")
    return raw[5:9] + b"\x01" + struct.pack("<I", kind & ~_EWKB_SRID) + raw[9:]


def _vector(text: bytes) -> bytes:
    if text[:1] != b"{" or text[-1:] != b"}":
        return _strange("vector")
    try:
        numbers = [float(each) for each in text[1:-1].split(b",")] if len(text) > 2 else []
        return struct.pack(f"<{len(numbers)}f", *numbers)
    except (ValueError, OverflowError):
        return _strange("vector")


def _unhexed(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return _strange("hex digits")


def _strange(what: str) -> bytes:
    raise ImageError(f"a cell holds no {what}")


def escaped(value: bytes) -> bytes:
    if b"\\" in value:
        value = value.replace(b"\\", b"\\\\")
    if b"\t" in value:
        value = value.replace(b"\t", b"\\t")
    if b"\n" in value:
        value = value.replace(b"\n", b"\\n")
    return value


_COPY_LETTERS = {ord("b"): 8, ord("f"): 12, ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("v"): 11}


def unescaped(field: bytes) -> bytes:
    """Return the value behind a field of COPY text.

    Raises:
        ImageError: it ends with half an escape.
    """
    if b"\\" not in field:
        return field
    out = bytearray()
    at = 0
    while at < len(field):
        byte = field[at]
        if byte == 0x5C:
            at += 1
            if at == len(field):
                raise ImageError("a field of COPY text ends inside an escape")
            byte = _COPY_LETTERS.get(field[at], field[at])
        out.append(byte)
        at += 1
    return bytes(out)


def cells(block: bytes, width: int) -> list[list[bytes | None]]:
    """Return the rows of COPY text as lists of cells (bytes, or None for NULL)."""
    rows: list[list[bytes | None]] = []
    for line in block.split(b"\n")[:-1]:
        fields = line.split(b"\t")
        if len(fields) != width:
            raise ImageError("a line of COPY text has another number of fields")
        rows.append([None if field == b"\\N" else unescaped(field) for field in fields])
    return rows
