"""The binlog as batches of whole transactions: rows in frames, and between them statements that change tables."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from cdcflow.codecs.binlog_cy import COMMIT, EOF, ERROR, PIECE, Decoder, MessageError
from cdcflow.engines.mysql.errors import log_error
from cdcflow.errors import CdcflowError, DecodeError, PositionLost, SourceUnavailable
from cdcflow.model.change import ChangeBatch, Heartbeat, Recopy, Rows, Step
from cdcflow.model.ports import Follow
from cdcflow.model.schema import TableName
from cdcflow.sources.mysql import log_refusals, logevents, tablemap
from cdcflow.sources.mysql.followed import Followed, Rules
from cdcflow.sources.mysql.log import BinlogConnection
from cdcflow.sources.mysql.position import DOUBT, Binlog
from cdcflow.sources.mysql.prepared import Prepared
from cdcflow.sources.mysql.reach import OFFSET_BITS, Reach
from cdcflow.sources.mysql.shapes import Shapes
from cdcflow.sources.mysql.statements import Group, Statements

# What was read of the log stays where it is up to this, and goes before rows of it are taken beyond it.
_HELD_BYTES: Final = 8 * 1024 * 1024


class MysqlStream:
    """Implements `model.ports.Stream` over one replication connection."""

    def __init__(
        self,
        connection: BinlogConnection,
        *,
        start: Binlog,
        server: str,
        follow: Mapping[int, Follow],
        rules: Rules,
        shapes: Shapes,
        reaches: Callable[[TableName], bool],
        piece_bytes: int,
        prepared_bytes: int,
    ) -> None:
        """Read on from `start`, which `connection` was opened at.

        server: the identity of the server that is there.
        reaches: whether a statement that names this table may change others (a view, a trigger).
        piece_bytes: where a large transaction is cut into pieces.
        prepared_bytes: what rows of prepared transactions may have, all together.
        """
        self._connection = connection
        self._at = f"source {connection.address}"
        self._decoder = Decoder(piece_bytes)
        self._decoder.checked(connection.checksums)
        self._statements = Statements(connection.flavour, shapes.charsets, reaches, lower_names=shapes.lower_names)
        self._prepared = Prepared(prepared_bytes)
        self._ready: deque[ChangeBatch | Heartbeat] = deque()
        self._steps: list[Step] = []  # of the open transaction, when it holds a barrier or is in pieces
        self._cut = False  # pieces of the open transaction were given out
        self._unpacking: tuple[bytearray, Iterator[bytes]] | None = None  # events of a compressed transaction
        self._failure: CdcflowError | None = None
        told = server if connection.exact else server + DOUBT
        self._reach = Reach(self._decoder, start, server, told=told, begin=connection.begin, at=self._at)
        self._followed = Followed(follow, rules, shapes, self._decoder, self._reach, self._at)
        self._group = Group()

    def read(self, wait: float) -> ChangeBatch | Heartbeat | None:
        """See `model.ports.Stream.read`."""
        if self._ready:
            return self._ready.popleft()
        if self._failure:
            raise self._failure
        if self._unpacking is not None:
            self._connection.heard()
        elif not self._connection.receive(wait):
            return None
        try:
            self._decode()
            if not self._failure and self._unpacking is None:
                self._emit_whole()
        except MessageError as error:
            self._failure = self._unreadable(error)
        except CdcflowError as error:
            self._emit_whole(failed=True)
            self._failure = error
        if self._ready:
            return self._ready.popleft()
        if self._failure:
            raise self._failure
        return None

    def tell_start(self) -> None:
        """Give out the start as reached: to who waits for a position, a log in which nothing happens says nothing."""
        self._ready.append(Heartbeat(self._reach.end, time.time()))

    def idle(self) -> None:
        """See `model.ports.Stream.idle`. The server waits for us as long as the network lives."""
        self._connection.heard()

    def ack(self, upto: object) -> None:
        """See `model.ports.Stream.ack`. The server keeps its log by age, whatever we have read."""

    @property
    def reached(self) -> Binlog:
        """The last position that was told, or the start. Any thread."""
        return self._reach.end

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    # -- from events to batches

    def _decode(self) -> None:
        """Use up what is whole of what arrived, up to where a compressed transaction has pieces to give out."""
        self._unpack()
        if self._unpacking is None:
            self._events(self._connection.buffer, self._decoder.feed)

    def _unpack(self) -> None:
        """Read a compressed transaction on, up to its end or to where something of it is ready: unpacked it may be
        larger than all the memory that there is."""
        while self._unpacking is not None and not self._ready and not self._failure:
            buffer, pieces = self._unpacking
            piece = next(pieces, None)
            if piece is None:
                self._unpacking = None
                if buffer:
                    raise MessageError("a compressed transaction ends inside an event")
                break
            buffer += piece
            self._events(buffer, self._decoder.feed_events)

    def _events(self, buffer: bytearray, feed: Callable[[bytearray, int], int]) -> None:
        """Use up what is whole of `buffer`; stop behind a compressed transaction that is not unpacked to its end."""
        at = 0
        try:
            while not self._failure:
                before, at = at, feed(buffer, at)
                kind, flags, body = self._decoder.event()
                if kind == logevents.PAYLOAD:
                    del buffer[:at]
                    at = 0
                    if self._unpacking is not None:
                        raise MessageError("a compressed transaction inside of another")
                    self._unpacking = bytearray(), logevents.payload(body)
                    self._unpack()
                    if self._unpacking is not None:
                        break
                elif kind:
                    if at > _HELD_BYTES:  # a value of many megabytes: there is no room for it twice
                        del buffer[:at]
                        at = 0
                    self._event(kind, flags, body)
                elif at == before or at == len(buffer):
                    break
        finally:
            del buffer[:at]

    def _event(self, kind: int, flags: int, body: bytes) -> None:
        if kind == logevents.TABLE_MAP:
            self._table_map(body)
        elif kind == PIECE:
            self._emit_whole()
            self._collect()
            if self._group.xa:
                self._prepared.limit(self._steps, self._at)
            else:
                self._emit_open(complete=False)
                self._cut = True
            self._decoder.hold(True)
        elif kind == COMMIT:
            self._decoder.hold(False)
            self._emit_open(complete=True)
        elif kind in (logevents.QUERY, logevents.MARIADB_QUERY_COMPRESSED, logevents.EXECUTE_LOAD):
            self._query(logevents.query(kind, body))
        elif kind == logevents.GTID_TAGGED:
            source, number, commit_us = logevents.tagged_gtid(body)
            self._begin(Group(), source.encode(), number, commit_us)
        elif kind == logevents.MARIADB_GTID:
            self._begin_mariadb(body)
        elif kind == logevents.XA_PREPARE:
            self._xa_prepare(body)
        elif kind == logevents.ROTATE:
            self._emit_whole()
            self._reach.rotate(*logevents.rotate(body), self._connection.begin)
        elif kind == logevents.FORMAT_DESCRIPTION:
            self._decoder.checked(logevents.has_checksums(body))
            self._decoder.forget()
        elif kind in (logevents.HEARTBEAT, logevents.HEARTBEAT_V2):
            self._heard(kind, body)
        elif kind == ERROR:
            self._failure = log_error(logevents.refusal(body), at=self._at)
        elif kind == EOF:
            # A server that is stopped in order, or whose session somebody ended, says goodbye.
            why = "it is stopping, or ended our session"
            self._failure = SourceUnavailable("the source ended the reading of its log", at=self._at, why=why)
        elif kind == logevents.INCIDENT:
            self._failure = self._undecodable("the source's log says that something is missing from it (INCIDENT)")
        elif kind not in logevents.HARMLESS and not flags & logevents.IGNORABLE:
            self._failure = self._undecodable(f"an event of a type that is not known ({kind})")

    def _begin(self, group: Group, source: bytes, number: int, commit_us: int) -> None:
        self._group = group
        self._decoder.begin(source, number, commit_us)

    def _begin_mariadb(self, body: bytes) -> None:
        gtid = logevents.mariadb_gtid(body)
        group = Group(
            standalone=gtid.standalone,
            passed_over=gtid.starts_alter or gtid.rolls_alter_back,
            xa=gtid.prepared_xa,
        )
        self._begin(group, f"{gtid.domain}-{self._decoder.server()}".encode(), gtid.number, 0)
        if group.xa:
            self._decoder.keep()

    def _emit_whole(self, *, failed: bool = False) -> None:
        """Make a batch of the transactions that are complete; leave the open one where it is.

        failed: the last event was not understood, so the end must not move behind it.
        """
        in_group, _, whole, _, transactions = self._decoder.status()
        if self._steps:
            return
        if transactions and whole:
            self._batch([], complete=True, everything=False)
        elif transactions or not in_group:
            self._reach.note(self._decoder.take(False)[6])
            if self._reach.move(at_rest=not in_group and not failed, prepared=self._prepared.oldest()):
                sent, _ = self._decoder.clock()
                self._ready.append(Heartbeat(self._reach.end, sent / 1e6))

    def _collect(self) -> None:
        """Move the rows of the open transaction into its steps."""
        frames, order, *_, runs = self._decoder.take(True)
        self._reach.note(runs)
        if order:
            self._steps.append(self._followed.rows(frames, order))

    def _emit_open(self, *, complete: bool) -> None:
        """Make a batch of what has been collected of the open transaction, which just ended or goes on."""
        steps, self._steps = self._steps, []
        if complete:
            self._cut = False
        self._batch(steps, complete=complete, everything=True)

    def _batch(self, steps: list[Step], *, complete: bool, everything: bool) -> None:
        frames, order, marks, transactions, first, last, runs = self._decoder.take(everything)
        self._reach.note(runs)
        if order:
            steps = [*steps, self._followed.rows(frames, order)]
        if complete:
            self._reach.move(at_rest=False, prepared=self._prepared.oldest())
        rows = nbytes = 0
        for step in steps:
            if isinstance(step, Rows):
                rows += len(step)
                nbytes += sum(frame.nbytes for frame in step.frames.values())
        self._ready.append(
            ChangeBatch(
                steps,
                self._reach.end,
                transactions,
                marks,
                first / 1e6,
                last / 1e6,
                complete,
                self._connection.more(),
                rows,
                nbytes,
            )
        )

    def _heard(self, kind: int, body: bytes) -> None:
        """Follow the server where it passes over what is not for us."""
        file, place = logevents.heartbeat(kind, body)
        in_group, *_ = self._decoder.status()
        _, offset, _ = self._decoder.where()
        if not in_group and file == self._reach.file and place > offset:
            self._emit_whole()
            self._reach.place(file, place)

    # -- events that are transactions in themselves

    def _xa_prepare(self, body: bytes) -> None:
        """Put the rows of a prepared transaction aside, or commit those of one that needs no second word."""
        one_phase, xid = self._prepared.read(body)
        self._emit_whole()
        self._collect()
        if one_phase:
            self._steps = self._followed.due(self._steps, self._decoder.serial())
        else:
            self._prepared.limit(self._steps, self._at)
            _, begun = divmod(self._decoder.serial(), 1 << OFFSET_BITS)
            self._prepared.put(xid, self._steps, (self._reach.file, begun))
            self._steps = []
        self._end_group()
        self._group = Group()  # the decoder begins most transactions by itself

    def _end_group(self) -> None:
        """End the open transaction here, and make a batch of it."""
        self._decoder.hold(False)
        self._decoder.commit()
        if self._steps or self._cut:
            self._emit_open(complete=True)

    # -- statements

    def _query(self, query: logevents.Query) -> None:
        in_group, begun, _, rows, _ = self._decoder.status()
        if not in_group:  # a server without GTIDs
            self._begin(Group(), b"", 0, 0)
        found = self._statements.look(query, self._followed.tables)
        if found.stop:  # it may stand before the copy of its table
            found = self._statements.look(query, self._followed.due_now())
        if found.stop:
            self._failure = self._statement_based(found.stop, found.table)
            return
        if found.ends == "begin":
            if found.xa:
                self._group.xa = True
                self._decoder.keep()
            self._decoder.go_on()
        elif found.ends == "commit":
            if found.xid:
                self._xa_end(found.xid, commit=True)
            elif self._steps or self._cut:
                self._collect()
                self._end_group()
            else:
                self._decoder.commit()
        elif found.ends == "rollback":
            if found.xid:
                self._xa_end(found.xid, commit=False)
            elif rows or self._steps or self._cut:
                self._failure = self._undecodable("a transaction that was rolled back stands in the log with rows")
            else:
                self._decoder.commit()
        elif found.ends == "undo" and (rows or self._steps or self._cut):
            self._failure = self._undecodable("a transaction that was rolled back in part stands in the log with rows")
        elif found.ends == "statement":
            if found.changes and not self._group.passed_over:
                self._emit_whole()
                self._collect()
                self._steps += self._followed.change(found.changes, query.session)
                self._decoder.forget()
            if found.goes_on or begun or (self._connection.flavour.engine == "mariadb" and not self._group.standalone):
                if self._steps:
                    self._decoder.hold(True)
                self._decoder.go_on()
            elif not self._failure:
                self._end_group()

    def _xa_end(self, xid: bytes, *, commit: bool) -> None:
        """Commit what was put aside under `xid`, or forget it."""
        self._emit_whole()  # whoever goes on from there has to read it again
        steps = self._prepared.take(xid)
        serial = self._decoder.serial()
        if steps is None and commit and self._followed.tables and serial >= self._reach.start:
            self._failure = PositionLost(
                "an XA transaction was committed that was prepared before this run began",
                at=f"{self._at}, behind position {self._reach.end}",
                why="its rows stand before the position that the pipeline goes on from",
                do="cdcflow resync --all",
            )
            return
        if not commit:  # a table that has another shape has it for those that commit, too
            steps = [step for step in steps or () if isinstance(step, Recopy)]
        self._steps += self._followed.due(steps or (), serial)
        self._end_group()

    # -- tables

    def _table_map(self, body: bytes) -> None:
        found = tablemap.parse(body, self._connection.flavour.engine)
        lost = self._followed.define(found, body, xa=self._group.xa)
        if lost is None:
            return
        self._emit_whole()
        if lost not in self._steps:  # the rows of each statement in a prepared transaction say so again
            self._collect()
            self._steps.append(lost)
        self._decoder.hold(True)

    # -- failures

    def _unreadable(self, error: MessageError) -> DecodeError:
        """Say what to do about a row that the source can mend; anything else is ours to mend."""
        said = log_refusals.unreadable(error, self._connection.flavour.engine, self._behind())
        return said or self._undecodable(str(error))

    def _undecodable(self, what: str) -> DecodeError:
        self._emit_whole(failed=True)
        return log_refusals.undecodable(what, self._behind())

    def _statement_based(self, kind: str, table: str) -> DecodeError:
        self._emit_whole(failed=True)
        return log_refusals.statement_based(kind, table, self._behind())

    def _behind(self) -> str:
        return f"{self._at}, behind position {self._reach.end}"
