"""A connection to a broker that sends whole batches of frames and reads what comes meanwhile: AMQP 0-9-1.

pika knows every method's bytes (`pika.spec`); the socket, and when it is waited for, is ours: a batch of messages is
one send, with all its confirms outstanding.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from pika import frame as pika_frame
from pika import spec

from cdcflow.bus.rabbitmq.address import Address, dial
from cdcflow.bus.rabbitmq.refusals import Refused
from cdcflow.codecs.amqpframes_cy import DELIVER, AmqpError, Splitter, frame
from cdcflow.errors import Unavailable

# How long the broker may take to answer a method: a declaration waits for a majority of a cluster.
ANSWER_SECONDS: Final = 60.0
# The broker closes a connection that is silent for two of these.
HEARTBEAT_SECONDS: Final = 30
_FRAME_MAX: Final = 131072
_READ_BYTES: Final = 262144

_BLOCKED: Final = spec.Connection.Blocked.INDEX
_UNBLOCKED: Final = spec.Connection.Unblocked.INDEX
_CONNECTION_CLOSE: Final = spec.Connection.Close.INDEX
_CHANNEL_CLOSE: Final = spec.Channel.Close.INDEX

# (channel, method id, method payload, content header, body)
Event = tuple[int, int, bytes, bytes | None, bytes]


class Wire:
    """One connection. `lock` is held by whoever uses it; every other method expects that."""

    def __init__(self, sock: socket.socket, address: Address, unavailable: type[Unavailable]) -> None:
        self.lock = threading.RLock()
        self.frame_max = _FRAME_MAX
        self.blocked = ""  # the broker's words while it takes no messages
        self._socket = sock
        self._address, self.unavailable = address, unavailable
        self._splitter = Splitter()
        self._events: list[Event] = []
        self._channels = 0
        self._free: list[int] = []
        self._ignored: set[int] = set()  # channels whose messages are dropped
        self._failure: Exception | None = None
        self._sent_at = self._heard_at = time.monotonic()

    # -- bytes

    def send(self, data: bytes, *, while_blocked: Callable[[], None] | None = None) -> None:
        """Send everything, reading what comes meanwhile into the waiting events.

        while_blocked: called every half second in which the broker takes nothing.

        Raises:
            Unavailable: the connection is gone.
            Refused: the broker closed a channel or the connection.
        """
        self._check()
        view = memoryview(data)
        while view:
            try:
                sent = self._socket.send(view)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                sent = 0
            except OSError as error:
                raise self._broken(error) from error
            if sent:
                view = view[sent:]
                self._sent_at = time.monotonic()
                continue
            readable, writable, _ = select.select([self._socket], [self._socket], [], 0.5)
            if readable:
                self._receive()
                continue
            self._check_silence()
            if not writable and while_blocked is not None:
                while_blocked()
        if time.monotonic() - self._heard_at > 3 * HEARTBEAT_SECONDS:
            self.pump(0)

    def pump(self, wait: float) -> None:
        """Read what has come, waiting up to `wait` seconds for the first bytes, and beat when it is time.

        Raises:
            Unavailable, Refused: as `send`.
        """
        self._check()
        self.beat()
        if not self._pending():
            readable, _, _ = select.select([self._socket], [], [], max(0.0, wait))
            if not readable:
                self._check_silence()
                return
        self._receive()

    def beat(self) -> None:
        """Say that we live, when it is time, without reading."""
        now = time.monotonic()
        if now - self._sent_at > HEARTBEAT_SECONDS / 2:
            self._sent_at = now
            self.send(frame(8, 0, b""))

    def take(self) -> list[Event]:
        """Return the events that have come, oldest first."""
        events, self._events = self._events, []
        return events

    def _pending(self) -> bool:
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            raise self._broken(error) from error
        if not data:
            raise self._broken(ConnectionError("the broker closed the connection"))
        self._heard_at = time.monotonic()
        try:
            events = self._splitter.feed(data)
        except AmqpError as error:
            raise self._broken(error) from error
        for event in events:
            if event[1] == _BLOCKED:
                self.blocked = _decoded(event).reason or "blocked"
            elif event[1] == _UNBLOCKED:
                self.blocked = ""
            elif event[1] == _CONNECTION_CLOSE:
                self._closed(event)
            elif event[1] and (event[1] != DELIVER or event[0] not in self._ignored):
                self._events.append(event)

    def _closed(self, event: Event) -> None:
        said = _decoded(event)
        refused = Refused(said.reply_code, said.reply_text, hard=True)
        self._failure = refused
        with suppress(OSError):
            self._socket.send(pika_frame.Method(0, spec.Connection.CloseOk()).marshal())
        raise refused

    def _broken(self, error: Exception) -> Unavailable:
        failure = self.unavailable("the connection to RabbitMQ is gone", at=self._address.text, why=str(error))
        self._failure = failure
        return failure

    def _check_silence(self) -> None:
        """Raise Unavailable where the broker lacks its heartbeats. Nothing of it waits to be read."""
        if time.monotonic() - self._heard_at > 2.5 * HEARTBEAT_SECONDS:
            raise self._broken(TimeoutError("the broker has been silent for too long"))

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    # -- methods

    def call(self, method: Any, *, channel: int, limit: float = ANSWER_SECONDS) -> Any:
        """Send a method and return its answer, decoded.

        Raises:
            Refused: the broker closed the channel over it; the channel's number may be opened again.
            Unavailable: no answer came.
        """
        self.send(pika_frame.Method(channel, method).marshal())
        return self.expect(method.INDEX, channel=channel, limit=limit)

    def expect(self, asked: int, *, channel: int, limit: float = ANSWER_SECONDS) -> Any:
        """Wait for the answer to a method. Everything else stays among the events."""
        until = time.monotonic() + limit
        seen = 0
        while True:
            for place in range(seen, len(self._events)):
                event = self._events[place]
                if event[0] != channel:
                    continue
                if event[1] == _CHANNEL_CLOSE:
                    del self._events[place]
                    raise self.channel_closed(event)
                # An answer has the same class, and the number behind the question's (get: two).
                if event[1] >> 16 == asked >> 16 and event[1] & 0xFFFF in (asked + 1 & 0xFFFF, asked + 2 & 0xFFFF):
                    if event[1] not in _ANSWERS:
                        continue
                    del self._events[place]
                    return _decoded(event)
            seen = len(self._events)
            left = until - time.monotonic()
            if left <= 0:
                raise self._broken(TimeoutError("the broker did not answer"))
            self.pump(min(left, 1.0))

    def tell(self, method: Any, *, channel: int) -> None:
        """Send a method that has no answer."""
        self.send(pika_frame.Method(channel, method).marshal())

    def channel_closed(self, event: Event) -> Refused:
        """Agree to the closing of a channel, whose number is free then; return what the broker said."""
        said = _decoded(event)
        self.tell(spec.Channel.CloseOk(), channel=event[0])
        self.forget(event[0])
        return Refused(said.reply_code, said.reply_text, hard=False)

    def channel(self) -> int:
        """Open a channel and return its number."""
        if self._free:
            number = self._free.pop()
        else:
            self._channels += 1
            number = self._channels
        self.call(spec.Channel.Open(), channel=number)
        return number

    def lives(self, channel: int) -> bool:
        """Return whether the connection, and the channel in it, are open as far as we know."""
        return self._failure is None and channel not in self._free

    def ignore(self, channel: int) -> None:
        """Drop the messages of a channel that is about to be closed, what has come and what will: of a large backlog
        more may be under way, before the broker's answer, than there is memory for."""
        self._ignored.add(channel)
        self._events = [each for each in self._events if each[0] != channel or each[1] != DELIVER]

    def forget(self, channel: int) -> None:
        """Drop what has come for a channel that was closed; its number is free."""
        self._ignored.discard(channel)
        self._events = [each for each in self._events if each[0] != channel]
        self._free.append(channel)

    def close(self) -> None:
        """Say goodbye where the broker listens still. Never raises."""
        try:
            if self._failure is None:
                close = spec.Connection.Close(200, "done", 0, 0)
                self.call(close, channel=0, limit=2.0)
        except (Refused, Unavailable):
            pass
        finally:
            self._failure = self._failure or self.unavailable("the connection to RabbitMQ is closed")
            self._socket.close()

    # -- the handshake

    def start(self, name: str) -> None:
        """Log in and open the virtual host."""
        address = self._address
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._await(spec.Connection.Start.INDEX)
        us = {
            "product": "cdcflow",
            "connection_name": name,
            "capabilities": {
                "publisher_confirms": True,
                "basic.nack": True,
                "connection.blocked": True,
                "consumer_cancel_notify": True,
                "authentication_failure_close": True,
            },
        }
        login = f"\0{address.user}\0{address.password}"
        self.tell(spec.Connection.StartOk(us, "PLAIN", login, "en_US"), channel=0)
        tune = self._await(spec.Connection.Tune.INDEX)
        self.frame_max = min(tune.frame_max or _FRAME_MAX, _FRAME_MAX)
        self.tell(spec.Connection.TuneOk(tune.channel_max, self.frame_max, HEARTBEAT_SECONDS), channel=0)
        self.call(spec.Connection.Open(address.vhost), channel=0)

    def _await(self, wanted: int) -> Any:
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until:
            for place, event in enumerate(self._events):
                if event[1] == wanted:
                    del self._events[place]
                    return _decoded(event)
            self.pump(1.0)
        raise self._broken(TimeoutError("the broker did not answer the handshake"))


def connect(address: Address, name: str, unavailable: type[Unavailable]) -> Wire:
    """Return an open connection that the broker lists under `name`.

    Raises:
        Unavailable: of the given class: nobody answers.
        Refused: login or virtual host.
    """
    try:
        sock = dial(address)
    except Unavailable as error:
        raise unavailable(error.what, at=error.at, why=error.why) from error
    wire = Wire(sock, address, unavailable)
    try:
        sock.setblocking(False)
        # The greeting has eight bytes: a fresh socket takes them at once.
        wire.start(name)
    except BaseException:
        wire.close()
        raise
    return wire


@contextmanager
def short(address: Address, name: str, unavailable: type[Unavailable]) -> Iterator[tuple[Wire, int]]:
    """A connection with one open channel, for a few questions."""
    wire = connect(address, name, unavailable)
    try:
        yield wire, wire.channel()
    finally:
        wire.close()


@contextmanager
def beating(wire: Wire) -> Iterator[None]:
    """Keep a connection alive while its thread waits for something else, and uses it for nothing."""
    done = threading.Event()

    def beat() -> None:
        try:
            wire.beat()
            while not done.wait(HEARTBEAT_SECONDS / 6):
                wire.beat()
        except (Refused, Unavailable):
            pass  # told to whoever uses it next

    thread = threading.Thread(target=beat, name="cdcflow-amqp-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _decoded(event: Event) -> Any:
    method = spec.methods[event[1]]()
    try:
        method.decode(event[2], 4)
    except Exception as error:
        raise AmqpError(f"a method of the broker cannot be read: {type(error).__name__}") from error
    return method


_ANSWERS: Final = frozenset(index for index, method in spec.methods.items() if method.NAME.endswith(("Ok", "Empty")))

decoded = _decoded
