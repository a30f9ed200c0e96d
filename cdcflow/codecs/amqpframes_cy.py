"""AMQP 0-9-1 frames: their parts as they are written, and what a broker sends taken apart into methods with content.

Frames: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, section 4.2. Field tables as RabbitMQ writes them:
https://www.rabbitmq.com/amqp-0-9-1-errata.html#section_3.
This file runs as it is and is compiled by Cython where a compiler is there; amqpframes_cy.pxd declares for other
compiled modules the function over bytes. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

_END = b"\xce"

DELIVER = 60 << 16 | 60
RETURN = 60 << 16 | 50
GET_OK = 60 << 16 | 71
ACK = 60 << 16 | 80
NACK = 60 << 16 | 120
HEARTBEAT = 0


class AmqpError(ValueError):
    """The bytes are not what the protocol says."""


def short(text: bytes) -> bytes:
    """Return a short string: a byte of length in front.

    Raises:
        AmqpError: it has more than 255 bytes.
    """
    if len(text) > 255:
        raise AmqpError("a name has more than 255 bytes")
    return bytes((len(text),)) + text


def entry(name: str, value: bytes) -> bytes:
    """Return one entry of a field table: a long string."""
    return short(name.encode()) + b"S" + len(value).to_bytes(4, "big") + value


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Return a whole frame."""
    return bytes((kind,)) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + _END


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def number(data: bytes, at: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.ulonglong:
    """Read a big-endian number of at most eight bytes. The caller has looked that they are there."""
    value: cython.ulonglong = 0
    index: cython.Py_ssize_t
    for index in range(at, at + size):
        value = value << 8 | data[index]
    return value


class Splitter:
    """Takes what comes from the broker, in pieces of any size, and gives whole methods, with their content.

    largest: more bytes than this are no frame, which tells a broken stream; content_max: nor a message.
    """

    def __init__(self, largest: int = 1 << 20, content_max: int = 1 << 31) -> None:
        self.largest = largest
        self.content_max = content_max
        self._rest = b""
        # By channel: [method id, payload, content header, missing bytes, pieces].
        self._open: dict = {}

    def feed(self, data: bytes) -> list:
        """Return what is complete now: tuples (channel, method id, method payload, content header, body).

        The header is None for methods without content. A heartbeat is (0, 0, b"", None, b"").

        Raises:
            AmqpError: these are no frames.
        """
        if self._rest:
            data = self._rest + data
        return self._split(data)

    def _split(self, data: bytes) -> list:
        found: list = []
        size: cython.Py_ssize_t = len(data)
        at: cython.Py_ssize_t = 0
        length: cython.Py_ssize_t
        kind: cython.int
        channel: cython.int
        method: cython.uint
        largest: cython.Py_ssize_t = self.largest
        while at + 7 <= size:
            kind = data[at]
            if kind == 65 and data[at : at + 4] == b"AMQP":
                raise AmqpError("the broker speaks another version of AMQP")
            channel = number(data, at + 1, 2)
            length = number(data, at + 3, 4)
            if length > largest:
                raise AmqpError("a frame is larger than was agreed")
            if at + 8 + length > size:
                break
            if data[at + 7 + length] != 0xCE:
                raise AmqpError("a frame does not end where it should")
            payload: bytes = data[at + 7 : at + 7 + length]
            at += 8 + length
            if kind == 1:
                if length < 4:
                    raise AmqpError("a method is too short")
                method = number(payload, 0, 4)
                if method == 60 << 16 | 60 or method == 60 << 16 | 50 or method == 60 << 16 | 71:
                    self._open[channel] = [method, payload, None, 0, []]
                else:
                    found.append((channel, method, payload, None, b""))
            elif kind == 8:
                found.append((0, 0, b"", None, b""))
            elif kind == 2 or kind == 3:
                begun = self._open.get(channel)
                if begun is None or (kind == 3 and begun[2] is None):
                    raise AmqpError("content without a method")
                if kind == 2:
                    if length < 14 or begun[2] is not None:
                        raise AmqpError("a content header is too short, or comes twice")
                    begun[2] = payload
                    begun[3] = int(number(payload, 4, 8))
                    if begun[3] > self.content_max:
                        raise AmqpError("a message is larger than may be")
                else:
                    begun[4].append(payload)
                    begun[3] = begun[3] - len(payload)
                    if begun[3] < 0:
                        raise AmqpError("a message has more bytes than its header says")
                if begun[3] == 0:
                    pieces: list = begun[4]
                    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                    found.append((channel, begun[0], begun[1], begun[2], body))
                    del self._open[channel]
            else:
                raise AmqpError("a frame of an unknown kind")
        self._rest = data[at:] if at < size else b""
        return found
