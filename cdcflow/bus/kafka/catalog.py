"""Which topic a table has, what the brokers say of it, and the topics that a pipeline has besides."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka.admin import ResourceType

from cdcflow.bus.formats.framing import plain
from cdcflow.bus.kafka.config import Config
from cdcflow.bus.kafka.topics import LONGEST_NAME, Topic, Topics
from cdcflow.errors import AccessDenied, CdcflowError, ConfigError, OperatorError, RowRejected
from cdcflow.model.route import Route
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# How often the topics that are written to are looked at: one that was deleted may have been made anew by itself.
_LOOK_SECONDS: Final = 15.0
# How soon once more where one was not there.
_AGAIN_SECONDS: Final = 0.5

_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class Catalog:
    """The topics of one pipeline. Any thread."""

    def __init__(self, config: Config, topics: Topics, at: str, pipeline: str) -> None:
        self._config, self._topics, self.at, self._pipeline = config, topics, at, pipeline
        self.order = config.order
        self.signals = config.signals
        self.shapes = f"{pipeline}.schema_changes"
        self.transactions = f"{pipeline}.transaction" if config.transactions else ""
        self._known: dict[str, Topic] = {}
        self._looked_at = time.monotonic()
        self._lock = threading.Lock()
        self.alone = threading.Lock()  # held by whoever writes something into each partition of a topic

    def topic_of(self, route: Route) -> str:
        """Return the topic of a table.

        Raises:
            ConfigError: its name cannot be a topic's.
        """
        named = {"pipeline": self._pipeline, "schema": route.target.schema, "table": route.target.table}
        # Not `format`, which would look into braces of the names.
        name = self._config.topic
        for key, value in named.items():
            name = name.replace("{" + key + "}", value)
        if not set(name) <= _NAME_CHARACTERS or len(name) > LONGEST_NAME or name in (".", ".."):
            raise ConfigError(
                f'the topic of table {route.source.name} would be called "{name}"',
                at=self.at,
                why="a topic's name is of letters, digits, '.', '_' and '-', at most 249 of them",
                do="give the table another name with `to:` in the rules, or change `topic:`",
            )
        if name in (self.shapes, self.transactions, f"{self._pipeline}.state"):
            do = "give the table another name with `to:` in the rules, or change `topic:`"
            raise ConfigError(f"table {route.source.name} would have one of cdcflow's own topics", at=name, do=do)
        return name

    def seen(self, topic: str) -> Topic:
        """Return what a topic is, with the partitions that it had when it was first seen: a key stays where it is while
        this instance runs.

        Raises:
            OperatorError: it is gone.
        """
        with self._lock:
            if topic not in self._known:
                found = self._topics.find([topic]).get(topic)
                if found is None:
                    raise gone(topic, self.at)
                self._known[topic] = found
            return self._known[topic]

    def watch(self) -> None:
        """Look, from time to time, whether the topics that are written to are still the same.

        Raises:
            OperatorError: one is gone, by two looks in a row, or was made anew.
        """
        with self._lock:
            if time.monotonic() - self._looked_at < _LOOK_SECONDS:
                return
            self._looked_at = time.monotonic()
            known = dict(self._known)
        now = self._topics.find(list(known))
        missing = known.keys() - now.keys()
        if missing:  # by one broker, which may be behind the others; nothing is written before that is known
            time.sleep(_AGAIN_SECONDS)
            now |= self._topics.find(list(missing))
        for name, before in known.items():
            seen = now.get(name)
            if seen is None:
                raise gone(name, self.at)
            if "" not in (seen.id, before.id) and seen.id != before.id:
                raise remade(name, self.at)
            if seen.partitions != before.partitions:
                log.warning(
                    "a topic has other partitions than at the start, keys stay where they are until the next one",
                    topic=name,
                    now=seen.partitions,
                    before=before.partitions,
                )
                with self._lock:
                    self._known[name] = Topic(
                        seen.name, before.id or seen.id, before.partitions, seen.replicas, seen.leaderless
                    )

    def make_own(self) -> None:
        """Make the pipeline's own topics where they are missing. Raises OperatorError, AccessDenied."""
        own = {self.shapes: {"cleanup.policy": "compact"}}
        if self.transactions:
            own[self.transactions] = self._settings(compact=False)
        there = self._topics.find(list(own))
        for name, settings in own.items():
            if name not in there and self._topics.make(name, 1, self._config.replication, settings):
                log.info("made a topic", topic=name, partitions=1)

    def make(self, route: Route) -> bool:
        """Make the table's topic; False where it is there, which is compared then.

        Raises:
            OperatorError, AccessDenied: the brokers refuse.
            ConfigError: its name cannot be a topic's.
        """
        name, config = self.topic_of(route), self._config
        seen = self._topics.find([name]).get(name)
        if seen is None:
            settings = self._settings(compact=config.compact and bool(route.key))
            if config.compact and not route.key:
                log.warning("a topic is not compacted: its table has no key", topic=name)
            made = self._topics.make(name, config.partitions, config.replication, settings)
            # Asked for now, while it is waited for: another broker may not know it yet.
            seen = self._topics.seen(name)
            with self._lock:
                self._known[name] = seen
            if made:
                log.info("made a topic", topic=name, partitions=config.partitions, source=str(route.source.name))
                return True
        elif seen.partitions != config.partitions:
            words = "a topic has other partitions than the configuration says, and is left as it is"
            log.info(words, topic=name, partitions=seen.partitions, wanted=config.partitions)
        return False

    def settings_of(self, topic: str) -> dict[str, str]:
        """Return a topic's configuration, {} where we may not see it."""
        return self._topics.settings(ResourceType.TOPIC, topic)

    def settings_of_broker(self, broker_id: int) -> dict[str, str]:
        """Return a broker's configuration, {} where we may not see it."""
        return self._topics.settings(ResourceType.BROKER, str(broker_id))

    def is_compacted(self, topic: str) -> bool:
        """Return whether a topic keeps the last message of each key: what it says, else what ours are made with."""
        policy = self.settings_of(topic).get("cleanup.policy")
        return self._config.compact if policy is None else "compact" in policy

    def find(self, names: Sequence[str]) -> dict[str, Topic]:
        """Return those of the topics that are there."""
        return self._topics.find(names)

    def rejected(self, error: CdcflowError, route: Route, key: bytes | None) -> CdcflowError:
        """Return the error with the table and the key of the row that a message was of."""
        if not isinstance(error, (RowRejected, AccessDenied, OperatorError)):
            return error
        where = f"table {route.target}, from {route.source.name}"
        if isinstance(error, RowRejected) and route.key:
            where += f", key ({', '.join(route.key_in_target)})"
            if key is not None and self._config.format == "json" and len(key) <= 200:
                where += f" {plain(key).decode('utf-8', 'replace')}"
        return type(error)(error.what, at=f"{where}, {self.at}", why=error.why, do=error.do)

    def _settings(self, *, compact: bool) -> dict[str, str]:
        config = self._config
        found = {"cleanup.policy": "compact" if compact else "delete"}
        if config.retention is not None:
            found["retention.ms"] = str(int(config.retention * 1000))
            if compact:
                found["cleanup.policy"] = "compact,delete"
        if config.max_message_bytes is not None:
            found["max.message.bytes"] = str(config.max_message_bytes)
        return found


def remade(topic: str, at: str, table: str = "TABLE") -> OperatorError:
    """Return the error for a topic that is another one than holds a table's events."""
    return OperatorError(
        f'topic "{topic}" was deleted and made anew',
        at=at,
        why="the events before that are no longer in it",
        do=f"cdcflow resync {table} publishes the table again, behind a truncate",
    )


def gone(topic: str, at: str) -> OperatorError:
    """Return the error for a topic that was written to and is not there any more."""
    return OperatorError(
        f'topic "{topic}" is gone',
        at=at,
        why="the events that were in it are gone too",
        do="cdcflow resync TABLE makes it again and publishes the table into it",
    )
