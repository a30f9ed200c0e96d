"""What the demo measures at its end: every row of both databases, and how late each commit was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from cdcflow.demo.cluster import Cluster
from cdcflow.demo.place import DATABASE
from cdcflow.demo.shop import TABLES

# The tables' keys, in which both sides are read side by side.
_KEYS: Final = {"order_items": "order_id, line"}
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """How one table's two sides differ. `examples` are keys, never rows."""

    table: str
    rows: int
    differing: int
    examples: tuple[str, ...] = ()


def compare(source: Cluster, target: Cluster) -> list[Difference]:
    """Read every table on both sides in key order and compare row by row."""
    with psycopg.connect(source.url(DATABASE)) as left, psycopg.connect(target.url(DATABASE)) as right:
        return [_compare(left, right, table) for table in TABLES]


def lateness(
    source: Cluster, target: Cluster, spans: list[tuple[float, float]]
) -> tuple[float, float, float, int] | None:
    """Return p50, p99 and the largest lag in seconds over rows that were inserted within `spans` (unix time).

    The lag of a row is the time of the target's commit minus the source's: both servers keep commit times and
    share a clock. The last number is how many rows. None where there are no such rows.
    """
    query = (
        b"select id, extract(epoch from pg_xact_commit_timestamp(xmin))::float8 from events "
        b"where pg_xact_commit_timestamp(xmin) is not null"
    )
    with psycopg.connect(source.url(DATABASE)) as left, psycopg.connect(target.url(DATABASE)) as right:
        committed: dict[int, float] = dict(left.execute(query).fetchall())
        visible: dict[int, float] = dict(right.execute(query).fetchall())
    late = sorted(
        visible[key] - at
        for key, at in committed.items()
        if key in visible and any(first <= at <= last for first, last in spans)
    )
    if not late:
        return None
    return late[len(late) // 2], late[min(len(late) - 1, len(late) * 99 // 100)], late[-1], len(late)


def _compare(left: psycopg.Connection[Any], right: psycopg.Connection[Any], table: str) -> Difference:
    rows = differing = 0
    examples: list[str] = []
    theirs, ours = _rows(left, table), _rows(right, table)
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
            key = (one if not only_right else other) or ((), "")
            examples.append(", ".join(map(str, key[0])))
        if not only_right:
            rows += 1
            one = next(theirs, None)
        if not only_left:
            other = next(ours, None)
    return Difference(table, rows, differing, tuple(examples))


def _rows(connection: psycopg.Connection[Any], table: str) -> Iterator[tuple[tuple[int, ...], str]]:
    key = _KEYS.get(table, "id")
    parts = key.count(",") + 1
    with connection.cursor(name=f"compare_{table}") as cursor:
        cursor.itersize = 20_000
        cursor.execute(f"select {key}, t::text from {table} t order by {key}".encode())
        for row in cursor:
            yield row[:parts], row[parts]


__all__ = ["Difference", "compare", "lateness"]
