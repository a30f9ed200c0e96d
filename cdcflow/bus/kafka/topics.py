"""Topics of the brokers: looked at, and made where they are missing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType

from cdcflow.bus.kafka.errors import UNKNOWN_TOPIC, error_of, translate
from cdcflow.bus.kafka.waiting import ANSWER_SECONDS, Admin
from cdcflow.errors import TargetUnavailable

# Kafka's own: org.apache.kafka.common.internals.Topic.
LONGEST_NAME: Final = 249

_PAUSE_SECONDS: Final = 0.05

# org.apache.kafka.common.Uuid.ZERO_UUID, in base64.
_NO_ID: Final = "A" * 22


@dataclass(frozen=True, slots=True)
class Topic:
    """What the brokers say of a topic. `id` tells it from another under its name; '' where brokers have no ids."""

    name: str
    id: str
    partitions: int
    replicas: int
    leaderless: int


def id_of(topic_id: object) -> str:
    """Return a topic's id as it is kept, '' for that of zeros: brokers before Kafka 2.8 say it of each topic."""
    text = str(topic_id)
    return "" if text == _NO_ID else text


class Topics:
    """The brokers' topics. Any thread. Errors that are not said otherwise are those of `errors.translate`."""

    def __init__(self, admin: Admin, at: str) -> None:
        self._admin, self._at = admin, at

    def find(self, names: Sequence[str]) -> dict[str, Topic]:
        """Return those of the topics that are there. Never makes one, whatever the brokers are set to."""
        if not names:
            return {}
        client = self._admin.client
        found: dict[str, Topic] = {}
        asked = client.describe_topics(TopicCollection(list(names)), request_timeout=ANSWER_SECONDS)
        for name, answer in asked.items():
            try:
                seen = self._admin.wait(answer)
            except KafkaException as raised:
                if error_of(raised).code() in UNKNOWN_TOPIC:
                    continue
                raise translate(raised, at=self._at, topic=name) from None
            replicas = min((len(each.replicas) for each in seen.partitions), default=0)
            leaderless = sum(1 for each in seen.partitions if each.leader is None or each.leader.id < 0)
            found[name] = Topic(name, id_of(seen.topic_id), len(seen.partitions), replicas, leaderless)
        return found

    def seen(self, name: str) -> Topic:
        """Return a topic that was made a moment ago, when a broker tells of it and all its partitions are led.

        Raises:
            TargetUnavailable: none does.
        """
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            found = self.find([name]).get(name)
            if found is not None and not found.leaderless:
                return found
            if time.monotonic() > until:
                raise TargetUnavailable("the brokers do not tell of a topic that they have made", at=self._at, why=name)
            time.sleep(_PAUSE_SECONDS)

    def make(self, name: str, partitions: int, replication: int | None, config: Mapping[str, str]) -> bool:
        """Make a topic; False where it was there already. A broker may tell of it a moment later: see `seen`.

        Raises:
            OperatorError: the brokers refuse it as it is asked for.
            AccessDenied: we may not.
        """
        new = NewTopic(
            name,
            num_partitions=partitions,
            replication_factor=-1 if replication is None else replication,
            config=dict(config),
        )
        answer = self._admin.client.create_topics(
            [new], operation_timeout=ANSWER_SECONDS, request_timeout=ANSWER_SECONDS
        )
        try:
            self._admin.wait(answer[name])
        except KafkaException as raised:
            if error_of(raised).code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise translate(raised, at=self._at, topic=name) from None
        return True

    def remove(self, name: str) -> bool:
        """Delete a topic; False where it was not there.

        Raises:
            AccessDenied: we may not.
        """
        answer = self._admin.client.delete_topics(
            [name], operation_timeout=ANSWER_SECONDS, request_timeout=ANSWER_SECONDS
        )
        try:
            self._admin.wait(answer[name])
        except KafkaException as raised:
            if error_of(raised).code() in UNKNOWN_TOPIC:
                return False
            raise translate(raised, at=self._at, topic=name) from None
        return True

    def settings(self, kind: ResourceType, name: str) -> dict[str, str]:
        """Return the configuration of a topic, or of a broker by its id; {} where we may not see it."""
        client = self._admin.client
        answer = client.describe_configs([ConfigResource(kind, name)], request_timeout=ANSWER_SECONDS)
        try:
            seen = next(self._admin.wait(each) for each in answer.values())
        except KafkaException:
            return {}
        return {key: entry.value for key, entry in seen.items() if entry.value is not None}
