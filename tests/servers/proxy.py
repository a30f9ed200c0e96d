"""A TCP proxy before a server that can pass, cut, refuse, and hang: accept and stay deaf."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Literal, Protocol
from urllib.parse import urlsplit, urlunsplit

Mode = Literal["pass", "hang", "refuse"]
PIECE_BYTES = 64 * 1024
# Linger of zero seconds: close() sends RST, as a firewall or a crashed host does.
RESET = struct.pack("ii", 1, 0)


class HasPort(Protocol):
    """A server that listens on loopback."""

    port: int


class Proxy:
    """Forwards loopback connections to a server until told otherwise.

    - `passing()`: everything goes through (also what was held back while hanging).
    - `cut()`: every open connection is reset now; new ones go through.
    - `refuse()`: every open connection is reset, new ones are reset at once.
    - `hang()`: open connections stay open and nothing passes either way; new ones are accepted and get no answer.

    `bytes_up` and `bytes_down` count what was passed to the server and from it.
    """

    def __init__(self, server: HasPort) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._mode: Mode = "pass"
        self._flows = threading.Event()
        self._flows.set()
        self._open: set[socket.socket] = set()
        self._closed = False
        self.bytes_up = 0
        self.bytes_down = 0
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name=f"proxy-{self.port}").start()

    def __repr__(self) -> str:
        return f"<proxy on port {self.port} to {self._server!r}: {self._mode}>"

    def through(self, url: str) -> str:
        """Return the URL with this proxy in the place of its host and port."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))

    def connections(self) -> int:
        """Return how many client connections are open through it."""
        with self._lock:
            return len(self._open) // 2

    def passing(self) -> None:
        """Let everything through."""
        self._mode = "pass"
        self._flows.set()

    def hang(self) -> None:
        """Go deaf: keep every connection open and pass nothing."""
        self._mode = "hang"
        self._flows.clear()

    def refuse(self) -> None:
        """Reset what is open and what comes."""
        self._mode = "refuse"
        self._flows.set()
        self.cut()

    def cut(self) -> None:
        """Reset every open connection."""
        with self._lock:
            victims, self._open = self._open, set()
        for victim in victims:
            _reset(victim)

    def close(self) -> None:
        """End the proxy."""
        self._closed = True
        self._listener.close()
        self._flows.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._closed or self._mode == "refuse":
                _reset(client)
            else:
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._flows.wait()  # deaf: the kernel has accepted, nobody answers
        try:
            server = socket.create_connection(("127.0.0.1", self._server.port), 10)
            server.settimeout(None)
        except OSError:
            _reset(client)
            return
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, server}
        threading.Thread(target=self._pump, args=(client, server, "bytes_up"), daemon=True).start()
        threading.Thread(target=self._pump, args=(server, client, "bytes_down"), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counter: str) -> None:
        try:
            while True:
                self._flows.wait()
                piece = source.recv(PIECE_BYTES)
                self._flows.wait()  # it may have arrived while deaf
                if not piece:
                    break
                sink.sendall(piece)
                setattr(self, counter, getattr(self, counter) + len(piece))
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            with self._lock:
                self._open -= {source, sink}
            _reset(source)
            _reset(sink)
            return
        self._end(source, sink)

    def _end(self, source: socket.socket, sink: socket.socket) -> None:
        """One direction has ended in order: close both when the other one has too."""
        with self._lock:
            if sink in self._open and source in self._open:
                self._open.discard(source)
                return
            self._open -= {source, sink}
        for side in (source, sink):
            side.close()


def _reset(victim: socket.socket) -> None:
    with contextlib.suppress(OSError):
        victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with contextlib.suppress(OSError):
        victim.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
    victim.close()
