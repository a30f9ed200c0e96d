"""How long to go on after a temporary failure, and how long to wait in between."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from cdcflow.errors import CdcflowError, Retry

# A server that restarts or fails over is back well within this; a service manager starts us again after it.
OUTAGE_SECONDS = 300.0

# A failure so long after the last one begins a new stretch: an idle pipeline makes no progress that it could show.
# Longer than a single attempt can take that comes to nothing (a server that answers and then is silent).
CALM_SECONDS = 180.0

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0


class Outage:
    """One stretch without progress: pauses that double, with jitter, until the stretch is too long.

    `progress` ends the stretch. A failure that is not temporary is never swallowed.
    """

    def __init__(
        self, limit: float = OUTAGE_SECONDS, *, clock: Callable[[], float] = time.monotonic, seed: int | None = None
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - spreads reconnects, protects nothing
        self._since: float | None = None
        self._failures = 0
        self._failed_at = 0.0

    def progress(self) -> None:
        self._since = None
        self._failures = 0

    def lengthen(self, limit: float) -> None:
        """Let a stretch be so long from now on. One that has begun goes on."""
        self._limit = limit

    def pause(self, failure: CdcflowError) -> float:
        """Return how many seconds to wait before the next attempt.

        Raises:
            CdcflowError: `failure` itself, where it is not temporary or the stretch has become too long.
        """
        now = self._clock()
        if failure.retry is not Retry.BACKOFF:
            raise failure
        if self._since is None or now - self._failed_at > CALM_SECONDS:
            self._since, self._failures = now, 0
        elif now - self._since >= self._limit:
            raise failure
        self._failures += 1
        self._failed_at = now
        longest: float = min(FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 16), LONGEST_PAUSE_SECONDS)
        return longest * (0.5 + self._random.random() / 2)
