"""The rows of one table in one shape, as messages bring them, until they become a frame."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cdcflow.errors import DecodeError
from cdcflow.model.frame import DELETE, INSERT, UNCHANGED, UPDATE, RowBatch, cells
from cdcflow.model.route import Mode, Route
from cdcflow.model.schema import Table

# Of key, value and headers, the op and the images: `bus.formats.Reader.read`.
Read = Callable[["bytes | None", "bytes | None", dict[str, bytes]], tuple[str, "bytes | None", "bytes | None"]]

# How an absent cell looks in a row image. Found in the bytes of a value as well, so it is looked at twice.
ABSENT: Final = (-2).to_bytes(4, sys.byteorder, signed=True)
_NOTHING: Final = b""

_KEY_MOVED: Final = "a row came under a new key, without its large values that did not change"


def _unread(key: bytes | None, value: bytes | None, headers: dict[str, bytes]) -> tuple[str, None, None]:
    return "", None, None


class Lane:
    """The rows of one table in one shape, since the last step.

    number: of its frames. route: None where the rules leave the table out. own_key: the publisher's key is the one
    that the rules have here; else a row may change the latter in place. used: it has brought rows.
    """

    __slots__ = (
        "after",
        "appends",
        "before",
        "fingerprint",
        "keyed",
        "names",
        "number",
        "ops",
        "own_key",
        "plain",
        "read",
        "route",
        "shape",
        "topic",
        "used",
    )

    def __init__(self, number: int, topic: str, shape: Table, fingerprint: bytes | None, route: Route | None) -> None:
        self.number, self.topic, self.shape, self.fingerprint = number, topic, shape, fingerprint
        self.names = shape.column_names
        self.read: Read = _unread
        self.route: Route | None = None
        self.keyed = self.own_key = True
        self.appends = False
        self.plain = self.used = False
        self.clear()
        if route is not None:
            self.point(route)

    def point(self, route: Route) -> None:
        """Set how the rows are written; there are none now."""
        self.route = route
        self.keyed = bool(route.key)
        self.own_key = route.key == self.shape.key
        self.appends = route.mode is Mode.APPEND
        self.plain = self.keyed and self.own_key and not self.appends

    def clear(self) -> None:
        """Forget the rows."""
        self.ops = bytearray()
        self.after: list[bytes] = []
        self.before: dict[int, bytes] = {}  # by the row's number; few rows have one

    def add(self, op: int, before: bytes, after: bytes) -> None:
        """Append a row."""
        if before:
            self.before[len(self.ops)] = before
        self.ops.append(op)
        self.after.append(after)

    def frame(self) -> RowBatch:
        """Return the rows, and forget them."""
        assert self.route is not None
        before_sizes = array("i", bytes(4 * len(self.ops)))
        for number, image in self.before.items():
            before_sizes[number] = len(image)
        made = RowBatch(
            self.route,
            self.names,
            bytes(self.ops),
            b"".join(self.after),
            array("i", map(len, self.after)).tobytes(),
            b"".join(self.before.values()),
            before_sizes.tobytes(),
            idempotent=True,
        )
        self.clear()
        self.used = True
        return made


@dataclass(slots=True)
class TableState:
    """A table as it is by now: how its newest shape is written, and all lanes that lead there."""

    route: Route
    lanes: list[Lane] = field(default_factory=list)


def changed(lane: Lane, op: str, before: bytes | None, after: bytes | None) -> int:
    """Append what a change of a row makes of it; return how many rows that are.

    Raises:
        DecodeError: the change does not hold what that needs.
    """
    rows = 1
    if op == "d":
        if lane.appends:
            return 0
        if before is None:
            raise DecodeError("a deletion does not say of which row")
        _old_key(lane, before)
        lane.add(DELETE, before, _NOTHING)
    elif after is None:
        raise DecodeError("a change without the new row")
    elif op == "u" and lane.appends:
        return 0
    elif op == "u" and not lane.keyed:
        if before is None:
            raise DecodeError(
                "an update of a table without a key does not hold the old row",
                do=f"ALTER TABLE {lane.shape.name} REPLICA IDENTITY FULL at the source, or `key:` in the rules",
            )
        lane.add(UPDATE, before, after)
    elif ABSENT in after and any(cell is UNCHANGED for cell in cells(after, 0, len(lane.names))):
        if op != "u" and lane.fingerprint is None:
            raise DecodeError(
                "a new row lacks columns that its table has",
                do="have what writes it say null for them, or send schemas along",
            )
        if op != "u":
            raise DecodeError(
                _KEY_MOVED,
                do=f"ALTER TABLE {lane.shape.name} REPLICA IDENTITY FULL at the source, then copy the table again",
            )
        lane.add(UPDATE, _old_key(lane, before), after)
    else:
        if op == "u" and not lane.own_key:
            # The row may go on under another key than before, and the publisher goes by another one.
            lane.add(DELETE, _old_key(lane, before), _NOTHING)
            rows += 1
        lane.add(INSERT, _NOTHING, after)
    return rows


def _old_key(lane: Lane, before: bytes | None) -> bytes:
    """Return the old row, where the rules have another key than the publisher: what the row is called by them.

    Raises:
        DecodeError: it does not hold that key.
    """
    if lane.own_key or lane.route is None:
        return _NOTHING
    if before is not None:
        old = cells(before, 0, len(lane.names))
        if all(old[lane.names.index(name)] is not UNCHANGED for name in lane.route.key):
            return before
    raise DecodeError(
        f"a change does not hold the row's old key ({', '.join(lane.route.key)})",
        why="the rules have another key for the table than the publisher, and the source's log holds only that one",
        do=f"leave `key:` out of the rule for {lane.shape.name}, or have the source log whole rows "
        "(REPLICA IDENTITY FULL, binlog_row_image = FULL) and copy the table again",
    )
