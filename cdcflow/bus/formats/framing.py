"""What a message under a registered schema begins with: a zero byte, and the schema's number.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

from __future__ import annotations

from typing import Final

MAGIC: Final = 0
HEAD_BYTES: Final = 5  # the magic byte and the schema's number

_MAGIC_BYTE: Final = bytes([MAGIC])


def head(number: int) -> bytes:
    """Return what a message under a registered schema begins with."""
    return bytes([MAGIC]) + number.to_bytes(4, "big")


def schema_number(message: bytes) -> int | None:
    """Return the number of the schema that a message was written under, None where it does not begin so."""
    if len(message) < HEAD_BYTES or message[0] != MAGIC:
        return None
    return int.from_bytes(message[1:HEAD_BYTES], "big")


def plain(message: bytes) -> bytes:
    """Return JSON without the number of its schema, if it has one: by itself, JSON does not begin with a zero byte."""
    return message[HEAD_BYTES:] if message[:1] == _MAGIC_BYTE else message
