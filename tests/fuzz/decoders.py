"""The functions under test, each as one function of an `Input`: what it returns is compared between both forms."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from cdcflow.codecs import pgmessages
from cdcflow.codecs.copytext_cy import ImageError as CopyError
from cdcflow.codecs.copytext_cy import copy_text, key_arrays, offsets
from cdcflow.codecs.net_cy import ImageError as NetError
from cdcflow.codecs.net_cy import net
from cdcflow.codecs.order_cy import by_key
from cdcflow.codecs.pgoutput_cy import Decoder, MessageError
from tests.fuzz.packed import Input

# Small, so that some recorded transactions pass it.
PIECE_BYTES = 4096
PARSERS: dict[int, Callable[[bytes], object]] = {
    ord("R"): pgmessages.relation,
    ord("T"): pgmessages.truncation,
    ord("M"): pgmessages.logical_message,
}


@dataclass(frozen=True, slots=True)
class Target:
    """A function of an input, and the one error it may raise."""

    run: Callable[[Input], object]
    error: type[Exception]


def buffer(found: Input) -> bytes:
    """Return messages as the reader hands them over: behind their lengths."""
    return b"".join(struct.pack("=I", len(part)) + part for part in found.parts)


def pgoutput(found: Input) -> object:
    """Decode a stream as `sources/postgres/stream.py` does: a relation's shape is settled at its first row."""
    # What was cut goes in without lengths of its own.
    stream = found.parts[0] if found.numbers else buffer(found)
    decoder = Decoder(PIECE_BYTES)
    widths: dict[int, int] = {}
    outcome: list[object] = []
    at = 0
    while at < len(stream):
        at = decoder.feed(stream, at)
        kind, body = decoder.event()
        if kind in PARSERS:
            message = PARSERS[kind](body)
            outcome.append(message)
            if isinstance(message, pgmessages.Relation):
                widths[message.oid] = len(message.columns)
                decoder.follow(message.oid, -1, 0, message.oid)
        elif kind == ord("S"):
            oid = int.from_bytes(body, "big")
            decoder.follow(oid, widths[oid], 0, oid)
        elif kind == ord("P"):
            outcome.append(decoder.take(True))
    return [*outcome, decoder.status(), decoder.clock(), decoder.wants_reply(), decoder.take(False)]


def netting(found: Input) -> object:
    """Numbers: width, key columns. Parts: the arrays of a frame."""
    ops, after, after_sizes, before, before_sizes = found.parts
    netted = net(ops, after, after_sizes, before, before_sizes, found.numbers[0], tuple(found.numbers[1:]))
    return [getattr(netted, name) for name in sorted(netted.__slots__)]


def copying(found: Input) -> object:
    """Numbers: width, chosen columns. Parts: after, merged, references."""
    after, merged, references = found.parts
    blocks: list[bytes] = []
    rows = copy_text(after, merged, references, found.numbers[0], tuple(found.numbers[1:]), blocks.append)
    return rows, b"".join(blocks)


def ordering(found: Input) -> object:
    """Numbers: the cell's place. Parts: after, merged, references."""
    after, merged, references = found.parts
    return by_key(after, merged, references, found.numbers[0])


def literals(found: Input) -> object:
    """Numbers: key columns. Parts: keys, spans."""
    return key_arrays(*found.parts, found.numbers[0])


def starts(found: Input) -> object:
    """Parts: sizes."""
    return offsets(*found.parts)


TARGETS: dict[str, Target] = {
    "pgoutput": Target(pgoutput, MessageError),
    "net": Target(netting, NetError),
    "copy": Target(copying, CopyError),
    "order": Target(ordering, CopyError),
    "keys": Target(literals, CopyError),
    "offsets": Target(starts, CopyError),
}
