"""Which topics a pipeline reads: globs over names, topics of our own that hold no rows, and where each one ends."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from cdcflow.bus.kafka.errors import AWAY, UNKNOWN_TOPIC, error_of, translate
from cdcflow.bus.kafka.topics import id_of
from cdcflow.bus.kafka.waiting import REFUSED_SECONDS, Noted
from cdcflow.errors import CdcflowError, SourceUnavailable

TIMEOUT_SECONDS: Final = 10.0

_PAUSE_SECONDS: Final = 0.1
_NOT_YET: Final = frozenset(
    {
        KafkaError._NOENT,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError._UNKNOWN_PARTITION,
    }
)

SHAPES: Final = ".schema_changes"
STATE: Final = ".state"
DEAD_LETTERS: Final = ".dead_letters"
# `<pipeline>.<one of these>`: written by publishers beside the topics of tables.
_OURS: Final = re.compile(r"[a-z0-9_]{1,40}\.(schema_changes|state|transaction)")


def share_name(topic: str, partition: int) -> str:
    """Return what a partition is called as a share."""
    return f"{topic}/{partition}"


def partition_of(share: str) -> tuple[str, int]:
    """Return topic and partition of a share's name."""
    topic, _, number = share.rpartition("/")
    return topic, int(number)


def of_tables(globs: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the topics that the globs match, without those that hold no rows, sorted."""
    globs = list(globs)
    return sorted(
        name
        for name in names
        if not name.startswith("__")
        and not _OURS.fullmatch(name)
        and not name.endswith(DEAD_LETTERS)
        and any(fnmatchcase(name, glob) for glob in globs)
    )


def of_shapes(globs: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the topics of shapes of those pipelines that may have written topics which the globs match, sorted."""
    pipelines = {glob.partition(".")[0] for glob in globs}
    return sorted(
        name
        for name in names
        if name.endswith(SHAPES) and any(fnmatchcase(name.removesuffix(SHAPES), one) for one in pipelines)
    )


class Cluster:
    """What the brokers say of topics. Any thread.

    Raises, each method: SourceUnavailable: no broker answers. AccessDenied: they do not permit it.
    """

    def __init__(self, client: dict[str, Any], at: str) -> None:
        self._client, self._at = client, at
        self._noted = Noted()
        self._admin: AdminClient | None = None

    @property
    def admin(self) -> AdminClient:
        """A client, connected when it is first used."""
        if self._admin is None:
            try:
                settings: Any = {**self._client, "error_cb": self._noted}
                self._admin = AdminClient(settings)
            except KafkaException as error:
                raise translate(error, at=self._at, reading=True) from None
        return self._admin

    def close(self) -> None:
        """Let the connections go."""
        self._admin = None

    def partitions(self, timeout: float = TIMEOUT_SECONDS) -> dict[str, int]:
        """Return the number of partitions of every topic that we may see, also where it cannot be used just now."""
        until = time.monotonic() + timeout
        wait = min(timeout, REFUSED_SECONDS)
        while True:
            try:
                found = self.admin.list_topics(timeout=wait).topics
                break
            except KafkaException as error:
                failure = self._failed(error)
                wait = until - time.monotonic()
                # The rest of the time is for brokers that are silent, not for those that have said no.
                if not isinstance(failure, SourceUnavailable) or wait <= 0:
                    raise failure from None
        self.admin.poll(0)
        self._noted.forget()
        return {
            name: len(topic.partitions)
            for name, topic in found.items()
            if topic.error is None or topic.error.code() not in UNKNOWN_TOPIC
        }

    def ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the numbers that the brokers gave to topics when they were made; a topic that is gone lacks.

        A broker that has none (before Kafka 2.8) says '' of each.
        """
        if not topics:
            return {}
        found: dict[str, str] = {}
        for name, future in self._described(topics).items():
            try:
                found[name] = id_of(future.result(TIMEOUT_SECONDS).topic_id)
            except KafkaException as error:
                if error_of(error).code() not in UNKNOWN_TOPIC:
                    raise self._failed(error, name) from None
            except TimeoutError:
                raise self._late() from None
        return found

    def _described(self, topics: Sequence[str]) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.admin.describe_topics(
                TopicCollection(list(topics)), request_timeout=TIMEOUT_SECONDS
            )
        except KafkaException as error:
            raise self._failed(error) from None
        return found

    def starts(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the first offset that each partition still has."""
        return self._offsets(
            partitions,
            OffsetSpec.earliest(),  # type: ignore[no-untyped-call]
            IsolationLevel.READ_UNCOMMITTED,
        )

    def ends(self, partitions: Iterable[tuple[str, int]], *, committed: bool = True) -> dict[tuple[str, int], int]:
        """Return the offset behind the last message of each partition; `committed`: that no open transaction holds."""
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return self._offsets(
            partitions,
            OffsetSpec.latest(),  # type: ignore[no-untyped-call]
            level,
        )

    def since(self, partitions: Iterable[tuple[str, int]], moment_ms: int) -> dict[tuple[str, int], int]:
        """Return the first offset of each partition whose message is not older than that, by its own time in
        milliseconds since 1970; a partition lacks where all are older."""
        found = self._offsets(
            partitions,
            OffsetSpec.for_timestamp(moment_ms),
            IsolationLevel.READ_UNCOMMITTED,
        )
        return {one: offset for one, offset in found.items() if offset >= 0}

    def _offsets(
        self, partitions: Iterable[tuple[str, int]], wanted: OffsetSpec, level: IsolationLevel
    ) -> dict[tuple[str, int], int]:
        asked = {TopicPartition(topic, number): wanted for topic, number in partitions}
        if not asked:
            return {}
        until = time.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                futures = self.admin.list_offsets(asked, isolation_level=level, request_timeout=TIMEOUT_SECONDS)
                answers = {one: future.result(TIMEOUT_SECONDS) for one, future in futures.items()}
                return {(one.topic, one.partition): answer.offset for one, answer in answers.items()}
            except KafkaException as error:
                # A partition that was added a moment ago is not led yet, or not known to the client.
                if error_of(error).code() not in _NOT_YET or time.monotonic() > until:
                    raise self._failed(error) from None
                self.partitions()
                time.sleep(_PAUSE_SECONDS)
            except TimeoutError:
                raise self._late() from None

    def _failed(self, raised: KafkaException, topic: str = "") -> CdcflowError:
        """Return what an error means; where no broker answers, what the client has told of why."""
        told = self._told() if error_of(raised).code() in AWAY else None
        return told or translate(raised, at=self._at, topic=topic, reading=True)

    def _late(self) -> CdcflowError:
        return self._told() or SourceUnavailable("the brokers did not answer in time", at=self._at)

    def _told(self) -> CdcflowError | None:
        self.admin.poll(0)
        return self._noted.told(at=self._at, reading=True)
