"""A TCP proxy before a server that can pass, cut, refuse, and hang: accept and stay deaf.

It is a process of its own: libpq's blocking calls can hold the interpreter's lock, and a proxy in the same
process would then wait for the one that waits for it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit


class HasPort(Protocol):
    """A server that listens on loopback."""

    port: int


class Proxy:
    """Forwards loopback connections to a server until told otherwise.

    - `passing()`: everything goes through (also what was held back while hanging).
    - `cut()`: every open connection is reset now; new ones go through.
    - `refuse()`: every open connection is reset, new ones are reset at once.
    - `hang()`: open connections stay open and nothing passes either way; new ones are accepted and get no answer.

    - `forget()`: every open connection is reset at the client's side; the server's stays open and hears nothing more.

    Each has happened when the call returns. `bytes_up` and `bytes_down` count what was passed to the server and
    from it. It listens on `host`, an address of loopback.
    """

    def __init__(self, server: HasPort, host: str = "127.0.0.1") -> None:
        self._server, self._host = server, host
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("forwarder.py"), str(server.port), host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.port = int(self._answer())

    def __repr__(self) -> str:
        return f"<proxy on port {self.port} to {self._server!r}>"

    def through(self, url: str) -> str:
        """Return the URL with this proxy in the place of its host and port."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}{self._host}:{self.port}"))

    def passing(self) -> None:
        """Let everything through."""
        self._tell("passing")

    def hang(self) -> None:
        """Go deaf: keep every connection open and pass nothing."""
        self._tell("hang")

    def refuse(self) -> None:
        """Reset what is open and what comes."""
        self._tell("refuse")

    def cut(self) -> None:
        """Reset every open connection."""
        self._tell("cut")

    def forget(self) -> None:
        """Reset what is open, for the clients only: the server's side stays open."""
        self._tell("forget")

    def connections(self) -> int:
        """Return how many client connections are open through it."""
        return self._counts()[0]

    @property
    def accepted(self) -> int:
        """How many connections it has ever accepted."""
        return self._counts()[1]

    @property
    def bytes_up(self) -> int:
        """How many bytes went to the server."""
        return self._counts()[2]

    @property
    def bytes_down(self) -> int:
        """How many bytes came from the server."""
        return self._counts()[3]

    def close(self) -> None:
        """End the proxy and every connection through it."""
        self._process.kill()
        self._process.communicate()

    def _counts(self) -> list[int]:
        return [int(number) for number in self._tell("counts").split()]

    def _tell(self, command: str) -> str:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the forwarder ended with {self._process.wait(5)}")
        return line
