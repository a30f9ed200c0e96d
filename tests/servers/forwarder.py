"""The process behind `tests.servers.proxy`: forwards connections, told what to do on its standard input.

Each line is one of `passing cut refuse hang forget counts`; each is answered by one line when it is done.
It ends with its standard input, so it never outlives the tests.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
from typing import Literal

Mode = Literal["pass", "hang", "refuse"]
PIECE_BYTES = 64 * 1024
# Linger of zero seconds: close() sends RST, as a firewall or a crashed host does.
RESET = struct.pack("ii", 1, 0)


class Forwarder:
    """Forwards loopback connections to a port until told otherwise."""

    def __init__(self, server_port: int, host: str) -> None:
        self._server_port = server_port
        self._lock = threading.Lock()
        self._mode: Mode = "pass"
        self._flows = threading.Event()
        self._flows.set()
        self._open: set[socket.socket] = set()
        self._servers: dict[socket.socket, socket.socket] = {}  # by client
        self._kept: set[socket.socket] = set()
        self.bytes_up = 0
        self.bytes_down = 0
        self.accepted = 0
        self._listener = socket.create_server((host, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name=f"proxy-{self.port}").start()

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

    def forget(self) -> None:
        """Reset the clients' side of every open connection; the server's stays open and hears nothing more."""
        with self._lock:
            clients = [client for client in self._servers if client in self._open]
            for client in clients:
                self._kept |= {client, self._servers[client]}
            self._open -= self._kept
        for client in clients:
            _reset(client)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._mode == "refuse":
                _reset(client)
            else:
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._flows.wait()  # deaf: the kernel has accepted, nobody answers
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port), 10)
            server.settimeout(None)
        except OSError:
            _reset(client)
            return
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            late = self._mode == "refuse"  # `cut` has passed while the connection was made
            if not late:
                self._open |= {client, server}
                self._servers[client] = server
        if late:
            _reset(client)
            _reset(server)
            return
        threading.Thread(target=self._pump, args=(client, server, "bytes_up"), daemon=True).start()
        threading.Thread(target=self._pump, args=(server, client, "bytes_down"), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counter: str) -> None:
        try:
            while True:
                self._flows.wait()
                piece = source.recv(PIECE_BYTES)
                self._flows.wait()  # it may have arrived while deaf
                if source in self._kept:
                    return
                if not piece:
                    break
                sink.sendall(piece)
                setattr(self, counter, getattr(self, counter) + len(piece))
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            if source in self._kept:
                return
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


def main() -> None:
    """Serve until standard input ends."""
    forwarder = Forwarder(int(sys.argv[1]), sys.argv[2])
    print(forwarder.port, flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "counts":
            print(forwarder.connections(), forwarder.accepted, forwarder.bytes_up, forwarder.bytes_down, flush=True)
        else:
            getattr(forwarder, command)()
            print("done", flush=True)


if __name__ == "__main__":
    main()
