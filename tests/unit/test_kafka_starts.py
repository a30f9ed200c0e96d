"""Where a member of a group begins to read its partitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import pytest
from confluent_kafka import Uuid

from cdcflow.bus.kafka.partitions import Cluster
from cdcflow.bus.kafka.starts import Starts
from cdcflow.bus.kafka.topics import id_of
from cdcflow.errors import PositionLost, SourceChanged
from cdcflow.model.position import Share
from tests.unit.kafka_double import (
    TOPIC,
    Claimed,
    Topics,
    starts,
)


def began(begin: str, claims: Claimed, partitions: int = 2, *numbers: int) -> list[int]:
    """Return where partitions begin, of as many as there were when the stream began."""
    names = [f"{TOPIC}/{number}" for number in numbers or range(partitions)]
    found = starts(begin, partitions).take(names, claims)
    return [found[name].place for name in names]


def test_a_partition_that_was_empty_when_it_was_claimed_first_is_not_begun_at_its_end_by_the_next_owner() -> None:
    assert began("latest", Claimed()) == [50, 50]
    assert began("latest", Claimed(p0=0, p1=7)) == [0, 7]
    assert began("earliest", Claimed()) == [0, 0]
    assert began("earliest", Claimed(p0=0, p1=7)) == [0, 7]


def test_what_was_removed_behind_the_first_claim_is_lost_also_where_nothing_had_been_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claims = Claimed()
    assert began("earliest", claims, 1) == [0]
    monkeypatch.setattr(Topics, "starts", lambda self, partitions: dict.fromkeys(partitions, 30))
    for begin in ("earliest", "latest"):
        with pytest.raises(PositionLost, match="no longer hold") as raised:
            began(begin, claims, 1)
        assert "offsets 0 to 29" in raised.value.why
    assert began("earliest", claims, 2, 1) == [30]  # nobody had claimed that one
    assert began("latest", claims, 2, 1) == [30]


def test_a_partition_that_was_added_while_nobody_ran_is_begun_at_its_start_also_where_others_began_at_their_end() -> (
    None
):
    claims = Claimed()
    assert began("latest", claims, 2, 0) == [50]
    assert began("latest", claims, 3, 1) == [50]  # it was there with the first, whoever claims it
    assert began("latest", claims, 3, 2) == [0]


def test_a_topic_that_came_behind_the_first_claim_is_begun_at_its_start_by_whatever_session_claims_it() -> None:
    later = "p.public.u"
    for known in ({TOPIC: 2}, {TOPIC: 2, later: 1}):  # it was there when the one that claims it began, or was not
        one = Starts(cast("Cluster", Topics()), "latest", known, lambda _: {}, "here")
        assert one.take([f"{later}/0"], Claimed(p0=50, p1=50))[f"{later}/0"].place == 0


def test_all_topics_are_begun_at_their_end_with_the_first_claim_of_all() -> None:
    other, claims = "p.public.u", Claimed()
    both = {TOPIC: 2, other: 1}
    for known in (both, {**both, "p.public.v": 1}):
        one = Starts(cast("Cluster", Topics()), "latest", known, lambda _: {}, "here")
        assert one.take([f"{TOPIC}/0"], claims)[f"{TOPIC}/0"].place == 50
    assert claims.places == dict.fromkeys([f"{TOPIC}/0", f"{TOPIC}/1", f"{other}/0"], 50)


def test_a_topic_that_was_made_anew_before_its_first_claim_is_not_taken_for_the_one_there_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Named(Claimed):
        identities: ClassVar[dict[str, str]] = {}

        def recorded(self) -> Mapping[str, Share]:
            return {name: Share(1, place, self.identities.get(name, "")) for name, place in self.places.items()}

        def take(self, names: Sequence[str]) -> Mapping[str, Share]:
            return {name: self.recorded()[name] for name in names}

        def identify(self, shares: Mapping[str, Share]) -> None:
            self.identities.update({name: at.identity for name, at in shares.items()})

    claims = Named()
    assert began("latest", claims, 2, 0) == [50]
    monkeypatch.setattr(Topics, "ids", lambda self, topics: dict.fromkeys(topics, "another id"))
    with pytest.raises(SourceChanged, match="made anew since it was read"):
        began("latest", claims, 2, 1)


def test_an_onlooker_begins_at_the_end() -> None:
    class Onlooker(Claimed):
        def take(self, names: Sequence[str]) -> Mapping[str, Share]:
            return {name: Share(0, 0) for name in names}

        def begin(self, places: Mapping[str, int]) -> None: ...

    assert began("latest", Onlooker()) == [50, 50]
    assert began("earliest", Onlooker()) == [0, 0]


def test_brokers_that_have_no_ids_of_topics_say_nothing_of_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Named(Claimed):
        def take(self, names: Sequence[str]) -> Mapping[str, Share]:
            return {name: Share(1, 7, "an id of before") for name in names}

    monkeypatch.setattr(Topics, "ids", lambda self, topics: dict.fromkeys(topics, id_of(Uuid(0, 0))))
    assert began("earliest", Named()) == [7, 7]
