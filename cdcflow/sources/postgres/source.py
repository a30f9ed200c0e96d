"""PostgreSQL as a source: one object that looks, prepares, copies and streams."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from threading import Event

import psycopg

from cdcflow.codecs.pgmessages import Relation
from cdcflow.errors import OperatorError
from cdcflow.model.check import Finding
from cdcflow.model.context import Context
from cdcflow.model.ports import Follow, Router
from cdcflow.model.position import Checkpoint, Position
from cdcflow.model.route import Route
from cdcflow.model.schema import Logical, NativeType, Table
from cdcflow.ops.logs import get_logger
from cdcflow.sources.postgres import catalog, check, identity, publication, slot, stamps
from cdcflow.sources.postgres.config import Config
from cdcflow.sources.postgres.position import Lsn
from cdcflow.sources.postgres.reshape import reshape
from cdcflow.sources.postgres.sessions import Sessions
from cdcflow.sources.postgres.shape import Types
from cdcflow.sources.postgres.snapshot import PostgresSnapshot
from cdcflow.sources.postgres.stream import PostgresStream

log = get_logger(__name__)

# A transaction larger than this goes on in pieces; a sixteenth of the memory budget at the most.
LARGEST_PIECE_BYTES = 16 * 1024 * 1024


# Where the next record will go, less the header of a page or segment that was not begun yet: the server never sends
# that far before there is a record. Sizes: SizeOfXLogLongPHD and SizeOfXLogShortPHD of access/xlog_internal.h.
_END = """
SELECT (CASE at % pg_size_bytes(current_setting('wal_segment_size'))::numeric WHEN 40 THEN end_ - 40
        ELSE CASE at % current_setting('wal_block_size')::numeric WHEN 24 THEN end_ - 24 ELSE end_ END END)::text
FROM (SELECT e AS end_, e - '0/0'::pg_lsn AS at FROM pg_current_wal_insert_lsn() AS e) AS insertion
"""


class PostgresSource:
    """Implements `model.ports.Source`."""

    engine = "postgresql"

    def __init__(self, config: Config, context: Context) -> None:
        self._config = config.named(context.pipeline)
        self._context = context
        self._sessions = Sessions(config.url)
        self.address = self._sessions.address
        self.workers = config.snapshot.workers
        self._tables: tuple[tuple[int, ...], list[Table]] = ((), [])
        self._known: dict[str, str] = {}  # who the source was when the stream last could go on from a position

    def check(self, routes: Sequence[Route], refused: Sequence[Table]) -> list[Finding]:
        """See the port."""
        with self._sessions.sql() as connection:
            return check.findings(connection, self._config, routes, refused)

    def tables(self) -> list[Table]:
        """See the port. Asked every few seconds, so what has not changed is not read again."""
        with self._sessions.view() as connection:
            state = catalog.state(connection)
            known, tables = self._tables
            if state != known:
                tables = catalog.tables(connection)
                self._tables = state, tables
            return list(tables)

    def describe(self, table_id: int) -> Table | None:
        """Return one table as the catalogue has it now, None where it is gone."""
        with self._sessions.view() as connection:
            found = catalog.tables(connection, [table_id])
        return found[0] if found else None

    def identity(self) -> dict[str, str]:
        """See the port."""
        return identity.current(self._sessions, self._config)

    def refusal(self, table: Table, route: Route) -> Finding | None:
        """See the port."""
        return publication.refusal(table, route)

    def prepared(self) -> bool:
        """See the port."""
        with self._sessions.sql() as connection:
            return slot.find(connection, self._config.slot_name) is not None

    def prepare(self, routes: Sequence[Route], ended: Event | None = None) -> PostgresSnapshot:
        """See the port."""
        with self._sessions.sql() as connection:
            slot.drop(connection, self._config.slot_name, self.address)
            publication.drop(connection, self._config)
            publication.include(connection, self._config, routes)
        snapshot = self._export(self._config.slot_name, ended, temporary=False)
        try:
            self._known = self.identity()
        except BaseException:
            snapshot.close()
            raise
        return snapshot

    def include(self, routes: Sequence[Route]) -> None:
        """See the port."""
        with self._sessions.sql() as connection:
            publication.include(connection, self._config, routes)

    def snapshot(self, ended: Event | None = None) -> PostgresSnapshot:
        """See the port. A temporary slot gives the exact position; it goes with its connection."""
        name = f"cdcflow_copy_{self._context.pipeline[:30]}_{secrets.token_hex(4)}"
        return self._export(name, ended, temporary=True)

    def _export(self, name: str, ended: Event | None, *, temporary: bool) -> PostgresSnapshot:
        version = self._version()
        walsender = self._sessions.walsender()
        try:
            exported = slot.create(
                walsender,
                name,
                version,
                temporary=temporary,
                failover=self._config.failover,
                waiting=self._waiting,
                ended=ended,
            )
            return PostgresSnapshot(
                self._sessions, walsender, exported.snapshot, exported.position, self._config.snapshot.chunk
            )
        except BaseException:
            walsender.close()
            raise

    def _waiting(self, seconds: float) -> None:
        with self._sessions.sql() as connection:
            pid = slot.oldest(connection)
        log.info("waiting for transactions that are open at the source", seconds=round(seconds), oldest_pid=pid)

    def _version(self) -> int:
        with self._sessions.sql() as connection:
            return connection.info.server_version

    def resume(self, checkpoint: Checkpoint) -> None:
        """See the port."""
        self._compare(checkpoint.source, self.parse(checkpoint.position))

    def _compare(self, before: Mapping[str, str], position: Lsn) -> None:
        now = identity.current(self._sessions, self._config)
        identity.compare(self._sessions, self._config, before, now, position)
        self._known = now

    def stream(self, start: Position, follow: Mapping[int, Follow], router: Router) -> PostgresStream:
        """See the port. The source may have failed over since the last stream, so it is compared each time."""
        assert isinstance(start, Lsn)
        self._compare(self._known, start)
        return self._stream(start, self._config.slot_name, follow, router)

    def watch(self, follow: Mapping[int, Follow], router: Router) -> PostgresStream:
        """See the port. The slot is a temporary one: the server drops it with the connection."""
        name = f"{publication.LOOKING}{self._context.pipeline}_{secrets.token_hex(4)}"
        stream = self._stream(None, name, follow, router)
        with self._sessions.sql() as connection:
            publication.sweep(connection)
        return stream

    def _stream(self, start: Lsn | None, slot: str, follow: Mapping[int, Follow], router: Router) -> PostgresStream:
        with self._sessions.sql() as connection:
            publications = publication.existing(connection, self._config)
        if not publications:
            raise OperatorError("the publication is gone", at=f"source {self.address}", do="cdcflow resync --all")
        return PostgresStream(
            self._config.url,
            address=self.address,
            slot=slot,
            publications=publications,
            start=start,
            follow=follow,
            router=router,
            reshape=self._reshape,
            piece_bytes=min(LARGEST_PIECE_BYTES, self._context.batch_max_bytes, self._context.memory_bytes // 16),
        )

    def _reshape(self, relation: Relation, known: Table) -> Table:
        return reshape(relation, known, describe=self.describe, type_of=self._type_of)

    def _type_of(self, oid: int, modifier: int) -> tuple[NativeType, Logical]:
        with self._sessions.view() as connection:
            row = connection.execute("SELECT format_type(%s::oid, %s)", [oid, modifier]).fetchone()
            types = Types(connection, [oid])
            return types.native(oid, modifier, row[0] if row else "text"), types.logical(oid)

    def stamps(self, table_ids: Sequence[int]) -> dict[int, str]:
        """See the port."""
        with self._sessions.sql() as connection:
            return stamps.stamps(connection, table_ids)

    def rewritten(self, before: str, now: str) -> bool:
        """See the port."""
        return stamps.rewritten(before, now)

    def end(self) -> Lsn:
        """See the port."""
        with self._sessions.sql() as connection:
            return _lsn(connection, _END)

    def outlook(self, checkpoint: Checkpoint) -> list[Finding]:
        """See the port. The slot keeps it."""
        return []

    def retained(self) -> int | None:
        """See the port."""
        with self._sessions.sql() as connection:
            found = slot.find(connection, self._config.slot_name)
            if found is None or found.restart is None:
                return None
            return _lsn(connection, "SELECT pg_current_wal_insert_lsn()::text").distance(found.restart)

    def parse(self, text: str) -> Lsn:
        """See the port."""
        return Lsn.parse(text)

    def teardown(self) -> list[str]:
        """See the port."""
        with self._sessions.sql() as connection:
            dropped = slot.drop(connection, self._config.slot_name, self.address)
            return dropped + publication.drop(connection, self._config)

    def close(self) -> None:
        """See the port."""
        self._sessions.close()


def _lsn(connection: psycopg.Connection, query: str) -> Lsn:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return Lsn.parse(row[0])
