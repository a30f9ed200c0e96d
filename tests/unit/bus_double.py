"""A format of texts in JSON and a catalogue in memory: what reading needs, without the real formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cdcflow.bus.formats import SCHEMA, Format, Reader, Writer
from cdcflow.bus.reading import Reading
from cdcflow.bus.shapes import Shapes, number_of
from cdcflow.errors import DecodeError
from cdcflow.model import shape
from cdcflow.model.change import Rows, Step
from cdcflow.model.frame import UNCHANGED, Cell, image
from cdcflow.model.route import Mode, Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName

Row = dict[str, Any]


def table(*names: str, key: tuple[str, ...] = ("id",), name: str = "t", numbers: tuple[int, ...] = ()) -> Table:
    """Return a table of texts; each column's number is its place, or as `numbers` says."""
    numbers = numbers or tuple(range(1, len(names) + 1))
    columns = tuple(
        Column(one, NativeType("text", 25), Logical.TEXT, number=number)
        for one, number in zip(names, numbers, strict=True)
    )
    return Table(TableName("public", name), 7, columns, key, key)


def route_of(table: Table, *, mode: Mode = Mode.MIRROR, key: tuple[str, ...] | None = None) -> Route:
    """Return the route that keeps everything as it is."""
    pairs = tuple((column, column.name) for column in table.columns)
    return Route(table, table.name, pairs, table.key if key is None else key, mode=mode)


def record(table: Table, fingerprint: str) -> tuple[bytes, bytes]:
    """Return key and value of a record of a shape."""
    return f"{table.name}#{fingerprint}".encode(), shape.text(shape.to_json(table)).encode()


class Told(Shapes):
    """A catalogue that knows what it was told; `later` becomes known with the next `refresh`."""

    def __init__(self, *known: tuple[Table, str]) -> None:
        super().__init__()
        self.later: list[tuple[Table, str]] = []
        self._said = 0
        for one, fingerprint in known:
            self.tell(one, fingerprint)

    def tell(self, table: Table, fingerprint: str) -> None:
        self._said += 1
        self.put(*record(table, fingerprint), self._said, at="here")

    def refresh(self) -> None:
        while self.later:
            self.tell(*self.later.pop(0))

    def find(self, fingerprint: str) -> Table | None:
        found = super().find(fingerprint)
        if found is None and self.later:
            self.refresh()
            found = super().find(fingerprint)
        return found


class _Reader:
    def __init__(self, table: Table) -> None:
        self._names = table.column_names

    def read(
        self, key: bytes | None, value: bytes | None, headers: dict[str, bytes]
    ) -> tuple[str, bytes | None, bytes | None]:
        assert value is not None
        try:
            said = json.loads(value)
        except ValueError:
            raise DecodeError("the value is not JSON") from None
        return said["op"], self._image(said.get("before")), self._image(said.get("after"))

    def _image(self, row: Row | None) -> bytes | None:
        return None if row is None else image([_cell(row, name) for name in self._names])


def _cell(row: Row, name: str) -> Cell:
    if name not in row:
        return UNCHANGED
    return None if row[name] is None else str(row[name]).encode()


class Texts:
    """A `Format`. A message without the header says its columns itself."""

    def ready(self) -> None:
        return None

    def writer(self, topic: str, route: Route, names: tuple[str, ...]) -> Writer:
        raise NotImplementedError

    def mark(self, value: bytes) -> bytes | None:
        return None

    def begin(self, tables: Sequence[Table]) -> None:
        return None

    def described(self, topic: str, key: bytes | None, value: bytes) -> Table:
        return replace(table(*json.loads(value)["after"]), id=number_of(TableName("public", "t")))

    def reader(self, table: Table, mark: bytes | None) -> Reader:
        return _Reader(table)


class Numbered(Texts):
    """The same, where a message's columns are its schema. A truncate has no key and says `after` to tell them."""

    def mark(self, value: bytes) -> bytes | None:
        return ",".join(json.loads(value)["after"]).encode()

    def described(self, topic: str, key: bytes | None, value: bytes) -> Table:
        names = json.loads(value)["after"]
        return replace(table(*names, key=() if key is None else ("id",)), id=number_of(TableName("public", "t")))


def said(op: str, after: Row | None = None, before: Row | None = None) -> bytes:
    """Return a message's value."""
    return json.dumps({"op": op, "after": after, "before": before}).encode()


def of(fingerprint: str, **more: bytes) -> list[tuple[str, bytes]]:
    """Return a message's headers."""
    return [(SCHEMA, fingerprint.encode()), *((f"cdcflow.{name}", value) for name, value in more.items())]


FORMAT: Format = Texts()


class Bus:
    """A reading with what it was brought; places count up by themselves."""

    def __init__(self, *known: tuple[Table, str], there: dict[int, Route] | None = None, **options: Any) -> None:
        self.catalogue = Told(*known)
        router = options.pop("router", route_of)
        self.reading = Reading(FORMAT, self.catalogue, router, there or {}, **options)
        self.place = 0

    def bring(self, value: bytes | None, fingerprint: str = "", share: str = "t/0", **more: bytes) -> Any:
        headers = of(fingerprint, **more) if fingerprint else None
        self.place += 1
        return self.reading.add("t", share, self.place - 1, b"k", value, headers)

    def rows(self) -> list[tuple[str, Any, Any]]:
        """Return (op, before, after) of everything since the last call, in the order of the messages."""
        return in_order(self.reading.take()[0])


def in_order(steps: list[Step]) -> list[tuple[str, Any, Any]]:
    found = []
    for step in steps:
        if isinstance(step, Rows):
            readers = {number: frame.rows() for number, frame in step.frames.items()}
            assert all(frame.idempotent for frame in step.frames.values())
            found += [
                (chr(op), before, after)
                for op, before, after in (next(readers[number]) for number in memoryview(step.order).cast("I"))
            ]
    return found
