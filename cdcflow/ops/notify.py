"""Words to the service manager: the sd_notify protocol over its datagram socket.

See sd_notify(3). Nothing here is an error: without `NOTIFY_SOCKET` nothing is said, and a socket that is gone
is no reason to stop a pipeline.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final

from cdcflow.ops.health import READY_STATES

# A status line is for a person who runs `systemctl status`; more often than this is noise.
_STATUS_EVERY_SECONDS: Final = 2.0


class Notifier:
    """Tells the service manager what the pipeline does. An observer.

    `READY=1` at the first moment of copying or streaming, `STATUS=` with state and lag, `STOPPING=1` once the
    pipeline stops, and `WATCHDOG=1` only out of `alive`, which the pipeline calls for real progress: a pipeline
    that hangs starves the watchdog and is restarted.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        values = os.environ if environment is None else environment
        self._clock = clock
        self._address = _address(values.get("NOTIFY_SOCKET", ""))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if self._address else None
        if self._socket is not None:
            self._socket.setblocking(False)  # a full queue must never hold the pipeline up
        self._watchdog_every = _watchdog_seconds(values) / 2
        self._lock = Lock()
        self._ready = False
        self._state = "starting"
        self._said = ""
        self._lag = ""
        self._next_status = 0.0
        self._next_watchdog = 0.0
        self._states: dict[str, str] = {}

    @property
    def watched(self) -> bool:
        """Whether the service manager waits for signs of life."""
        return self._watchdog_every > 0 and self._socket is not None

    def table_state(self, name: str, state: str, reason: str = "") -> None:
        with self._lock:
            if state == "dropped":
                self._states.pop(name, None)
            else:
                self._states[name] = state
            self._say_status()

    def copy_progress(self, name: str, rows: int, nbytes: int, total_bytes_estimate: int) -> None: ...

    def applied(
        self, rows: Mapping[tuple[str, str], int], nbytes: int, transactions: int, seconds: float, lag_seconds: float
    ) -> None: ...

    def position(self, durable: str, lag_bytes: int | None, lag_seconds: float) -> None:
        with self._lock:
            waiting = "" if lag_bytes is None else f", {lag_bytes} bytes behind"
            self._lag = f"at {durable}{waiting}, lag {lag_seconds:.1f} s"
            self._say_status()

    def waiting(self, messages: int) -> None: ...

    def retained(self, nbytes: int) -> None: ...

    def restarted(self, reason: str) -> None: ...

    def state(self, state: str) -> None:
        with self._lock:
            self._state = state
            if state in READY_STATES and not self._ready:
                self._ready = True
                self._send(f"READY=1\nSTATUS={self._sentence()}")
            elif state == "stopping":
                self._send(f"STOPPING=1\nSTATUS={self._sentence()}")
            else:
                self._say_status(now=True)

    def alive(self) -> None:
        if not self.watched:
            return
        now = self._clock()
        with self._lock:
            if now >= self._next_watchdog:
                self._next_watchdog = now + self._watchdog_every
                self._send("WATCHDOG=1")

    def failed(self, sentence: str) -> None:
        """Show why the pipeline ends in `systemctl status`."""
        with self._lock:
            self._send(f"STATUS={sentence.splitlines()[0] if sentence else 'failed'}")

    def close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _say_status(self, *, now: bool = False) -> None:
        moment = self._clock()
        sentence = self._sentence()
        if sentence == self._said or (not now and moment < self._next_status):
            return
        self._said = sentence
        self._next_status = moment + _STATUS_EVERY_SECONDS
        self._send(f"STATUS={sentence}")

    def _sentence(self) -> str:
        sentence = self._state
        if self._states:
            live = sum(state == "live" for state in self._states.values())
            sentence += f": {live} of {len(self._states)} tables live"
        return f"{sentence}, {self._lag}" if self._lag else sentence

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            return


def _address(name: str) -> str:
    """Return the socket address: a path, or a name in the abstract namespace written with `@`."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _watchdog_seconds(values: Mapping[str, str]) -> float:
    """Return the watchdog's limit, 0 where there is none or it is meant for another process."""
    try:
        micros = int(values.get("WATCHDOG_USEC", "0"))
        meant_for = int(values.get("WATCHDOG_PID", "0"))
    except ValueError:
        return 0.0
    if meant_for not in (0, os.getpid()):
        return 0.0
    return max(0, micros) / 1_000_000
