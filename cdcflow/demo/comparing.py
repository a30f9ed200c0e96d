"""What the demo measures at its end: every row of both databases, and how late each commit was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cdcflow.demo.shop import TABLES, Record, Shop

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """How one table's two sides differ. `examples` are keys, never rows."""

    table: str
    rows: int
    differing: int
    examples: tuple[str, ...] = ()


def compare(source: Shop, target: Shop) -> list[Difference]:
    """Read every table on both sides in key order and compare row by row, column by column, as text."""
    return [_compare(source.records(table), target.records(table), table) for table in TABLES]


def lateness(source: Shop, target: Shop, spans: list[tuple[float, float]]) -> tuple[float, float, float, int] | None:
    """Return p50, p99 and the largest lag in seconds over events that were inserted within `spans` (unix time).

    The lag of a row is the time of the target's commit minus the source's: both servers share a clock. The last
    number is how many rows. None where there are no such rows.
    """
    committed, visible = source.moments(), target.moments()
    late = sorted(
        visible[key] - at
        for key, at in committed.items()
        if key in visible and any(first <= at <= last for first, last in spans)
    )
    if not late:
        return None
    return late[len(late) // 2], late[min(len(late) - 1, len(late) * 99 // 100)], late[-1], len(late)


def _compare(theirs: Iterator[Record], ours: Iterator[Record], table: str) -> Difference:
    rows = differing = 0
    examples: list[str] = []
    one, other = next(theirs, None), next(ours, None)
    while one is not None or other is not None:
        if one == other:
            rows += 1
            one, other = next(theirs, None), next(ours, None)
            continue
        differing += 1
        # Keys are compared as the server sorted them: the smaller one is missing on the other side.
        only_left = other is None or (one is not None and one[0] < other[0])
        only_right = one is None or (other is not None and other[0] < one[0])
        if len(examples) < _SHOWN:
            key = (one if not only_right else other) or ((), ())
            examples.append(", ".join(map(str, key[0])))
        if not only_right:
            rows += 1
            one = next(theirs, None)
        if not only_left:
            other = next(ours, None)
    return Difference(table, rows, differing, tuple(examples))


__all__ = ["Difference", "compare", "lateness"]
