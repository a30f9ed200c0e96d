"""Frames of one table as JSON messages: the compiled rows, and the headers that a few of them need."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cdcflow.bus.config import Encoding
from cdcflow.bus.formats import Header, Messages, PerStamp, Stamp, Stamps, connectjson, jsonregistered
from cdcflow.bus.formats.framing import head
from cdcflow.bus.formats.jsonpieces import Origin, around, event, pieces, source_block, tail, transaction_id
from cdcflow.bus.formats.packing import Packing, add_event_headers, goes_out
from cdcflow.bus.formats.wire import wire_plan
from cdcflow.codecs.busjson_cy import CHANGE, FLAT, Layout, NotUtf8, Rows
from cdcflow.codecs.busjsoncell_cy import JsonCell
from cdcflow.codecs.copytext_cy import ImageError
from cdcflow.model.frame import RowBatch
from cdcflow.model.route import Route
from cdcflow.model.shape import text

if TYPE_CHECKING:  # its client is imported only where it is asked for
    from cdcflow.bus.registry import Part, SchemaRegistry

_STRUCTURED: tuple[Header, ...] = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)


class JsonWriter:
    """See `bus.formats.Writer`."""

    def __init__(
        self,
        encoding: Encoding,
        topic: str,
        route: Route,
        names: tuple[str, ...],
        pipeline: str,
        database: str,
        registry: SchemaRegistry | None = None,
    ) -> None:
        plan = wire_plan(route, names)
        self.shape, self.fingerprint = plan.shape, plan.fingerprint
        self._around = around(encoding)
        self._encoding = encoding
        engine = route.source.engine
        self._origin = Origin(pipeline, engine, database, route.source.name)
        self._pieces = PerStamp(partial(pieces, self._origin, self.shape, self._around))
        # Under a registered schema, what is a number is none in quotes.
        options = (encoding.decimals == "number") + 2 * (encoding.temporals == "iso") + 4 * (registry is not None)
        cells = [
            JsonCell(kind, options, f"{text(name)}:".encode())
            for kind, name in zip(plan.kinds, plan.shape.column_names, strict=True)
        ]
        value_open = key_open = close = b""
        if encoding.schemas or registry is not None:
            rows = connectjson.row(plan.shape, plan.kinds, encoding, f"{topic}.Value")
            if registry is not None:
                rows["closed"] = True  # else the registry would not take a column that is added for compatible
            whole = rows if self._around == "flat" else connectjson.change(topic, rows, engine)
            key = connectjson.row(plan.shape, plan.kinds, encoding, f"{topic}.Key", plan.shape.key)
            if registry is not None:
                if plan.key:
                    key_open = _registered(registry, topic, "key", jsonregistered.registered(key, "flat", topic))
                value_open = _registered(
                    registry, topic, "value", jsonregistered.registered(whole, self._around, topic)
                )
            else:
                value_open, key_open = (f'{{"schema":{text(each)},"payload":'.encode() for each in (whole, key))
                close = b"}"
        self._open, self._close, self._key_open = value_open, close, key_open
        tombstones, deletes, updates = goes_out(route, encoding)
        encoder = Rows(
            cells,
            plan.places,
            plan.key,
            plan.width,
            Layout(
                FLAT if self._around == "flat" else CHANGE,
                value_open,
                close,
                key_open,
                close,
                tombstones=tombstones,
                deletes=deletes,
                updates=updates,
            ),
        )
        self._packing = Packing(
            encoder, route.source.name, plan.shape, "holds a value that is no text, which JSON cannot say"
        )

    def write(self, frame: RowBatch, stamps: Stamps) -> Messages:
        """See `bus.formats.Writer`."""
        try:
            messages = self._packing.messages(frame, stamps, self._pieces.of(stamps.stamps), tail(self._around))
        except NotUtf8:
            raise self._packing.refused(
                "holds text that is not UTF-8, which JSON cannot say",
                do="mend the row at the source, or use `format: avro` with the column as bytes",
            ) from None
        except ImageError as error:
            raise self._packing.refused(f"cannot be sent: {error}") from None
        if self._around == "structured":
            for message, value in enumerate(messages.values):
                if value is not None:
                    messages.extras.setdefault(message, []).extend(_STRUCTURED)
        elif self._around == "binary":
            attributes = [event(self._origin, self.shape, stamp) for stamp in stamps.stamps]
            around = len(self._key_open), -len(self._close) or None
            add_event_headers(messages, stamps, attributes, lambda key: key[slice(*around)].decode())
        return messages

    def truncate(self, stamp: Stamp) -> tuple[bytes | None, bytes]:
        """See `bus.formats.Writer`."""
        if self._around == "flat":
            return None, self._open + b"null" + self._close
        block = source_block(self._origin, stamp)
        change: dict[str, object] = {"before": None, "after": None, "source": block}
        if self._around == "debezium":
            number = transaction_id(stamp)
            of = {"id": number, "total_order": 0, "data_collection_order": 0} if number else None
            change["transaction"] = of
        change["op"] = "t"
        if self._around == "structured":
            attributes = event(self._origin, self.shape, stamp)
            attributes["id"] += f"{self.shape.name}/t"
            change = {"specversion": "1.0", **attributes, "data": change}
        body = text(change).encode()
        if self._around == "debezium":
            body = body[:-2] + tail(self._around)
        return None, self._open + body + self._close


def _registered(registry: SchemaRegistry, topic: str, part: Part, schema: tuple[str, str]) -> bytes:
    """Register the schema (name, text) of keys or values; return what these begin with.

    Raises:
        SchemaStop: the registry refuses it. TargetUnavailable: it cannot be asked now.
    """
    name, said = schema
    subject = registry.subject(topic, part, name)
    return head(registry.once((subject, said), lambda: registry.register(subject, "JSON", said).id))
