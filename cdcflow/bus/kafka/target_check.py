"""What `cdcflow check` looks at in Kafka as a target. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation

from cdcflow.bus import registry_check
from cdcflow.bus.kafka.catalog import Catalog
from cdcflow.bus.kafka.catalogue import TopicsOfShapes
from cdcflow.bus.kafka.config import Config
from cdcflow.bus.kafka.connection import address
from cdcflow.bus.kafka.errors import error_of, translate
from cdcflow.bus.kafka.partitions import Cluster
from cdcflow.bus.kafka.session import Session
from cdcflow.bus.kafka.statetopic import topic_of
from cdcflow.bus.kafka.topics import Topic
from cdcflow.bus.kafka.waiting import ANSWER_SECONDS, Admin
from cdcflow.errors import AccessDenied, CdcflowError
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import OnDelete, Route

_DAY_MS: Final = 86_400_000


def findings(
    config: Config, client: Mapping[str, Any], admin: Admin, catalog: Catalog, routes: Sequence[Route], pipeline: str
) -> list[Finding]:
    """Look at brokers, privileges, topics and the registry.

    Raises:
        AccessDenied, TargetUnavailable, ConfigError: it cannot even look.
    """
    at = address(config.url)
    try:
        cluster = admin.wait(
            admin.client.describe_cluster(include_authorized_operations=True, request_timeout=ANSWER_SECONDS)
        )
    except KafkaException as error:
        raise translate(error, at=at) from None
    found = [Finding(Level.OK, "target.brokers", at, f"{len(cluster.nodes)} brokers answer")]
    names: dict[str, Route] = {}
    for route in routes:
        try:
            names.setdefault(catalog.topic_of(route), route)
        except CdcflowError as error:
            found.append(Finding(Level.BLOCKER, "target.name", str(route.target), error.what, error.do))
    own = [topic_of(pipeline), catalog.shapes, *([catalog.transactions] if catalog.transactions else [])]
    there = _seen(catalog, [*names, *own])
    may_make = cluster.authorized_operations is None or AclOperation.CREATE in cluster.authorized_operations
    user = client.get("sasl.username", "USER")
    found += _privileges(admin, client, [*names, *own], own[0], user, set(there), pipeline, at, may_make=may_make)
    for name, route in names.items():
        seen = there.get(name)
        if seen is None:
            found.append(_ok("target.topic", name, f"will be made with {config.partitions} partitions"))
            continue
        if seen.partitions != config.partitions:
            words = f"has {seen.partitions} partitions, the configuration says {config.partitions}; it is left so"
            found.append(Finding(Level.NOTE, "target.partitions", name, words))
        found += _topic(name, route, catalog.settings_of(name), seen.replicas, len(cluster.nodes))
    broker = catalog.settings_of_broker(cluster.nodes[0].id) if cluster.nodes else {}
    missing = [name for name in (*own, *names) if name not in there]
    found += _to_be_made(missing, config, broker, len(cluster.nodes))
    found += _rekeyed(client, catalog, at, {name: route for name, route in names.items() if name in there}, there)
    found += _transactions(catalog, config, len(cluster.nodes))
    found += registry_check.findings(config, names.items(), pipeline)
    return found


def _seen(catalog: Catalog, names: Sequence[str]) -> dict[str, Topic]:
    """Return the topics that are there, as far as we may look."""
    try:
        return catalog.find(names)
    except AccessDenied:
        found: dict[str, Topic] = {}
        for name in names:
            with suppress(AccessDenied):
                found.update(catalog.find([name]))
        return found


def _topic(name: str, route: Route, settings: Mapping[str, str], replicas: int, brokers: int) -> Iterator[Finding]:
    before = Level.OK
    compacted = "compact" in settings.get("cleanup.policy", "")
    configure = f"kafka-configs --bootstrap-server BROKER --alter --entity-type topics --entity-name {name}"
    if compacted and not route.key:
        before = Level.BLOCKER
        words = f"is compacted, and {route.source.name} has no key: brokers refuse messages without one"
        do = f"{configure} --add-config cleanup.policy=delete; or give the table a key in the rules (`key:`)"
        yield Finding(before, "target.cleanup_policy", name, words, do)
    in_sync = int(settings.get("min.insync.replicas", "1"))
    if in_sync > min(brokers, replicas or brokers):
        before = Level.BLOCKER
        words = f"min.insync.replicas is {in_sync}, and it has {replicas} replicas on {brokers} brokers"
        do = f"{configure} --add-config min.insync.replicas={max(1, min(brokers, replicas) - 1)}"
        yield Finding(before, "target.min_insync", name, words, do)
    elif in_sync == 1 and brokers > 1:
        before = Level.WARNING
        words = "min.insync.replicas is 1: what one broker alone has confirmed is lost with it"
        yield Finding(before, "target.min_insync", name, words, f"{configure} --add-config min.insync.replicas=2")
    retention = int(settings.get("retention.ms", "-1"))
    if not compacted and 0 <= retention < _DAY_MS:
        before = Level.WARNING
        words = f"events are deleted after {retention // 1000} s: a reader that is away longer misses them"
        yield Finding(before, "target.retention", name, words, f"{configure} --add-config retention.ms=604800000")
    if not compacted and retention >= 0 and route.on_delete is OnDelete.DELETE:
        yield Finding(
            Level.NOTE,
            "target.retention",
            name,
            "events are deleted with time: a new reader does not find the whole table in it",
            f"cdcflow resync {route.source.name} publishes it again when a reader needs it; or compact the topic",
        )
    if before is Level.OK:
        yield _ok("target.topic", name, f"is there with {replicas} replicas and fits {route.source.name}")


def _to_be_made(missing: Sequence[str], config: Config, broker: Mapping[str, str], brokers: int) -> Iterator[Finding]:
    """Compare the replicas of topics that will be made with what the brokers want of them by default."""
    if not missing or not broker:
        return
    in_sync = int(broker.get("min.insync.replicas", "1"))
    default = int(broker.get("default.replication.factor", "1"))
    replicas = config.replication if config.replication is not None else default
    if in_sync > min(replicas, brokers):
        words = (
            f"will be made with {replicas} replicas on {brokers} brokers, and these want {in_sync} in sync by default"
        )
        do = f"replication: {min(in_sync + 1, brokers)} in the target"
        if in_sync > brokers:
            do = "start more brokers, or lower min.insync.replicas in their configuration"
        named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        yield Finding(Level.BLOCKER, "target.min_insync", named, f"{words}: no message would be taken", do)


def _rekeyed(
    client: Mapping[str, Any], catalog: Catalog, at: str, names: Mapping[str, Route], there: Mapping[str, Topic]
) -> Iterator[Finding]:
    """Say which compacted topics hold events under another key than the rules', as far as their shapes tell."""
    compacted = {name: route for name, route in names.items() if route.key and catalog.is_compacted(name)}
    if not compacted or catalog.shapes not in there:
        return
    cluster = Cluster(dict(client), at)
    try:
        told = {
            table.name: table for table in TopicsOfShapes(dict(client), cluster, lambda: [catalog.shapes], at).newest()
        }
    except CdcflowError:  # it has to be written only
        return
    finally:
        cluster.close()
    for name, route in compacted.items():
        table = told.get(route.target)
        if table is not None and table.key and set(table.key) != set(route.key_in_target):
            words = f"is compacted, and what is in it has the key ({', '.join(table.key)}), not the rules'"
            words += f" ({', '.join(route.key_in_target)}): events under the old key stay in it"
            do = (
                "give the table another topic (`to:` in the rules), or delete this one before the table is copied again"
            )
            yield Finding(Level.WARNING, "target.cleanup_policy", name, words, do)


def _privileges(
    admin: Admin,
    client: Mapping[str, Any],
    names: Sequence[str],
    state: str,
    user: str,
    there: set[str],
    pipeline: str,
    at: str,
    *,
    may_make: bool,
) -> Iterator[Finding]:
    """Compare what we may do with what is needed; name each missing privilege as the command that grants it."""
    grant = f"kafka-acls --bootstrap-server BROKER --add --allow-principal User:{user}"
    asked = admin.client.describe_topics(
        TopicCollection(list(names)), include_authorized_operations=True, request_timeout=ANSWER_SECONDS
    )
    lacking = False
    for name, answer in asked.items():
        try:
            seen = admin.wait(answer)
        except KafkaException as raised:
            if error_of(raised).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:  # there or not, we may not look
                lacking = True
                do = f"{grant} --operation Write --operation Describe --operation DescribeConfigs"
                do += f" --operation Create{' --operation Read' if name == state else ''} --topic {name}"
                yield Finding(Level.BLOCKER, "target.privilege", name, "the topic may not be used", do)
            continue
        may = seen.authorized_operations
        if may is None:
            continue
        needed = {AclOperation.WRITE: "Write", AclOperation.DESCRIBE: "Describe"}
        if name == state:
            needed[AclOperation.READ] = "Read"
        missing = [word for operation, word in needed.items() if operation not in may]
        if missing:
            lacking = True
            do = f"{grant} {' '.join(f'--operation {word}' for word in missing)} --topic {name}"
            yield Finding(Level.BLOCKER, "target.privilege", name, f"may not {' or '.join(missing)}", do)
        if AclOperation.DESCRIBE_CONFIGS not in may:
            do = f"{grant} --operation DescribeConfigs --topic {name}"
            yield Finding(Level.NOTE, "target.privilege", name, "its configuration cannot be looked at", do)
    missing_topics = [name for name in names if name not in there]
    if missing_topics and not may_make and not lacking:
        do = f"{grant} --operation Create --cluster"
        words = f"may not make topics, if not by their names: {', '.join(missing_topics[:5])}"
        yield Finding(Level.WARNING, "target.privilege", at, words, do)
    yield from _transactional(client, grant, pipeline, at)


def _transactional(client: Mapping[str, Any], grant: str, pipeline: str, at: str) -> Iterator[Finding]:
    """Open a transactional id beside those of the pipeline, which would shut a running instance out."""
    name = f"cdcflow.{pipeline}"
    session = Session(client, at, f"{name}.check", timeout_ms=60_000)
    try:
        session.open()
    except AccessDenied as error:
        do = (
            f"{grant} --operation Write --operation Describe --resource-pattern-type prefixed --transactional-id {name}"
        )
        yield Finding(Level.BLOCKER, "target.transactional_id", name, f"{error.what}: {error.why}", do)
    except CdcflowError as error:
        words = f"{error.what}: {error.why}"
        yield Finding(Level.BLOCKER, "target.transactional_id", name, words, error.do or "look at the brokers' logs")
    else:
        yield _ok("target.transactional_id", name, "transactions can be opened")
    finally:
        session.close()


def _transactions(catalog: Catalog, config: Config, brokers: int) -> Iterator[Finding]:
    settings = catalog.settings_of("__transaction_state")
    in_sync, replicas = int(settings.get("min.insync.replicas", "1")), config.replication
    if in_sync > brokers:
        words = f"needs {in_sync} replicas in sync, and there are {brokers} brokers: no transaction can be committed"
        do = "start the other brokers, or lower transaction.state.log.min.isr"
        yield Finding(Level.BLOCKER, "target.transactions", "__transaction_state", words, do)
    if replicas is not None and replicas > brokers:
        words = f"replication is {replicas}, and there are {brokers} brokers"
        yield Finding(Level.BLOCKER, "target.replication", "replication", words, f"replication: {brokers}")


def _ok(name: str, subject: str, found: str) -> Finding:
    return Finding(Level.OK, name, subject, found)
