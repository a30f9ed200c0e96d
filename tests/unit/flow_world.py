"""What the fakes of flow stand on: a source's truth in memory, positions that are numbers, and planned faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cdcflow.model.frame import DELETE, INSERT, UPDATE, RowBatch, image
from cdcflow.model.position import Position
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName

OPS = {"insert": INSERT, "update": UPDATE, "delete": DELETE}


@dataclass(frozen=True, slots=True)
class At:
    """A position that is a number; transaction n commits at n, so position n stands behind 1..n-1."""

    value: int

    def covers(self, other: Position) -> bool:
        return isinstance(other, At) and self.value >= other.value

    def distance(self, other: Position) -> int | None:
        return self.value - other.value if isinstance(other, At) else None

    def at(self, number: int) -> At:
        return At(number)

    def __str__(self) -> str:
        return str(self.value)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the code under test handles it."""


@dataclass(slots=True)
class Fault:
    """At the `nth` time that `moment` is reached, raise."""

    moment: str
    error: Callable[[], BaseException]
    nth: int = 1


@dataclass(slots=True)
class Faults:
    """Moments are named `before commit`, `after commit`, `after slot`, ...: whatever the fakes pass through."""

    planned: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    holds: dict[str, threading.Event] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, moment: str) -> None:
        with self.lock:
            self.seen.append(moment)
            due = [fault for fault in self.planned if fault.moment == moment]
            for fault in due:
                fault.nth -= 1
            struck = next((fault for fault in due if fault.nth == 0), None)
        if moment in self.holds:
            self.holds[moment].wait(10)
        if struck is not None:
            raise struck.error()


def table(name: str, number: int, *, key: bool = True) -> Table:
    column = Column("id", NativeType("integer", 23), Logical.INT4, nullable=False, number=1)
    value = Column("v", NativeType("text", 25), Logical.TEXT, number=2)
    keys = ("id",) if key else ()
    return Table(TableName("public", name), number, (column, value), keys, keys)


Change = tuple[int, str, int, str]
"""Table number, operation, id, value."""


class World:
    """The source's truth: tables with rows, and a log of transactions."""

    def __init__(self) -> None:
        self.tables: dict[int, Table] = {}
        self.log: list[list[Change]] = [[]]  # transaction n is log[n]
        self.slot: int | None = None
        self.published: set[int] = set()
        self.confirmed = 0
        self.stamps: dict[int, str] = {}
        self.lock = threading.RLock()

    def make(self, name: str, number: int, *, key: bool = True) -> None:
        self.tables[number] = table(name, number, key=key)
        self.stamps[number] = "1"

    def commit(self, *changes: Change) -> None:
        with self.lock:
            self.log.append(list(changes))

    @property
    def end(self) -> int:
        return len(self.log)

    def rows(self, number: int, upto: int | None = None) -> list[tuple[int, str]]:
        """Return a table's rows behind position `upto`, each as often as it is there."""
        found: list[tuple[int, str]] = []
        with self.lock:
            for transaction in self.log[: self.end if upto is None else upto]:
                for change in transaction:
                    if change[0] == number:
                        apply(found, change, strict=True)
        return sorted(found)


def apply(rows: list[tuple[int, str]], change: Change, *, strict: bool) -> None:
    """Apply a change; strictly, a row that is there already or missing is a defect."""
    _, op, key, value = change
    there = [row for row in rows if row[0] == key]
    if op == "insert":
        if there and strict and key >= 0:
            raise AssertionError(f"row {key} is there already")
        if there and not strict:
            rows.remove(there[0])
        rows.append((key, value))
    elif op == "update":
        if there:
            rows.remove(there[0])
        elif strict:
            raise AssertionError(f"row {key} to update is missing")
        rows.append((key, value))
    elif there:
        rows.remove(there[0])
    elif strict:
        raise AssertionError(f"row {key} to delete is missing")


def frame_of(route: Route, changes: Sequence[Change], *, idempotent: bool = False) -> RowBatch:
    images = [image((str(change[2]).encode(), change[3].encode())) for change in changes]
    sizes = b"".join(len(each).to_bytes(4, "little") for each in images)
    ops = bytes(OPS[change[1]] for change in changes)
    return RowBatch(route, ("id", "v"), ops, b"".join(images), sizes, b"", bytes(4 * len(images)), idempotent)
