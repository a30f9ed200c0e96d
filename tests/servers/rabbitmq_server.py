"""RabbitMQ for tests, with its streams and its management API."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

import pika
import pika.exceptions

from tests.servers.bus_trees import ERLANG, rabbitmq_tree
from tests.servers.cluster import free_port
from tests.servers.runs import OwnProcess, Runs
from tests.servers.server import Server
from tests.servers.waiting import until

START_LIMIT_SECONDS = 90
USUAL_WATERMARK = "400MB"

# What AMQP answers to a claim on a queue that another connection has for itself.
_RESOURCE_LOCKED = 405
CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
stream.listeners.tcp.1 = 127.0.0.1:{stream}
stream.advertised_host = 127.0.0.1
stream.advertised_port = {stream}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
log.console = true
log.console.level = warning
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = {watermark}
"""
PLUGINS = "[rabbitmq_management,rabbitmq_stream].\n"
# Schedulers that sleep when there is nothing to do; the nodes of a cluster would meet on loopback only.
ERLANG_ARGUMENTS = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none"


class Controlled(Runs, Protocol):
    """A server with its command `rabbitmqctl`."""

    def ctl(self, *arguments: str) -> str: ...


class RabbitMq(Server):
    """One node of RabbitMQ with the user guest."""

    def __init__(self, url: str, stream_port: int, management_url: str, runs: Controlled) -> None:
        super().__init__(runs, limit=START_LIMIT_SECONDS, ready="takes connections")
        self._parts = urlsplit(url)
        self.port = self._parts.port or 5672
        self.stream_port, self.management_url, self._ctl = stream_port, management_url, runs.ctl
        login = f"{unquote(self._parts.username or 'guest')}:{unquote(self._parts.password or 'guest')}"
        self._authorization = "Basic " + base64.b64encode(login.encode()).decode()

    def __repr__(self) -> str:
        return f"<RabbitMQ on port {self.port}>"

    def url(self, vhost: str = "/", *, user: str = "", password: str = "") -> str:
        """Return the URL of a virtual host: `amqp://guest:guest@127.0.0.1:5672/`."""
        login, _, address = self._parts.netloc.rpartition("@")
        if user:
            login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        path = "" if vhost == "/" else quote(vhost, safe="")
        return f"{self._parts.scheme}://{login or 'guest:guest'}@{address}/{path}"

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` and return what it prints; takes a second."""
        return self._ctl(*arguments)

    def memory_alarm(self, on: bool) -> None:
        """Let it believe that memory is short, or no longer: publishers are blocked meanwhile. Waits until it is so."""
        self.ctl("set_vm_memory_high_watermark", "absolute", "1" if on else USUAL_WATERMARK)
        what = f"{self} has {'an' if on else 'no'} alarm"
        until(lambda: self._alarmed() is on, limit=60, what=what)

    def queues(self, vhost: str = "/") -> list[str]:
        """Return the names of the queues and streams of a virtual host."""
        return sorted(queue["name"] for queue in self.api("GET", f"queues/{quote(vhost, safe='')}"))

    def delete_queue(self, name: str, vhost: str = "/") -> None:
        """Delete a queue or stream with what is in it; one that is not there is no error. An exclusive one goes with
        its connection, which may be about to close: waits for that."""

        def deleted() -> bool:
            try:
                with self._channel(vhost) as channel:
                    channel.queue_delete(name)
            except pika.exceptions.ChannelClosedByBroker as closed:
                if closed.reply_code != _RESOURCE_LOCKED:
                    raise
                return False
            return True

        until(deleted, what=f"queue {name} can be deleted")

    def depth(self, name: str, vhost: str = "/") -> int:
        """Return how many messages of a queue are ready for a consumer."""
        with self._channel(vhost) as channel:
            return int(channel.queue_declare(name, passive=True).method.message_count)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the management API: `api("GET", "queues/%2F/orders")`.

        Raises:
            urllib.error.HTTPError: it refused.
        """
        asked = urllib.request.Request(
            f"{self.management_url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": self._authorization, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    @contextlib.contextmanager
    def _channel(self, vhost: str) -> Any:
        connection = pika.BlockingConnection(pika.URLParameters(self.url(vhost)))
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def _alarmed(self) -> bool:
        try:
            self.api("GET", "health/checks/local-alarms")
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return True
            raise
        return False

    def _ready(self) -> bool:
        # First without pika, which logs each refused connection at length.
        with socket.create_connection((self._parts.hostname or "", self.port), timeout=5):
            pass
        with self._channel("/"):
            pass
        # Its listeners, streams too, are opened in turn; this answers when all of them are.
        self.api("GET", f"health/checks/port-listener/{self.stream_port}")
        return True


class RabbitProcess:
    """RabbitMQ as a process of our own, with Erlang's port mapper beside it."""

    def __init__(self, root: Path, folder: Path, mapper_port: int, environment: Mapping[str, str]) -> None:
        (self._programs,) = root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin")
        self._server = OwnProcess(folder, [str(self._programs / "rabbitmq-server")], environment)
        mapper = root / ERLANG / "bin" / "epmd"
        arguments = ["-address", "127.0.0.1", "-port", str(mapper_port)]
        self._mapper = OwnProcess(folder / "mapper", [str(mapper), *arguments], environment)

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._server.running

    def start(self) -> None:
        """Start both unless they run."""
        self._mapper.start()
        self._server.start()

    def stop(self) -> None:
        """Stop the server in order."""
        self._server.stop()

    def kill(self) -> None:
        """Crash the server."""
        self._server.kill()

    def log(self) -> str:
        """Return what the server has logged."""
        return self._server.log()

    def cpu_seconds(self) -> float:
        """Return how long the server, with the processes that it started, has had a processor."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._server.pid:  # its session
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def remove(self) -> None:
        """Stop both for good and remove their files."""
        self._server.kill()
        self._mapper.kill()
        self._server.remove()

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl`."""
        return self._server.call(str(self._programs / "rabbitmqctl"), "-q", *arguments)


def rabbitmq_process(
    folder: Path, *, port: int | None = None, schedulers: int = 1, memory: str = USUAL_WATERMARK
) -> tuple[RabbitMq, str]:
    """Return a RabbitMQ as a process of our own, not started yet, and where it came from in words.

    schedulers: on so many processors at once. memory: from where on it takes no messages.

    Raises:
        ServerMissing: its packages cannot be had.
    """
    root, origin = rabbitmq_tree()
    amqp, stream, management, distribution, mapper = port or free_port(), *(free_port() for _ in range(4))
    environment = {
        "PATH": f"{root / ERLANG / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"tests{amqp}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "db"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{ERLANG_ARGUMENTS} +S {schedulers}:{schedulers}",
    }
    runs = RabbitProcess(root, folder, mapper, environment)
    configuration = CONFIGURATION.format(amqp=amqp, stream=stream, management=management, watermark=memory)
    (folder / "rabbitmq.conf").write_text(configuration)
    (folder / "enabled_plugins").write_text(PLUGINS)
    url = f"amqp://guest:guest@127.0.0.1:{amqp}"
    return RabbitMq(url, stream, f"http://127.0.0.1:{management}", runs), origin
