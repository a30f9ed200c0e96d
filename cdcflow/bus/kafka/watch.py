"""Looks every few seconds which topics there are: new ones are read, too, and one that is gone is a stop."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Final

from cdcflow.bus.kafka.partitions import Cluster, of_tables
from cdcflow.errors import CdcflowError, OperatorError, SourceChanged, SourceUnavailable
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

LOOK_EVERY_SECONDS: Final = 5.0
_URGENT_SECONDS: Final = 0.5
_ANSWER_SECONDS: Final = 3.0
_PATIENT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to read. `changed`: other topics than before."""

    topics: Sequence[str]
    changed: bool


class TopicWatch:
    """The topics that a stream reads. One thread."""

    def __init__(self, cluster: Cluster, globs: Sequence[str], at: str) -> None:
        self._cluster, self._globs, self._at = cluster, globs, at
        self._ids: dict[str, str] = {}
        self._next = 0.0
        self._hurried = False
        self._missing: Set[str] = frozenset()  # of those that were read, what the last look lacked
        self.partitions: dict[str, int] = {}

    def begin(self) -> Sequence[str]:
        """Return the topics to read at first.

        Raises:
            SourceUnavailable: no broker answers.
        """
        found = self.look(urgent=True)
        topics = found.topics if found is not None else ()
        if not topics:
            log.warning("no topic matches yet", topics=", ".join(self._globs))
        return topics

    def hurry(self) -> None:
        """Look again soon: something was heard of a topic."""
        self._hurried = True

    def answers(self, *, patient: bool) -> bool:
        """Whether a broker answers now. patient: one that is only slow answers, too."""
        try:
            self._cluster.partitions(_PATIENT_SECONDS if patient else _ANSWER_SECONDS)
        except SourceUnavailable:
            return False
        except CdcflowError:
            pass  # it said no
        return True

    def look(self, *, urgent: bool = False) -> Seen | None:
        """Return what there is to read, None where it is not yet time to look again.

        Raises:
            OperatorError: a topic that was read is gone, by two looks in a row, or another has its name.
            SourceUnavailable: no broker answers.
        """
        now = time.monotonic()
        if now < self._next and not (
            (urgent or self._hurried) and now > self._next - LOOK_EVERY_SECONDS + _URGENT_SECONDS
        ):
            return None
        self._next = now + LOOK_EVERY_SECONDS
        self._hurried = False
        self.partitions = self._cluster.partitions(_ANSWER_SECONDS)
        there = of_tables(self._globs, self.partitions)
        missing = self._ids.keys() - set(there)
        # One that has no number could be made anew between two looks, and nobody would know.
        gone = sorted(name for name in missing if name in self._missing or not self._ids[name])
        self._missing = missing
        if gone:
            raise OperatorError(
                f'topic "{gone[0]}" is gone',
                at=self._at,
                why="what was not read of it is lost",
                do="cdcflow resync at the publisher makes it again and copies its tables into it; then start once more,"
                " and it is read from its start. Or start once more without it",
            )
        if missing:  # by one broker, which may be behind the others: the next look tells
            self.hurry()
        topics = sorted({*there, *missing})
        ids = self._cluster.ids(there)
        for topic, number in ids.items():
            # A broker that does not know it yet has none.
            if number and (self._ids.get(topic) or number) != number:
                raise SourceChanged(
                    f'topic "{topic}" was made anew since it was read',
                    at=self._at,
                    why="its messages are others, under the same offsets",
                    do="start once more: where it begins with its publisher's copy of the tables (cdcflow resync makes"
                    " one), it is read from its start",
                )
        changed = topics != sorted(self._ids)
        self._ids = {topic: ids.get(topic) or self._ids.get(topic, "") for topic in topics}
        return Seen(topics, changed)
