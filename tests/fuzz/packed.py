"""What an input is made of: a stream's messages, or the numbers and byte arrays that a frame's functions take."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Input:
    """`numbers` (each below 256: a width, key columns) are never changed; `parts` are."""

    numbers: bytes
    parts: tuple[bytes, ...]

    def with_parts(self, parts: list[bytes]) -> Input:
        return replace(self, parts=tuple(parts))


def pack(found: Input) -> bytes:
    """Return the file of an input: count of numbers, numbers, then each part behind its length."""
    return bytes([len(found.numbers)]) + found.numbers + b"".join(_LENGTH.pack(len(p)) + p for p in found.parts)


def unpack(file: bytes) -> Input:
    """Read a file that `pack` wrote."""
    at = 1 + file[0]
    parts = []
    while at < len(file):
        (length,) = _LENGTH.unpack_from(file, at)
        parts.append(file[at + 4 : at + 4 + length])
        at += 4 + length
    return Input(file[1 : 1 + file[0]], tuple(parts))
