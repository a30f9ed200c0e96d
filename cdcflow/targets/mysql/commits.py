"""Which commits are on the server's disk.

A server that does not sync its log with each commit does so every second (innodb_flush_log_at_trx_commit = 0 or 2), or
when it is told to.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import pymysql

from cdcflow.model.change import Receipt
from cdcflow.model.position import Position
from cdcflow.targets.mysql.session import Session

# innodb_flush_log_at_timeout is one second unless somebody set it; the server promises no more than "about".
_SYNCED_AFTER_SECONDS: Final = 3.0


class Commits:
    """The positions that were committed, and how far they are durable. One thread."""

    def __init__(self) -> None:
        self._durable: Position | None = None
        self._waiting: deque[tuple[float, Position]] = deque()  # (when it was committed, position)

    def add(self, session: Session, position: Position) -> Receipt:
        """Note a commit and return its receipt."""
        if session.syncs:
            self._durable = position
        else:
            self._waiting.append((time.monotonic(), position))
        return Receipt(position, durable=session.syncs)

    def durable(self) -> Position | None:
        """Return the last position that is on disk."""
        while self._waiting and self._waiting[0][0] < time.monotonic() - _SYNCED_AFTER_SECONDS:
            _, self._durable = self._waiting.popleft()
        return self._durable

    def sync(self, connected: Callable[[], Session]) -> None:
        """Let the server write what it has not written yet.

        Raises:
            pymysql.Error, OSError: of the session.
        """
        if not self._waiting:
            return
        session = connected()
        try:
            session.run("FLUSH LOCAL ENGINE LOGS")
        except pymysql.Error as error:
            if (error.args[:1] or (0,))[0] != 1227:
                raise
            # RELOAD was not granted: by then the server has done it by itself.
            time.sleep(_SYNCED_AFTER_SECONDS)
        self._durable = self._waiting[-1][1]
        self._waiting.clear()
