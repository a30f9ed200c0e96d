"""What every writer does with its encoder: the rows that go out, what it refuses, the headers that a few rows need."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from cdcflow.bus.config import Encoding
from cdcflow.bus.formats import EXACT, UNCHANGED, Messages, Stamps
from cdcflow.bus.formats.wire import exact_header, unchanged_header
from cdcflow.errors import RowRejected
from cdcflow.model.frame import RowBatch, spelled
from cdcflow.model.route import Mode, OnDelete, Route
from cdcflow.model.schema import Table, TableName


class Encoder(Protocol):
    """Writes the rows of frames: `codecs.busjson_cy.Rows`, `codecs.busrecords_cy.Records`."""

    def write(
        self, frame: tuple[Any, ...], numbers: tuple[Any, ...], stamps: list[Any], tail: bytes
    ) -> tuple[Any, ...]:
        """Return (starts, keys, values, hashes, ops) as `Messages` has them."""

    def problems(self) -> tuple[Any, ...]:
        """Return the cells of the last `write` that could not be said, and those that were absent."""


class Packing:
    """An encoder's rows as messages.

    table: what the source calls the table. unsaid: what is wrong with a value that the format cannot say and that is no
    text either, behind "a row of <table>".
    """

    def __init__(self, encoder: Encoder, table: TableName, shape: Table, unsaid: str) -> None:
        self._encoder, self._table, self._shape, self._unsaid = encoder, table, shape, unsaid
        self._names = shape.column_names

    def messages(self, frame: RowBatch, stamps: Stamps, pieces: list[Any], tail: bytes) -> Messages:
        """Return the frame's messages, with the headers that say what the format does not.

        pieces: what the encoder wants of each stamp. tail: what it ends a change with.

        Raises:
            ImageError: as the encoder.
            RowRejected: a value is no text.
        """
        frame = spelled(frame)
        starts, keys, values, hashes, ops = self._encoder.write(
            (frame.ops, frame.after, frame.after_sizes, frame.before, frame.before_sizes),
            (stamps.of_row, stamps.order, stamps.table_order),
            pieces,
            tail,
        )
        messages = Messages(starts, keys, values, hashes, ops)
        self._add_unsaid(messages)
        return messages

    def refused(self, what: str, *, column: str = "", do: str = "") -> RowRejected:
        """Return what is raised for a row: `what` is behind "a row of <table>"."""
        where = f"column {column}" if column else f"key columns: {', '.join(self._shape.key) or 'none'}"
        return RowRejected(f"a row of {self._table} {what}", at=f"table {self._table}, {where}", do=do)

    def _add_unsaid(self, messages: Messages) -> None:
        """Say of each cell that the format cannot say, or that the source did not log, what it is."""
        unsaid, absent = self._encoder.problems()
        gone: dict[int, list[str]] = {}
        for message, column in absent:
            gone.setdefault(message, []).append(self._names[column])
        for message, columns in gone.items():
            messages.extras.setdefault(message, []).append((UNCHANGED, unchanged_header(columns)))
        exact: dict[int, tuple[dict[str, bytes], dict[str, bytes]]] = {}
        for message, column, old, cell in unsaid:
            exact.setdefault(message, ({}, {}))[bool(old)][self._names[column]] = cell
        for message, (new, before) in exact.items():
            try:
                header = exact_header(new, before)
            except UnicodeDecodeError:
                raise self.refused(self._unsaid) from None
            messages.extras.setdefault(message, []).append((EXACT, header))


def add_event_headers(
    messages: Messages, stamps: Stamps, attributes: Sequence[Mapping[str, str]], spelled_key: Callable[[bytes], str]
) -> None:
    """Add what the binary mode of CloudEvents has in headers: every attribute.

    attributes: of each stamp, as `jsonpieces.event` returns them. spelled_key: a key as it ends the id of a copied row.
    """
    orders, of_row, starts = array("I", stamps.order), array("I", stamps.of_row), array("I", messages.starts)
    for row, number in enumerate(orders):
        stamp = of_row[row]
        for message in range(starts[row], starts[row + 1]):
            if messages.values[message] is None:
                continue
            named = dict(attributes[stamp])
            key = messages.keys[message]
            of = spelled_key(key) if stamps.stamps[stamp].snapshot and key is not None else str(number)
            named["id"] += of + ("d" if messages.ops[message] == ord("d") else "")
            kind = named.pop("datacontenttype")
            headers = [
                ("ce_specversion", b"1.0"),
                *((f"ce_{name}", value.encode()) for name, value in named.items()),
                ("content-type", kind.encode()),
            ]
            messages.extras.setdefault(message, []).extend(headers)


def goes_out(route: Route, encoding: Encoding) -> tuple[bool, bool, bool]:
    """Return whether there are tombstones, and whether the rules let deletes, and updates, go out."""
    appends = route.mode is Mode.APPEND
    # A row that only is marked as deleted must outlive the compaction of its topic.
    tombstones = encoding.tombstones and route.on_delete is OnDelete.DELETE
    return tombstones, route.on_delete is not OnDelete.IGNORE and not appends, not appends
