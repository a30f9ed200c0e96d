"""The log as batches of whole transactions: pgoutput decoded to frames, with shape changes and truncates between."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from cdcflow.codecs import pgmessages
from cdcflow.codecs.pgmessages import Relation
from cdcflow.codecs.pgoutput_cy import Decoder, MessageError
from cdcflow.errors import CdcflowError, DecodeError, SchemaStop
from cdcflow.model.change import ChangeBatch, Heartbeat, Rows, SchemaChange, Step, Truncate
from cdcflow.model.frame import RowBatch
from cdcflow.model.ports import Follow, Router
from cdcflow.model.route import Route
from cdcflow.model.schema import Table
from cdcflow.sources.postgres.position import Lsn
from cdcflow.sources.postgres.walsender import Walsender

# A commit that is older than this when the server sends it has waited: the reader is behind. Both times are
# the source's clock.
LAGGING_MICROSECONDS = 500_000

Reshape = Callable[[Relation, Table], Table]
"""Makes the table's new shape from what the log says and what was known: see `shape.reshape`."""


class PostgresStream:
    """Implements `model.ports.Stream` over one walsender connection."""

    def __init__(
        self,
        url: str,
        *,
        address: str,
        slot: str,
        publications: Sequence[str],
        start: Lsn | None,
        follow: Mapping[int, Follow],
        router: Router,
        reshape: Reshape,
        piece_bytes: int,
    ) -> None:
        """Connect and start at `start`; None: at the log's end, under a temporary slot.

        `piece_bytes`: where a large transaction is cut into pieces.

        Raises:
            SourceUnavailable, AccessDenied, PositionLost: the stream cannot start.
        """
        self._address = address
        self._router = router
        self._reshape = reshape
        self._decoder = Decoder(piece_bytes)
        self._follow = dict(follow)
        self._relations: dict[int, Relation] = {}
        self._frames: dict[int, tuple[Route, tuple[str, ...]]] = {}
        self._settled: dict[int, Relation] = {}
        self._ready: deque[ChangeBatch | Heartbeat] = deque()
        self._steps: list[Step] = []  # of the open transaction, when it holds a barrier or is in pieces
        self._failure: CdcflowError | None = None
        self._walsender = Walsender(url, slot, publications, start)
        self._end = self._walsender.start.value
        if start is None:  # nobody else can know where it began
            self._ready.append(Heartbeat(self._walsender.start, time.time()))

    def read(self, wait: float) -> ChangeBatch | Heartbeat | None:
        """See `model.ports.Stream.read`."""
        if self._ready:
            return self._ready.popleft()
        if self._failure:
            raise self._failure
        lagging = self._lagging()
        buffer = self._walsender.receive(wait, lagging=lagging)
        if not buffer:
            return None
        try:
            self._decode(buffer)
        except MessageError as error:
            raise DecodeError(
                f"the replication stream cannot be decoded: {error}",
                at=f"source {self._address}, behind position {Lsn(self._end)}",
                why="nothing behind that position was applied",
                do="report this with the server's version; cdcflow resync --all copies again from now",
            ) from error
        if self._decoder.wants_reply():
            self._walsender.tell(force=True)
        if self._ready:
            return self._ready.popleft()
        if self._failure:
            raise self._failure
        return None

    def idle(self) -> None:
        """See `model.ports.Stream.idle`."""
        self._walsender.tell(force=False)

    def ack(self, upto: object) -> None:
        """See `model.ports.Stream.ack`."""
        assert isinstance(upto, Lsn)
        self._walsender.acknowledge(upto)

    def close(self) -> None:
        """Disconnect; the last acknowledgement is sent before."""
        self._walsender.close()

    # -- from messages to batches

    def _lagging(self) -> bool:
        _, lag, _ = self._decoder.clock()
        return bool(lag > LAGGING_MICROSECONDS)

    def _decode(self, buffer: bytes) -> None:
        at, size = 0, len(buffer)
        while at < size:
            at = self._decoder.feed(buffer, at)
            kind, body = self._decoder.event()
            if kind:
                self._event(chr(kind), body)
                if self._failure:
                    return
        self._emit_whole()

    def _event(self, kind: str, body: bytes) -> None:
        if kind == "R":
            self._relation(pgmessages.relation(body))
        elif kind == "S":
            self._settle(int.from_bytes(body, "big"))
        elif kind == "T":
            self._truncate(pgmessages.truncation(body))
        elif kind == "P":
            self._emit_whole()
            self._collect()
            self._emit_open(complete=False)
            self._decoder.hold(True)
        elif kind == "C":
            self._decoder.hold(False)
            self._emit_open(complete=True)
        elif kind == "M":
            # Not asked for (`messages` is off), and a position is a commit boundary whatever stands before it.
            pgmessages.logical_message(body)

    def _emit_whole(self) -> None:
        """Make a batch of the transactions that are complete; leave the open one where it is."""
        _, whole, _, transactions, end, heartbeat, _ = self._decoder.status()
        if transactions and not self._steps:
            if whole:
                self._batch([], complete=True, everything=False)
            else:
                self._decoder.take(False)
                self._end = max(self._end, end)
                self._heartbeat(end)
        if heartbeat > self._end and not self._steps:
            self._end = heartbeat
            self._heartbeat(heartbeat)
        self._walsender.progress(self._end)

    def _heartbeat(self, end: int) -> None:
        sent, _, _ = self._decoder.clock()
        self._ready.append(Heartbeat(Lsn(end), sent / 1e6))

    def _collect(self) -> None:
        """Move the rows of the open transaction into its steps."""
        frames, order, _, _, _, _, _ = self._decoder.take(True)
        if order:
            self._steps.append(self._rows(frames, order))

    def _emit_open(self, *, complete: bool) -> None:
        """Make a batch of what has been collected of the open transaction, which just ended or goes on."""
        steps, self._steps = self._steps, []
        self._batch(steps, complete=complete, everything=True)

    def _batch(self, steps: list[Step], *, complete: bool, everything: bool) -> None:
        frames, order, marks, transactions, first, last, _ = self._decoder.take(everything)
        if order:
            steps = [*steps, self._rows(frames, order)]
        _, _, _, _, end, _, _ = self._decoder.status()
        if complete:
            self._end = max(self._end, end)
        rows = nbytes = 0
        for step in steps:
            if isinstance(step, Rows):
                rows += len(step)
                nbytes += sum(frame.nbytes for frame in step.frames.values())
        self._ready.append(
            ChangeBatch(
                steps,
                Lsn(self._end),
                transactions,
                marks,
                first / 1e6,
                last / 1e6,
                complete,
                self._lagging(),
                rows,
                nbytes,
            )
        )

    def _rows(self, frames: list[tuple[int, bytes, bytes, bytes, bytes, bytes, bool]], order: bytes) -> Rows:
        found: dict[int, RowBatch] = {}
        for number, ops, after, after_sizes, before, before_sizes, idempotent in frames:
            route, names = self._frames[number]
            found[number] = RowBatch(route, names, ops, after, after_sizes, before, before_sizes, bool(idempotent))
        return Rows(found, order)

    # -- shapes

    def _relation(self, relation: Relation) -> None:
        """Note a shape. It is settled when the first row of it that is not skipped arrives, because a table
        whose rows are skipped may be read at a time before the shape that the target has."""
        self._relations[relation.oid] = relation
        follow = self._follow.get(relation.oid)
        if follow is None:
            return
        if self._settled.get(relation.oid) == relation:
            # Sent again because something about the table changed that the message does not carry, or nothing did.
            known = follow.route.source
            if self._reshape(relation, known) is known:
                return
        self._decoder.follow(relation.oid, -1, _value(follow.skip_until), _value(follow.idempotent_until))

    def _settle(self, oid: int) -> None:
        relation, follow = self._relations.get(oid), self._follow.get(oid)
        if relation is None or follow is None:
            raise MessageError(f"a row of relation {oid}, which was not described")
        known = follow.route.source
        table = self._reshape(relation, known)
        names = tuple(column.name for column in relation.columns)
        if table is not known:
            route = self._router(table)
            if route is None or route.target != follow.route.target:
                self._failure = _moved(follow.route, table, route)
                self._emit_whole()
                return
            self._emit_whole()
            self._collect()
            self._steps.append(SchemaChange(follow.route, route))
            self._decoder.hold(True)
            follow = Follow(route, follow.skip_until, follow.idempotent_until)
            self._follow[oid] = follow
        number = self._decoder.follow(oid, len(names), _value(follow.skip_until), _value(follow.idempotent_until))
        self._frames[number] = (follow.route, names)
        self._settled[oid] = relation

    def _truncate(self, truncation: pgmessages.Truncation) -> None:
        _, _, _, _, _, _, final = self._decoder.status()
        routes = tuple(
            follow.route
            for oid in truncation.oids
            if (follow := self._follow.get(oid)) is not None and _value(follow.skip_until) <= final
        )
        if not routes:
            return
        self._emit_whole()
        self._collect()
        self._steps.append(Truncate(routes, truncation.cascade, truncation.restart_identity))
        self._decoder.hold(True)


def _value(position: object) -> int:
    return position.value if isinstance(position, Lsn) else 0


def _moved(old: Route, table: Table, route: Route | None) -> SchemaStop:
    now = f"the rules send {table.name} to {route.target}" if route else f"no rule matches {table.name}"
    return SchemaStop(
        f"table {old.source.name} is now {table.name}"
        if table.name != old.source.name
        else f"table {table.name} moved",
        at=f"table {old.source.name}, replicated to {old.target}",
        why=f"{now}, so its changes have no way to {old.target}",
        do=f'in the rules: {{match: "{table.name}", to: {old.target}}}; or cdcflow resync {table.name}',
    )
