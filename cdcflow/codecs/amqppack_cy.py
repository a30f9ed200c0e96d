"""Row messages to the bytes of their publishing: AMQP 0-9-1 frames with headers that say what each message is.

Frames: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, section 4.2. Field tables as RabbitMQ writes them:
https://www.rabbitmq.com/amqp-0-9-1-errata.html#section_3.
This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

from array import array

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

from cdcflow.codecs.amqpframes_cy import AmqpError, entry, frame, short

_END = b"\xce"
# Of a content header's properties: content-type, headers, delivery-mode, and type, for the operation. A property costs
# the broker less than an entry of the headers: so these, and the next two, are not there.
_FLAGS = 0x8000 | 0x2000 | 0x1000 | 0x0020
_CORRELATION_ID = 0x0400
_MESSAGE_ID = 0x0080
_TIMESTAMP = 0x0040
_SHORT = cython.declare(cython.Py_ssize_t, 255)

# What is handed to `write` at once; the broker reads no more than this from a socket at a time either.
_PIECE = cython.declare(cython.Py_ssize_t, 131072)


class Counters:
    """What the numbers of a publisher's messages are: changed by `pack`.

    generation: of this publishing session. numbers: by partition, the number of the last message. sealed: by
    partition, as text, the number up to which nothing will be published again.
    """

    __slots__ = ("generation", "numbers", "sealed")

    def __init__(self, generation: int, partitions: int) -> None:
        self.generation = generation
        self.numbers = [0] * partitions
        self.sealed = [b"0"] * partitions

    def seal(self) -> None:
        """All that was published so far is behind the checkpoint."""
        self.sealed = [b"%d" % number for number in self.numbers]


def pack(order: bytes, parts: dict, stamps: list, counters: Counters, channel: int, frame_max: int, write, skip) -> int:
    """Write the messages of some rows as frames, in the order of the rows; return how many there were.

    Args:
        order: native uint32 a row: which part the next row is in.
        parts: by number (starts, keys, values, hashes, ops, extras, of_row, order, table_order, methods, fixed):
            the first six as in `bus.formats.Messages`, three as in `bus.formats.Stamps`; methods: by partition the
            whole frame of basic.publish; fixed: (content type as a short string, table entries of every message).
        stamps: for each stamp (position, transaction, microseconds since 1970); b"" for what is not known, 0 for a
            time. Properties, message-id (with the number of the row) and correlation-id, where they are not longer
            than 255 bytes, and as headers where they are.
        write: called with (bytes, messages in them) now and then, and at the end.
        skip: None, or called with (partition, part, stamp, table order, op, index of the message within its row):
            true for one that is not to be published.

    Raises:
        AmqpError: the numbers do not fit together.
    """
    out = bytearray()
    sequence = array("I", order)
    rows: dict = {}
    counts: dict = {}
    for number, part in parts.items():
        views = (
            array("I", part[0]), part[1], part[2], array("I", part[3]), part[4], part[5],
            array("I", part[6]), array("I", part[7]), array("I", part[8]), part[9], part[10],
        )  # fmt: skip
        if len(views[0]) != len(views[6]) + 1 or len(views[3]) != len(views[1]):
            raise AmqpError("the messages of a frame do not fit to its rows")
        rows[number] = views
        counts[number] = 0
    numbers: list = counters.numbers
    sealed: list = counters.sealed
    partitions: cython.uint = len(numbers)
    generation: bytes = b"%d/" % counters.generation
    channel_bytes: bytes = channel.to_bytes(2, "big")
    room: cython.Py_ssize_t = frame_max - 8
    total: cython.Py_ssize_t = 0
    waiting: cython.Py_ssize_t = 0
    partition: cython.uint
    hashed: cython.uint
    index: cython.Py_ssize_t
    message: cython.Py_ssize_t
    at: cython.Py_ssize_t
    end: cython.Py_ssize_t
    size: cython.Py_ssize_t
    flags: cython.int
    for number in sequence:
        found = rows.get(number)
        if found is None or counts[number] >= len(found[6]):
            raise AmqpError("the order of the rows does not fit to their frames")
        index = counts[number]
        counts[number] = index + 1
        at, end = found[0][index], found[0][index + 1]
        if at == end:
            continue
        stamp_index = found[6][index]
        stamp = stamps[stamp_index]
        place: bytes = b"%b/%d" % (stamp[0], found[7][index]) if stamp[0] else b""
        in_table = found[8][index]
        for message in range(at, end):
            hashed = found[3][message]
            partition = hashed % partitions
            op = found[4][message]
            if skip is not None and skip(partition, number, stamp_index, in_table, op, message - at):
                continue
            numbers[partition] = numbers[partition] + 1
            key = found[1][message]
            value = found[2][message]
            body: bytes = b"" if value is None else value
            table = bytearray(found[10][1])
            if len(stamp[1]) > _SHORT:
                table += entry("cdcflow.txid", stamp[1])
            if len(place) > _SHORT:
                table += b"\x10cdcflow.positionS"
                table += len(place).to_bytes(4, "big")
                table += place
            own: bytes = b"%b%d/%b/%d/%d/%d" % (
                generation, numbers[partition], sealed[partition], in_table, message - at, stamp[2] % 1_000_000,
            )  # fmt: skip
            table += b"\x0dcdcflow.placeS"
            table += len(own).to_bytes(4, "big")
            table += own
            if key is not None:
                table += b"\x0bcdcflow.keyS"
                table += len(key).to_bytes(4, "big")
                table += key
            extra = found[5].get(message)
            if extra is not None:
                for name, text in extra:
                    table += entry(name, text)
            flags = _FLAGS
            content: bytes = found[10][0]
            tail: bytes = b"\x02"
            if stamp[1] and len(stamp[1]) <= _SHORT:
                flags |= _CORRELATION_ID
                tail += short(stamp[1])
            if place and len(place) <= _SHORT:
                flags |= _MESSAGE_ID
                tail += short(place)
            if stamp[2]:
                flags |= _TIMESTAMP
                tail += (stamp[2] // 1_000_000).to_bytes(8, "big")
            tail += b"\x01"
            tail += op.to_bytes(1, "big") if not cython.compiled else _byte(op)
            size = 14 + len(content) + 4 + len(table) + len(tail)
            if size > room:
                raise AmqpError(f"the headers of a message have {size} bytes, and a frame {room}")
            out += found[9][partition]
            out += b"\x02"
            out += channel_bytes
            out += size.to_bytes(4, "big") if not cython.compiled else _be32(size)
            out += b"\x00\x3c\x00\x00"
            out += len(body).to_bytes(8, "big")
            out += flags.to_bytes(2, "big") if not cython.compiled else _be16(flags)
            out += content
            out += len(table).to_bytes(4, "big")
            out += table
            out += tail
            out += _END
            size = len(body)
            if size <= room:
                if size:
                    out += b"\x03"
                    out += channel_bytes
                    out += len(body).to_bytes(4, "big")
                    out += body
                    out += _END
            else:
                for start in range(0, len(body), room):
                    out += frame(3, channel, body[start : start + room])
            total += 1
            waiting += 1
            if len(out) >= _PIECE:
                write(bytes(out), waiting)
                out.clear()
                waiting = 0
    if out:
        write(bytes(out), waiting)
    return total


@cython.cfunc
@cython.inline
def _be32(value: cython.Py_ssize_t) -> bytes:
    return bytes(((value >> 24) & 255, (value >> 16) & 255, (value >> 8) & 255, value & 255))


@cython.cfunc
@cython.inline
def _byte(value: cython.int) -> bytes:
    return bytes((value & 255,))


@cython.cfunc
@cython.inline
def _be16(value: cython.int) -> bytes:
    return bytes(((value >> 8) & 255, value & 255))
