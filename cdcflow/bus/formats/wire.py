"""What all formats share: a route's shape on the wire, its fingerprint, the plan of a frame, and the headers' texts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Final

from cdcflow.codecs.buskinds import WireKind, wire_kind
from cdcflow.errors import DecodeError
from cdcflow.model import shape
from cdcflow.model.route import Route
from cdcflow.model.schema import Table

_FINGERPRINT_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class WirePlan:
    """How frames with certain columns become messages.

    shape: the table as the messages have it. width: cells in a row image. places: for each column of `shape` its
    place in the frame. kinds: what each is on the wire. key: places of the key's columns within `shape.columns`.
    """

    shape: Table
    fingerprint: str
    width: int
    places: tuple[int, ...]
    kinds: tuple[WireKind, ...]
    key: tuple[int, ...]


def wire_shape(route: Route, names: tuple[str, ...]) -> Table:
    """Return the table that messages of a route hold: names as in the target, only the columns that go out.

    Args:
        names: the columns that the frames have, as the source names them. Generated ones that are not logged lack.
    """
    kept = [(column, name) for column, name in route.columns if column.name in names]
    renamed = {column.name: name for column, name in kept}
    source = route.source
    return Table(
        route.target,
        source.id,
        tuple(replace(column, name=name) for column, name in kept),
        key=_renamed(route.key, renamed),
        primary_key=_renamed(source.primary_key, renamed),
        identity=source.identity,
        types=source.types,
        engine=source.engine,
    )


def fingerprint(table: Table) -> str:
    """Return what the `cdcflow.schema` header says of a shape: 12 hexadecimal digits. How many shapes of the table
    were seen before does not change it, and nor do a copy's own needs (indexes, comments)."""
    text = shape.text(shape.to_json(replace(table, version=0)))
    return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS]


def wire_plan(route: Route, names: tuple[str, ...]) -> WirePlan:
    """Return how frames of a route with these columns become messages."""
    table = wire_shape(route, names)
    places = {name: place for place, name in enumerate(names)}
    return WirePlan(
        table,
        fingerprint(table),
        len(names),
        tuple(places[column.name] for column, _ in route.columns if column.name in places),
        wire_kinds(table),
        table.key_indexes,
    )


def wire_kinds(table: Table) -> tuple[WireKind, ...]:
    """Return what each of the table's columns is on the wire."""
    return tuple(wire_kind(column) for column in table.columns)


def unchanged_header(columns: list[str]) -> bytes:
    """Return the text of the `cdcflow.unchanged` header."""
    return shape.text(columns).encode()


def exact_header(cells: dict[str, bytes], before: dict[str, bytes] | None = None) -> bytes:
    """Return the text of the `cdcflow.exact` header.

    Args:
        cells: those of the new image. before: those of the old one, under the name '' (which no column has).

    Raises:
        UnicodeDecodeError: a cell's text is not UTF-8.
    """
    said: dict[str, object] = {name: cell.decode("utf-8") for name, cell in cells.items()}
    if before:
        said[""] = {name: cell.decode("utf-8") for name, cell in before.items()}
    return shape.text(said).encode()


def parse_unchanged(header: bytes) -> frozenset[str]:
    """Return the columns that were not logged.

    Raises:
        DecodeError: the header is no list of names.
    """
    names = _parsed(header, "cdcflow.unchanged")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DecodeError("the header cdcflow.unchanged is no list of column names")
    return frozenset(names)


def parse_exact(header: bytes) -> dict[str, bytes]:
    """Return the canonical text of each column of the new image that the format could not say.

    Raises:
        DecodeError: the header is no object of texts.
    """
    cells = _parsed(header, "cdcflow.exact")
    if isinstance(cells, dict):
        cells.pop("", None)
    return _texts(cells)


def parse_exact_before(header: bytes) -> dict[str, bytes]:
    """Return the same of the old image.

    Raises:
        DecodeError: the header is no object of texts.
    """
    cells = _parsed(header, "cdcflow.exact")
    return _texts(cells.get("", {}) if isinstance(cells, dict) else cells)


def _texts(cells: object) -> dict[str, bytes]:
    if not isinstance(cells, dict) or not all(isinstance(text, str) for text in cells.values()):
        raise DecodeError("the header cdcflow.exact is no object of texts")
    try:
        return {name: text.encode("utf-8") for name, text in cells.items()}
    except UnicodeEncodeError:
        raise DecodeError("the header cdcflow.exact holds half of a surrogate pair") from None


def _parsed(header: bytes, name: str) -> object:
    try:
        return json.loads(header)
    except (ValueError, RecursionError):
        raise DecodeError(f"the header {name} is not JSON") from None


def _renamed(names: tuple[str, ...], renamed: dict[str, str]) -> tuple[str, ...]:
    """Return the columns under their names in the target; none where one of them does not go out."""
    return tuple(renamed[name] for name in names) if all(name in renamed for name in names) else ()
