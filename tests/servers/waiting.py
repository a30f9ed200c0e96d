"""Waiting for a condition with a limit: the only way in which tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
POLL_SECONDS = 0.02
# What takes long need not be asked for that often: the question itself may cost a query of every table.
LONGEST_POLL_SECONDS = 0.1


def until(condition: Callable[[], _T], limit: float = 60, what: str = "") -> _T:
    """Call `condition` until it returns something true, and return that.

    An exception counts as "not yet"; the last one is the cause of the failure.

    Raises:
        AssertionError: `limit` seconds went by.
    """
    end = time.monotonic() + limit
    pause = POLL_SECONDS
    while True:
        seen: object = None
        cause: Exception | None = None
        try:
            value = condition()
            if value:
                return value
            seen = value
        except Exception as error:
            cause = error
        if time.monotonic() > end:
            raise AssertionError(
                f"not within {limit} s: {what or getattr(condition, '__name__', condition)} (last: {cause or seen!r})"
            ) from cause
        time.sleep(pause)
        pause = min(pause * 1.2, LONGEST_POLL_SECONDS)
