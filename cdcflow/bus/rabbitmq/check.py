"""What `cdcflow check` looks at in a broker, changing nothing that stays."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from pika import spec

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.layout import Kind, Layout, declare_queue, group_base, look, queue_name, routing_key
from cdcflow.bus.rabbitmq.notes import Notes, read_stream
from cdcflow.bus.rabbitmq.refusals import ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, Refused, permissions, translate
from cdcflow.bus.rabbitmq.wire import Wire, short
from cdcflow.codecs.amqpframes_cy import frame
from cdcflow.errors import ConfigError, SourceUnavailable, TargetUnavailable
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Route

# A broker says so at once that it is blocked when somebody publishes.
_ALARM_SECONDS = 0.5
# A stream that holds anything gives it at once, and a broker under load within this.
_GIVES_SECONDS = 10.0


def target(address: Address, layout: Layout, routes: Sequence[Route]) -> list[Finding]:
    """Look as the publisher will. Raises AccessDenied, TargetUnavailable where it cannot even look."""
    found: list[Finding] = []
    subject = address.text
    for route in routes:
        try:
            routing_key(route.target, layout.partitions - 1)
        except ConfigError as error:
            found.append(Finding(Level.BLOCKER, "rabbitmq.routing_key", str(route.target), error.what, error.do))
    try:
        with short(address, "cdcflow check", TargetUnavailable) as (wire, _):
            found.append(Finding(Level.OK, "rabbitmq.connection", subject, f'virtual host "{address.vhost}"'))
            found += _permissions(wire, address, layout.exchange)
            if any(each.level is Level.BLOCKER for each in found):
                return found
            found += _streams(wire, layout, subject)
            found += _exchange(wire, address, layout)
            if any(each.level is Level.BLOCKER for each in found):
                return found
            notes = Notes(address, layout.exchange, layout.notes, TargetUnavailable)
            notes.read(wire)
            found += _layout(notes, layout, subject)
            found += _queues(wire, layout, subject, notes)
            found += _alarms(wire, layout, subject)
    except Refused as refused:
        raise translate(refused, address, layout.exchange, TargetUnavailable) from refused
    return found


def source(address: Address, exchange: str, group: str | None, queue: Kind | None, notes: Notes) -> list[Finding]:
    """Look as a reader will. Raises AccessDenied, SourceUnavailable where it cannot even look."""
    found: list[Finding] = []
    subject = address.text
    base = group_base(exchange, group)
    try:
        with short(address, "cdcflow check", SourceUnavailable) as (wire, _):
            found.append(Finding(Level.OK, "rabbitmq.connection", subject, f'virtual host "{address.vhost}"'))
            found += _permissions(wire, address, exchange)
            if any(each.level is Level.BLOCKER for each in found):
                return found
            notes.read(wire)
            noted = notes.layout
            if noted is None:
                what, do = f'nobody has published to exchange "{exchange}" yet', "start the publisher once"
                return [*found, Finding(Level.WARNING, "rabbitmq.exchange", subject, what, do)]
            if queue is not None and queue != noted.kind:
                what = f"the publisher uses `queue: {noted.kind}`"
                found.append(Finding(Level.BLOCKER, "rabbitmq.queue", subject, what, f"set `queue: {noted.kind}`"))
            for number in range(noted.partitions):
                name = queue_name(base, number)
                there = _there(wire, name)
                if there is None and base in noted.bases:
                    do = "cdcflow resync --all at the publisher, which makes it again"
                    found.append(Finding(Level.BLOCKER, "rabbitmq.queue", name, "it was deleted", do))
                elif there is None:
                    what = "the group is new: it gets what is published from its first run on"
                    do = f"name it in the publisher's `groups:` ({group}) before that starts, or resync there"
                    found.append(Finding(Level.NOTE, "rabbitmq.queue", name, what, do))
                else:
                    found.append(Finding(Level.OK, "rabbitmq.queue", name, f"{noted.kind}, {there} messages"))
    except Refused as refused:
        raise translate(refused, address, exchange, SourceUnavailable) from refused
    return found


def lost(address: Address, exchange: str, queues: Mapping[str, int]) -> list[Finding]:
    """Say which streams have removed what follows the recorded places. Raises as `source`."""
    found: list[Finding] = []
    try:
        with short(address, "cdcflow check", SourceUnavailable) as (wire, _):
            for queue, place in queues.items():
                # The message before the place is there, or it was removed and the first one that is left comes.
                there = (offset for offset, _, _ in read_stream(wire, queue, place - 1, _GIVES_SECONDS))
                offset = next(there, None)
                if offset is None:
                    what = f"it ends before offset {place}, up to which it was read: another has taken its place"
                elif offset > place:
                    what = f"offsets {place} to {offset - 1} were removed before they were read"
                else:
                    continue
                do = "cdcflow teardown and cdcflow run here, then cdcflow resync --all at the publisher"
                found.append(Finding(Level.BLOCKER, "rabbitmq.retention", queue, what, do))
    except Refused as refused:
        raise translate(refused, address, exchange, SourceUnavailable) from refused
    return found


def made_again(streams: Sequence[str]) -> list[Finding]:
    """Say which streams are others than those that were read."""
    what = "it was deleted and made again since it was read: what was not applied is lost"
    do = "cdcflow resync --all at the publisher, unless that was done since; it is read from its start then"
    return [Finding(Level.WARNING, "rabbitmq.queue", queue, what, do) for queue in streams]


def _permissions(wire: Wire, address: Address, exchange: str) -> list[Finding]:
    """Try with an exclusive queue, which the broker removes with the connection."""
    name = f"{exchange}.check.{time.time_ns()}"
    channel = wire.channel()
    try:
        wire.call(spec.Queue.Declare(0, name, False, False, True, True, False, {}), channel=channel)
        # The rest needs write on the queue and read on the exchange, or read on the queue.
        wire.call(spec.Basic.Get(0, name, True), channel=channel)
        wire.call(spec.Queue.Delete(0, name, False, False, False), channel=channel)
    except Refused as refused:
        if refused.code != ACCESS_REFUSED or refused.hard:
            raise
        return [
            Finding(Level.BLOCKER, "rabbitmq.permissions", address.user, refused.text, permissions(address, exchange))
        ]
    return [Finding(Level.OK, "rabbitmq.permissions", address.user, f"may use what begins with {exchange}")]


def _streams(wire: Wire, layout: Layout, subject: str) -> list[Finding]:
    """The notes are a stream, whatever the rest is. The type is in every RabbitMQ since 3.9, without a plugin."""
    channel = wire.channel()
    name = f"{layout.exchange}.check.{time.time_ns()}"
    try:
        declare_queue(wire, channel, name, {"x-queue-type": "stream"})
        wire.call(spec.Queue.Delete(0, name, False, False, False), channel=channel)
    except Refused as refused:
        if refused.hard or refused.code == ACCESS_REFUSED:
            raise
        do = "RabbitMQ 3.9 or newer; rabbitmqctl enable_feature_flag stream_queue"
        return [Finding(Level.BLOCKER, "rabbitmq.streams", subject, refused.text, do)]
    return [Finding(Level.OK, "rabbitmq.streams", subject, "streams can be made")]


def _exchange(wire: Wire, address: Address, layout: Layout) -> list[Finding]:
    channel = wire.channel()
    name = layout.exchange
    try:
        wire.call(spec.Exchange.Declare(0, name, "topic", True), channel=channel)
    except Refused as refused:
        if refused.hard or refused.code != NOT_FOUND:
            raise
        return [Finding(Level.OK, "rabbitmq.exchange", name, "is made at the first run")]
    channel = wire.channel()
    try:  # it is there: with other settings this is refused, and with ours nothing happens
        wire.call(spec.Exchange.Declare(0, name, "topic", False, True, False, False, False, {}), channel=channel)
    except Refused as refused:
        if refused.hard or refused.code == ACCESS_REFUSED:
            raise
        do = "choose another `exchange:`, or delete this one where nobody uses it"
        return [Finding(Level.BLOCKER, "rabbitmq.exchange", name, refused.text, do)]
    return [Finding(Level.OK, "rabbitmq.exchange", name, "durable topic exchange")]


def _layout(notes: Notes, layout: Layout, subject: str) -> list[Finding]:
    noted = notes.layout
    if noted is None or (noted.kind, noted.partitions) == (layout.kind, layout.partitions):
        return []
    what = f"it was made with `queue: {noted.kind}` and `partitions: {noted.partitions}`"
    do = "keep these, or choose another `exchange:`"
    return [Finding(Level.BLOCKER, "rabbitmq.layout", f"{layout.exchange} at {subject}", what, do)]


def _queues(wire: Wire, layout: Layout, subject: str, notes: Notes) -> list[Finding]:
    found: list[Finding] = []
    for queue, number in layout.queues():
        there = _there(wire, queue)
        if there is None:
            lost = notes.layout is not None and queue.removesuffix(f".{number}") in notes.layout.bases
            what = "it was deleted, what it held is lost" if lost else "is made at the first run"
            do = "cdcflow resync --all, which makes it again" if lost else ""
            found.append(Finding(Level.WARNING if lost else Level.OK, "rabbitmq.queue", queue, what, do))
            continue
        channel = wire.channel()
        try:  # as for the exchange
            declare_queue(wire, channel, queue, layout.arguments())
        except Refused as refused:
            if refused.hard or refused.code == ACCESS_REFUSED:
                raise
            do = "choose another `exchange:`, or delete the queue once nothing in it is needed"
            found.append(Finding(Level.BLOCKER, "rabbitmq.queue", queue, refused.text, do))
            continue
        found.append(Finding(Level.OK, "rabbitmq.queue", queue, f"{layout.kind}, {there} messages"))
    return found


def _alarms(wire: Wire, layout: Layout, subject: str) -> list[Finding]:
    """Publish to nobody, not mandatory: a broker under an alarm says so."""
    channel = wire.channel()
    if _there(wire, layout.exchange, exchange=True) is None:
        return []
    method = spec.Basic.Publish(0, layout.exchange, f"cdcflow.check.{time.time_ns()}", False, False)
    head = b"\x00\x3c" + bytes(12)
    wire.send(
        frame(1, channel, spec.Basic.Publish.INDEX.to_bytes(4, "big") + b"".join(method.encode()))
        + frame(2, channel, head)
    )
    until = time.monotonic() + _ALARM_SECONDS
    while not wire.blocked and time.monotonic() < until:
        wire.pump(0.1)
    if wire.blocked:
        do = "rabbitmq-diagnostics alarms; free memory or disk, or raise vm_memory_high_watermark, disk_free_limit"
        return [Finding(Level.WARNING, "rabbitmq.alarm", subject, f"takes no messages now: {wire.blocked}", do)]
    return [Finding(Level.OK, "rabbitmq.alarm", subject, "takes messages")]


def _there(wire: Wire, name: str, *, exchange: bool = False) -> int | None:
    """Return how many messages a queue has ready (0 of an exchange), None where it is not there."""
    channel = wire.channel()
    try:
        if exchange:
            wire.call(spec.Exchange.Declare(0, name, "topic", True), channel=channel)
            return 0
        return int(look(wire, channel, name).message_count)
    except Refused as refused:
        if refused.hard or refused.code not in (NOT_FOUND, RESOURCE_LOCKED):
            raise
        return None
