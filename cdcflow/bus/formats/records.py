"""What Avro and Protobuf share in writing: rows as binary records."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cdcflow.bus.formats import Messages, PerStamp, Stamp, Stamps
from cdcflow.bus.formats.jsonpieces import Around, Origin, event, source_block, transaction_id
from cdcflow.bus.formats.packing import Packing, add_event_headers
from cdcflow.bus.formats.wire import WirePlan
from cdcflow.codecs.buscells import bits_bytes, interval_iso, timetz_iso
from cdcflow.codecs.buskinds import Kind
from cdcflow.codecs.busrecords_cy import ImageError, KeyUnsayable, Records
from cdcflow.model.frame import RowBatch

Lead = tuple[bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Shell:
    """How one format writes what stands around the rows.

    source: of a block `source`. transaction: of an id, what stands before the row's numbers; of None, what stands for
    no transaction. tail: of microseconds since 1970, what ends a change. lead: of a CloudEvent's attributes, what
    stands before the text of its `id`, that text as far as the row does not end it, and what stands between it and the
    envelope. emptied: the message that says that a table was emptied, of (lead, source, tail).
    """

    source: Callable[[Mapping[str, object]], bytes]
    transaction: Callable[[str | None], bytes]
    tail: Callable[[int], bytes]
    lead: Callable[[Mapping[str, str]], Lead]
    emptied: Callable[[Lead | None, bytes, bytes], bytes]


class RecordWriter:
    """Writes rows of one table in one shape, for one topic. One thread."""

    def __init__(self, plan: WirePlan, records: Records, shell: Shell, origin: Origin, around: Around) -> None:
        self.shape = plan.shape
        self.fingerprint = plan.fingerprint
        self._shell, self._origin, self._around = shell, origin, around
        unsaid = "holds a value that is no text and has no form in this format"
        self._packing = Packing(records, origin.table, plan.shape, unsaid)
        self._ready = PerStamp(self._pieces)

    def write(self, frame: RowBatch, stamps: Stamps) -> Messages:
        """See `bus.formats.Writer`."""
        try:
            messages = self._packing.messages(
                frame, stamps, self._ready.of(stamps.stamps), self._shell.tail(time.time_ns() // 1000)
            )
        except KeyUnsayable as error:
            raise self._packing.refused(
                "has a key that this format has no form for",
                column=self.shape.column_names[error.column],
                do="publish this table with `format: json`",
            ) from None
        except ImageError as error:
            raise self._packing.refused(f"cannot be sent: {error}") from None
        if self._around == "binary":
            add_event_headers(messages, stamps, [self._event(stamp) for stamp in stamps.stamps], bytes.hex)
        return messages

    def truncate(self, stamp: Stamp) -> tuple[bytes | None, bytes]:
        """See `bus.formats.Writer`."""
        source, _, _, _, lead = self._pieces(stamp)
        if lead is not None:
            lead = lead[0], lead[1] + f"{self.shape.name}/t".encode(), lead[2]
        return None, self._shell.emptied(lead, source, self._shell.tail(time.time_ns() // 1000))

    def _pieces(self, stamp: Stamp) -> tuple[bytes, bytes, bool, bool, Lead | None]:
        if self._around == "flat":
            return b"", b"", False, stamp.snapshot, None
        number = transaction_id(stamp) if self._around == "debezium" else ""
        lead = None
        if self._around == "structured":
            lead = self._shell.lead(self._event(stamp))
        return (
            self._shell.source(source_block(self._origin, stamp)),
            self._shell.transaction(number or None),
            bool(number),
            stamp.snapshot,
            lead,
        )

    def _event(self, stamp: Stamp) -> dict[str, str]:
        return event(self._origin, self.shape, stamp) | {"datacontenttype": "application/octet-stream"}


def slow_text(kind: Kind) -> Callable[[bytes], bytes]:
    """Return the function from a cell to text or bytes, for those kinds that need no speed."""
    return {Kind.TIMETZ: timetz_iso, Kind.INTERVAL: interval_iso, Kind.BITS: bits_bytes}[kind]
