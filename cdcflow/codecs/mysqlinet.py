"""MariaDB's UUID, INET4 and INET6 as the server prints them; the log leaves out zeros at their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cdcflow.codecs.frames_cy import MessageError


def uuid(value: bytes) -> bytes:
    """Return 16 bytes in written order as a UUID's text."""
    text = _padded(value, 16).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()


def inet4(value: bytes) -> bytes:
    """Return four bytes as an address."""
    return ".".join(map(str, _padded(value, 4))).encode()


def inet6(value: bytes) -> bytes:
    """Return 16 bytes as an address: the first of the longest runs of zero groups as `::`, IPv4 inside dotted."""
    full = _padded(value, 16)
    groups = [int.from_bytes(full[i : i + 2], "big") for i in range(0, 16, 2)]
    start, length = 0, 0
    at = 0
    while at < 8:
        run = 0
        while at + run < 8 and groups[at + run] == 0:
            run += 1
        if run > length:
            start, length = at, run
        at += run or 1
    dotted = length >= 2 and start == 0 and (length == 6 or (length == 5 and groups[5] == 0xFFFF))
    shown = [f"{group:x}" for group in groups]
    if dotted:
        shown[6:] = [inet4(full[12:]).decode()]
    if not length:
        return ":".join(shown).encode()
    return (":".join(shown[:start]) + "::" + ":".join(shown[start + length :])).encode()


def _padded(value: bytes, size: int) -> bytes:
    if len(value) > size:
        raise MessageError("an address or identifier of too many bytes")
    return value.ljust(size, b"\0")


CONVERTERS: Final[dict[str, Callable[[bytes], bytes]]] = {"uuid": uuid, "inet4": inet4, "inet6": inet6}
