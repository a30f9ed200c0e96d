"""The binlog as batches of whole transactions: rows in frames, and between them statements that change tables."""

from __future__ import annotations

import uuid
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from cdcflow.codecs.binlog_cy import COMMIT, EOF, ERROR, PIECE, Decoder, MessageError
from cdcflow.codecs.binlogrow_cy import MissingValue, PartialValue, UnrealDate
from cdcflow.engines.mysql.errors import log_error
from cdcflow.engines.mysql.names import table_id
from cdcflow.errors import CdcflowError, DecodeError, PositionLost, SourceUnavailable
from cdcflow.model.change import ChangeBatch, Heartbeat, Recopy, Rows, Step
from cdcflow.model.frame import RowBatch
from cdcflow.model.ports import Follow, Router
from cdcflow.model.route import Route
from cdcflow.model.schema import TableName
from cdcflow.sources.mysql import logevents, tablemap
from cdcflow.sources.mysql.gtids import MariadbGtids, MysqlGtids
from cdcflow.sources.mysql.log import BinlogConnection
from cdcflow.sources.mysql.position import Binlog, file_number
from cdcflow.sources.mysql.prepared import Prepared
from cdcflow.sources.mysql.shapes import Shapes
from cdcflow.sources.mysql.statements import Group, Statements, TableChange

_OFFSET_BITS: Final = 40


class MysqlStream:
    """Implements `model.ports.Stream` over one replication connection."""

    def __init__(
        self,
        connection: BinlogConnection,
        *,
        start: Binlog,
        server: str,
        follow: Mapping[int, Follow],
        router: Router,
        shapes: Shapes,
        reaches: Callable[[TableName], bool],
        piece_bytes: int,
    ) -> None:
        """Read on from `start`, which `connection` was opened at.

        server: the identity of the server that is there.
        reaches: whether a statement that names this table may change others (a view, a trigger).
        piece_bytes: where a large transaction is cut into pieces.
        """
        self._connection = connection
        self._at = f"source {connection.address}"
        self._router = router
        self._decoder = Decoder(piece_bytes)
        self._decoder.checked(connection.checksums)
        self._follow = dict(follow)
        self._shapes = shapes
        self._statements = Statements(connection.flavour, shapes.charsets, reaches, lower_names=shapes.lower_names)
        self._prepared = Prepared(piece_bytes * 4)
        self._frames: dict[int, tuple[Route, tuple[str, ...]]] = {}
        self._latest: dict[int, tuple[Follow, tuple[str, ...], int, object]] = {}  # each table's frame
        self._ready: deque[ChangeBatch | Heartbeat] = deque()
        self._steps: list[Step] = []  # of the open transaction, when it holds a barrier or is in pieces
        self._cut = False  # pieces of the open transaction were given out
        self._failure: CdcflowError | None = None
        self._file, self._server, self._gtids = start.file, server, start.gtids
        self._end = self._begun = start
        self._start = self._serial(start)
        self._place(*(start.prepared or (start.file, start.offset)))
        self._group = Group()

    def read(self, wait: float) -> ChangeBatch | Heartbeat | None:
        """See `model.ports.Stream.read`."""
        if self._ready:
            return self._ready.popleft()
        if self._failure:
            raise self._failure
        if not self._connection.receive(wait):
            return None
        try:
            self._decode(self._connection.buffer, self._decoder.feed)
            if not self._failure:
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

    def idle(self) -> None:
        """See `model.ports.Stream.idle`. The server waits for us as long as the network lives."""
        self._connection.heard()

    def ack(self, upto: object) -> None:
        """See `model.ports.Stream.ack`. The server keeps its log by age, whatever we have read."""

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    # -- from events to batches

    def _decode(self, buffer: bytearray, feed: Callable[[bytearray, int], int]) -> None:
        """Use up what is whole of `buffer`."""
        at = 0
        try:
            while not self._failure:
                before, at = at, feed(buffer, at)
                kind, flags, body = self._decoder.event()
                if kind:
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
        elif kind in (logevents.QUERY, logevents.MARIADB_QUERY_COMPRESSED):
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
            self._rotate(*logevents.rotate(body))
        elif kind == logevents.FORMAT_DESCRIPTION:
            self._decoder.checked(logevents.has_checksums(body))
            self._decoder.forget()
        elif kind in (logevents.HEARTBEAT, logevents.HEARTBEAT_V2):
            self._heard(kind, body)
        elif kind == logevents.PAYLOAD:
            self._unpack(body)
        elif kind == ERROR:
            self._failure = log_error(logevents.refusal(body), at=self._at)
        elif kind == EOF:
            # A server that is stopped in order, or whose session somebody ended, says goodbye.
            why = "it is stopping, or ended our session"
            self._failure = SourceUnavailable("the source ended the reading of its log", at=self._at, why=why)
        elif kind == logevents.INCIDENT:
            self._failure = self._undecodable("the source's log says that something is missing from it (INCIDENT)")
        elif kind == logevents.EXECUTE_LOAD:
            self._failure = self._statement_based("LOAD DATA", "")
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
            self._note(self._decoder.take(False)[6])
            if self._move(at_rest=not in_group and not failed):
                sent, _ = self._decoder.clock()
                self._ready.append(Heartbeat(self._end, sent / 1e6))

    def _move(self, *, at_rest: bool) -> bool:
        """Advance the end to behind the last transaction, or at rest to where the log was read; whether it moved."""
        number, offset, end = self._decoder.where()
        place = offset if at_rest else end
        if (number << _OFFSET_BITS) | place < self._start:  # read again for the sake of a prepared transaction
            return False
        if self._file == self._end.file and place <= self._end.offset and self._end.server == self._server:
            return False
        self._end = Binlog(self._file, place, self._gtids, self._server, prepared=self._prepared.oldest())
        return True

    def _note(self, runs: list[tuple[bytes, int, int]]) -> None:
        """Add the GTIDs of transactions that ended."""
        number, _, end = self._decoder.where()
        if (number << _OFFSET_BITS) | end <= self._start:
            return
        for source, first, last in runs:
            if isinstance(self._gtids, MariadbGtids):
                domain, _, server = source.partition(b"-")
                self._gtids = self._gtids.add(int(domain), int(server), last)
            elif isinstance(self._gtids, MysqlGtids):
                name = str(uuid.UUID(bytes=source)) if len(source) == 16 else source.decode()
                self._gtids = self._gtids.add_run(name, first, last)

    def _collect(self) -> None:
        """Move the rows of the open transaction into its steps."""
        frames, order, *_, runs = self._decoder.take(True)
        self._note(runs)
        if order:
            self._steps.append(self._rows(frames, order))

    def _emit_open(self, *, complete: bool) -> None:
        """Make a batch of what has been collected of the open transaction, which just ended or goes on."""
        steps, self._steps = self._steps, []
        if complete:
            self._cut = False
        self._batch(steps, complete=complete, everything=True)

    def _batch(self, steps: list[Step], *, complete: bool, everything: bool) -> None:
        frames, order, marks, transactions, first, last, runs = self._decoder.take(everything)
        self._note(runs)
        if order:
            steps = [*steps, self._rows(frames, order)]
        if complete:
            self._move(at_rest=False)
        rows = nbytes = 0
        for step in steps:
            if isinstance(step, Rows):
                rows += len(step)
                nbytes += sum(frame.nbytes for frame in step.frames.values())
        self._ready.append(
            ChangeBatch(
                steps,
                self._end,
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

    def _rows(self, frames: list[tuple[int, bytes, bytes, bytes, bytes, bytes, bool]], order: bytes) -> Rows:
        found: dict[int, RowBatch] = {}
        for number, ops, after, after_sizes, before, before_sizes, idempotent in frames:
            route, names = self._frames[number]
            found[number] = RowBatch(route, names, ops, after, after_sizes, before, before_sizes, bool(idempotent))
        return Rows(found, order)

    # -- places

    def _place(self, file: str, offset: int) -> None:
        """Note that what comes next stands there."""
        self._file = file
        number = file_number(file)
        self._decoder.place(number[1] if number else 0, offset)

    def _rotate(self, file: str, offset: int) -> None:
        """Go on in another file; the server also says so of the one that it begins in."""
        start = self._begun
        if start.prepared is None and (file, self._server) == (start.file, start.server) and offset < start.offset:
            self._file = file
            self._decoder.resume(self._serial(start) >> _OFFSET_BITS, start.offset)
        else:
            self._place(file, offset)

    def _heard(self, kind: int, body: bytes) -> None:
        """Follow the server where it passes over what is not for us."""
        file, place = logevents.heartbeat(kind, body)
        in_group, *_ = self._decoder.status()
        _, offset, _ = self._decoder.where()
        if not in_group and file == self._file and place > offset:
            self._emit_whole()
            self._place(file, place)

    def _serial(self, position: object) -> int:
        """Return a position as the decoder compares them; 0 for none, and for one of another server."""
        if not isinstance(position, Binlog) or position.server != self._server:
            return 0
        number = file_number(position.file)
        return ((number[1] if number else 0) << _OFFSET_BITS) | position.offset

    # -- events that are transactions in themselves

    def _unpack(self, body: bytes) -> None:
        """Read a compressed transaction."""
        buffer = bytearray()
        for piece in logevents.payload(body):
            buffer += piece
            self._decode(buffer, self._decoder.feed_events)
            if self._failure:
                return
        if buffer:
            raise MessageError("a compressed transaction ends inside an event")

    def _xa_prepare(self, body: bytes) -> None:
        """Put the rows of a prepared transaction aside, or commit those of one that needs no second word."""
        one_phase, xid = self._prepared.read(body)
        self._emit_whole()
        self._collect()
        if not one_phase:
            _, begun = divmod(self._decoder.serial(), 1 << _OFFSET_BITS)
            self._prepared.put(xid, self._steps, (self._file, begun))
            self._steps = []
        self._end_group()

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
        found = self._statements.look(query, self._follow)
        if found.stop:  # it may stand before the copy of its table
            found = self._statements.look(query, self._due_now())
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
                self._steps += self._changes(found.changes, query.session)
                self._decoder.forget()
            if found.goes_on or begun or (self._connection.flavour.engine == "mariadb" and not self._group.standalone):
                if self._steps:
                    self._decoder.hold(True)
                self._decoder.go_on()
            elif not self._failure:
                self._end_group()

    def _due_now(self) -> dict[int, Follow]:
        """Return the tables whose copy was not made behind the open transaction."""
        serial = self._decoder.serial()
        return {each: follow for each, follow in self._follow.items() if self._serial(follow.skip_until) <= serial}

    def _xa_end(self, xid: bytes, *, commit: bool) -> None:
        """Commit what was put aside under `xid`, or forget it."""
        steps = self._prepared.take(xid)
        serial = self._decoder.serial()
        if serial < self._start:
            steps = []
        elif steps is None and commit and self._follow:
            self._failure = PositionLost(
                "an XA transaction was committed that was prepared before this run began",
                at=f"{self._at}, behind position {self._end}",
                why="its rows stand before the position that the pipeline goes on from",
                do="cdcflow resync --all",
            )
            return
        if not commit:  # a table that was given up is given up
            steps = [step for step in steps or () if isinstance(step, Recopy)]
        if steps:
            self._emit_whole()
            self._steps += [self._due(step, serial) if isinstance(step, Rows) else step for step in steps]
        self._end_group()

    def _due(self, rows: Rows, serial: int) -> Rows:
        """Return the rows without those of tables whose copy was made behind this commit."""
        kept: dict[int, RowBatch] = {}
        for number, frame in rows.frames.items():
            follow = self._follow.get(frame.route.source.id)
            if follow is not None and self._serial(follow.skip_until) <= serial:
                frame.idempotent = self._serial(follow.idempotent_until) > serial
                kept[number] = frame
        order = memoryview(rows.order).cast("I")
        return Rows(kept, array("I", [number for number in order if number in kept]).tobytes())

    def _changes(self, changes: list[TableChange], session: logevents.Session) -> list[Step]:
        """Turn what a statement does to the tables that are followed into steps."""
        steps: list[Step] = []
        serial = self._decoder.serial()
        for change in changes:
            ids = list(self._follow) if change.name is None else [table_id(change.name)]
            for each in ids:
                follow = self._follow.get(each)
                if follow is None or self._serial(follow.skip_until) > serial:
                    continue  # gone by now, or the copy was made of what the statement made
                step, route = self._shapes.step(follow.route, change, self._router, session)
                if isinstance(step, Recopy):
                    del self._follow[each]
                elif route is not follow.route:
                    self._follow[each] = Follow(route, follow.skip_until, follow.idempotent_until)
                if step is not None:
                    steps.append(step)
        return steps

    # -- tables

    def _table_map(self, body: bytes) -> None:
        """Say what becomes of the rows of a table that is met anew."""
        found = tablemap.parse(body, self._connection.flavour.engine)
        follow = self._follow.get(table_id(found.name))
        if follow is None:
            self._decoder.define(found.number, body, None, None, 0)
            return
        skip = self._serial(follow.skip_until)
        if skip > self._decoder.serial() and not self._group.xa:
            # Rows that the copy has. Their table may have had another shape than the one we know.
            self._decoder.define(found.number, body, None, None, skip)
            return
        shaped = tablemap.shape(found, follow.route, self._shapes.charsets)
        if isinstance(shaped, str):
            self._lost(follow, shaped)
            self._decoder.define(found.number, body, None, None, 0)
            return
        row_shape, names = shaped
        latest = self._latest.get(follow.route.source.id)
        if latest is None or latest[0] is not follow or latest[1] != names:
            number, frame = self._decoder.frame(len(names), skip, self._serial(follow.idempotent_until))
            self._frames[number] = (follow.route, names)
            self._latest[follow.route.source.id] = follow, names, number, frame
        else:  # the server gives the same table another number whenever it opens it anew
            *_, frame = latest
        self._decoder.define(found.number, body, frame, row_shape, 0)

    def _lost(self, follow: Follow, why: str) -> None:
        """Give a table up whose rows cannot be read with the shape that we know: it is copied again."""
        self._emit_whole()
        self._collect()
        self._steps.append(Recopy(follow.route, why))
        self._decoder.hold(True)
        del self._follow[follow.route.source.id]

    # -- failures

    def _unreadable(self, error: MessageError) -> DecodeError:
        """Say what to do about a row that the source can mend; anything else is ours to mend."""
        table = getattr(error, "table", "")
        whole = "SET PERSIST binlog_row_image = 'FULL'" if self._is_mysql() else "SET GLOBAL binlog_row_image = 'FULL'"
        if isinstance(error, PartialValue):
            why = "PARTIAL_JSON in binlog_row_value_options needs binlog_row_image = FULL"
            do = f"{whole} at the source (and in every session), then cdcflow resync {table}"
        elif isinstance(error, MissingValue):
            why = "binlog_row_image = MINIMAL leaves out what a default decides"
            do = f"{whole} at the source (and in every session), then cdcflow resync {table}"
        elif isinstance(error, UnrealDate):
            why = "the rules say zero_dates: fail"
            do = f"mend the row at the source, or choose zero_dates: null or epoch; then cdcflow resync {table}"
        else:
            return self._undecodable(str(error))
        return DecodeError(
            f"a row in the log does not say what it holds: {error}"
            if not isinstance(error, UnrealDate)
            else f"a row is refused: {error}",
            at=f"{self._at}, behind position {self._end}",
            why=why,
            do=do,
        )

    def _is_mysql(self) -> bool:
        return self._connection.flavour.engine == "mysql"

    def _undecodable(self, what: str) -> DecodeError:
        self._emit_whole(failed=True)
        return DecodeError(
            f"the log cannot be decoded: {what}",
            at=f"{self._at}, behind position {self._end}",
            why="nothing behind that position was applied",
            do="report this with the server's version; cdcflow resync --all copies again from now",
        )

    def _statement_based(self, kind: str, table: str) -> DecodeError:
        self._emit_whole(failed=True)
        return DecodeError(
            f"rows were changed by a statement that the log holds as text ({kind})",
            at=f"{self._at}, behind position {self._end}" + (f", table {table}" if table else ""),
            why="what the statement did to which rows cannot be known from its text",
            do="SET GLOBAL binlog_format = 'ROW' at the source (and in every session), then "
            + (f"cdcflow resync {table}" if table else "cdcflow resync --all"),
        )
