"""How text of each MySQL and MariaDB character set becomes UTF-8, as the server itself converts it."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from functools import cache
from typing import Final

# Already UTF-8: it is looked at, not changed.
UNICODE: Final = frozenset({"utf8mb4", "utf8mb3", "utf8"})

# Character sets of one byte a character of which Python has the table.
_SINGLE: Final = {
    "ascii": "ascii",
    "latin1": "cp1252",
    "latin2": "iso8859_2",
    "latin5": "iso8859_9",
    "latin7": "iso8859_13",
    "greek": "iso8859_7",
    "hebrew": "iso8859_8",
    "cp1250": "cp1250",
    "cp1251": "cp1251",
    "cp1256": "cp1256",
    "cp1257": "cp1257",
    "cp850": "cp850",
    "cp852": "cp852",
    "cp866": "cp866",
    "koi8r": "koi8_r",
    "koi8u": "koi8_u",
    "tis620": "tis_620",
    "macroman": "mac_roman",
    "macce": "mac_latin2",
    "hp8": "hp_roman8",
}
_SEVERAL: Final = {
    "ucs2": "utf_16_be",
    "utf16": "utf_16_be",
    "utf16le": "utf_16_le",
    "utf32": "utf_32_be",
    "gbk": "gbk",
    "gb2312": "gb2312",
    "gb18030": "gb18030",
    "big5": "big5",
    "sjis": "shift_jis",
    "cp932": "cp932",
    "ujis": "euc_jp",
    "eucjpms": "euc_jp",
    "euckr": "euc_kr",
}


@cache
def single(charset: str) -> bytes | None:
    """Return the table of a single-byte character set, None where it is none.

    For each byte four: how many bytes of UTF-8, and up to three of them.
    """
    if charset not in _SINGLE:
        return None
    table = bytearray()
    for byte in range(256):
        text = bytes([byte]).decode(_SINGLE[charset], "replace").replace("\ufffd", "?").encode()
        table += bytes([len(text)]) + text.ljust(3, b"\0")
    return bytes(table)


@cache
def converter(charset: str) -> Callable[[bytes], bytes] | None:
    """Return the function that makes UTF-8 of a multi-byte character set's text, None where there is none."""
    if charset not in _SEVERAL:
        return None
    decode = codecs.getdecoder(_SEVERAL[charset])

    def convert(text: bytes) -> bytes:
        return decode(text, "replace")[0].replace("\ufffd", "?").encode()

    return convert
