"""The rows of one table in one shape, as messages bring them, until they become a frame."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from cdcflow.model.frame import RowBatch
from cdcflow.model.route import Mode, Route
from cdcflow.model.schema import Table

# Of key, value and headers, the op and the images: `bus.formats.Reader.read`.
Read = Callable[["bytes | None", "bytes | None", dict[str, bytes]], tuple[str, "bytes | None", "bytes | None"]]


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
