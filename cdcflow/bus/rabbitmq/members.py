"""Which instance reads which share: exclusive queues are the broker's locks, which go with their connection."""

from __future__ import annotations

import time
from typing import Final

from pika import spec

from cdcflow.bus.rabbitmq.refusals import NOT_FOUND, RESOURCE_LOCKED, Refused
from cdcflow.bus.rabbitmq.wire import Wire

# How often the shares are divided anew: an instance that has joined gets its part so soon.
LOOK_EVERY_SECONDS: Final = 2.0


class Members:
    """This instance's seat among the others, and the locks of its shares. One thread."""

    def __init__(self, wire: Wire, base: str, partitions: int) -> None:
        self._wire, self._base, self._partitions = wire, base, partitions
        self._channel = wire.channel()
        self._seat: int | None = None
        self._looked_at = 0.0
        self.held: set[int] = set()

    def due(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() - self._looked_at >= LOOK_EVERY_SECONDS

    def surplus(self) -> list[int]:
        """Return the shares that should be handed on. Raises Refused."""
        fair = self._fair()
        return sorted(self.held)[fair:]

    def take(self) -> list[int]:
        """Lock shares that nobody has, up to our part; return which. Raises Refused."""
        fair = self._fair()
        self._looked_at = time.monotonic()
        taken: list[int] = []
        first = (self._seat or 0) * fair
        for step in range(self._partitions):
            number = (first + step) % self._partitions
            if len(self.held) >= fair:
                break
            if number not in self.held and self._lock(f"{self._base}.{number}.owner"):
                self.held.add(number)
                taken.append(number)
        return taken

    def give(self, number: int) -> None:
        """Unlock a share. Raises Refused."""
        self._wire.call(
            spec.Queue.Delete(0, f"{self._base}.{number}.owner", False, False, False), channel=self._channel
        )
        self.held.discard(number)

    def _fair(self) -> int:
        """Return how many shares are our part: one of one needs no counting."""
        if self._partitions == 1:
            return 1
        members = 0
        for seat in range(self._partitions):
            name = f"{self._base}.member.{seat}"
            if seat == self._seat or self._exists(name):
                members += 1
            elif self._seat is None and self._lock(name):
                self._seat = seat
                members += 1
        return -(-self._partitions // max(1, members))

    def _lock(self, name: str) -> bool:
        try:
            self._wire.call(spec.Queue.Declare(0, name, False, False, True, False, False, {}), channel=self._channel)
        except Refused as refused:
            if refused.hard or refused.code != RESOURCE_LOCKED:
                raise
            self._channel = self._wire.channel()
            return False
        return True

    def _exists(self, name: str) -> bool:
        try:
            self._wire.call(spec.Queue.Declare(0, name, True), channel=self._channel)
        except Refused as refused:
            if refused.hard or refused.code not in (RESOURCE_LOCKED, NOT_FOUND):
                raise
            self._channel = self._wire.channel()
            return refused.code == RESOURCE_LOCKED
        return True
