"""Streams of RabbitMQ that were deleted and made again, against the real broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from cdcflow.bus.rabbitmq.target import RabbitTarget
from cdcflow.errors import OperatorError, SourceUnavailable, TargetUnavailable
from cdcflow.model.position import Share
from tests.integration.rabbit_world import (
    Claims,
    Exchange,
    Reader,
    batch,
    begun_and_read,
    exchange,
    late_notes,
    pairs,
    rows,
    truncate,
)
from tests.servers.rabbitmq_server import RabbitMq
from tests.servers.waiting import until

__all__ = ["exchange", "late_notes"]


def was_read(shop: Exchange, count: int) -> tuple[RabbitTarget, Reader]:
    """Publish so many rows and read them all; return the publisher, and the reader, which is closed."""
    target, reader = begun_and_read(shop, count)
    reader.stream.close()
    return target, reader


def told(shop: Exchange, claims: Claims) -> OperatorError:
    """Start a reader that has to stop; return what it says."""
    reader = Reader(shop, claims)
    error = reader.fails()
    reader.stream.close()
    assert isinstance(error, OperatorError)
    return error


@pytest.mark.parametrize("count", [3, 100])
@pytest.mark.parametrize("start", ["first", "next"])
def test_a_stream_made_again_is_told_from_the_one_that_was_read(
    start: str, count: int, exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange(queue="stream")
    target, reader = was_read(shop, 30)
    target.close()
    rabbitmq.delete_queue(f"{shop.name}.0")
    # Its reader is told once, however much it holds by then, and goes on with its first message.
    again = shop.begun()
    again.apply(batch(200, truncate(), rows("I", pairs(1, count, "w"))))
    assert "deleted and made again" in told(shop, reader.claims).what
    for claims in (reader.claims, Claims()):
        other = Reader(shop, claims, start=start if claims is reader.claims else "first")
        other.to_the_end()
        assert other.rows == {str(key): f"w{key}" for key in range(1, count + 1)}
        other.stream.close()


def test_a_new_pipeline_begins_at_the_end_of_a_stream_that_was_made_again(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange(queue="stream")
    target, _ = was_read(shop, 30)
    target.close()
    rabbitmq.delete_queue(f"{shop.name}.0")
    again = shop.begun()
    again.apply(batch(200, truncate(), rows("I", pairs(1, 3))))
    other = Reader(shop, start="next")
    until(lambda: (other.step(), other.claims.shares.get(f"{shop.name}/0"))[1], what="it has begun")
    again.apply(batch(300, rows("I", pairs(4, 3))))
    other.to_the_end()
    assert sorted(map(int, other.rows)) == [4, 5, 6]


def test_a_stream_that_was_read_before_it_had_a_name_is_told_from_the_next(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange(queue="stream")
    target, reader = was_read(shop, 30)
    nameless = {name: replace(share, identity="") for name, share in reader.claims.shares.items()}
    reader.claims.shares = dict(nameless)
    target.apply(batch(200, rows("I", pairs(31, 1))))
    same = Reader(shop, reader.claims)
    same.to_the_end()
    assert same.events == [("31", "v31")]
    same.stream.close()
    target.close()
    rabbitmq.delete_queue(f"{shop.name}.0")
    shop.begun().apply(batch(300, truncate(), rows("I", pairs(1, 100, "w"))))
    reader.claims.shares = dict(nameless)
    assert "deleted and made again" in told(shop, reader.claims).what
    other = Reader(shop, reader.claims)
    other.to_the_end()
    assert other.rows == {str(key): f"w{key}" for key in range(1, 101)}


def test_a_stream_made_again_is_told_from_the_one_that_was_read_however_late_the_notes_come(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq, late_notes: Callable[[], None]
) -> None:
    shop = exchange(queue="stream")
    target, reader = was_read(shop, 30)
    other = Reader(shop, reader.claims)
    target.close()
    rabbitmq.delete_queue(f"{shop.name}.0")
    shop.begun().apply(batch(200, truncate(), rows("I", pairs(1, 100, "w"))))
    late_notes()
    assert "deleted and made again" in str(other.fails())


def test_a_stream_that_is_made_again_while_it_is_taken_is_not_taken_for_the_one_that_was_read(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange(queue="stream")
    target, reader = was_read(shop, 30)

    class Slow(Claims):
        def take(self, names: Sequence[str]) -> dict[str, Share]:
            target.close()
            rabbitmq.delete_queue(f"{shop.name}.0")
            shop.begun().apply(batch(200, truncate(), rows("I", pairs(1, 100, "w"))))
            return super().take(names)

    claims = Slow()
    claims.shares = dict(reader.claims.shares)
    other = Reader(shop, claims)
    assert isinstance(other.fails(), SourceUnavailable)
    other.stream.close()
    assert "deleted and made again" in told(shop, reader.claims).what


def test_notes_that_were_made_again_are_read_from_their_start(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange(queue="stream")
    target, reader = was_read(shop, 5)
    target.close()
    for _ in range(3):
        shop.begun().close()
    source = reader.source
    assert source.tables()
    rabbitmq.delete_queue(f"{shop.name}.schema_changes")
    target = shop.begun()
    assert source.tables() == []
    target.apply(batch(200, rows("I", pairs(6, 5))))
    assert [str(table.name) for table in source.tables()] == ["public.t"]


@pytest.mark.parametrize("gone", [0, 1])
def test_a_mark_that_a_stream_made_again_lacks_is_not_waited_for_there(
    gone: int, exchange: Callable[..., Exchange], rabbitmq: RabbitMq
) -> None:
    shop = exchange(queue="stream", partitions=2)
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, 30))))
    reader = Reader(shop)
    reader.to_the_end()
    target.apply(batch(200, truncate(), rows("I", pairs(1, 20, "u"))))
    reader.stream.close()
    target.close()
    rabbitmq.delete_queue(f"{shop.name}.{gone}")
    shop.begun().apply(batch(300, truncate(), rows("I", pairs(1, 40, "w"))))
    assert "deleted and made again" in told(shop, reader.claims).what
    for claims in (reader.claims, Claims()):
        other = Reader(shop, claims)
        other.to_the_end()
        assert other.rows == {str(key): f"w{key}" for key in range(1, 41)}
        other.stream.close()


def test_a_publisher_that_dies_while_it_makes_a_stream_again_leaves_its_name(
    exchange: Callable[..., Exchange], rabbitmq: RabbitMq, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = exchange(queue="stream")
    target, reader = was_read(shop, 5)
    target.close()
    rabbitmq.delete_queue(f"{shop.name}.0")

    def dies(*_: object) -> None:
        raise TargetUnavailable("killed")

    with monkeypatch.context() as patched:
        patched.setattr("cdcflow.bus.rabbitmq.publisher.declare_super_stream", dies)  # the stream is there by then
        with pytest.raises(TargetUnavailable):
            shop.begun()
    shop.begun().apply(batch(200, truncate(), rows("I", pairs(1, 40, "w"))))
    assert "deleted and made again" in told(shop, reader.claims).what
    other = Reader(shop, reader.claims)
    other.to_the_end()
    assert len(other.rows) == 40
