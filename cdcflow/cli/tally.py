"""What a run has done so far, in the form that a display draws from."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final

# Rates are over this much of the past: short enough to see a stall, long enough not to flicker.
RATE_WINDOW_SECONDS: Final = 5.0


@dataclass(slots=True)
class CopyOf:
    """How far the copy of one table is. `began` is 0 until the first progress of this run."""

    name: str
    state: str = "pending"
    rows: int = 0
    nbytes: int = 0
    total_bytes_estimate: int = 0

    @property
    def finished(self) -> bool:
        return self.state in ("catching_up", "live")

    @property
    def share(self) -> float:
        """How much is done, 0 to 1. Below 1 until the table says so: the total is an estimate."""
        if self.finished:
            return 1.0
        if self.total_bytes_estimate <= 0:
            return 0.0
        return min(0.99, self.nbytes / self.total_bytes_estimate)


class Rate:
    """Events a second over the recent past."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._points: deque[tuple[float, float]] = deque()

    def note(self, total: float) -> None:
        """Remember how many there were in all by now."""
        now = self._clock()
        self._points.append((now, total))
        while len(self._points) > 2 and now - self._points[1][0] > RATE_WINDOW_SECONDS:
            self._points.popleft()

    @property
    def per_second(self) -> float:
        if len(self._points) < 2:
            return 0.0
        (began, first), (_, last) = self._points[0], self._points[-1]
        seconds = self._clock() - began
        return max(0.0, (last - first) / seconds) if seconds > 0 else 0.0


class Tally:
    """Counts what the pipeline tells. An observer; `lock` guards `copies` while it is walked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = Lock()
        self.began = clock()
        self.clock = clock
        self.copies: dict[str, CopyOf] = {}
        self.copied_before: dict[str, int] = {}
        self.pipeline_state = "starting"
        self.changes = 0
        self.transactions = 0
        self.lag_seconds = 0.0
        self.lag_bytes: int | None = None
        self.lag_messages: int | None = None
        self.durable = ""
        self.retained_bytes: int | None = None
        self.restarts = 0
        self.copy_rate = Rate(clock)
        self.change_rate = Rate(clock)
        self.why_waiting = ""

    def table_state(self, name: str, state: str, reason: str = "") -> None:
        with self.lock:
            if state == "dropped":
                self.copies.pop(name, None)
            else:
                self.copies.setdefault(name, CopyOf(name)).state = state

    def copy_progress(self, name: str, rows: int, nbytes: int, total_bytes_estimate: int) -> None:
        with self.lock:
            copy = self.copies.setdefault(name, CopyOf(name, "copying"))
            copy.rows, copy.nbytes, copy.total_bytes_estimate = rows, nbytes, total_bytes_estimate

    def applied(
        self, rows: Mapping[tuple[str, str], int], nbytes: int, transactions: int, seconds: float, lag_seconds: float
    ) -> None:
        self.changes += sum(count for (_, operation), count in rows.items() if operation != "truncate")
        self.transactions += transactions

    def position(self, durable: str, lag_bytes: int | None, lag_seconds: float) -> None:
        self.durable, self.lag_bytes, self.lag_seconds = durable, lag_bytes, lag_seconds

    def waiting(self, messages: int) -> None:
        self.lag_messages = messages

    def retained(self, nbytes: int) -> None:
        self.retained_bytes = nbytes

    def restarted(self, reason: str) -> None:
        self.restarts += 1
        self.why_waiting = reason

    def state(self, state: str) -> None:
        self.pipeline_state = state

    def alive(self) -> None: ...

    def counts(self) -> dict[str, int]:
        """Return how many tables are in each state."""
        counts: dict[str, int] = {}
        with self.lock:
            for copy in self.copies.values():
                counts[copy.state] = counts.get(copy.state, 0) + 1
        return counts

    def copied_rows(self) -> int:
        with self.lock:
            return sum(copy.rows for copy in self.copies.values())

    def sample(self) -> None:
        """Feed the rates; called at a steady pace by whoever draws."""
        self.copy_rate.note(self.copied_rows())
        self.change_rate.note(self.changes)


def human_bytes(count: float) -> str:
    """Return `1.5 MB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def human_seconds(seconds: float) -> str:
    """Return `0.2 s`, `12 s`, `3 min 20 s` or `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
