"""What a stream makes of what the brokers say of its topics, one look after the other."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError

from cdcflow.bus.kafka.catalog import Catalog
from cdcflow.bus.kafka.config import Config
from cdcflow.bus.kafka.partitions import Cluster
from cdcflow.bus.kafka.topics import Topic, Topics
from cdcflow.bus.kafka.watch import TopicWatch
from cdcflow.errors import OperatorError, SourceChanged

OLD, NEW = "p.public.old", "p.public.new"


class Brokers:
    """Says at each look what stands next in `ids`; of each topic of `topics` that there is one partition. `lacking`:
    what is left out, one look after the other."""

    def __init__(self, topics: Sequence[str], *ids: Mapping[str, str], lacking: Sequence[str] = ()) -> None:
        self._topics, self._ids, self._lacking = topics, iter(ids), iter(lacking)

    def partitions(self, limit: float) -> dict[str, int]:
        lacks = next(self._lacking, "")
        return {name: 1 for name in self._topics if name != lacks}

    def ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        return next(self._ids)


def watch(monkeypatch: pytest.MonkeyPatch, *ids: Mapping[str, str]) -> TopicWatch:
    monkeypatch.setattr("cdcflow.bus.kafka.watch.LOOK_EVERY_SECONDS", 0.0)
    return TopicWatch(cast("Cluster", cast("Any", Brokers([OLD, NEW], *ids))), ["p.*"], "here")


def test_a_topic_that_one_broker_does_not_know_yet_was_not_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = watch(monkeypatch, {OLD: "1"}, {OLD: "1", NEW: "2"}, {OLD: "1", NEW: ""}, {NEW: "2"}, {OLD: "1", NEW: "2"})
    assert list(looks.begin()) == [NEW, OLD]
    for _ in range(4):
        found = looks.look()
        assert found is not None
        assert not found.changed


def test_a_topic_that_has_another_number_was_made_anew_also_where_it_had_none_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = watch(monkeypatch, {OLD: "1", NEW: "2"}, {OLD: "1"}, {OLD: "1", NEW: "3"})
    looks.begin()
    assert looks.look() is not None
    with pytest.raises(SourceChanged, match=f'"{NEW}" was made anew'):
        looks.look()


def missing(
    monkeypatch: pytest.MonkeyPatch, *lacking: str, numbers: Mapping[str, str] = {OLD: "1", NEW: "2"}
) -> list[bool]:
    """Return of each look whether other topics were seen than before."""
    monkeypatch.setattr("cdcflow.bus.kafka.watch.LOOK_EVERY_SECONDS", 0.0)
    brokers = Brokers([OLD, NEW], *[numbers] * len(lacking), lacking=lacking)
    looks = TopicWatch(cast("Cluster", cast("Any", brokers)), ["p.*"], "here")
    found = [looks.look() for _ in lacking]
    return [one.changed for one in found if one is not None]


def test_a_topic_that_one_look_lacks_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing(monkeypatch, "", NEW, "", NEW, OLD, "") == [True, False, False, False, False, False]


def test_a_topic_without_a_number_is_gone_when_one_look_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperatorError, match=f'"{NEW}" is gone'):
        missing(monkeypatch, "", NEW, numbers={OLD: "", NEW: ""})


def test_a_topic_that_two_looks_in_a_row_lack_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperatorError, match=f'"{NEW}" is gone'):
        missing(monkeypatch, "", NEW, NEW)


def test_a_topic_that_cannot_be_used_for_a_moment_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def topic(code: int | None) -> Any:
        return SimpleNamespace(partitions=[0], error=None if code is None else KafkaError(code))

    answer = SimpleNamespace(
        topics={
            "led": topic(None),
            "not led": topic(KafkaError.LEADER_NOT_AVAILABLE),
            "gone": topic(KafkaError.UNKNOWN_TOPIC_OR_PART),
        }
    )
    cluster = Cluster({}, "here")
    admin = SimpleNamespace(list_topics=lambda timeout: answer, poll=lambda seconds: 0)
    monkeypatch.setattr(Cluster, "admin", admin)
    assert cluster.partitions() == {"led": 1, "not led": 1}


class Written:
    """What a publisher's brokers say of its topics: their numbers, one look after the other."""

    def __init__(self, *ids: Mapping[str, str]) -> None:
        self._ids = iter(ids)

    def find(self, names: Sequence[str]) -> dict[str, Topic]:
        ids = next(self._ids)
        return {name: Topic(name, ids[name], 1, 1, 0) for name in names if name in ids}


def test_a_publisher_takes_a_topic_for_gone_that_two_looks_in_a_row_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    config = Config(url="kafka://here")
    there = {OLD: "1"}
    written = Written(there, {}, {OLD: ""}, there, {}, {})
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    catalog = Catalog(config, cast("Topics", written), "here", "p")
    catalog.seen(OLD)
    for _ in range(2):
        now += 20
        catalog.watch()
    now += 20
    with pytest.raises(OperatorError, match=f'"{OLD}" is gone'):
        catalog.watch()
