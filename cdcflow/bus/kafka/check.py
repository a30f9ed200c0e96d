"""What `cdcflow check` finds of a Kafka source: brokers, rights, topics, how long they keep what was not read yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation, ConfigResource, ResourceType

from cdcflow.bus import registry_check
from cdcflow.bus.kafka.errors import error_of
from cdcflow.bus.kafka.partitions import DEAD_LETTERS, partition_of
from cdcflow.errors import CdcflowError, Unavailable
from cdcflow.model.check import Finding, Level
from cdcflow.model.position import Share
from cdcflow.model.route import Route
from cdcflow.model.schema import Table

if TYPE_CHECKING:
    from cdcflow.bus.kafka.source import KafkaSource

_ANSWER_SECONDS: Final = 10.0
# Less than this, and a pipeline that stands over a weekend has lost messages.
_SHORT_RETENTION_HOURS: Final = 72


def findings(source: KafkaSource, routes: Sequence[Route], refused: Sequence[Table]) -> list[Finding]:
    """Return the report.

    Raises:
        SourceUnavailable, AccessDenied: the brokers cannot even be asked.
    """
    topics = source.topics()
    found = [Finding(Level.OK, "source.brokers", source.address, f"reachable; {len(topics)} topics match")]
    if not topics:
        words = ", ".join(source.config.topics)
        found.append(
            Finding(
                Level.WARNING,
                "source.topics",
                words,
                "no topic that may be read matches",
                "start the publisher first; else correct `topics`, or grant DESCRIBE and READ: "
                + _acl(source, "--operation Describe --operation Read --topic '*'"),
            )
        )
    found += _shapes(source)
    found += _rights(source, topics)
    found += _group(source)
    found += _retention(source, topics)
    found += _compacted(source, topics, routes, refused)
    found += registry_check.reading(source.config)
    return found


def _acl(source: KafkaSource, what: str) -> str:
    user = source.client.get("sasl.username", "USER")
    brokers = source.client["bootstrap.servers"]
    return f"kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal User:{user} {what}"


def _shapes(source: KafkaSource) -> list[Finding]:
    topics = source.schema_topics()
    if not topics:
        return [
            Finding(
                Level.NOTE,
                "source.shapes",
                "topics of shapes",
                "there is none, so tables are what their messages say (Debezium's topics)",
            )
        ]
    try:
        tables = source.tables()
    except Unavailable as error:
        return [Finding(Level.BLOCKER, "source.shapes", ", ".join(topics), error.what, error.do)]
    except CdcflowError as error:
        do = error.do or _acl(source, f"--operation Read --topic {topics[0]}")
        return [Finding(Level.BLOCKER, "source.shapes", ", ".join(topics), f"{error.what} {error.why}".strip(), do)]
    return [Finding(Level.OK, "source.shapes", ", ".join(topics), f"{len(tables)} tables")]


def _rights(source: KafkaSource, topics: Mapping[str, int]) -> list[Finding]:
    """Say which rights lack, as far as the brokers tell: without an authorizer they do not."""
    from confluent_kafka import TopicCollection

    found: list[Finding] = []
    if not topics:
        return found
    try:
        asked = source.cluster.admin.describe_topics(
            TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=_ANSWER_SECONDS
        )
    except KafkaException:
        return found
    for name, future in asked.items():
        allowed = _result(lambda future=future: future.result(_ANSWER_SECONDS).authorized_operations)  # type: ignore[misc]
        if allowed and AclOperation.READ not in allowed and AclOperation.ALL not in allowed:
            do = _acl(source, f"--operation Read --topic {name}")
            found.append(Finding(Level.BLOCKER, "source.acl", f"topic {name}", "it may not be read", do))
    if source.config.unreadable == "dead_letter":
        name = source.group + DEAD_LETTERS
        level, words = (Level.OK, "is there") if name in source.cluster.partitions() else (Level.NOTE, "will be made")
        do = "" if level is Level.OK else _acl(source, f"--operation Create --operation Write --topic {name}")
        found.append(Finding(level, "source.dead_letters", f"topic {name}", words, do))
    return found


def _group(source: KafkaSource) -> list[Finding]:
    do = _acl(source, f"--operation Read --operation Describe --operation Delete --group {source.group}")
    subject = f"group {source.group}"
    try:
        (future,) = source.cluster.admin.describe_consumer_groups(
            [source.group], include_authorized_operations=True, request_timeout=_ANSWER_SECONDS
        ).values()
        described = future.result(_ANSWER_SECONDS)
    except KafkaException as raised:
        error = error_of(raised)
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return [Finding(Level.BLOCKER, "source.group", subject, "the group may not be used", do)]
        if error.code() == KafkaError.GROUP_ID_NOT_FOUND:
            return [Finding(Level.OK, "source.group", subject, f"is new; protocol {source.protocol()}")]
        return [Finding(Level.WARNING, "source.group", subject, error.str())]
    allowed = described.authorized_operations
    if allowed and AclOperation.READ not in allowed and AclOperation.ALL not in allowed:
        return [Finding(Level.BLOCKER, "source.group", subject, "the group may not be joined", do)]
    return [
        Finding(Level.OK, "source.group", subject, f"{len(described.members)} members; protocol {source.protocol()}")
    ]


def _retention(source: KafkaSource, topics: Mapping[str, int]) -> list[Finding]:
    """Say which topics forget soon, and where what was not read is gone already."""
    found: list[Finding] = []
    for name, settings in _settings(source, topics).items():
        hours = int(settings.get("retention.ms", "-1")) / 3_600_000
        if "delete" in settings.get("cleanup.policy", "") and 0 <= hours < _SHORT_RETENTION_HOURS:
            found.append(
                Finding(
                    Level.WARNING,
                    "source.retention",
                    f"topic {name}",
                    f"messages are kept for {hours:.0f} hours: a pipeline that stands for longer loses some",
                    f"{_configure(source, name)} retention.ms=604800000",
                )
            )
    return found


def lost(source: KafkaSource, recorded: Mapping[str, Share]) -> list[Finding]:
    """Say of which partitions the brokers have removed what follows the recorded places, or soon will."""
    topics = source.topics()
    here = {partition_of(name): share for name, share in recorded.items() if share.place or share.identity}
    here = {one: share for one, share in here.items() if one[1] < topics.get(one[0], 0)}
    ids = source.cluster.ids(sorted({topic for topic, _ in here}))
    others = {topic for (topic, _), share in here.items() if ids.get(topic) and share.identity not in ("", ids[topic])}
    found = [
        Finding(
            Level.WARNING,
            "source.topics",
            f"topic {topic}",
            "it was made anew since it was read",
            "cdcflow resync at the publisher copies its tables into it; it is read from its start then",
        )
        for topic in sorted(others)
    ]
    places = {one: share.place for one, share in here.items() if one[0] not in others}
    starts = source.cluster.starts(places)
    begun = [one for one, place in places.items() if place == 0 < starts[one]]
    emptied = source.emptied(begun) if begun else {}
    places = {one: place for one, place in places.items() if not emptied.get(one)}  # what is before a truncate is void
    found += [
        Finding(
            Level.BLOCKER,
            "source.retention",
            f"topic {one[0]}, partition {one[1]}",
            f"offsets {places[one]} to {first - 1} were removed before they were read",
            "copy its tables again at the publisher (cdcflow resync)",
        )
        for one, first in sorted((one, starts[one]) for one in places)
        if first > places[one]
    ]
    return found + _soon_lost(source, {one: place for one, place in places.items() if starts[one] <= place})


def _soon_lost(source: KafkaSource, places: Mapping[tuple[str, int], int]) -> list[Finding]:
    """Compare the age of what is read next with the time for which the brokers keep it."""
    ends = source.cluster.ends(places)
    settings = _settings(source, dict.fromkeys((topic for topic, _ in places), 0))
    waiting: dict[int, list[tuple[str, int]]] = {}  # by retention in milliseconds
    for one in sorted(places):
        kept = settings.get(one[0], {})
        retention = int(kept.get("retention.ms", "-1"))
        if places[one] < ends[one] and retention >= 0 and "delete" in kept.get("cleanup.policy", ""):
            waiting.setdefault(retention, []).append(one)
    found: list[Finding] = []
    now = int(time.time() * 1000)
    for retention, partitions in waiting.items():
        over = source.cluster.since(partitions, now - retention)
        half = source.cluster.since(partitions, now - retention // 2)
        for one in partitions:
            if places[one] >= half.get(one, ends[one]):
                continue
            past = places[one] < over.get(one, ends[one])
            words = f"is older than the {_hours(retention)} for which the brokers keep it, and may go at any moment"
            if not past:
                words = f"is older than half of the {_hours(retention)} for which the brokers keep it"
            found.append(
                Finding(
                    Level.BLOCKER if past else Level.WARNING,
                    "source.retention",
                    f"topic {one[0]}, partition {one[1]}",
                    f"what is read next (offset {places[one]} of {ends[one]}) {words}",
                    f"{_configure(source, one[0])} retention.ms={max(604_800_000, 4 * retention)};"
                    " then start more instances, or see why they are slow",
                )
            )
    return found


def _hours(milliseconds: int) -> str:
    hours = milliseconds / 3_600_000
    return f"{hours:.0f} hours" if hours >= 2 else f"{milliseconds // 1000} seconds"


def _configure(source: KafkaSource, topic: str) -> str:
    brokers = source.client["bootstrap.servers"]
    return f"kafka-configs.sh --bootstrap-server {brokers} --alter --topic {topic} --add-config"


def _compacted(
    source: KafkaSource, topics: Mapping[str, int], routes: Sequence[Route], refused: Sequence[Table]
) -> list[Finding]:
    """Say which compacted topics hold a table without a key, for the brokers take no such message there, or one whose
    key is another by the rules: compaction removes events that tell what became of the old one."""
    keyless = [table for table in (*(route.source for route in routes), *refused) if not table.key]
    rekeyed = [route for route in routes if route.source.key and route.key and set(route.key) != set(route.source.key)]
    found: list[Finding] = []
    for name, settings in _settings(source, topics).items():
        if "compact" not in settings.get("cleanup.policy", ""):
            continue
        found += [
            Finding(
                Level.WARNING,
                "source.compacted",
                f"topic {name}",
                f"it is compacted, and {table.name} has no key",
                "give the table a key in the publisher's rules (`key:`), or cleanup.policy=delete",
            )
            for table in keyless
            if name.endswith(str(table.name))
        ]
        found += [
            Finding(
                Level.WARNING,
                "source.compacted",
                f"topic {name}",
                f"it is compacted by ({', '.join(route.source.key)}), and the rules' key of {route.source.name} is"
                f" ({', '.join(route.key)}): what became of a row's old key may be gone before it is read",
                f"leave `key:` out of the rule for {route.source.name}, or have the publisher use the same",
            )
            for route in rekeyed
            if name.endswith(str(route.source.name))
        ]
    return found


def _settings(source: KafkaSource, topics: Mapping[str, int]) -> dict[str, dict[str, str]]:
    if not topics:
        return {}
    wanted = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
    answers = _result(lambda: source.cluster.admin.describe_configs(wanted, request_timeout=_ANSWER_SECONDS)) or {}
    found: dict[str, dict[str, str]] = {}
    for one, future in answers.items():
        entries = _result(lambda future=future: future.result(_ANSWER_SECONDS)) or {}  # type: ignore[misc]
        found[one.name] = {name: entry.value for name, entry in entries.items() if entry.value is not None}
    return found


def _result(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (KafkaException, TimeoutError):
        return None
