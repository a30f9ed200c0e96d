"""What a stream makes of what the brokers say of its topics, one look after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from cdcflow.bus.kafka.partitions import Cluster
from cdcflow.bus.kafka.watch import TopicWatch
from cdcflow.errors import SourceChanged

OLD, NEW = "p.public.old", "p.public.new"


class Brokers:
    """Says at each look what stands next in `ids`; of each topic of `topics` that there is one partition."""

    def __init__(self, topics: Sequence[str], *ids: Mapping[str, str]) -> None:
        self._topics, self._ids = topics, iter(ids)

    def partitions(self, limit: float) -> dict[str, int]:
        return dict.fromkeys(self._topics, 1)

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
