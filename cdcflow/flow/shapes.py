"""A table's shape as text, for the record that the state keeps of it: what the stream's next rows look like and
what the rules made of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from cdcflow.model import shape
from cdcflow.model.route import OnDelete, Route
from cdcflow.model.schema import Table

# Under which key the text holds what the rules made of the table.
_ROUTED = "routed"


@dataclass(frozen=True, slots=True)
class Routed:
    """What of the rules decides which rows and values the target holds: when it changes, only a copy mends it.

    columns: pairs of source name and target name.
    """

    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    on_delete: str
    zero_dates: str = ""  # '' where no column can hold such a date


@dataclass(frozen=True, slots=True)
class Remembered:
    """A shape as the state has it; `routed` is None in records that were written before it was kept."""

    table: Table
    routed: Routed | None


def routed(route: Route) -> Routed:
    """Return what of the route is remembered."""
    dated = any(route.source.may_hold_zero_dates(column) for column, _ in route.columns)
    zero_dates = route.zero_dates.value if dated else ""
    return Routed(tuple((c.name, name) for c, name in route.columns), route.key, route.on_delete.value, zero_dates)


def as_before(ruled: Route, before: Remembered) -> Route:
    """Return the route of a remembered shape, where `ruled` says what is not remembered of it."""
    if before.routed is None:
        return ruled
    columns = {column.name: column for column in before.table.columns}
    pairs = tuple((columns[name], target) for name, target in before.routed.columns if name in columns)
    kept = before.routed
    return replace(ruled, source=before.table, columns=pairs, key=kept.key, on_delete=OnDelete(kept.on_delete))


def entered(old: Route, new: Route) -> list[str]:
    """Return the source columns that enter the route now though rows at the source hold values in them already.

    A rename that leaves an `exclude` behind does this. Only a copy brings those values.
    """
    before = {column.number or column.name for column, _ in old.columns}
    known = {column.number or column.name for column in old.source.columns}
    marks = [(column.number or column.name, column.name) for column, _ in new.columns]
    return [name for mark, name in marks if mark in known and mark not in before]


def to_text(route: Route) -> str:
    """Return the shape of the route's table, and what the rules make of it, as one line of JSON."""
    return shape.text({**shape.to_json(route.source), _ROUTED: asdict(routed(route))})


def from_text(text: str) -> Remembered:
    """Return what `to_text` wrote.

    Raises:
        ValueError: the text is not such a shape.
    """
    try:
        kept: dict[str, Any] = json.loads(text)
        rules = kept.pop(_ROUTED, None)
        return Remembered(shape.from_json(kept), None if rules is None else _routed(rules))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a table's shape: {error}") from error


def _routed(kept: dict[str, Any]) -> Routed:
    columns = tuple((name, target) for name, target in kept["columns"])
    return Routed(columns, tuple(kept["key"]), kept["on_delete"], kept.get("zero_dates", ""))
