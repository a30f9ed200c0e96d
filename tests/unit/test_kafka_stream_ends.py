"""What ends a member of a group, what passes, and how it leaves."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError

from cdcflow.errors import CdcflowError, OperatorError, SourceUnavailable
from cdcflow.model.position import Share, Shares
from tests.unit.kafka_double import (
    TOPIC,
    Client,
    Topics,
    failed,
    ids,
    row,
    stream_of,
)


@pytest.mark.parametrize(
    ("code", "words", "meaning", "said"),
    [
        # As librdkafka 2.16 words them, in groups of both kinds.
        (KafkaError._FATAL, "Fatal error: {}: Fatal consumer error: {}", OperatorError, "has the same `instance`"),
        (KafkaError._FATAL, "Fatal error: {}: ConsumerGroupHeartbeat: {}", OperatorError, "has the same `instance`"),
        (KafkaError._FATAL, "Fatal error: out of luck", SourceUnavailable, "cannot be used now"),
        (KafkaError._MAX_POLL_EXCEEDED, "", SourceUnavailable, "nothing was read for too long"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "", CdcflowError, "does not permit"),
        (KafkaError._BAD_COMPRESSION, "", SourceUnavailable, "cannot be used now"),
    ],
)
def test_what_a_member_ends_with(code: int, words: str, meaning: type[CdcflowError], said: str) -> None:
    client = Client()
    stream = stream_of(client)
    client.give(0, 1)
    fenced = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
    client.script = [[failed(code, words.format(fenced, fenced))]]
    with pytest.raises(meaning, match=said):
        stream.read(0.0)


def test_a_member_whose_killed_self_the_group_still_has_tries_again() -> None:
    client = Client()
    stream = stream_of(client)
    words = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()
    client.script = [[failed(KafkaError._FATAL, f"Fatal error: {words}: ConsumerGroupHeartbeat fatal error: {words}")]]
    with pytest.raises(SourceUnavailable, match="has a member of the same `instance`"):
        stream.read(0.0)


def test_one_fetch_that_a_broker_refuses_is_no_end_and_a_row_of_them_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    client = Client()
    stream = stream_of(client)
    client.give(0, 1)
    client.script = [[failed(KafkaError.UNKNOWN)], [row(0, 0)]]
    assert ids(stream.read(0.0)) == [0]
    now += 60
    client.script = [[failed(KafkaError.UNKNOWN)], [row(1, 0)]]
    assert ids(stream.read(0.0)) == [100]
    client.script = [[failed(KafkaError.UNKNOWN)] if turn % 2 == 0 else [] for turn in range(200)]
    began, ended = now, ""
    while not ended and client.script:
        now += 0.5
        try:
            stream.read(0.0)
        except SourceUnavailable as error:
            ended = error.what
    assert "cannot be used now" in ended
    assert now - began > 20


def test_refusals_with_an_answer_between_them_are_not_in_a_row_and_others_are_however_rare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    client = Client()
    stream = stream_of(client)
    client.give(0, 1)
    for _ in range(5):
        now += 15
        client.script = [[failed(KafkaError.UNKNOWN)], [failed(KafkaError._PARTITION_EOF)]]
        stream.read(0.0)
    client.script = [[failed(KafkaError.UNKNOWN)], []]
    stream.read(0.0)
    now += 15
    client.script = [[failed(KafkaError.UNKNOWN)], []]
    stream.read(0.0)
    now += 15
    client.script = [[failed(KafkaError.UNKNOWN)], []]
    with pytest.raises(SourceUnavailable, match="cannot be used now"):
        stream.read(0.0)


def test_nothing_is_committed_while_the_brokers_are_away_and_all_of_it_when_they_are_back() -> None:
    client, topics = Client(), Topics()
    stream = stream_of(client, topics)
    client.give(0, 1)
    topics.away = True
    client.heard(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    stream.ack(Shares({f"{TOPIC}/0": Share(1, 7)}))
    stream.read(0.0)
    client.take(1)
    assert client.committed == []
    topics.away = False
    for _ in range(2):
        stream.read(0.0)
    assert client.committed == [(0, 7)]


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("away", [False, True])
def test_a_group_is_left_where_a_broker_answers(away: bool, heard: bool) -> None:
    client, topics = Client(), Topics()
    stream = stream_of(client, topics)
    client.give(0, 1)
    if heard:
        client.heard(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    stream.ack(Shares({f"{TOPIC}/0": Share(1, 7)}))
    topics.away = away
    stream.close()
    stream.close()
    assert (client.closed, client.committed) == ((0, []) if away else (1, [(0, 7)]))


@pytest.mark.parametrize("idle", [False, True])
def test_a_later_subscription_that_the_client_refuses_is_an_outage(idle: bool) -> None:
    client, topics = Client(), Topics(more=True)
    stream = stream_of(client, topics)
    client.refusals = [KafkaError(KafkaError._STATE, "not now")]
    with pytest.raises(SourceUnavailable, match="cannot be used now"):
        stream.idle() if idle else stream.read(0.0)


def test_a_later_subscription_of_a_client_that_is_of_no_more_use_ends_with_the_reason() -> None:
    client, topics = Client(), Topics(more=True)
    stream = stream_of(client, topics)
    client.refusals = [KafkaError(KafkaError._FATAL, "Failed to set subscription: Local: Fatal error")]
    why = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
    client.script = [[failed(KafkaError._FATAL, f"Fatal error: {why}: {why}")]]
    with pytest.raises(OperatorError, match="the same `instance`"):
        stream.read(0.0)
