"""AMQP frames: what is packed is what pika reads, and broken bytes are told from frames."""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest
from pika import frame as pika_frame
from pika import spec

from cdcflow.codecs.amqpframes_cy import ACK, DELIVER, AmqpError, Splitter, entry, frame, short
from cdcflow.codecs.amqpheaders_cy import headers_of, timestamp_of
from cdcflow.codecs.amqppack_cy import Counters, pack


def method(key: str) -> bytes:
    encoded = b"".join(spec.Basic.Publish(0, "shop", key, True, False).encode())
    return frame(1, 3, spec.Basic.Publish.INDEX.to_bytes(4, "big") + encoded)


def part(values: list[bytes | None], keys: list[bytes | None], hashes: list[int], **extras: list[tuple[str, bytes]]):
    count = len(values)
    numbers = array("I", range(1, count + 1)).tobytes()
    return (
        array("I", range(count + 1)).tobytes(),
        keys,
        values,
        array("I", hashes).tobytes(),
        b"c" * count,
        {int(name[1:]): pairs for name, pairs in extras.items()},
        bytes(4 * count),
        numbers,
        numbers,
        [method("public.t.0"), method("public.t.1")],
        (short(b"application/json"), entry("cdcflow.schema", b"abc")),
    )


def packed(
    order: list[int], parts: dict, counters: Counters, skip=None, frame_max: int = 4096, position: bytes = b"0/10"
) -> bytes:
    pieces: list[bytes] = []
    stamps = [(position, b"7", 1_700_000_000_000_250)]
    count = pack(
        array("I", order).tobytes(), parts, stamps, counters, 3, frame_max, lambda data, _: pieces.append(data), skip
    )
    assert count == sum(counters.numbers)
    return b"".join(pieces)


def read_by_pika(data: bytes) -> list[tuple[str, spec.BasicProperties, bytes]]:
    found, body, wanted, key, properties = [], b"", 0, "", None
    while data:
        used, one = pika_frame.decode_frame(data)
        assert one is not None
        data = data[used:]
        if isinstance(one, pika_frame.Method):
            key = one.method.routing_key
            assert one.method.mandatory
            assert one.channel_number == 3
        elif isinstance(one, pika_frame.Header):
            properties, wanted, body = one.properties, one.body_size, b""
        else:
            body += one.fragment
        if properties is not None and len(body) == wanted:
            found.append((key, properties, body))
            properties = None
    return found


def test_messages_are_packed_as_pika_reads_them() -> None:
    counters = Counters(5, 2)
    large = bytes(range(256)) * 40
    parts = {
        1: part([b"one", large], [b"k1", None], [0, 1]),
        2: part([None], [b"k3"], [2], m0=[("cdcflow.exact", b"{}")]),
    }
    found = read_by_pika(packed([1, 2, 1], parts, counters))

    assert [(key, body) for key, _, body in found] == [
        ("public.t.0", b"one"),
        ("public.t.0", b""),
        ("public.t.1", large),
    ]
    first, second, third = (properties for _, properties, _ in found)
    assert first.content_type == "application/json"
    assert first.delivery_mode == 2
    assert (first.message_id, first.correlation_id, first.type) == ("0/10/1", "7", "c")
    assert first.timestamp == 1_700_000_000
    assert first.headers == {
        "cdcflow.schema": "abc",
        "cdcflow.place": "5/1/0/1/0/250",
        "cdcflow.key": "k1",
    }
    assert second.headers["cdcflow.place"] == "5/2/0/1/0/250"
    assert second.headers["cdcflow.exact"] == "{}"
    assert third.headers["cdcflow.place"] == "5/1/0/2/0/250"
    assert "cdcflow.key" not in third.headers


@pytest.mark.parametrize("position", [b"0/10", b"a-gtid:1-5," * 40])
def test_what_properties_have_room_for_or_not_is_read_alike(position: bytes) -> None:
    data = packed([1], {1: part([b"one"], [b"k1"], [0])}, Counters(5, 1), position=position)
    (_, properties, _) = read_by_pika(data)[0]
    assert (properties.message_id is None) == (len(position) > 255)
    encoded = b"\x00\x3c" + bytes(10) + b"".join(properties.encode())
    headers = dict(headers_of(encoded)[0])
    assert headers["cdcflow.position"] == position + b"/1"
    assert (headers["cdcflow.txid"], headers["cdcflow.op"]) == (b"7", b"c")
    other = spec.BasicProperties(message_id="7", headers={"cdcflow.key": "k"}, type="order")
    assert dict(headers_of(b"\x00\x3c" + bytes(10) + b"".join(other.encode()))[0]) == {"cdcflow.key": b"k"}


def test_a_skipped_message_has_no_number() -> None:
    counters = Counters(5, 1)
    parts = {1: part([b"a", b"b", b"c"], [b"1", b"2", b"3"], [0, 0, 0])}
    found = read_by_pika(packed([1, 1, 1], parts, counters, skip=lambda *what: what[3] == 2))
    assert [properties.headers["cdcflow.place"] for _, properties, _ in found] == ["5/1/0/1/0/250", "5/2/0/3/0/250"]


def test_headers_that_fit_into_no_frame_are_refused() -> None:
    parts = {1: part([b"a"], [b"k" * 5000], [0])}
    with pytest.raises(AmqpError, match="headers"):
        packed([1], parts, Counters(5, 1))


def delivery(tag: int, body: bytes, headers: dict[str, object]) -> bytes:
    encoded = b"".join(spec.Basic.Deliver("c", tag, False, "shop", "public.t.0").encode())
    properties = spec.BasicProperties(content_type="application/json", headers=headers)
    data = frame(1, 1, spec.Basic.Deliver.INDEX.to_bytes(4, "big") + encoded)
    data += pika_frame.Header(1, len(body), properties).marshal()
    return data + b"".join(frame(3, 1, body[at : at + 100]) for at in range(0, len(body), 100))


@pytest.mark.parametrize("names", [{}, {"content_type": "a", "headers": {"a": "b"}, "delivery_mode": 2}, {"type": "c"}])
def test_the_time_is_found_behind_any_other_properties(names: dict[str, Any]) -> None:
    every = {"content_encoding": "gzip", "priority": 3, "correlation_id": "x", "reply_to": "y", "message_id": "0/10/1"}
    for chosen in (names, {**names, **every}):
        encoded = b"\x00\x3c" + bytes(10) + b"".join(spec.BasicProperties(timestamp=1_700_000_000, **chosen).encode())
        assert timestamp_of(encoded) == 1_700_000_000
        without = b"\x00\x3c" + bytes(10) + b"".join(spec.BasicProperties(**chosen).encode())
        assert timestamp_of(without) == 0
        for end in range(12, len(encoded) - (2 if "type" in chosen else 0)):
            with pytest.raises(AmqpError):
                timestamp_of(encoded[:end])


def test_what_comes_in_pieces_of_any_size_is_put_together() -> None:
    bodies = [b"x" * size for size in (0, 1, 100, 101, 999)]
    headers = {"cdcflow.op": "c", "x-stream-offset": 2**40, "other": 1, "ce_id": "7", "list": [1, "a"], "no": None}
    data = b"".join(delivery(tag, body, headers) for tag, body in enumerate(bodies, 1))
    data += frame(8, 0, b"") + pika_frame.Method(1, spec.Basic.Ack(9, True)).marshal()
    for size in (1, 7, 64, len(data)):
        splitter = Splitter()
        events = [event for at in range(0, len(data), size) for event in splitter.feed(data[at : at + size])]
        assert [event[4] for event in events if event[1] == DELIVER] == bodies
        assert [event[1] for event in events[-2:]] == [0, ACK]
        found, offset, _ = headers_of(events[0][3])
        assert dict(found) == {"content-type": b"application/json", "cdcflow.op": b"c", "ce_id": b"7"}
        assert offset == 2**40


def test_broken_bytes_raise_one_error_and_nothing_else() -> None:
    noise = random.Random(7)
    whole = delivery(1, b"y" * 300, {"cdcflow.op": "c", "n": 5}) + frame(8, 0, b"")
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(noise.randint(1, 4)):
            data[noise.randrange(len(data))] = noise.randrange(256)
        try:
            for event in Splitter(largest=4096, content_max=10_000).feed(bytes(data)):
                if event[3] is not None:
                    headers_of(event[3])
        except AmqpError:
            refused += 1
    assert refused > 300
