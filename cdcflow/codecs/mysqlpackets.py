"""The packets of a MySQL or MariaDB answer that are no rows, taken apart.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset.html
"""

from __future__ import annotations

import struct

from cdcflow.codecs.frames_cy import MessageError


def error(packet: bytes) -> tuple[int, str]:
    """Return number and message of an ERR packet: 0xFF, number, and mostly `#` with five bytes of state."""
    if len(packet) < 3:
        raise MessageError("an error packet is too short")
    text = packet[3:]
    if text[:1] == b"#":
        text = text[6:]
    return int.from_bytes(packet[1:3], "little"), text.decode("utf-8", "replace")


def length_at(packet: bytes, at: int) -> tuple[int, int]:
    """Return a length-encoded number and where it ends."""
    if at >= len(packet):
        raise MessageError("a packet ends inside a length")
    first = packet[at]
    more = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    if first in (0xFB, 0xFF) or at + 1 + more > len(packet):
        raise MessageError("a length is none")
    if not more:
        return first, at + 1
    return int.from_bytes(packet[at + 1 : at + 1 + more], "little"), at + 1 + more


def definition(packet: bytes) -> tuple[str, int, int, int, int]:
    """Take a column definition apart: six texts, of which the fifth is the name, and twelve bytes and more."""
    at = 0
    name = b""
    for number in range(6):
        length, at = length_at(packet, at)
        if number == 4:
            name = packet[at : at + length]
        at += length
    length, at = length_at(packet, at)
    if length < 10 or at + 10 > len(packet):
        raise MessageError("a column's definition is too short")
    charset, _, kind, flags, decimals = struct.unpack_from("<HIBHB", packet, at)
    return name.decode("utf-8", "replace"), kind, charset, flags, decimals
