"""The functions under test, each as one function of an `Input`: what it returns is compared between both forms."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from cdcflow.codecs import binlog_cy, pgmessages
from cdcflow.codecs.binlogrow_cy import RowShape
from cdcflow.codecs.busjson_cy import CHANGE, KeyAbsent, Layout, NotUtf8, Rows
from cdcflow.codecs.busjsoncell_cy import JsonCell
from cdcflow.codecs.buskinds import wire_kind
from cdcflow.codecs.busorder_cy import Passed, spread
from cdcflow.codecs.copytext_cy import ImageError as CopyError
from cdcflow.codecs.copytext_cy import copy_text, key_arrays, offsets
from cdcflow.codecs.jsoncell_cy import ColumnForm as JsonForm
from cdcflow.codecs.jsonforeign import CONNECT_DECIMAL, VARIABLE_DECIMAL
from cdcflow.codecs.jsonscan_cy import ChangeReader, ScanError
from cdcflow.codecs.jsontext_cy import schema_part
from cdcflow.codecs.mysqlforms import ColumnForm, optional_metadata, parse_types
from cdcflow.codecs.mysqljson_cy import JsonText
from cdcflow.codecs.mysqljsondiff import patched
from cdcflow.codecs.net_cy import ImageError as NetError
from cdcflow.codecs.net_cy import net
from cdcflow.codecs.order_cy import by_key
from cdcflow.codecs.pgoutput_cy import Decoder, MessageError
from cdcflow.errors import DecodeError
from cdcflow.sources.mysql import logevents, tablemap
from cdcflow.sources.mysql.prepared import Prepared
from tests.fuzz import bus_records
from tests.fuzz.packed import Input
from tests.unit.bus_columns import COLUMNS

# Small, so that some recorded transactions pass it.
PIECE_BYTES = 4096
# The tables of the corpus's row images; tests/fuzz/record_mysql.py makes them so.
SHAPES = [
    RowShape(
        [
            ColumnForm(3, 0, name="id"),
            ColumnForm(1, 0, unsigned=True),
            ColumnForm(246, 12 | 4 << 8),
            ColumnForm(4, 4),
            ColumnForm(5, 8),
            ColumnForm(13, 0),
            ColumnForm(16, 10),
            ColumnForm(10, 0),
            ColumnForm(19, 3),
            ColumnForm(18, 6),
            ColumnForm(17, 1),
            ColumnForm(247, 1, labels=("a", "b")),
            ColumnForm(248, 1, labels=("x", "y", "z")),
        ],
        "numbers",
    ),
    RowShape(
        [
            ColumnForm(3, 0, name="id"),
            ColumnForm(15, 120, charset="utf8mb4"),
            ColumnForm(254, 10, charset="latin1"),
            ColumnForm(252, 2, charset="gbk"),
            ColumnForm(252, 2, charset="ujis"),
            ColumnForm(254, 16),
            ColumnForm(252, 2),
            ColumnForm(255, 4),
            ColumnForm(245, 4, name="a"),
            ColumnForm(245, 4, name="b"),
        ],
        "texts",
    ),
    RowShape(
        [
            ColumnForm(3, 0, name="id"),
            ColumnForm(254, 16, native="uuid"),
            ColumnForm(254, 16, native="inet6"),
            ColumnForm(254, 4, native="inet4"),
            ColumnForm(140, 2, charset="utf8mb4"),
            ColumnForm(141, 400),
        ],
        "marias",
    ),
]
PARSERS: dict[int, Callable[[bytes], object]] = {
    ord("R"): pgmessages.relation,
    ord("T"): pgmessages.truncation,
    ord("M"): pgmessages.logical_message,
}


def json_forms() -> list[JsonForm]:
    """Return how the columns of the bus's corpus are read: one of each kind, and of Debezium's other forms."""
    forms = []
    for column in COLUMNS:
        kind = wire_kind(column)
        inner = JsonForm(b"", kind.element.kind) if kind.element is not None else None
        forms.append(JsonForm(column.name.encode(), kind.kind, 1, 0, kind.length, inner, kind.delimiter))
    forms += [JsonForm(b"scaled", CONNECT_DECIMAL, 1, 2), JsonForm(b"variable", VARIABLE_DECIMAL)]
    return [*forms, JsonForm(b"millis", 14, 1000), JsonForm(b"nanos", 12, -1000)]


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


def row_images(found: Input) -> object:
    """Numbers: the shape, whether it is a partial update. Parts: what a rows event holds, a bitmap for each image."""
    data, *present = found.parts
    shape = SHAPES[found.numbers[0]]
    if found.numbers[1]:
        before, after = [*present, b"", b""][:2]
        return shape.decode_partial(data, before, after)
    return shape.decode_all(data, tuple(present))


def documents(found: Input) -> object:
    """Numbers: one, of no meaning. Parts: a binary JSON document, changes to it."""
    document, *changes = found.parts
    return JsonText().text(document), [patched(document, each) for each in changes]


def table_maps(found: Input) -> object:
    """Numbers: whether it is MariaDB's. Parts: types, their metadata, optional metadata."""
    types, metadata, *optional = found.parts
    parsed = parse_types(types, metadata)
    return parsed, [optional_metadata(each, parsed, "mariadb" if found.numbers[0] else "mysql") for each in optional]


def binlog(found: Input) -> object:
    """Numbers: the engine (0: MySQL, 1: MariaDB). Parts: packets.

    Tables and events are treated as `sources/mysql/stream.py` does, but for statements, which only end what they end.
    """
    maria = bool(found.numbers and found.numbers[0])
    decoder = binlog_cy.Decoder(PIECE_BYTES)
    decoder.place(1, 4)
    outcome: list[object] = []
    packets = ((len(part) + 1).to_bytes(3, "little") + b"\0\0" + part for part in found.parts)
    try:
        _binlog_events(decoder, bytearray(b"".join(packets)), decoder.feed, maria, outcome)
    except MessageError as error:  # what says more than that the bytes are wrong is one, too
        raise MessageError(str(error)) from error
    return [*outcome, decoder.status(), decoder.clock(), decoder.where(), decoder.take(False)]


def _binlog_events(
    decoder: binlog_cy.Decoder,
    buffer: bytearray,
    feed: Callable[[bytearray, int], int],
    maria: bool,
    outcome: list[object],
) -> None:
    at = -1
    while at != len(buffer):
        before, at = max(at, 0), feed(buffer, max(at, 0))
        kind, _, body = decoder.event()
        if kind == logevents.TABLE_MAP:
            table = tablemap.parse(body, "mariadb" if maria else "mysql")
            forms = [ColumnForm(kind, meta, charset="latin1", labels=("a", "b")) for kind, meta in table.types]
            _, frame = decoder.frame(len(forms), 0, 0)
            decoder.define(table.number, body, frame, RowShape(forms, str(table.name)), 0)
            outcome.append(table.name)
        elif kind in (logevents.QUERY, logevents.MARIADB_QUERY_COMPRESSED):
            query = logevents.query(kind, body)
            outcome.append(query)
            in_group, begun, *_ = decoder.status()
            if query.sql.startswith(b"XA END"):
                pass
            elif query.sql.startswith(b"XA START"):
                decoder.go_on()
            elif in_group and (not begun or query.sql.startswith((b"COMMIT", b"XA COMMIT"))):
                decoder.commit()
        elif kind == logevents.PAYLOAD:
            unpacked = bytearray()
            for piece in logevents.payload(body):
                unpacked += piece
                if len(unpacked) > 1 << 20:
                    raise MessageError("more than any recorded transaction holds")
            _binlog_events(decoder, unpacked, decoder.feed_events, maria, outcome)
        elif kind == logevents.GTID_TAGGED:
            source, number, commit_us = logevents.tagged_gtid(body)
            decoder.begin(source.encode(), number, commit_us)
        elif kind == logevents.MARIADB_GTID:
            gtid = logevents.mariadb_gtid(body)
            decoder.begin(b"%d" % gtid.domain, gtid.number, 0)
            outcome.append(gtid)
        elif kind == logevents.XA_PREPARE:
            outcome.append(Prepared(1).read(body))
            decoder.commit()
        elif kind == logevents.ROTATE:
            outcome.append(logevents.rotate(body))
        elif kind in (logevents.HEARTBEAT, logevents.HEARTBEAT_V2):
            outcome.append(logevents.heartbeat(kind, body))
        elif kind == logevents.FORMAT_DESCRIPTION:
            outcome.append(logevents.has_checksums(body))
        elif kind == binlog_cy.PIECE:
            outcome.append(decoder.take(True))
        elif kind:
            outcome.append((kind, body))
        elif at == before:
            break


def json_messages(found: Input) -> object:
    """Numbers: 0 changes, 1 rows. Parts: messages."""
    reader = ChangeReader(json_forms())
    read = reader.row if found.numbers[0] else reader.change
    return [(read(each, True), read(each, False), schema_part(each)) for each in found.parts]


def json_rows(found: Input) -> object:
    """Numbers: options of the cells. Parts: a frame's arrays, then of_row, order, table_order."""
    width = len(COLUMNS)
    names = [f'"{column.name}":'.encode() for column in COLUMNS]
    cells = [JsonCell(wire_kind(column), found.numbers[0], name) for column, name in zip(COLUMNS, names, strict=True)]
    rows = Rows(cells, tuple(range(width)), (0,), width, Layout(CHANGE))
    stamps = [(b"", b"", b"", 2), (b'"', b'"', b"", 9), (b"", b"", b"", 4)]
    try:
        return rows.write(found.parts[:5], found.parts[5:], stamps, b'"}'), rows.problems()
    except (KeyAbsent, NotUtf8) as refused:
        return str(refused)


def numbering(found: Input) -> object:
    """Numbers: one, of no meaning. Parts: marks, then the orders of steps."""
    passed = Passed()
    passed.batch()
    return [sorted(spread(order, found.parts[0], passed).items()) for order in found.parts[1:]]


TARGETS: dict[str, Target] = {
    "pgoutput": Target(pgoutput, MessageError),
    "net": Target(netting, NetError),
    "copy": Target(copying, CopyError),
    "order": Target(ordering, CopyError),
    "keys": Target(literals, CopyError),
    "offsets": Target(starts, CopyError),
    "binlogrow": Target(row_images, MessageError),
    "mysqljson": Target(documents, MessageError),
    "tablemap": Target(table_maps, MessageError),
    "binlog": Target(binlog, MessageError),
    "json": Target(json_messages, ScanError),
    "jsonrows": Target(json_rows, CopyError),
    "busorder": Target(numbering, ValueError),
    "busmessages": Target(bus_records.messages, DecodeError),
    "busrecords": Target(bus_records.rows, CopyError),
}
