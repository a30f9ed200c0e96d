"""Members of a Kafka group: where they begin, what they hand over, and what makes them stop."""

from __future__ import annotations

import contextlib
import random
import threading

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from cdcflow.bus.formats import OP, SCHEMA
from cdcflow.bus.kafka import watch
from cdcflow.bus.kafka.source import KafkaSource
from cdcflow.errors import CdcflowError, DecodeError, OperatorError, PositionLost, SourceChanged, SourceUnavailable
from cdcflow.model.change import ChangeBatch, Heartbeat, Meeting, SchemaChange, Truncate
from cdcflow.model.check import Level
from cdcflow.model.position import Shares
from tests.integration.kafka_members import Group, fails, group, idle_until, turning  # noqa: F401 - a fixture
from tests.servers.kafka_topics import Topics
from tests.servers.waiting import until
from tests.unit.bus_double import of, said, table


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_everything_is_read_once_and_the_places_reach_the_end(group: Group, protocol: str) -> None:  # noqa: F811
    for number in range(8):
        group.put({"id": number, "v": "a"}, partition=number % 4)
    source = group.source()
    end = source.end()
    with group.member(protocol=protocol) as one:
        one.until(lambda: one.stream.reached(end, group.record.shares))
        assert sorted(one.ids) == list(range(8))
        one.until(lambda: one.stream.behind() == 0)  # it is measured once a second
    assert group.record.said[-1][0] == "give"
    with group.member(protocol=protocol) as again:
        group.put({"id": 8, "v": "a"})
        again.until(lambda: bool(again.rows))
        assert again.ids == [8]


def test_the_place_goes_behind_the_markers_of_transactions_and_over_what_was_taken_back(group: Group) -> None:  # noqa: F811
    producer = Producer({**group.kafka.client(), "transactional.id": group.name})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(group.topic, b"nobody sees this", partition=0)
    producer.flush(30)
    producer.abort_transaction(30)
    # Its marker stands a moment after the abort is answered.
    source = group.source()
    end = until(lambda: ends_at(source, group.topic, 2), limit=60, what="the mark of the abort")
    source.close()
    with group.member() as one:
        one.until(lambda: one.stream.reached(end, group.record.shares))
        assert one.rows == []
    assert group.place() == 2


def ends_at(source: KafkaSource, topic: str, place: int) -> Shares | None:
    """Return the end where partition 0 ends there."""
    end = source.end()
    return end if isinstance(end, Shares) and end.shares[f"{topic}/0"].place == place else None


def test_a_second_member_takes_over_what_the_first_has_given(group: Group) -> None:  # noqa: F811
    written = 0
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(group.member())
        first.until(lambda: len(group.record.shares) == 4)
        second = stack.enter_context(group.member())
        with turning(second):
            while not (second.rows and first.rows) or written < 40:
                group.put({"id": written, "v": "a"}, partition=written % 4)
                written += 1
                first.turn()
            first.until(lambda: len(first.rows) + len(second.rows) >= written)
        assert sorted(first.ids + second.ids) == list(range(written))
    kinds = [kind for kind, _ in group.record.said]
    assert "give" in kinds
    assert "lost" not in kinds
    assert group.record.refused == 0


def test_partitions_that_are_added_are_read_from_their_beginning_also_where_others_begin_at_their_end(
    group: Group,  # noqa: F811
) -> None:
    group.put({"id": 1, "v": "before"})
    with group.member(start="latest") as one:
        one.until(lambda: group.place() == 1)
        group.kafka._topics.admin.create_partitions([NewPartitions(group.topic, 5)])[group.topic].result(30)
        until(lambda: group.source().topics()[group.topic] == 5, limit=60)
        Topics(group.kafka.client()).produce(group.topic, "k", said("c", {"id": 2, "v": "added"}), of("two"), 4)
        group.put({"id": 3, "v": "after"})
        one.until(lambda: len(one.rows) == 2)
        assert sorted(one.ids) == [2, 3]


def test_a_topic_that_appears_later_is_read_too(group: Group) -> None:  # noqa: F811
    with group.member() as one:
        one.until(lambda: len(group.record.shares) == 4)
        other = group.kafka.create_topic(f"{group.name}.public.u")
        group.kafka.produce(other, "k", b'{"op": "c", "after": {"id": 5, "v": "a"}}', [("cdcflow.schema", "two")])
        one.until(lambda: one.ids == [5])


def test_a_topic_that_is_deleted_stops_the_stream(group: Group) -> None:  # noqa: F811
    group.put({"id": 1, "v": "a"})
    with group.member() as one:
        one.until(lambda: group.place() == 1)
        group.kafka.delete_topic(group.topic)
        error = fails(one)
    assert isinstance(error, OperatorError)
    assert f'"{group.topic}"' in error.what
    assert error.exit_code == 5


def test_a_topic_that_was_made_anew_is_not_read_as_if_it_were_the_old_one(group: Group) -> None:  # noqa: F811
    group.put({"id": 1, "v": "a"})
    with group.member() as one:
        one.until(lambda: group.place() == 1)
    group.kafka.delete_topic(group.topic)
    group.kafka.create_topic(group.topic, 4)
    with group.member() as one:
        error = fails(one)
    assert isinstance(error, SourceUnavailable)
    assert "holds nothing yet" in error.what
    for number in range(8):
        group.put({"id": number, "v": "a"}, partition=number % 4)
    with group.member() as one:
        error = fails(one)
        assert one.ids == []
    assert isinstance(error, SourceChanged)
    assert group.place() == 1


def test_a_topic_that_was_made_anew_is_read_from_its_start_where_it_begins_with_a_truncate(group: Group) -> None:  # noqa: F811
    for number in range(8):
        group.put({"id": number, "v": "a"}, partition=number % 4)
    with group.member() as one:
        one.until(lambda: len(one.ids) == 8)
    group.kafka.delete_topic(group.topic)
    group.kafka.create_topic(group.topic, 4)
    for number in range(4):
        group.put({}, "t", partition=number, meeting="m1/4")
    for number in range(10, 22):
        group.put({"id": number, "v": "a"}, partition=number % 4)
    with group.member() as one:
        one.until(lambda: sum(isinstance(batch.steps[0], Meeting) for batch in one.batches) == 4)
        for number in range(4):
            one.stream.resume(f"{group.topic}/{number}", 1)
        one.until(lambda: len(one.ids) == 12)
        assert sorted(one.ids) == list(range(10, 22))


def test_what_retention_removed_is_named(group: Group) -> None:  # noqa: F811
    group.put({"id": 0, "v": "a"})
    with group.member() as one:
        one.until(lambda: group.place() == 1)
    for number in range(1, 5):
        group.put({"id": number, "v": "a"})
    (removed,) = group.kafka._topics.admin.delete_records([TopicPartition(group.topic, 0, 3)]).values()
    removed.result(30)
    with group.member() as one:
        error = fails(one)
    assert isinstance(error, PositionLost)
    assert "offsets 1 to 2 were removed" in error.why
    assert "partition 0" in error.what


def test_nothing_more_is_read_behind_a_meeting_until_the_stream_may_go_on(group: Group) -> None:  # noqa: F811
    group.put({"id": 1, "v": "a"})
    group.put({}, "t", meeting="m1/4")
    group.put({"id": 2, "v": "a"})
    group.put({"id": 3, "v": "a"}, partition=1)
    with group.member() as one:
        one.until(lambda: len(one.rows) == 2 and any(isinstance(b.steps[0], Meeting) for b in one.batches))
        (met,) = [batch for batch in one.batches if isinstance(batch.steps[0], Meeting)]
        assert len(met.steps) == 1
        assert isinstance(met.steps[0], Meeting)
        assert (met.steps[0].share, met.steps[0].place, len(met.steps[0].shares)) == (f"{group.topic}/0", 2, 4)
        group.put({"id": 4, "v": "a"}, partition=1)
        one.until(lambda: 4 in one.ids)
        assert 2 not in one.ids
        assert group.place() == 1  # before the mark, until it goes on
        one.stream.resume(f"{group.topic}/0", 2)
        one.until(lambda: 2 in one.ids)
        assert sorted(one.ids) == [1, 2, 3, 4]


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_partition_that_waited_at_a_meeting_is_read_again_when_it_comes_back(group: Group, protocol: str) -> None:  # noqa: F811
    for number in range(4):
        group.put({}, "t", partition=number, meeting="m1/5")

    def met() -> list[str]:
        steps = [batch.steps[0] for batch in one.batches]
        return [step.share for step in steps if isinstance(step, Meeting)]

    with group.member(protocol=protocol) as one:
        one.until(lambda: len(met()) == 4)
        with group.member(protocol=protocol) as other, turning(other):
            one.until(lambda: bool(other.batches))
        one.until(lambda: len(met()) > 4)
        assert met()[4] in group.taken[4:]


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_partition_that_was_handed_on_while_nothing_was_read_is_read_when_it_comes_back(
    group: Group,  # noqa: F811
    protocol: str,
) -> None:
    with group.member(protocol=protocol) as one:
        one.until(lambda: len(group.record.shares) == 4)
        with group.member(protocol=protocol) as other, turning(other):
            idle_until(one, lambda: len(group.taken) > 4)
        taken = len(group.taken)
        idle_until(one, lambda: len(group.taken) > taken)
        for number in range(4):
            group.put({"id": number, "v": "a"}, partition=number)
        one.until(lambda: len(one.rows) == 4)


def test_a_truncate_goes_alone_behind_the_rows_before_it(group: Group) -> None:  # noqa: F811
    group.put({"id": 1, "v": "a"})
    group.put({}, "t")
    group.put({"id": 2, "v": "a"})
    with group.member() as one:
        one.until(lambda: len(one.rows) == 2)
    places = [(type(batch.steps[0]).__name__, len(batch.steps)) for batch in one.batches]
    assert places == [("Rows", 1), ("Truncate", 1), ("Rows", 1)]
    assert isinstance(one.batches[1].steps[0], Truncate)


def test_what_is_before_an_unreadable_message_is_handed_over_and_then_it_is_named(group: Group) -> None:  # noqa: F811
    group.put({"id": 1, "v": "a"})
    group.kafka.produce(group.topic, "k", b"{", [("cdcflow.schema", "two")], 0)
    group.put({"id": 2, "v": "a"})
    with group.member() as one:
        error = fails(one)
        assert one.ids == [1]
    assert isinstance(error, DecodeError)
    assert error.at == f"topic {group.topic}, partition 0, offset 1"
    assert group.place() == 1


def test_an_unreadable_message_is_put_aside_before_the_stream_goes_on(group: Group) -> None:  # noqa: F811
    group.kafka.produce(group.topic, "k", b"{", [("cdcflow.schema", "two"), ("other", "x")], 2)
    group.put({"id": 2, "v": "a"}, partition=2)
    with group.member(unreadable="dead_letter") as one:
        one.until(lambda: one.ids == [2])
    (letter,) = group.kafka.read(f"{group.name}.dead_letters")
    assert (letter.key, letter.value) == (b"k", b"{")
    assert letter.header("other") == b"x"
    assert letter.header("cdcflow.topic") == group.topic.encode()
    assert letter.header("cdcflow.share") == f"{group.topic}/2".encode()
    assert letter.header("cdcflow.offset") == b"0"
    assert letter.header("cdcflow.reason") == b"the value is not JSON"


def test_an_unreadable_message_that_is_larger_than_topics_take_by_default_is_put_aside(group: Group) -> None:  # noqa: F811
    large = group.kafka.create_topic(f"{group.name}.public.large", 1, max_message_bytes=str(8 << 20))
    value = b"{" + random.Random(1).randbytes(3 << 20)
    group.kafka.produce(large, "k", value, [(SCHEMA, "two")], 0)
    group.kafka.produce(large, "k", said("c", {"id": 2, "v": "a"}), [(OP, "c"), (SCHEMA, "two")], 0)
    with group.member(unreadable="dead_letter") as one:
        one.until(lambda: one.ids == [2])
    (letter,) = group.kafka.read(f"{group.name}.dead_letters")
    assert letter.value == value


def test_a_shape_that_is_told_of_later_is_found_and_said_first(group: Group) -> None:  # noqa: F811
    group.put({"id": 1, "v": "a"})
    with group.member() as one:
        one.until(lambda: one.ids == [1])
        group.tell(table("id", "v", "w"), "three")
        group.put({"id": 2, "v": "a", "w": "b"}, fingerprint="three")
        one.until(lambda: one.ids == [1, 2])
    assert isinstance(one.batches[-1].steps[0], SchemaChange)


def test_a_full_pipeline_stays_a_member_and_loses_nothing(group: Group) -> None:  # noqa: F811
    with group.member() as one:
        one.until(lambda: len(group.record.shares) == 4)
        for number in range(20):
            group.put({"id": number, "v": "a"}, partition=number % 4)
            one.stream.idle()
        one.until(lambda: len(one.rows) == 20)
        assert sorted(one.ids) == list(range(20))
        assert [kind for kind, _ in group.record.said] == ["take"]


def test_a_broker_that_was_away_is_gone_on_with(group: Group, new_kafka, monkeypatch) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    monkeypatch.setattr(watch, "_ANSWER_SECONDS", 1.0)
    alone = Group(new_kafka(), "alone")
    alone.make()
    alone.put({"id": 1, "v": "a"})
    with alone.member() as one:
        one.until(lambda: one.ids == [1])
        alone.kafka.brokers[0].kill()
        for _ in range(5):
            one.turn()
        alone.kafka.start()
        alone.put({"id": 2, "v": "a"})
        one.until(lambda: 2 in one.ids)
        assert one.ids == [1, 2]


def test_lag_tools_see_how_far_the_group_is_and_teardown_removes_it(group: Group) -> None:  # noqa: F811
    group.put({"id": 1, "v": "a"})
    source = group.source()
    with group.member() as one:
        one.until(lambda: group.place() == 1)
        with pytest.raises(OperatorError, match="has members"):
            source.teardown()
    wanted = ConsumerGroupTopicPartitions(group.name, [TopicPartition(group.topic, 0)])
    (answer,) = source.cluster.admin.list_consumer_group_offsets([wanted]).values()
    assert answer.result(30).topic_partitions[0].offset == 1
    assert source.teardown() == [f'consumer group "{group.name}"']
    assert source.teardown() == []


def test_check_looks_at_topics_group_and_shapes(group: Group) -> None:  # noqa: F811
    source = group.source()
    found = source.check([], [])
    assert all(finding.level is Level.OK for finding in found), found
    assert [str(one.name) for one in source.tables()] == ["public.t"]
    nothing = Group(group.kafka, "nothing").source().check([], [])
    assert [finding.name for finding in nothing if finding.level is Level.WARNING] == ["source.topics"]


def test_at_rest_a_message_does_not_wait_for_more(group: Group) -> None:  # noqa: F811
    with group.member() as one:
        one.until(lambda: len(group.record.shares) == 4)
        group.put({"id": 1, "v": "a"})
        piece: ChangeBatch | Heartbeat | None = None
        while not isinstance(piece, ChangeBatch):
            piece = one.turn()
        assert not piece.lagging


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_an_instance_with_a_name_gets_its_own_partitions_back_and_others_keep_theirs(
    group: Group,  # noqa: F811
    protocol: str,
) -> None:
    stop = threading.Event()
    with group.member(protocol=protocol, instance="b") as other:

        def run() -> None:
            while not stop.is_set():
                other.turn()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            with group.member(protocol=protocol, instance="a") as one:
                one.until(lambda: len(one.stream._held) == 2 and len(other.stream._held) == 2)
                mine, theirs = sorted(one.stream._held), sorted(other.stream._held)
                assert not set(mine) & set(theirs)
            before = len(group.record.said)
            with group.member(protocol=protocol, instance="a") as one:
                one.until(lambda: len(one.stream._held) == 2)
                assert sorted(one.stream._held) == mine
                for number in range(8):
                    group.put({"id": number, "v": "a"}, partition=number % 4)
                one.until(lambda: len(one.rows) + len(other.rows) == 8)
                assert sorted(other.stream._held) == theirs
                names = tuple(f"{topic}/{number}" for topic, number in mine)
                since = [(kind, shares) for kind, shares in group.record.said[before:] if shares]
                assert since == [("take", names)]
        finally:
            stop.set()
            thread.join()


def test_partitions_that_were_added_while_nobody_ran_begin_at_their_start_with_start_latest(group: Group) -> None:  # noqa: F811
    group.put({"id": 1, "v": "before"})
    with group.member(start="latest") as one:
        one.until(lambda: group.place() == 1)
    group.kafka._topics.admin.create_partitions([NewPartitions(group.topic, 5)])[group.topic].result(30)
    until(lambda: group.source().topics()[group.topic] == 5, limit=60)
    Topics(group.kafka.client()).produce(group.topic, "k", said("c", {"id": 2, "v": "added"}), of("two"), 4)
    group.put({"id": 3, "v": "after"})
    with group.member(start="latest") as one:
        one.until(lambda: len(one.rows) == 2)
        assert sorted(one.ids) == [2, 3]


def test_a_topic_that_was_made_while_nobody_ran_begins_at_its_start_with_start_latest(group: Group) -> None:  # noqa: F811
    group.put({"id": 1, "v": "before"})
    with group.member(start="latest") as one:
        one.until(lambda: group.place() == 1)
    other = group.kafka.create_topic(f"{group.name}.public.u")
    group.kafka.produce(other, "k", said("c", {"id": 2, "v": "its copy"}), [(SCHEMA, "two")])
    group.put({"id": 3, "v": "after"})
    with group.member(start="latest") as one:
        one.until(lambda: len(one.rows) == 2)
        assert sorted(one.ids) == [2, 3]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_of_two_instances_with_the_same_name_one_ends_and_says_why(group: Group, protocol: str) -> None:  # noqa: F811
    with group.member(protocol=protocol, instance="a") as one:
        one.until(lambda: len(group.record.shares) == 4)
        with group.member(protocol=protocol, instance="a") as other:

            def ended() -> str:
                for each in (one, other):
                    try:
                        each.turn()
                    except CdcflowError as error:
                        return error.what
                return ""

            assert "the same `instance`" in until(ended, limit=60)
