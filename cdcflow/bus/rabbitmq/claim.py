"""What a publisher finds at its exchange: whether another one is there, what is gone, and what may come twice."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from pika import spec

from cdcflow.bus.formats import OP
from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.doubts import PLACE, Doubts, Row, Run, is_place, place_of, run_of
from cdcflow.bus.rabbitmq.layout import Layout, Noted, base_of, ready_in
from cdcflow.bus.rabbitmq.notes import read_stream, stream_end
from cdcflow.bus.rabbitmq.refusals import RESOURCE_LOCKED, Refused
from cdcflow.bus.rabbitmq.wire import HEARTBEAT_SECONDS, Wire
from cdcflow.errors import OperatorError, TargetUnavailable
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# A predecessor that was killed is gone as soon as its system closed the connection.
LOCK_SECONDS: Final = 5.0

# So many messages of a stream's end are read first; of what was not sealed there is seldom more.
_WINDOW: Final = 2000


def locked(wire: Wire, layout: Layout, address: Address) -> int:
    """Shut out everybody else who publishes to the exchange, and return the channel that does so.

    Raises:
        TargetUnavailable: another publisher is connected.
        Refused: the broker refuses it for another reason.
    """
    until = time.monotonic() + LOCK_SECONDS
    while True:
        channel = wire.channel()
        try:
            wire.call(spec.Queue.Declare(0, layout.lock, False, False, True, True, False, {}), channel=channel)
            return channel
        except Refused as refused:
            if refused.code != RESOURCE_LOCKED or refused.hard:
                raise
            if time.monotonic() > until:
                raise TargetUnavailable(
                    f'another publisher of exchange "{layout.exchange}" is connected',
                    at=address.text,
                    why=f"{refused.text}; it may be our own connection, where that was cut or held up by an alarm: "
                    f"the broker lets go of it within {3 * HEARTBEAT_SECONDS} seconds, or when the alarm ends",
                    do="where it does not end by itself: stop the other one, or give this pipeline another `exchange:`",
                ) from refused
        time.sleep(0.1)


def lost(wire: Wire, noted: Noted | None, layout: Layout, address: Address) -> list[str]:
    """Compare what was written down with what is wanted; return the queues that were made once and are gone.

    Raises:
        OperatorError: rows would be shared out in another way.
        Refused: the broker does not tell.
    """
    if noted is None:
        return []
    if (noted.kind, noted.partitions) != (layout.kind, layout.partitions):
        raise OperatorError(
            f'exchange "{layout.exchange}" has {noted.partitions} of `queue: {noted.kind}`,'
            f" and the configuration says {layout.partitions} of `queue: {layout.kind}`",
            at=address.text,
            why="rows of one key would come to stand in two queues, where nothing keeps their order",
            do=f"set `queue: {noted.kind}` and `partitions: {noted.partitions}`, or choose another `exchange:`",
        )
    gone = missing(wire, [queue for queue, number in layout.queues() if base_of(queue, number) in noted.bases])
    for queue in gone:
        log.error("a queue is gone with what it held", queue=queue, do="cdcflow resync --all, unless this is one")
    return gone


def missing(wire: Wire, queues: Iterable[str]) -> list[str]:
    """Return those that are not there. Raises Refused where the broker does not tell."""
    return [queue for queue in queues if ready_in(wire, queue) is None]


def read_back(wire: Wire, channel: int, exchange: str, queue: str) -> tuple[dict[Run, Row], int]:
    """Return what a stream holds at its end that an earlier session may not have saved a checkpoint for, and the place
    of its last message as one number, 0 where none was found.

    channel: an open one, whose confirms nobody waits for.
    """
    end = stream_end(wire, channel, exchange, queue)
    window = _WINDOW
    while True:
        start = max(0, end - window)
        doubts, first, last = Doubts(stream=True), None, None
        for offset, headers, _ in read_stream(wire, queue, start):
            if offset >= end:
                break
            header = headers.get(PLACE)
            if header is not None and is_place(header):
                last = place_of(header)
                if first is None:
                    first, start = last, min(start, offset)
                doubts.doubled(last, run_of(headers), copied=headers.get(OP) == b"r")
        # The window has to begin before what the last session has sealed, or an earlier one where that sealed nothing.
        if start == 0 or doubts.sealed_since(first):
            return doubts.open(), last.whole if last is not None else 0
        window *= 8
