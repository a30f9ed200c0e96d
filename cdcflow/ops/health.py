"""Whether a pipeline lives and is ready: one place that HTTP probes and the service manager both ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final

READY_STATES: Final = frozenset({"copying", "streaming"})

# Signs of life come every second, and at every attempt to reach a server that is away. What takes the target
# long without a word is one statement: a type change that rewrites a large table. Taking that for a hang would
# begin it again and again, which is worse than to notice a hang late.
STALE_AFTER_SECONDS: Final = 300.0


class Health:
    """The pipeline's state, the last sign of life, and where each table is. An observer.

    `ready` is true while rows are being copied or followed and progress is fresh. `live` is true while progress
    is fresh, whatever the state: waiting for a server that is away is life.
    """

    def __init__(
        self, *, stale_after_seconds: float = STALE_AFTER_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._stale_after = stale_after_seconds
        self._lock = Lock()
        self._beat = clock()
        self._state = "starting"
        self._tables: dict[str, str] = {}
        self._position = ""
        self._lag_bytes: int | None = None
        self._lag_messages: int | None = None
        self._lag_seconds = 0.0
        self._retained: int | None = None
        self._restarts = 0

    def table_state(self, name: str, state: str, reason: str = "") -> None:
        with self._lock:
            if state == "dropped":
                self._tables.pop(name, None)
            else:
                self._tables[name] = state

    def copy_progress(self, name: str, rows: int, nbytes: int, total_bytes_estimate: int) -> None: ...

    def applied(
        self, rows: Mapping[tuple[str, str], int], nbytes: int, transactions: int, seconds: float, lag_seconds: float
    ) -> None: ...

    def position(self, durable: str, lag_bytes: int | None, lag_seconds: float) -> None:
        self._position, self._lag_bytes, self._lag_seconds = durable, lag_bytes, lag_seconds

    def waiting(self, messages: int) -> None:
        self._lag_messages = messages

    def retained(self, nbytes: int) -> None:
        self._retained = nbytes

    def restarted(self, reason: str) -> None:
        self._restarts += 1

    def state(self, state: str) -> None:
        self._state = state

    def alive(self) -> None:
        self._beat = self._clock()

    @property
    def age_seconds(self) -> float:
        """How long ago the last sign of life was."""
        return max(0.0, self._clock() - self._beat)

    @property
    def live(self) -> bool:
        return self.age_seconds <= self._stale_after

    @property
    def ready(self) -> bool:
        return self.live and self._state in READY_STATES

    def summary(self) -> dict[str, object]:
        """Return what the health endpoints answer with."""
        with self._lock:
            counts: dict[str, int] = {}
            for state in self._tables.values():
                counts[state] = counts.get(state, 0) + 1
        return {
            "state": self._state,
            "progress_age_seconds": round(self.age_seconds, 3),
            "position": self._position,
            "lag_bytes": self._lag_bytes,
            "lag_messages": self._lag_messages,
            "lag_seconds": round(self._lag_seconds, 3),
            "retained_bytes": self._retained,
            "restarts": self._restarts,
            "tables": counts,
        }
