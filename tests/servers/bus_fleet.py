"""Kafka, schema registries and RabbitMQ of one test process, and where they come from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pytest

from tests.servers import compose
from tests.servers.cache import ServerMissing
from tests.servers.cluster import free_port
from tests.servers.consumers import Connect, FlinkSql
from tests.servers.kafka_security import Security
from tests.servers.kafka_server import Kafka, kafka_of, kafka_processes
from tests.servers.rabbitmq_server import RabbitMq, rabbitmq_process
from tests.servers.registry_server import CONFLUENT, SchemaRegistry, registry_process
from tests.servers.runs import Container, Elsewhere

FILE = Path(__file__).parents[2] / "compose" / "bus-test.yaml"
KAFKA_URL, REGISTRY_URL, RABBITMQ_URL = "CDCFLOW_TEST_KAFKA", "CDCFLOW_TEST_REGISTRY", "CDCFLOW_TEST_RABBITMQ"
BusServer = Kafka | SchemaRegistry | RabbitMq | Connect | FlinkSql
_S = TypeVar("_S", Kafka, SchemaRegistry, RabbitMq)


class BusFleet:
    """The message bus servers; `folder("kafka")` gives a new folder for one, `tell` says where it came from."""

    def __init__(
        self, folder: Callable[[str], Path], tell: Callable[[str], None], left_out: Callable[[str], bool]
    ) -> None:
        self._folder, self._tell, self._left_out = folder, tell, left_out
        self._kafka: Kafka | None = None
        self._registry: SchemaRegistry | None = None
        self._rabbitmq: RabbitMq | None = None
        self._alone: list[BusServer] = []

    def kafka(self) -> Kafka:
        """Return the running Kafka of one broker.

        Raises:
            ServerMissing: it cannot be had; the test that needs it fails.
        """
        self._skip_if_left_out("kafka")
        if self._kafka is None:
            self._kafka = self._find("kafka", KAFKA_URL, _kafka_elsewhere, _kafka_container, kafka_processes)
        return self._kafka.start()

    def registry(self) -> SchemaRegistry:
        """Return the running schema registry.

        Raises:
            ServerMissing: it cannot be had; the test that needs it fails.
        """
        self._skip_if_left_out("registry")
        if self._registry is None:
            self._registry = self._find(
                "registry", REGISTRY_URL, _registry_elsewhere, _registry_container, registry_process
            )
        return self._registry.start()

    def rabbitmq(self) -> RabbitMq:
        """Return the running RabbitMQ.

        Raises:
            ServerMissing: it cannot be had; the test that needs it fails.
        """
        self._skip_if_left_out("rabbitmq")
        if self._rabbitmq is None:
            self._rabbitmq = self._find(
                "rabbitmq", RABBITMQ_URL, _rabbitmq_elsewhere, _rabbitmq_container, rabbitmq_process
            )
        return self._rabbitmq.start()

    def kafka_cluster(self) -> Kafka:
        """Start three brokers: always processes of our own, so that they may be broken. The caller removes them."""
        self._skip_if_left_out("kafka")
        cluster, origin = self._made("kafka", lambda: kafka_processes(self._folder("kafka-cluster"), brokers=3))
        self._started(cluster)
        self._tell(f"kafka, three brokers: processes of our own from {origin}")
        return cluster

    def kafka_walled(self) -> Kafka:
        """Start a Kafka that lets clients in by SASL over TLS only. The caller removes it."""
        self._skip_if_left_out("kafka")
        walled, _ = self._made("kafka", lambda: kafka_processes(self._folder("kafka-walled"), security="sasl_ssl"))
        self._started(walled)
        return walled

    def kafka_alone(
        self, *, security: Security = "plaintext", brokers: int = 1, settings: Mapping[str, str] | None = None
    ) -> Kafka:
        """Start a Kafka for one test: always a process of our own."""
        self._skip_if_left_out("kafka")
        server, _ = self._made(
            "kafka",
            lambda: kafka_processes(self._folder("kafka-alone"), brokers=brokers, security=security, settings=settings),
        )
        self._alone.append(server)
        return server.start()

    def rabbitmq_alone(self) -> RabbitMq:
        """Start a RabbitMQ for one test: always a process of our own."""
        self._skip_if_left_out("rabbitmq")
        server, _ = self._made("rabbitmq", lambda: rabbitmq_process(self._folder("rabbitmq-alone")))
        self._alone.append(server)
        return server.start()

    def connect(self, worker: Mapping[str, str], *connectors: Mapping[str, str]) -> Connect:
        """Start a Kafka Connect with its connectors for one test: always a process of our own."""
        self._skip_if_left_out("connect")
        server = Connect(self._folder("connect"), worker, connectors)
        self._alone.append(server)
        return server.start()

    def flink(self) -> FlinkSql:
        """Start Flink SQL; the caller removes it."""
        self._skip_if_left_out("flink")
        server = FlinkSql(self._folder("flink"))
        self._started(server)
        return server

    def all_running(self) -> None:
        """Start again what a test left stopped, and remove what belonged to that test."""
        for server in (self._kafka, self._registry, self._rabbitmq):
            if server is not None:
                server.start()
        self._remove_alone()

    def end(self) -> None:
        """Remove every server."""
        self._remove_alone()
        for server in (self._kafka, self._registry, self._rabbitmq):
            if server is not None:
                server.remove()

    def _remove_alone(self) -> None:
        for server in self._alone:
            server.remove()
        self._alone.clear()

    def _skip_if_left_out(self, name: str) -> None:
        if self._left_out(name):
            pytest.skip(f"CDCFLOW_TEST_WITHOUT leaves out {name}")

    def _find(
        self,
        name: str,
        variable: str,
        elsewhere: Callable[[str], _S],
        contained: Callable[[], _S],
        process: Callable[[Path], tuple[_S, str]],
    ) -> _S:
        url = os.environ.get(variable)
        if url:
            server = elsewhere(url)
            self._tell(f"{name}: {variable}")
            return server
        if compose.answers():
            server = contained()
            try:
                self._started(server)
                self._tell(f"{name}: docker compose")
                return server
            except (compose.ComposeFailed, AssertionError) as error:
                self._tell(f"{name}: docker compose failed ({str(error).splitlines()[0]}), going on without")
        server, origin = self._made(name, lambda: process(self._folder(name)))
        self._started(server)
        self._tell(f"{name}: processes of our own from {origin}")
        return server

    def _made(self, name: str, make: Callable[[], tuple[_S, str]]) -> tuple[_S, str]:
        try:
            return make()
        except ServerMissing as missing:
            raise ServerMissing(
                f"{missing}\nOr name a running server in CDCFLOW_TEST_{name.upper()}, "
                f"or leave these tests out with CDCFLOW_TEST_WITHOUT={name}"
            ) from missing

    def _started(self, server: BusServer) -> None:
        try:
            server.start()
        except BaseException:
            with contextlib.suppress(compose.ComposeFailed):
                server.remove()  # nobody else knows of it yet
            raise


def _kafka_elsewhere(url: str) -> Kafka:
    return kafka_of(Elsewhere(KAFKA_URL), url.rpartition("://")[2].rstrip("/"))


def _kafka_container() -> Kafka:
    port = free_port()
    runs = Container(FILE, "kafka", port, {"KAFKA_PORT": str(port)})
    return kafka_of(runs, f"127.0.0.1:{port}", node_id=1)


def _registry_elsewhere(url: str) -> SchemaRegistry:
    return SchemaRegistry(url.rstrip("/"), Elsewhere(REGISTRY_URL))


def _registry_container() -> SchemaRegistry:
    port = free_port()
    runs = Container(FILE, "registry", port, {"REGISTRY_PORT": str(port)})
    return SchemaRegistry(f"http://127.0.0.1:{port}{CONFLUENT}", runs)


def _rabbitmq_elsewhere(url: str) -> RabbitMq:
    host = urlsplit(url).hostname or "127.0.0.1"
    # Where the management API and the streams of such a server are, is theirs by default.
    return RabbitMq(url, 5552, f"http://{host}:15672", Elsewhere(RABBITMQ_URL))


def _rabbitmq_container() -> RabbitMq:
    amqp, stream, management = (free_port() for _ in range(3))
    ports = {
        "RABBITMQ_PORT": str(amqp),
        "RABBITMQ_STREAM_PORT": str(stream),
        "RABBITMQ_MANAGEMENT_PORT": str(management),
    }
    runs = Container(FILE, "rabbitmq", amqp, ports)
    return RabbitMq(f"amqp://guest:guest@127.0.0.1:{amqp}", stream, f"http://127.0.0.1:{management}", runs)
