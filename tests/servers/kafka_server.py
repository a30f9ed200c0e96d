"""Kafka for tests: one broker or several, what a test may do with them, and the brokers as processes of our own."""

from __future__ import annotations

import base64
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from tests.servers.bus_trees import KAFKA, kafka_tree
from tests.servers.cache import account
from tests.servers.cluster import free_port
from tests.servers.java import SMALL, class_archive, java
from tests.servers.kafka_security import USERS, Security, Walls
from tests.servers.kafka_topics import QUICK, Message, Topics
from tests.servers.runs import OwnProcess, Runs
from tests.servers.server import Server
from tests.servers.trees import _placed
from tests.servers.waiting import until

START_LIMIT_SECONDS = 90
SMALL_JVM = ("-Xmx256m", *SMALL)
SETTINGS: dict[str, str] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    # Groups settle at once, and a client that is gone is soon noticed.
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.min.heartbeat.interval.ms": "200",
    "group.consumer.heartbeat.interval.ms": "200",
    "group.min.session.timeout.ms": "1000",
    # What may be compacted is compacted soon.
    "log.cleaner.backoff.ms": "200",
    # Small.
    "log.cleaner.dedupe.buffer.size": "2097152",
    "num.network.threads": "1",
    "num.io.threads": "2",
}
ONE = {
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    # A killed broker may come back when its session is over: two seconds, not nine.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
}
SEVERAL = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    # A killed leader is followed by another after three seconds, not nine.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


class Broker(Server):
    """One node of a Kafka: stopped, killed and started by itself.

    It is ready when it takes part; of several, the greater half must run for that. Stopped in order, its partitions
    are led by others first.
    """

    def __init__(self, node_id: int, address: str, runs: Runs, admin: Mapping[str, Any]) -> None:
        super().__init__(runs, limit=START_LIMIT_SECONDS, ready="takes part")
        self.node_id, self.address = node_id, address
        self._admin = {**admin, "bootstrap.servers": address}
        self._client: AdminClient | None = None

    def __repr__(self) -> str:
        return f"<Kafka broker {self.node_id} at {self.address}>"

    def start(self) -> Self:
        """Start it unless it runs, and wait until it is ready."""
        try:
            return super().start()
        finally:
            # It would go on looking for a broker that is stopped.
            self._client = None

    def _ready(self) -> bool:
        self._client = self._client or AdminClient(self._admin)
        return self.node_id in self._client.list_topics(timeout=1).brokers


class Kafka:
    """A Kafka of one broker or several.

    A topic's names and messages are read and written here as the superuser, whatever a test's own clients may do.
    """

    def __init__(self, brokers: Sequence[Broker], bootstrap: str, admin: Mapping[str, Any], walls: Walls) -> None:
        self.brokers, self.bootstrap = list(brokers), bootstrap
        self._walls = walls
        self._topics = Topics(admin)

    def __repr__(self) -> str:
        return f"<Kafka at {self.bootstrap}>"

    @property
    def security(self) -> Security:
        """How clients come in: `plaintext`, `sasl_plaintext`, `sasl_ssl` or `ssl`."""
        return self._walls.security

    @property
    def authority(self) -> Path | None:
        """The file of the authority that signed the brokers' certificate, where there is TLS."""
        return self._walls.authority_file

    def url(self, user: str = "", password: str | None = None) -> str:
        """Return `kafka://127.0.0.1:9092`, with a login where one of `USERS` or another is named."""
        secret = USERS.get(user, "") if password is None else password
        login = f"{quote(user, safe='')}:{quote(secret, safe='')}@" if user else ""
        return f"kafka://{login}{self.bootstrap}"

    def client(self, user: str = "", password: str | None = None, *, mechanism: str = "PLAIN") -> dict[str, Any]:
        """Return what librdkafka needs to connect from outside, as one of `USERS` or with a wrong password."""
        return {**QUICK, "bootstrap.servers": self.bootstrap, **self._walls.client(user, password, mechanism)}

    @property
    def running(self) -> bool:
        """Whether every broker runs."""
        return all(broker.running for broker in self.brokers)

    def start(self) -> Kafka:
        """Start what is stopped and wait until every broker takes part."""
        for broker in self.brokers:
            broker.runs.start()
        for broker in self.brokers:
            broker.start()
        until(self._whole, limit=START_LIMIT_SECONDS, what=f"{self} has all of its brokers")
        return self

    def stop(self) -> None:
        """Stop every broker in order; the last of several finds no quorum and is killed."""
        for place, broker in enumerate(self.brokers):
            if place > len(self.brokers) // 2:
                broker.kill()
            else:
                broker.stop()

    def kill(self) -> None:
        """Crash every broker."""
        for broker in self.brokers:
            broker.kill()

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def log(self) -> str:
        """Return what the brokers have logged."""
        return "".join(broker.log() for broker in self.brokers)

    def remove(self) -> None:
        """Remove it with its data."""
        self._topics.close()
        for broker in self.brokers:
            broker.remove()

    def leader(self, topic: str, partition: int = 0) -> Broker:
        """Return the broker that leads a partition: `kafka_cluster.leader("shop.orders").kill()`."""
        node = until(lambda: self._topics.leader(topic, partition), limit=60, what=f"{topic} {partition} has a leader")
        return next(broker for broker in self.brokers if broker.node_id == node)

    def topics(self) -> list[str]:
        """Return the names of the topics, without Kafka's own."""
        return self._topics.names()

    def create_topic(self, name: str, partitions: int = 1, *, replicas: int = -1, **config: str) -> str:
        """Create a topic and wait for its leaders; `cleanup_policy="compact"` is its `cleanup.policy`."""
        return self._topics.create(name, partitions, replicas, config)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until it is gone."""
        self._topics.delete(name)

    def produce(
        self,
        topic: str,
        key: bytes | str | None,
        value: bytes | str | None,
        headers: Sequence[tuple[str, bytes | str | None]] | None = None,
        partition: int | None = None,
    ) -> None:
        """Send one message and wait until every replica in sync has it."""
        self._topics.produce(topic, key, value, headers, partition)

    def read(self, topic: str, isolation: str = "read_committed") -> list[Message]:
        """Return every message of a topic in order of partition and offset.

        The end is that of now: `read_committed` ends before a transaction that is still open.
        """
        return self._topics.read(topic, isolation)

    def allow(self, user: str, operation: str, name: str, *, kind: str = "TOPIC", prefix: bool = False) -> None:
        """Add an ACL: `allow("writer", "WRITE", "shop.", prefix=True)`, or one of kind `GROUP`."""
        binding = AclBinding(
            ResourceType[kind],
            name,
            ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for done in self._topics.admin.create_acls([binding]).values():
            done.result(30)

    def _whole(self) -> bool:
        return len(self._topics.admin.list_topics(timeout=2).brokers) >= len(self.brokers)


def kafka_processes(
    folder: Path,
    *,
    brokers: int = 1,
    security: Security = "plaintext",
    settings: Mapping[str, str] | None = None,
    port: int | None = None,
    jvm: Sequence[str] = SMALL_JVM,
) -> tuple[Kafka, str]:
    """Return a Kafka of processes of our own, not started yet, and where its programs came from in words.

    jvm: options of Java.

    Raises:
        ServerMissing: its programs or Java cannot be had.
    """
    options = class_archive(f"kafka-{KAFKA}", _record)
    return _processes(folder, [*jvm, *options], brokers, security, settings or {}, port), kafka_tree()[1]


def _record(folder: Path, option: str) -> None:
    kafka = _processes(folder, [*SMALL_JVM, option])
    try:
        topic = kafka.start().create_topic("recorded")
        kafka.produce(topic, "k", "v")
        kafka.read(topic)
        kafka.stop()
    finally:
        kafka.remove()


def _processes(
    folder: Path,
    options: Sequence[str],
    brokers: int = 1,
    security: Security = "plaintext",
    settings: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Kafka:
    tree, _ = kafka_tree()
    folder.mkdir(parents=True)
    walls = Walls(security, folder / "certificates")
    nodes = range(1, brokers + 1)
    ports = {node: (port if port and node == 1 else free_port(), free_port(), free_port()) for node in nodes}
    voters = ",".join(f"{node}@127.0.0.1:{control}" for node, (_, _, control) in ports.items())
    cluster = _new_id()
    program = [java(), *options, f"-Dlog4j2.configurationFile={tree / 'log4j2.yaml'}"]
    program += ["-cp", f"{tree / 'libs'}/*"]
    made = []
    for node, (outside, inside, control) in ports.items():
        own = folder / f"broker-{node}"
        runs = OwnProcess(own, [*program, "kafka.Kafka", str(own / "server.properties")])
        whole = {
            **SETTINGS,
            **(ONE if brokers == 1 else SEVERAL),
            "node.id": str(node),
            "controller.quorum.voters": voters,
            "log.dirs": str(own / "data"),
            **walls.settings(outside, inside, control),
            **(settings or {}),
        }
        _write_properties(own / "server.properties", whole)
        _copy_template(program, walls, own / "data", node, cluster)
        address = f"127.0.0.1:{inside if walls.walled else outside}"
        made.append(Broker(node, address, runs, {**QUICK, **walls.admin()}))
    admin = {**QUICK, **walls.admin(), "bootstrap.servers": ",".join(broker.address for broker in made)}
    bootstrap = ",".join(f"127.0.0.1:{outside}" for outside, _, _ in ports.values())
    return Kafka(made, bootstrap, admin, walls)


def _new_id() -> str:
    """A UUID as Kafka writes it."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _write_properties(path: Path, properties: Mapping[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))


def _copy_template(program: Sequence[str], walls: Walls, data: Path, node: int, cluster: str) -> None:
    """Make a formatted data folder without Java: a copy of one, with the identity of this node."""
    logins = "-logins" if walls.format_arguments() else ""
    place = f"kafka-{KAFKA}-data{logins}"
    template = _placed(place, lambda into: _format(program, into, walls.format_arguments())) / "data"
    shutil.copytree(template, data)
    identity = {"version": "1", "node.id": str(node), "cluster.id": cluster, "directory.id": _new_id()}
    _write_properties(data / "meta.properties", identity)
    for path in (data, *data.rglob("*")):
        account().own(path)


def _format(program: Sequence[str], into: Path, arguments: Sequence[str]) -> None:
    runs = OwnProcess(into, [])
    settings = {
        **SETTINGS,
        "node.id": "1",
        "controller.quorum.voters": "1@127.0.0.1:1",
        "listeners": "PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1",
        "log.dirs": str(into / "data"),
    }
    _write_properties(into / "server.properties", settings)
    asked = ["kafka.tools.StorageTool", "format", "-t", _new_id().replace("-", "A"), "-c"]
    runs.call(*program, *asked, str(into / "server.properties"), *arguments)


def kafka_of(runs: Runs, bootstrap: str, node_id: int | None = None) -> Kafka:
    """Return a Kafka that somebody else made, of one broker without walls."""
    admin = {**QUICK, "bootstrap.servers": bootstrap}
    found = node_id
    if found is None:
        found = min(AdminClient(admin).list_topics(timeout=30).brokers)
    return Kafka([Broker(found, bootstrap, runs, QUICK)], bootstrap, admin, Walls("plaintext", Path()))
