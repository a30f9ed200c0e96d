"""How text of each MySQL and MariaDB character set becomes UTF-8: as the server itself converts it.

Python's codecs are the tables, and what the servers do otherwise stands here. All single bytes and all sequences of two
and three bytes were compared with CONVERT(... USING utf8mb4) of MySQL 8.0 and 9.7 and of MariaDB 11.8, which agree.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Final

# Already UTF-8: it is looked at, not changed.
UNICODE: Final = frozenset({"utf8mb4", "utf8mb3", "utf8"})

# Character sets of one byte a character: Python's codec, and runs of characters that the server has instead; `?` where
# it has none. `latin1` is cp1252 whose five holes are control characters.
_SINGLE: Final[dict[str, tuple[str, dict[int, str]]]] = {
    "ascii": ("ascii", {}),
    "latin1": (
        "cp1252",
        {
            0x81: "\x81",
            0x8D: "\x8d",
            0x8F: "\x8f\x90",
            0x9D: "\x9d",
        },
    ),
    "latin2": ("iso8859_2", {}),
    "latin5": ("iso8859_9", {}),
    "latin7": ("iso8859_13", {}),
    "greek": (
        "iso8859_7",
        {
            0xA1: "\u02bd\u02bc",
            0xA4: "??",
            0xAA: "?",
        },
    ),
    "hebrew": (
        "iso8859_8",
        {
            0xAF: "\u203e",
        },
    ),
    "cp1250": ("cp1250", {}),
    "cp1251": ("cp1251", {}),
    "cp1256": (
        "cp1256",
        {
            0x8A: "?",
            0x8F: "?",
            0x98: "?",
            0x9A: "?",
            0x9F: "?",
            0xAA: "?",
            0xC0: "?",
            0xFF: "?",
        },
    ),
    "cp1257": ("cp1257", {}),
    "cp850": ("cp850", {}),
    "cp852": ("cp852", {}),
    "cp866": (
        "cp866",
        {
            0xFC: "\u207f\xb2",
        },
    ),
    "koi8r": ("koi8_r", {}),
    "koi8u": (
        "koi8_u",
        {
            0x95: "\u2022",
        },
    ),
    "tis620": (
        "tis_620",
        {
            0xA0: "\ufffd",
            0xDB: "\ufffd\ufffd\ufffd\ufffd",
            0xFC: "\ufffd\ufffd\ufffd\ufffd",
        },
    ),
    "macroman": ("mac_roman", {}),
    "macce": ("mac_latin2", {}),
    "hp8": ("hp_roman8", {}),
    "armscii8": (
        "latin1",
        {
            0xA1: (
                "\u2741\xa7\u0589)(\xbb\xab\u2014.\u055d,-"
                "\u055f\u2026\u055c\u055b\u055e\u0531\u0561\u0532\u0562\u0533\u0563\u0534"
                "\u0564\u0535\u0565\u0536\u0566\u0537\u0567\u0538\u0568\u0539\u0569\u053a"
                "\u056a\u053b\u056b\u053c\u056c\u053d\u056d\u053e\u056e\u053f\u056f\u0540"
                "\u0570\u0541\u0571\u0542\u0572\u0543\u0573\u0544\u0574\u0545\u0575\u0546"
                "\u0576\u0547\u0577\u0548\u0578\u0549\u0579\u054a\u057a\u054b\u057b\u054c"
                "\u057c\u054d\u057d\u054e\u057e\u054f\u057f\u0550\u0580\u0551\u0581\u0552"
                "\u0582\u0553\u0583\u0554\u0584\u0555\u0585\u0556\u0586\u2019'"
            ),
        },
    ),
    "dec8": (
        "latin1",
        {
            0xA4: "?",
            0xA6: "?",
            0xA8: "\xa4",
            0xAC: "????",
            0xB4: "?",
            0xB8: "?",
            0xBE: "?",
            0xD0: "?",
            0xD7: "\u0152",
            0xDD: "\u0178?",
            0xF0: "?",
            0xF7: "\u0153",
            0xFD: "\xff??",
        },
    ),
    "geostd8": (
        "cp1252",
        {
            0x83: "?",
            0x88: "?",
            0x8A: "?",
            0x8C: "?",
            0x8E: "?",
            0x98: "???",
            0x9C: "?",
            0x9E: "??",
            0xC0: (
                "\u10d0\u10d1\u10d2\u10d3\u10d4\u10d5\u10d6\u10f1\u10d7\u10d8\u10d9\u10da"
                "\u10db\u10dc\u10f2\u10dd\u10de\u10df\u10e0\u10e1\u10e2\u10f3\u10e3\u10e4"
                "\u10e5\u10e6\u10e7\u10e8\u10e9\u10ea\u10eb\u10ec\u10ed\u10ee\u10f4\u10ef"
                "\u10f0\u10f5??????????"
                "????????????"
                "?\u2116??"
            ),
        },
    ),
    "keybcs2": (
        "cp852",
        {
            0x80: "\u010c",
            0x83: "\u010f",
            0x85: "\u010e\u0164\u010d\u011b\u011a\u0139\xcd\u013e\u013a",
            0x8F: "\xc1",
            0x91: "\u017e\u017d",
            0x95: "\xd3\u016f\xda\xfd",
            0x9B: "\u0160\u013d\xdd\u0158\u0165",
            0xA4: "\u0148\u0147\u016e\xd4\u0161\u0159\u0155\u0154\xbc\xa1",
            0xB5: "\u2561\u2562\u2556\u2555",
            0xBD: "\u255c\u255b",
            0xC6: "\u255e\u255f",
            0xCF: "\u2567\u2568\u2564\u2565\u2559\u2558\u2552\u2553\u256b\u256a",
            0xDD: "\u258c\u2590",
            0xE0: "\u03b1",
            0xE2: (
                "\u0393\u03c0\u03a3\u03c3\xb5\u03c4\u03a6\u0398\u03a9\u03b4\u221e\u03c6"
                "\u03b5\u2229\u2261\xb1\u2265\u2264\u2320\u2321"
            ),
            0xF7: "\u2248",
            0xF9: "\u2219\xb7\u221a\u207f\xb2",
        },
    ),
    "swe7": (
        "ascii",
        {
            0x40: "\xc9",
            0x5B: "\xc4\xd6\xc5\xdc",
            0x60: "\xe9",
            0x7B: "\xe4\xf6\xe5\xfc?",
        },
    ),
}

_WIDE: Final = {"ucs2": "utf_16_be", "utf16": "utf_16_be", "utf16le": "utf_16_le", "utf32": "utf_32_be"}

# Sequences of a character as the server splits text, and Python's codec for each of them.
_TWO: Final = rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]"
_JAPANESE: Final = rb"[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc]"
_EUC: Final = rb"\x8f[\xa1-\xfe]{2}|\x8e[\xa0-\xdf]|[\xa1-\xfe]{2}"
_SEVERAL: Final[dict[str, tuple[str, bytes]]] = {
    "gbk": ("gbk", _TWO),
    "gb2312": ("gb2312", rb"[\xa1-\xf7][\xa1-\xfe]"),
    "gb18030": ("gb18030", rb"[\x81-\xfe][\x30-\x39][\x81-\xfe][\x30-\x39]|" + _TWO),
    "big5": ("big5", rb"[\xa1-\xf9][\x40-\x7e\xa1-\xfe]"),
    "sjis": ("shift_jis", _JAPANESE),
    "cp932": ("cp932", _JAPANESE),
    "ujis": ("euc_jp", _EUC),
    "eucjpms": ("euc_jp", _EUC),
    "euckr": ("cp949", rb"[\x81-\xfe][\x41-\x5a\x61-\x7a\x81-\xfe]"),
}
_NOT_PYTHONS: Final[dict[str, dict[bytes, str]]] = {
    "gb18030": {b"\xa8\xbc": "\u1e3f", b"\x81\x35\xf4\x37": "\ue7c7"},
    "big5": {
        **dict.fromkeys(
            (b"\xa1\x5a", b"\xa1\xc3", b"\xa1\xc5", b"\xa1\xfe", b"\xa2\x40", b"\xa2\xcc", b"\xa2\xce"), "\ufffd"
        ),
        **{bytes((0xF9, 0xD6 + i)): char for i, char in enumerate("\u7881\u92b9\u88cf\u58bb\u6052\u7ca7\u5afa")},
    },
    "sjis": {b"\x81\x5f": "\\"},
    "ujis": {b"\xa1\xc0": "\\", b"\x8e\xa0": "??"},
    "eucjpms": {b"\x8f\xa2\xb7": "\uff5e", b"\x8f\xa2\xc3": "\uffe4", b"\x8e\xa0": "??"},
}

_QUESTION: Final = "cdcflow.question"
codecs.register_error(_QUESTION, lambda error: ("?", error.end))  # type: ignore[attr-defined]

# Blocks of 256 collation numbers that MariaDB gives to one character set each, from 2048 on.
_MARIADB_BLOCKS: Final = ("utf8mb3", "utf8mb4", "ucs2", "utf16", "utf32")

# Numbers of collations from 1 on, in runs: how many, and of which character set ('': no collation).
_COLLATIONS: Final = (
    "big5 latin2 dec8 cp850 latin1 hp8 koi8r latin1 latin2 swe7 ascii ujis sjis cp1251 latin1 hebrew 1: tis620 "
    "euckr latin7 latin2 koi8u cp1251 gb2312 greek cp1250 latin2 gbk cp1257 latin5 latin1 armscii8 utf8mb3 cp1250 "
    "ucs2 cp866 keybcs2 macce macroman cp852 2:latin7 macce cp1250 2:utf8mb4 3:latin1 3:cp1251 macroman 2:utf16 "
    "utf16le cp1256 2:cp1257 2:utf32 utf16le binary armscii8 ascii cp1250 cp1256 cp866 dec8 greek hebrew hp8 "
    "keybcs2 koi8r koi8u utf8mb3 latin2 latin5 latin7 cp850 cp852 swe7 utf8mb3 big5 euckr gb2312 gbk sjis tis620 "
    "ucs2 ujis 2:geostd8 latin1 2:cp932 2:eucjpms cp1250 1: 24:utf16 3: 24:ucs2 7: ucs2 24:utf32 8: 24:utf8mb3 7: "
    "utf8mb3 24:utf8mb4 3:gb18030 4: 69:utf8mb4 252: 4:utf8mb3 28: 4:utf8mb4 28: 3:ucs2 29: 3:utf16 61: 3:utf32"
)


@cache
def _numbered() -> tuple[str, ...]:
    names = [""]
    for run in _COLLATIONS.split(" "):
        count, colon, name = run.partition(":")
        names.extend([name] * int(count) if colon else [run])
    return tuple(names)


def charset_of(collation: int) -> str:
    """Return the character set of a collation's number, '' where none has that number.

    MariaDB numbers its NO PAD collations 1024 above the others, and those of UCA 14.0.0 from 2048 on.
    """
    if 2048 <= collation < 2048 + 256 * len(_MARIADB_BLOCKS):
        return _MARIADB_BLOCKS[(collation - 2048) // 256]
    if collation > 1024:
        collation -= 1024
    names = _numbered()
    return names[collation] if 0 <= collation < len(names) else ""


@cache
def single(charset: str) -> bytes | None:
    """Return the table of a single-byte character set, None where it is none.

    For each byte four: how many bytes of UTF-8, and up to three of them.
    """
    if charset not in _SINGLE:
        return None
    codec, runs = _SINGLE[charset]
    characters = list(bytes(range(256)).decode(codec, "replace").replace("\ufffd", "?"))
    for start, run in runs.items():
        characters[start : start + len(run)] = run
    table = bytearray()
    for character in characters:
        text = character.encode()
        table += bytes([len(text)]) + text.ljust(3, b"\0")
    return bytes(table)


@cache
def converter(charset: str) -> Callable[[bytes], bytes] | None:
    """Return the function that makes UTF-8 of a multi-byte character set's text, None where there is none."""
    if charset in _WIDE:
        return partial(_wide, _WIDE[charset])
    if charset not in _SEVERAL:
        return None
    codec, sequences = _SEVERAL[charset]
    pieces = re.compile(sequences + rb"|[\x80-\xff]", re.DOTALL)
    if charset in _NOT_PYTHONS:
        return partial(_piecewise, pieces, cache(partial(_character, charset)))
    return partial(_whole, codecs.getdecoder(codec), pieces, cache(partial(_character, charset)))


def _wide(codec: str, text: bytes) -> bytes:
    return text.decode(codec, _QUESTION).encode()


def _whole(
    decode: Callable[[bytes], tuple[str, int]],
    pieces: re.Pattern[bytes],
    character: Callable[[bytes], bytes],
    text: bytes,
) -> bytes:
    """Convert at once, and only text with characters that Python does not have piece by piece."""
    try:
        return decode(text)[0].encode()
    except UnicodeDecodeError:
        return _piecewise(pieces, character, text)


def _piecewise(pieces: re.Pattern[bytes], character: Callable[[bytes], bytes], text: bytes) -> bytes:
    return text if text.isascii() else pieces.sub(lambda found: character(found[0]), text)


def _character(charset: str, sequence: bytes) -> bytes:
    """Return one character's UTF-8, `?` where the server has none."""
    own = _NOT_PYTHONS.get(charset, {}).get(sequence)
    if own is not None:
        return own.encode()
    if charset in ("ujis", "eucjpms") and len(sequence) > 1:
        user = sequence[-2] - 0xF5
        if user >= 0:  # the rows that users may fill
            return chr((0xE3AC if len(sequence) == 3 else 0xE000) + 94 * user + sequence[-1] - 0xA1).encode()
        if charset == "eucjpms":
            return _eucjpms(sequence)
    try:
        return sequence.decode(_SEVERAL[charset][0]).encode()
    except UnicodeDecodeError:
        return b"?"


def _eucjpms(sequence: bytes) -> bytes:
    """Return a character of Microsoft's set in EUC: where two bytes say it, as cp932 has it in its own order."""
    if len(sequence) == 3 and (sequence in _ibm()):
        return _ibm()[sequence].encode()
    codec = "euc_jp"
    if len(sequence) == 2 and sequence[0] >= 0xA1:
        row, cell = sequence[0] - 0xA1, sequence[1] - 0xA1
        lead = row // 2 + (0x81 if row < 62 else 0xC1)
        trail = cell + 0x9F if row % 2 else cell + 0x40 + (cell >= 63)
        sequence, codec = bytes((lead, trail)), "cp932"
    try:
        return sequence.decode(codec).encode()
    except UnicodeDecodeError:
        return b"?"


@cache
def _ibm() -> dict[bytes, str]:
    """Return IBM's characters that JIS X 0212 does not have (and its numero sign), from 8F F3 F3 on in eucjpms."""
    found = []
    for code in range(0xFA40, 0xFC4C):
        character = code.to_bytes(2, "big").decode("cp932", "ignore")
        private = "\uf8f0" <= character <= "\uf8ff"  # bytes that are none, to Python
        if len(character) == 1 and not private and character not in "\uffe2\uffe4\u2235":
            try:
                inside = character != "\u2116" and bool(character.encode("euc_jp"))
            except UnicodeEncodeError:
                inside = False
            if not inside:
                found.append(character)
    first = 82 * 94 + 82  # row F3, cell F3
    return {bytes((0x8F, 0xA1 + n // 94, 0xA1 + n % 94)): char for n, char in enumerate(found, first)}
