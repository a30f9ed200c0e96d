"""RabbitMQ as a target and as a shared source, each by itself, against the real broker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pika
import pytest

from cdcflow.errors import (
    AccessDenied,
    OperatorError,
    SchemaStop,
    SourceUnavailable,
    TargetUnavailable,
    UsageError,
)
from cdcflow.model.change import SchemaChange
from cdcflow.model.check import Level
from cdcflow.model.position import Shares
from cdcflow.model.route import Route, SchemaChanges
from cdcflow.model.schema import Column, Logical, NativeType
from tests.integration.rabbit_world import (
    COMMITTED_US,
    ROUTE,
    Claims,
    Exchange,
    Reader,
    batch,
    begun_and_read,
    exchange,
    pairs,
    rows,
    truncate,
)
from tests.servers.rabbitmq_server import RabbitMq
from tests.servers.waiting import until

KINDS = ("quorum", "stream")

__all__ = ["exchange"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("partitions", [1, 3])
def test_what_is_published_arrives_once_and_in_order_of_each_key(
    exchange: Callable[..., Exchange], kind: str, partitions: int
) -> None:
    shop = exchange(queue=kind, partitions=partitions)
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, 200))))
    target.apply(batch(200, rows("U", pairs(1, 200, "w")), rows("D", pairs(1, 50, "w"))))
    reader = Reader(shop)
    reader.to_the_end()
    assert reader.rows == {str(key): f"w{key}" for key in range(51, 201)}
    assert len(reader.events) == 450
    assert reader.commit_times == {COMMITTED_US / 1e6}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_publisher_sends_again_is_applied_once(exchange: Callable[..., Exchange], kind: str) -> None:
    shop = exchange(queue=kind)
    first = shop.begun()
    first.apply(batch(100, rows("I", pairs(1, 5))))
    reader = Reader(shop)
    # The checkpoint is saved behind the first transaction, and the process ends behind the second.
    first.apply(batch(200, rows("U", pairs(1, 5, "w"))))
    first._publisher.close()
    second = shop.begun()
    second.apply(batch(200, rows("U", pairs(1, 5, "w"))))
    second.apply(batch(300, rows("U", pairs(1, 5, "x"))))
    reader.to_the_end()
    assert [value for _, value in reader.events] == [f"{each}{key}" for each in "vwx" for key in range(1, 6)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncation_sent_again_does_not_remove_what_came_behind_it(
    exchange: Callable[..., Exchange], kind: str
) -> None:
    shop = exchange(queue=kind, partitions=2)
    again = batch(200, truncate(), rows("I", pairs(7, 3)))
    first = shop.begun()
    first.apply(batch(100, rows("I", pairs(1, 5))))
    first.apply(again)
    first._publisher.close()
    shop.begun().apply(again)
    reader = Reader(shop)
    reader.to_the_end()
    assert reader.rows == {"7": "v7", "8": "v8", "9": "v9"}
    assert [event for event, _ in reader.events].count("truncate") == 1


def test_a_message_that_comes_again_never_goes_over_a_newer_row(exchange: Callable[..., Exchange]) -> None:
    shop = exchange()
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, 3))))
    target.apply(batch(200, rows("U", pairs(1, 3, "w"))))
    claims = Claims()
    before = Reader(shop, claims)
    before.until(lambda: len(before.events) == 6, ack=False)
    before.stream.close()  # nothing was acknowledged: everything comes again
    after = Reader(shop, claims)
    target.apply(batch(300, rows("I", pairs(9, 1))))
    after.until(lambda: "9" in after.rows)
    assert after.events == [("9", "v9")]


def test_the_end_of_a_stream_is_told_while_another_writes_to_it(exchange: Callable[..., Exchange]) -> None:
    shop = exchange(queue="stream")
    target = shop.begun()
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 100
            target.apply(batch(number, rows("I", pairs(number, 1))))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        source = shop.source()
        ends = [source.end() for _ in range(20)]
    finally:
        ended.set()
        writer.join()
    places = [end.shares[f"{shop.name}/0"].place for end in ends if isinstance(end, Shares)]
    assert len(places) == 20
    assert places == sorted(set(places))


def test_an_instance_that_joins_gets_its_part_of_the_queues(exchange: Callable[..., Exchange]) -> None:
    shop = exchange(partitions=4)
    target = shop.begun()
    claims = Claims()
    one = Reader(shop, claims)
    target.apply(batch(100, rows("I", pairs(1, 100))))
    one.until(lambda: len(one.events) == 100)
    two = Reader(shop, claims)

    def both() -> bool:
        one.step(), two.step()
        return len(one.stream._held) == 2 and len(two.stream._held) == 2

    until(both, limit=90, what="both have two queues")
    assert len(claims.given) == 2
    target.apply(batch(200, rows("U", pairs(1, 100, "w"))))
    until(lambda: (one.step(), two.step(), len(one.events) + len(two.events))[2] == 200, limit=90, what="all rows")
    assert {**one.rows, **two.rows} == {str(key): f"w{key}" for key in range(1, 101)}
    two.stream.close()
    until(lambda: (one.step(), len(one.stream._held))[1] == 4, limit=90, what="one has all queues again")


def test_rules_that_stop_at_changes_do_so_at_those_that_readers_are_told_of(exchange: Callable[..., Exchange]) -> None:
    """Not at an index, or at the charset that columns of later get."""
    before = replace(ROUTE, schema_changes=SchemaChanges.STOP)
    added = Column("w", NativeType("text"), Logical.TEXT)

    def after(**changed: object) -> Route:
        source = replace(before.source, version=1, **changed)  # type: ignore[arg-type]
        return replace(before, source=source, columns=tuple((column, column.name) for column in source.columns))

    target = exchange().begun()
    target.apply(batch(100, SchemaChange(before, after(collation="latin1_swedish_ci"))))
    with pytest.raises(SchemaStop):
        target.apply(batch(200, SchemaChange(before, after(columns=(*before.source.columns, added)))))


def test_messages_that_a_policy_dropped_stop_the_reader(exchange: Callable[..., Exchange], rabbitmq: RabbitMq) -> None:
    shop = exchange()
    target, reader = begun_and_read(shop, 3)
    reader.step()
    claims = reader.claims
    reader.stream.close()
    target.apply(batch(200, rows("I", pairs(4, 3))))
    with rabbitmq._channel("/") as channel:
        until(lambda: channel.queue_purge(f"{shop.name}.0").method.message_count > 0, what="purged")
    target.apply(batch(300, rows("I", pairs(7, 3))))
    error = Reader(shop, claims).fails()
    assert isinstance(error, OperatorError)
    assert "missing" in error.what
    assert "resync" in error.do


def test_a_deleted_queue_stops_both_sides(exchange: Callable[..., Exchange], rabbitmq: RabbitMq) -> None:
    shop = exchange()
    target, reader = begun_and_read(shop, 3)
    rabbitmq.delete_queue(f"{shop.name}.0")
    error = reader.fails()
    assert isinstance(error, OperatorError)
    assert "deleted" in error.what
    with pytest.raises(OperatorError, match="no queue takes a message") as refused:
        target.apply(batch(200, rows("I", pairs(4, 3))))
    assert "resync" in refused.value.do
    # Made again by the next start, it says first that something is lost.
    shop.begun().apply(batch(200, rows("I", pairs(4, 3))))
    reader.stream.close()
    assert "deleted and made again" in Reader(shop, reader.claims).fails().what


def test_a_second_publisher_is_kept_out(exchange: Callable[..., Exchange]) -> None:
    shop = exchange()
    shop.begun()
    with pytest.raises(TargetUnavailable, match="another publisher") as refused:
        shop.begun()
    assert "our own connection" in refused.value.why


def test_another_number_of_partitions_is_refused(exchange: Callable[..., Exchange]) -> None:
    shop = exchange(partitions=2)
    shop.begun().close()
    with pytest.raises(OperatorError, match="has 2 of `queue: quorum`"):
        shop.begun(partitions=3)
    found = shop.publisher(queue="stream").check([ROUTE])
    assert next(each.name for each in found if each.level is Level.BLOCKER) == "rabbitmq.layout"


def test_an_exchange_of_another_kind_is_refused(exchange: Callable[..., Exchange], rabbitmq: RabbitMq) -> None:
    shop = exchange()
    with rabbitmq._channel("/") as channel:
        channel.exchange_declare(shop.name, "fanout")
        try:
            blockers = [each for each in shop.publisher().check([ROUTE]) if each.level is Level.BLOCKER]
            assert [each.name for each in blockers] == ["rabbitmq.exchange"]
            with pytest.raises(OperatorError, match="other settings"):
                shop.begun()
        finally:
            with rabbitmq._channel("/") as other:
                other.exchange_delete(shop.name)


def test_a_wrong_password_and_a_missing_host_say_so(rabbitmq: RabbitMq) -> None:
    with pytest.raises(AccessDenied, match="login"):
        Exchange(rabbitmq.url(user="guest", password="wrong")).begun()
    with pytest.raises(AccessDenied, match='virtual host "nowhere"') as missing:
        Exchange(rabbitmq.url("nowhere")).begun()
    assert "add_vhost" in missing.value.do


def test_a_missing_permission_comes_with_the_command_that_grants_it(rabbitmq: RabbitMq) -> None:
    rabbitmq.api("PUT", "users/clerk", {"password": "secret", "tags": ""})
    rabbitmq.api("PUT", "permissions/%2F/clerk", {"configure": "^$", "write": "^$", "read": "^$"})
    shop = Exchange(rabbitmq.url(user="clerk", password="secret"))
    with pytest.raises(AccessDenied, match="lacks a permission") as refused:
        shop.begun()
    blocker = next(each for each in shop.publisher().check([ROUTE]) if each.level is Level.BLOCKER)
    assert blocker.do == refused.value.do
    _, _, command = refused.value.do.partition("rabbitmqctl ")
    import shlex

    rabbitmq.ctl(*shlex.split(command))
    shop.begun().apply(batch(100, rows("I", pairs(1, 3))))
    reader = Reader(shop)
    reader.to_the_end()
    assert len(reader.rows) == 3
    shop.close()


def test_a_broker_under_an_alarm_is_waited_for(new_rabbitmq: Callable[[], RabbitMq]) -> None:
    broker = new_rabbitmq()
    shop = Exchange(broker.url())
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, 3))))
    broker.memory_alarm(True)
    with pytest.raises(TargetUnavailable, match="takes no messages") as blocked:
        target.apply(batch(200, rows("I", pairs(4, 3))))
    assert blocked.value.why
    broker.memory_alarm(False)
    target.begin(shop.name, 1)
    target.apply(batch(200, rows("I", pairs(4, 3))))
    reader = Reader(shop)
    reader.to_the_end()
    assert len(reader.events) == 6
    shop.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_that_crashes_keeps_what_it_confirmed(new_rabbitmq: Callable[[], RabbitMq], kind: str) -> None:
    broker = new_rabbitmq()
    shop = Exchange(broker.url(), queue=kind)
    shop.begun().close()
    # What was declared a moment before a crash, a broker alone may have in memory only.
    broker.restart()
    target = _once_up(shop.begun)
    target.apply(batch(100, rows("I", pairs(1, 300))))
    reader = Reader(shop)
    reader.until(lambda: len(reader.events) == 300)
    reader.step()
    broker.kill()
    with pytest.raises(TargetUnavailable):
        target.apply(batch(200, rows("U", pairs(1, 300, "w"))))
    assert isinstance(reader.fails(), SourceUnavailable)
    assert reader.claims.gone
    broker.start()
    # It takes connections before all of its queues and streams are up.
    _once_up(lambda: target.begin(shop.name, 1))
    target.apply(batch(200, rows("U", pairs(1, 300, "w"))))
    after = _once_up(lambda: Reader(shop, reader.claims))
    after.to_the_end()
    assert after.rows == {str(key): f"w{key}" for key in range(1, 301)}
    shop.close()


def _once_up(work: Callable[[], Any]) -> Any:
    done: list[Any] = []

    def worked() -> bool:
        with suppress(SourceUnavailable, TargetUnavailable):
            done.append(work())
        return bool(done)

    until(worked, limit=60, what="it is up")
    return done[0]


def test_two_groups_each_get_everything(exchange: Callable[..., Exchange]) -> None:
    shop = exchange(groups=("lake", "search"))
    shop.begun().apply(batch(100, rows("I", pairs(1, 5))))
    for group in ("lake", "search"):
        reader = Reader(shop, group=group)
        reader.to_the_end()
        assert len(reader.rows) == 5


def test_teardown_names_and_deletes_the_queues_of_the_group(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange(partitions=2)
    shop.begun().apply(batch(100, rows("I", pairs(1, 5))))
    dropped = shop.source().teardown()
    assert [f'"{shop.name}.{number}"' in dropped[number] for number in (0, 1)] == [True, True]
    assert not [name for name in rabbitmq.queues() if name in (f"{shop.name}.0", f"{shop.name}.1")]


def test_a_wish_for_a_copy_is_sent_to_the_publisher(exchange: Callable[..., Exchange]) -> None:
    with pytest.raises(UsageError) as refused:
        exchange().source().request(["public.t"])
    assert "cdcflow resync public.t" in refused.value.do


def test_before_anything_is_published_a_reader_waits(exchange: Callable[..., Exchange]) -> None:
    shop = exchange()
    with pytest.raises(SourceUnavailable, match="nobody has published"):
        shop.source().end()
    assert shop.source().tables() == []


def test_others_can_read_the_messages(exchange: Callable[..., Exchange], rabbitmq: RabbitMq) -> None:
    shop = exchange()
    target = shop.begun()
    with rabbitmq._channel("/") as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, shop.name, "public.t.*")
        target.apply(batch(100, rows("I", pairs(1, 1))))
        seen: list[pika.BasicProperties] = []
        until(lambda: _got(channel, queue, seen), what="the message")
    assert seen[0].delivery_mode == 2
    assert (seen[0].message_id, seen[0].correlation_id, seen[0].type) == ("0/64/1", "800", "c")
    assert seen[0].content_type == "application/json"


def _got(channel: Any, queue: str, seen: list[pika.BasicProperties]) -> bool:
    _, properties, _ = channel.basic_get(queue, auto_ack=True)
    if properties is not None:
        seen.append(properties)
    return bool(seen)
