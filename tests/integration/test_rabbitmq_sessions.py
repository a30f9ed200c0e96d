"""What crashes, purges and handovers between sessions of publisher and appliers leave in queues and streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
import pytest

from cdcflow.bus.rabbitmq import claim, notes
from cdcflow.bus.rabbitmq.address import parse
from cdcflow.bus.rabbitmq.doubts import PLACE
from cdcflow.bus.rabbitmq.layout import own_key
from cdcflow.bus.rabbitmq.refusals import Refused, translate
from cdcflow.errors import OperatorError, RowRejected, SourceUnavailable, TargetUnavailable
from tests.integration.rabbit_world import (
    ROUTE,
    Claims,
    Exchange,
    Reader,
    batch,
    begun_and_read,
    exchange,
    pairs,
    piece,
    route,
    rows,
    table,
    truncate,
)
from tests.servers.rabbitmq_server import RabbitMq
from tests.servers.waiting import until

KINDS = ("quorum", "stream")

__all__ = ["exchange"]


def values(reader: Reader) -> list[str | None]:
    return [value for _, value in reader.events]


def dies_behind_the_first_mark(target: Any, work: Callable[[], Any]) -> None:
    """A publisher that ends when one partition has a mark and the next has not."""
    dies_behind_marks(target, 1, work)


def dies_behind_marks(target: Any, written: int, work: Callable[[], Any]) -> None:
    """A publisher that ends when so many partitions have a mark."""
    publisher, publish, marks = target._publisher, target._publisher.publish, 0

    def until_then(order: bytes, parts: Any, *rest: Any) -> int:
        nonlocal marks
        marks += parts.keys() == {0} and parts[0][4] in (b"t", b"m")
        if marks > written:
            publisher._settle()
            raise TargetUnavailable("killed")
        return int(publish(order, parts, *rest))

    publisher.publish = until_then
    with pytest.raises(TargetUnavailable, match="killed"):
        work()
    publisher.publish = publish
    publisher.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_before_a_copy_that_only_one_partition_has_holds_nobody_up(
    exchange: Callable[..., Exchange], kind: str
) -> None:
    shop = exchange(queue=kind, partitions=2)
    first = shop.begun()
    first.apply(batch(100, rows("I", pairs(1, 20))))
    dies_behind_the_first_mark(first, lambda: first.clear(ROUTE, ROUTE))
    second = shop.begun()
    second.clear(ROUTE, ROUTE)
    second.apply(batch(200, rows("I", pairs(30, 20))))
    reader = Reader(shop)
    reader.to_the_end()
    assert reader.rows == {str(key): value for key, value in pairs(30, 20)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_inside_a_large_transaction_that_only_one_partition_has_holds_nobody_up(
    exchange: Callable[..., Exchange], kind: str
) -> None:
    shop = exchange(queue=kind, partitions=2)
    first = shop.begun()
    first.apply(batch(100, rows("I", pairs(1, 20))))
    large = piece(rows("I", pairs(30, 20)), truncate(), rows("I", pairs(60, 20)))
    dies_behind_the_first_mark(first, lambda: first.apply(large))
    second = shop.begun()
    second.apply(large)
    second.apply(batch(200, rows("I", pairs(90, 20))))
    reader = Reader(shop)
    reader.to_the_end()
    assert reader.rows == {str(key): value for key, value in [*pairs(60, 20), *pairs(90, 20)]}


def test_a_mark_of_a_transaction_that_is_not_published_again_ends_with_the_copy(
    exchange: Callable[..., Exchange],
) -> None:
    shop = exchange(partitions=2)
    first = shop.begun()
    dies_behind_the_first_mark(first, lambda: first.apply(batch(100, truncate())))
    second = shop.begun()
    second.clear(ROUTE, ROUTE)
    second.apply(batch(200, rows("I", pairs(30, 20))))
    reader = Reader(shop)
    reader.to_the_end()
    assert len(reader.rows) == 20


@pytest.mark.parametrize("written", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_that_was_interrupted_stands_before_that_of_another_table_everywhere(
    exchange: Callable[..., Exchange], kind: str, written: int
) -> None:
    shop = exchange(queue=kind, partitions=2)
    first = shop.begun()
    first.apply(batch(100, rows("I", pairs(1, 20))))
    before = batch(200, rows("U", pairs(1, 5, "w")), truncate(), rows("I", pairs(30, 20)))
    dies_behind_marks(first, written, lambda: first.apply(before))
    second = shop.begun()
    users = route(table("users"))
    second.clear(users, users)
    second.apply(before)
    second.apply(batch(300, rows("I", pairs(90, 20))))
    reader = Reader(shop)
    reader.to_the_end()
    assert reader.rows == {str(key): value for key, value in [*pairs(30, 20), *pairs(90, 20)]}
    inserted = [key for key, value in reader.events if value is not None and not value.startswith("w")]
    assert len(inserted) == len(set(inserted)) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_again_behind_the_truncation_of_a_copy_is_known(
    exchange: Callable[..., Exchange], kind: str
) -> None:
    shop = exchange(queue=kind)
    first = shop.begun()
    first.apply(batch(100, rows("I", pairs(1, 5))))
    reader = Reader(shop)
    first.apply(batch(200, rows("U", pairs(1, 5, "w"))))
    reader.until(lambda: len(reader.events) == 10)
    first._publisher.close()
    second = shop.begun()
    second.clear(ROUTE, ROUTE)
    second.apply(batch(200, rows("U", pairs(1, 5, "w"))))
    second.apply(batch(300, rows("U", pairs(1, 5, "x"))))
    reader.to_the_end()
    assert values(reader) == [*(f"{each}{key}" for each in "vw" for key in range(1, 6)), None] + [
        f"x{key}" for key in range(1, 6)
    ]


def purged(broker: RabbitMq, queue: str) -> None:
    with broker._channel("/") as channel:
        until(lambda: channel.queue_purge(queue).method.message_count > 0, what="purged")


@pytest.mark.parametrize("how", ["reconnects", "starts again"])
def test_messages_purged_before_a_publisher_comes_back_stop_the_reader(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq, how: str
) -> None:
    shop = exchange()
    target, reader = begun_and_read(shop, 3)
    reader.step()
    reader.stream.close()
    target.apply(batch(200, rows("I", pairs(4, 3))))
    if how == "reconnects":
        target._publisher.close()
        target.begin(shop.name, 1)
    else:
        target.close()
    purged(rabbitmq, f"{shop.name}.0")
    if how == "reconnects":
        target._publisher.close()
        target.begin(shop.name, 1)
    else:
        target = shop.begun()
    target.apply(batch(300, rows("I", pairs(7, 3))))
    error = Reader(shop, reader.claims).fails()
    assert isinstance(error, OperatorError)
    assert "missing" in error.what
    assert error.do.index("teardown") < error.do.index("resync")


def test_messages_purged_before_the_first_is_read_stop_the_reader(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange()
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, 3))))
    purged(rabbitmq, f"{shop.name}.0")
    target.apply(batch(200, rows("I", pairs(4, 3))))
    error = Reader(shop).fails()
    assert isinstance(error, OperatorError)
    assert "missing" in error.what
    assert "beginning" in error.at


@pytest.mark.parametrize("listed", [True, False])
def test_a_group_that_comes_later_misses_nothing_of_its_own(exchange: Callable[..., Exchange], listed: bool) -> None:
    """Its queues begin in the middle of what the others have."""
    shop = exchange(groups=("lake",))
    first = shop.begun()
    first.apply(batch(100, rows("I", pairs(1, 3))))
    first.apply(batch(200, rows("I", pairs(4, 3))))
    if listed:
        first.close()
        first = shop.begun(groups=("lake", "search"))
    reader = Reader(shop, group="search")
    reader.step()
    first.apply(batch(300, rows("I", pairs(7, 3))))
    first.close()
    shop.begun().apply(batch(400, rows("I", pairs(10, 3))))
    reader.to_the_end()
    assert sorted(map(int, reader.rows)) == list(range(7, 13))


def test_a_repetition_is_known_by_who_has_the_queue_now(exchange: Callable[..., Exchange]) -> None:
    shop = exchange()
    first = shop.begun()
    first.apply(batch(100, rows("I", pairs(1, 5))))
    first.apply(batch(200, rows("U", pairs(1, 5, "w"))))
    one = Reader(shop)
    one.to_the_end()
    one.step()
    one.stream.close()  # everything was applied and acknowledged
    first._publisher.close()
    second = shop.begun()
    second.apply(batch(200, rows("U", pairs(1, 5, "w"))))
    second.apply(batch(300, rows("U", pairs(1, 5, "x"))))
    two = Reader(shop, one.claims)
    two.to_the_end()
    assert values(two) == [f"x{key}" for key in range(1, 6)]


def test_at_rest_nothing_stays_in_a_queue(exchange: Callable[..., Exchange], rabbitmq: RabbitMq) -> None:
    shop = exchange(partitions=2)
    target = shop.begun()
    reader = Reader(shop)
    last = batch(100, rows("I", pairs(1, 50)))
    target.apply(last)
    target.heartbeat(last.end)  # its checkpoint is saved
    reader.to_the_end()
    reader.step()
    reader.stream.close()
    until(lambda: [rabbitmq.depth(f"{shop.name}.{number}") for number in (0, 1)] == [0, 0], what="both are empty")


def test_the_end_of_a_queue_is_what_others_have_read_of_it_and_made_durable(
    exchange: Callable[..., Exchange],
) -> None:
    shop = exchange()
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, 5))))
    claims = Claims()
    one = Reader(shop, claims)
    one.until(lambda: len(one.events) == 5, ack=False)
    two = Reader(shop, claims)
    end = two.source.end()
    assert not two.stream.reached(end, claims.shares)
    until(lambda: (two.step(), one.step(ack=False), one.stream._asking._owed)[2], what="the other was asked")
    for _ in range(3):
        two.step(), one.step(ack=False)
    assert not two.stream.reached(end, claims.shares)
    one.stream.ack(one.stream._end())
    until(lambda: (one.step(ack=False), two.step(), two.stream.reached(end, claims.shares))[2], what="it has answered")
    assert not two.events


def test_a_stream_read_from_its_end_goes_on_from_there(exchange: Callable[..., Exchange]) -> None:
    shop = exchange(queue="stream")
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, 5))))
    one = Reader(shop, start="next")
    until(lambda: (one.step(), one.claims.shares.get(f"{shop.name}/0"))[1], what="it has begun")
    one.stream.close()
    target.apply(batch(200, rows("I", pairs(6, 5))))
    two = Reader(shop, one.claims, start="next")
    two.to_the_end()
    assert sorted(map(int, two.rows)) == list(range(6, 11))


def test_a_stream_that_is_taken_later_than_others_is_read_from_where_these_were_begun(
    exchange: Callable[..., Exchange],
) -> None:
    shop = exchange(queue="stream", partitions=2)
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, 20))))
    one = Reader(shop, start="next")
    one.stream._starts.take({f"{shop.name}/0": f"{shop.name}.0"}, one.claims)  # and then it is killed
    one.stream.close()
    target.apply(batch(200, rows("I", pairs(21, 20))))
    two = Reader(shop, one.claims, start="next")
    two.to_the_end()
    assert sorted(map(int, two.rows)) == list(range(21, 41))


def test_the_end_of_a_stream_is_read_back_while_others_write_marks_to_it(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = exchange(queue="stream")
    first = shop.begun()
    first.apply(batch(100, rows("I", pairs(1, 5))))
    first.close()
    real = notes.read_stream

    def behind_another_mark(wire: Any, queue: str, start: int | str, *rest: Any, **named: Any) -> Any:
        with rabbitmq._channel("/") as channel:
            channel.confirm_delivery()
            channel.basic_publish(shop.name, own_key(queue), b"", pika.BasicProperties(headers={PLACE: "mark"}))
        return real(wire, queue, start, *rest, **named)

    monkeypatch.setattr(notes, "read_stream", behind_another_mark)
    monkeypatch.setattr(claim, "read_stream", behind_another_mark)
    second = shop.begun()
    second.apply(batch(200, rows("I", pairs(6, 5))))
    reader = Reader(shop)
    reader.until(lambda: len(reader.events) == 10)


def test_a_message_that_is_too_large_is_named_by_table_and_key(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    # As `max_message_size` in rabbitmq.conf, which is read when a node starts.
    usual = rabbitmq.ctl("eval", "persistent_term:get(max_message_size).").strip()
    rabbitmq.ctl("eval", "persistent_term:put(max_message_size, 200000).")
    try:
        target = exchange().begun()
        with pytest.raises(RowRejected) as refused:
            target.apply(batch(100, rows("I", [(1, "x" * 100_000), (77, "y" * 300_000), (3, "z")])))
    finally:
        rabbitmq.ctl("eval", f"persistent_term:put(max_message_size, {usual}).")
    assert "public.t" in refused.value.what
    assert "77" in refused.value.at
    assert "yyy" not in str(refused.value.report())
    assert "max_message_size" in refused.value.do


def test_messages_that_the_broker_takes_back_for_being_late_are_waited_for() -> None:
    words = "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out. Timeout value used: 1800000 ms."
    address = parse("amqp://guest:guest@127.0.0.1:5672/")
    found = translate(Refused(406, words, hard=False), address, "shop", SourceUnavailable)
    assert isinstance(found, SourceUnavailable)
