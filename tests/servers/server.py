"""One server as a test handles it, whatever it is and whoever runs it: started, stopped, crashed, removed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from tests.servers.runs import Runs, start_until


class Server(ABC):
    """One server. limit: seconds until it serves. ready: what it then does, for the message of one that does not."""

    def __init__(self, runs: Runs, *, limit: float, ready: str) -> None:
        self.runs = runs
        self._limit, self._what = limit, ready

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.runs.running

    def start(self) -> Self:
        """Start it unless it runs, and wait until it is ready."""
        start_until(self.runs, self._ready, limit=self._limit, what=f"{self} {self._what}")
        return self

    def stop(self) -> None:
        """Stop it in order."""
        self.runs.stop()

    def kill(self) -> None:
        """Crash it."""
        self.runs.kill()

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def log(self) -> str:
        """Return what it has logged."""
        return self.runs.log()

    def remove(self) -> None:
        """Remove it with its data."""
        self.runs.remove()

    @abstractmethod
    def _ready(self) -> bool:
        """Return whether it serves; may raise while it does not."""
