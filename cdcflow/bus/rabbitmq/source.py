"""RabbitMQ as a source that several instances share: the queues of one group, or the streams of an exchange."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pika import spec

from cdcflow.bus import registry_check
from cdcflow.bus.formats import Format
from cdcflow.bus.formats.opening import decoding
from cdcflow.bus.rabbitmq import check as checks
from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.asking import Waiting
from cdcflow.bus.rabbitmq.config import SourceConfig as Config
from cdcflow.bus.rabbitmq.layout import (
    NOTES_KEY,
    Layout,
    Noted,
    declare_queue,
    group_base,
    look,
    queue_name,
    quorum_arguments,
    ready_in,
    share_name,
    share_of,
)
from cdcflow.bus.rabbitmq.letters import DeadLetters
from cdcflow.bus.rabbitmq.making import Making
from cdcflow.bus.rabbitmq.notes import GIVEN_UP, KEY, Notes, post, stream_end, translated
from cdcflow.bus.rabbitmq.refusals import NOT_FOUND, Refused
from cdcflow.bus.rabbitmq.starts import Starts, is_another
from cdcflow.bus.rabbitmq.stream import Asked, RabbitStream
from cdcflow.bus.rabbitmq.wire import Wire, connect, short
from cdcflow.bus.reading import Reading
from cdcflow.bus.shapes import placed
from cdcflow.errors import ConfigError, OperatorError, SourceUnavailable, UsageError
from cdcflow.model.check import Finding
from cdcflow.model.context import Context
from cdcflow.model.ports import Router
from cdcflow.model.position import Position, Share, Shares
from cdcflow.model.route import Route
from cdcflow.model.schema import Table
from cdcflow.model.sharing import Claims
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

__all__ = ["Config", "RabbitSource", "open"]


def open(config: Config, context: Context) -> RabbitSource:  # noqa: A001 - the registry's word
    """Return the source. Connects to nothing yet.

    Raises:
        ConfigError: the URL is wrong.
    """
    return RabbitSource(config, config.address, context)


class RabbitSource:
    """A `model.sharing.SharedSource`."""

    engine = "rabbitmq"

    def __init__(self, config: Config, where: Address, context: Context, *, seat: str = "") -> None:
        """seat: what an onlooker of streams adds to the names of what it makes."""
        self._config, self._where, self._context = config, where, context
        self.address = where.text
        self._exchange = config.exchange or context.pipeline
        self._base = group_base(self._exchange, config.group)
        self._own = f"{self._base}.{seat}" if seat else self._base
        self._notes = Notes(where, self._exchange, Layout(self._exchange, "quorum", 1).notes, SourceUnavailable)
        self._format: Format | None = None
        self._made: dict[str, int] = {}  # queues that were not there, and the place up to which they had been read

    def check(self, routes: Sequence[Route], refused: Sequence[Table]) -> list[Finding]:
        """As `SharedSource.check`."""
        return [
            *checks.source(self._where, self._exchange, self._config.group, self._config.queue, self._notes),
            *registry_check.reading(self._config),
        ]

    def lost(self, recorded: Mapping[str, Share]) -> list[Finding]:
        """As `SharedSource.lost`: a queue keeps what waits in it, a stream only as long as it is told."""
        self._notes.refresh()
        noted = self._notes.layout
        if noted is None or noted.kind != "stream":
            return []
        shares = {share_name(self._base, number): queue_name(self._base, number) for number in range(noted.partitions)}
        here = {queue: recorded[name] for name, queue in shares.items() if name in recorded and recorded[name].place}
        others = {queue for queue, share in here.items() if is_another(noted, queue, share)}
        places = {queue: share.place for queue, share in here.items() if queue not in others}
        return [*checks.made_again(sorted(others)), *checks.lost(self._where, self._exchange, places)]

    def tables(self) -> list[Table]:
        """As `SharedSource.tables`."""
        self._notes.refresh()
        return self._notes.newest()

    def placed(self, tables: Sequence[Table]) -> list[Table]:
        """As `SharedSource.placed`."""
        return placed(self._notes, tables)

    def end(self) -> Position:
        """As `SharedSource.end`: the offsets behind the streams' last messages, or that of the queues their readers are
        to be asked."""
        with self._connected() as (wire, channel):
            noted = self._noted(wire)
            names = {share_name(self._base, n): queue_name(self._base, n) for n in range(noted.partitions)}
            self._there(wire, noted)
            if noted.kind == "stream":
                ends = {name: stream_end(wire, channel, self._exchange, queue) for name, queue in names.items()}
                return Shares({name: Share(0, end, noted.identity(names[name])) for name, end in ends.items()})
            return Waiting(frozenset(names))

    def onlooker(self, name: str, *, from_start: bool) -> RabbitSource:
        """As `SharedSource.onlooker`: streams are read from where they are, and a group of its own gets the messages of
        queues from now on."""
        own = self._config.model_copy(update={"exchange": self._exchange, "start": "first" if from_start else "next"})
        context = replace(self._context, pipeline=name)
        with self._connected() as (wire, _):
            kind = self._noted(wire).kind
        if kind == "stream":
            return RabbitSource(own, self._where, context, seat=name)
        if from_start:
            raise UsageError(
                "what waits in a queue cannot be looked at without taking it",
                at=f'exchange "{self._exchange}", {self.address}',
                do="read what is published from now on: without --until-caught-up",
            )
        return RabbitSource(own.model_copy(update={"group": name}), self._where, context)

    def join(self, claims: Claims, router: Router, known: Mapping[int, Route]) -> RabbitStream:
        """As `SharedSource.join`.

        Raises:
            SourceUnavailable: the broker is away, or nobody has published yet.
            TargetUnavailable: as `Claims.recorded`.
            OperatorError: a queue of the group is gone.
            AccessDenied: login or permissions.
        """
        config = self._config
        with translated(self._where, self._exchange, SourceUnavailable):
            wire = connect(self._where, f"cdcflow {self._context.pipeline} reader", SourceUnavailable)
            try:
                channel = wire.channel()
                noted = self._noted(wire)
                self._make(wire, channel, noted, claims)
                reading = Reading(
                    self._formatted(),
                    self._notes,
                    router,
                    known,
                    flat=config.envelope == "flat",
                    unreadable=config.unreadable,
                    where=_where,
                )
                stream = noted.kind == "stream"
                budget = max(1 << 20, self._context.memory_bytes // 16)
                made, self._made = self._made, {}
                asked = Asked(
                    self._base,
                    self._own,
                    noted.partitions,
                    stream,
                    made_by_publisher=self._base in noted.bases,
                    made=made,
                    prefetch=config.prefetch,
                    unread_bytes=budget,
                )
                letters = DeadLetters(self._where, self._exchange, f"{self._own}.dead_letters")
                starts = Starts(self._where, self._exchange, self._notes, config.start)
                return RabbitStream(wire, asked, reading, letters, claims, self._where, self._exchange, starts)
            except BaseException:
                wire.close()
                raise

    def request(self, tables: Sequence[str]) -> list[str]:
        """As `SharedSource.request`: nothing flows against the exchange."""
        raise UsageError(
            "a new copy is made by the pipeline that publishes",
            at=f'exchange "{self._exchange}", {self.address}',
            do="there: " + "; ".join(f"cdcflow resync {table}" for table in tables or ["--all"]),
        )

    def teardown(self) -> list[str]:
        """As `SharedSource.teardown`: the group's queues, with what is in them. Streams belong to the publisher."""
        dropped: list[str] = []
        with self._connected() as (wire, channel):
            self._notes.read(wire)
            noted = self._notes.layout
            count = noted.partitions if noted is not None else 0
            queues = [queue_name(self._base, number) for number in range(count)]
            if noted is None or noted.kind == "stream":
                queues = []
            elif self._base in noted.bases:  # or the publisher would take them for lost
                note = [(KEY, GIVEN_UP + self._base.encode())]
                post(wire, channel, self._exchange, NOTES_KEY, note)
            for queue in [*queues, f"{self._own}.dead_letters"]:
                try:
                    look(wire, channel, queue)
                except Refused as refused:
                    if refused.hard or refused.code != NOT_FOUND:
                        raise
                    channel = wire.channel()
                    continue
                wire.call(spec.Queue.Delete(0, queue, False, False, False), channel=channel)
                dropped.append(f'queue "{queue}" at {self.address}')
        return dropped

    def close(self) -> None:
        """As `SharedSource.close`."""
        if self._format is not None:
            self._format = None

    def _formatted(self) -> Format:
        if self._format is None:
            made = decoding(self._config)
            made.ready()
            self._format = made
        return self._format

    @contextmanager
    def _connected(self) -> Iterator[tuple[Wire, int]]:
        with (
            translated(self._where, self._exchange, SourceUnavailable),
            short(self._where, f"cdcflow {self._context.pipeline}", SourceUnavailable) as opened,
        ):
            yield opened

    def _noted(self, wire: Wire) -> Noted:
        self._notes.catch_up(wire)
        noted = self._notes.layout
        if noted is None:
            raise SourceUnavailable(
                f'nobody has published to exchange "{self._exchange}" yet',
                at=self.address,
                do="start the pipeline that publishes, or name its exchange with `exchange:`",
            )
        wanted = self._config.queue
        if wanted is not None and wanted != noted.kind:
            raise ConfigError(
                f'exchange "{self._exchange}" is published with `queue: {noted.kind}`',
                at=self.address,
                do=f"set `queue: {noted.kind}` under source:, or leave it out",
            )
        if noted.kind == "stream" and self._config.group is not None:
            raise ConfigError("streams have no groups", at=self.address, do="leave `group:` out")
        return noted

    def _there(self, wire: Wire, noted: Noted) -> dict[str, int | None]:
        """Return how many messages each queue has ready; None of one that is missing and that we make.

        Raises:
            OperatorError: queues are gone that were made once, or streams.
        """
        there = {queue: ready_in(wire, queue) for queue in (queue_name(self._base, n) for n in range(noted.partitions))}
        gone = next((queue for queue, ready in there.items() if ready is None), None)
        if gone is not None and not self._is_ours(noted):
            raise OperatorError(
                f'queue "{gone}" is gone',
                at=self.address,
                why="what was in it and not applied is lost",
                do="cdcflow resync --all at the publisher, which makes it again; start this again then",
            )
        return there

    def _is_ours(self, noted: Noted) -> bool:
        """Whether the publisher does not know the group, so that its queues are made here."""
        return noted.kind != "stream" and (self._base not in noted.bases or self._base in self._notes.given_up)

    def _make(self, wire: Wire, channel: int, noted: Noted, claims: Claims) -> None:
        """Make the queues of a group that the publisher does not know, and finish those whose making was interrupted.

        Raises:
            OperatorError: as `_there`.
            SourceUnavailable, TargetUnavailable: the broker takes no messages, or the record cannot be read.
        """
        if not self._is_ours(noted):
            self._there(wire, noted)
            return
        # Before we look: what was read by then was there, and what we make and another instance reads was not.
        read = {name: share.place for name, share in claims.recorded().items() if share.place}
        there = self._there(wire, noted)
        for queue, ready in there.items():
            if ready is None:
                declare_queue(wire, channel, queue, quorum_arguments())
                if share_of(queue) in read:
                    self._made[queue] = read[share_of(queue)]
        empty = [
            queue for queue, ready in there.items() if ready is None or (ready == 0 and share_of(queue) not in read)
        ]
        queues = {queue_name(self._base, number): number for number in range(noted.partitions)}
        for queue in Making(self._where, self._exchange).finish(wire, channel, queues, empty):
            log.warning(
                "made a queue, it gets what is published from now on",
                queue=queue,
                do="cdcflow resync --all at the publisher brings what was before; name the group in its `groups:`",
            )


def _where(share: str, place: int) -> str:
    base, _, number = share.rpartition("/")
    return f"queue {queue_name(base, int(number))}, place {place}"
