"""MySQL and MariaDB as a source: one object that looks, copies and streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Event

from cdcflow.engines.mysql.connect import address, flavour
from cdcflow.errors import TableRefused
from cdcflow.model.check import Finding
from cdcflow.model.context import Context
from cdcflow.model.ports import Follow, Router
from cdcflow.model.position import Checkpoint, Position
from cdcflow.model.route import Route
from cdcflow.model.schema import Table, TableName
from cdcflow.sources.mysql import catalog, check, check_server, check_tables, identity, keeping, log_end
from cdcflow.sources.mysql.config import Config
from cdcflow.sources.mysql.followed import Rules
from cdcflow.sources.mysql.log import BinlogConnection
from cdcflow.sources.mysql.position import DOUBT, Binlog
from cdcflow.sources.mysql.sessions import Sessions
from cdcflow.sources.mysql.shapes import Shapes
from cdcflow.sources.mysql.snapshot import MysqlSnapshot
from cdcflow.sources.mysql.stream import MysqlStream

# What the tables took to read, times this, goes by before they are read again.
SPARED = 20

# A transaction larger than this goes on in pieces; a sixteenth of the memory budget at the most.
LARGEST_PIECE_BYTES = 16 * 1024 * 1024

# Of the memory budget, what rows of prepared XA transactions may have until somebody commits them.
PREPARED_PART = 4


class MysqlSource:
    """Implements `model.ports.Source`."""

    engine = "mysql"

    def __init__(self, config: Config, context: Context) -> None:
        self._config = config.named(context.pipeline)
        self._context = context
        self._database = address(config.url).database or None
        self._sessions = Sessions(config.url, application=f"cdcflow {context.pipeline}")
        self.address = self._sessions.address
        self.workers = config.snapshot.workers
        self._included: set[int] = set()
        self._looking = threading.Lock()
        self._tables: tuple[float, list[Table]] = (0.0, [])  # until when they are taken for the present ones
        self._cascades_logged: bool | None = None
        self._reached: Callable[[], Binlog | None] = lambda: None  # how far the pipeline's log was read
        self._known: dict[str, str] = {}  # who the source was when the stream last could go on from a position

    def check(self, routes: Sequence[Route], refused: Sequence[Table]) -> list[Finding]:
        """See the port."""
        with self._sessions.sql() as connection:
            return check.findings(connection, flavour(connection), self._config, routes, refused)

    def tables(self) -> list[Table]:
        """See the port. Asked every few seconds: what took long to read is not read again at once."""
        with self._looking:
            until, tables = self._tables
            if time.monotonic() < until:
                return list(tables)
            began = time.monotonic()
            with self._sessions.sql() as connection:
                tables = catalog.tables(connection, flavour(connection), self._database)
            self._tables = began + (time.monotonic() - began) * SPARED, tables
            return list(tables)

    def describe(self, name: TableName) -> Table | None:
        """Return one table as the server has it now, None where it has none of that name."""
        with self._sessions.sql() as connection:
            return catalog.shape_of(connection, flavour(connection), name)

    def reaches_others(self, name: TableName) -> bool:
        """Return whether what is written to `name` may change other tables too."""
        with self._sessions.sql() as connection:
            return catalog.reaches_others(connection, name)

    def identity(self) -> dict[str, str]:
        """See the port."""
        with self._sessions.sql() as connection:
            return identity.current(connection, flavour(connection))

    def refusal(self, table: Table, route: Route) -> Finding | None:
        """See the port."""
        return check_tables.refusal(table, route, logged=self._logs_cascades())

    def cascades(self, table: Table, route: Route) -> list[Finding]:
        """Return what `check` would say of a table with these foreign keys."""
        return check_tables.cascades(table, route, logged=self._logs_cascades())

    def _logs_cascades(self) -> bool:
        if self._cascades_logged is None:
            with self._sessions.sql() as connection:
                self._cascades_logged = check_tables.cascades_logged(
                    flavour(connection), check_server.settings(connection)
                )
        return self._cascades_logged

    def prepared(self) -> bool:
        """See the port. Nothing of ours is kept at the source."""
        return False

    def prepare(self, routes: Sequence[Route], ended: Event | None = None) -> MysqlSnapshot:
        """See the port."""
        snapshot = self.snapshot(ended)
        try:
            with self._sessions.sql() as connection:
                identity.require_rows(connection, f"source {self.address}")
            self._known = self.identity()
        except BaseException:
            snapshot.close()
            raise
        return snapshot

    def include(self, routes: Sequence[Route]) -> None:
        """See the port. The log has every table, whatever it has become since it was looked at."""
        for route in routes:
            finding = None if route.source.id in self._included else self.refusal(route.source, route)
            if finding is not None:
                raise TableRefused(
                    f"table {route.source.name} cannot be captured as it is",
                    at=f"source {self.address}",
                    why=finding.found,
                    do=finding.do,
                )
        self._included = {route.source.id for route in routes}

    def snapshot(self, ended: Event | None = None) -> MysqlSnapshot:
        """See the port."""
        return MysqlSnapshot(
            self._sessions,
            ended,
            chunk_bytes=self._config.snapshot.chunk,
            typed_documents=self._context.typed_documents,
            known=self._reached(),
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """See the port."""
        position = self.parse(checkpoint.position)
        self._compare(checkpoint.source, position)
        self._reached = lambda: position

    def outlook(self, checkpoint: Checkpoint) -> list[Finding]:
        """See the port."""
        with self._sessions.sql() as connection:
            kind = flavour(connection)
            server = check_server.read(connection, kind)
            name = log_end.server_name(connection, kind)
            position = self.parse(checkpoint.position)
            return keeping.outlook(connection, server, name, self._config.url, self._looker(), position)

    def _looker(self) -> tuple[str, int]:
        """Return the name and the number of a reader beside the pipeline's own, which the server would end."""
        pipeline = self._context.pipeline + " look"
        return pipeline, Config(url=self._config.url).named(pipeline).reader_id

    def _compare(self, before: Mapping[str, str], position: Binlog) -> str:
        """Return the identity of the server that is there, as `Binlog.server`."""
        with self._sessions.sql() as connection:
            kind = flavour(connection)
            now = identity.current(connection, kind)
            identity.require_rows(connection, f"source {self.address}")
            identity.compare(connection, kind, before, now, position, f"source {self.address}")
            self._known = now
            return now["server"]

    def stream(self, start: Position, follow: Mapping[int, Follow], router: Router) -> MysqlStream:
        """See the port. The source may have failed over since the last stream, so it is compared each time."""
        assert isinstance(start, Binlog)
        server = self._compare(self._known, start)
        stream = self._stream(self._placed(start, server), server, follow, router)
        self._reached = lambda: stream.reached
        return stream

    def _placed(self, start: Binlog, server: str) -> Binlog:
        """Return a position whose place is in doubt without the doubt, where the server's log says so."""
        if start.server != server + DOUBT:
            return start
        with self._sessions.sql() as connection:
            exact = log_end.mariadb_gtids_at(connection, start.file, start.offset) == start.gtids
        return replace(start, server=server) if exact else start

    def watch(self, follow: Mapping[int, Follow], router: Router) -> MysqlStream:
        """See the port. Under a number of its own, or the server would end the pipeline's own reader."""
        start = self._start()
        stream = self._stream(start, start.server, follow, router, self._looker())
        stream.tell_start()
        return stream

    def _stream(
        self,
        start: Binlog,
        server: str,
        follow: Mapping[int, Follow],
        router: Router,
        reader: tuple[str, int] | None = None,
    ) -> MysqlStream:
        pipeline, server_id = reader or (self._context.pipeline, self._config.reader_id)
        connection = BinlogConnection(self._config.url, pipeline, server_id, start, server)
        try:
            return MysqlStream(
                connection,
                start=start,
                server=server,
                follow=follow,
                rules=Rules(router, self.cascades, self._included.discard, self._context.typed_documents),
                shapes=self._shapes(),
                reaches=self.reaches_others,
                piece_bytes=min(LARGEST_PIECE_BYTES, self._context.batch_max_bytes, self._context.memory_bytes // 16),
                prepared_bytes=self._context.memory_bytes // PREPARED_PART,
            )
        except BaseException:
            connection.close()
            raise

    def _shapes(self) -> Shapes:
        with self._sessions.sql() as connection:
            return Shapes(connection, flavour(connection), self.describe)

    def stamps(self, table_ids: Sequence[int]) -> dict[int, str]:
        """See the port. None is needed: the log tells of everything that rewrites a table."""
        return dict.fromkeys(table_ids, "")

    def rewritten(self, before: str, now: str) -> bool:
        """See the port."""
        return False

    def end(self) -> Binlog:
        """See the port."""
        with self._sessions.sql() as connection:
            return log_end.end_position(connection, flavour(connection))

    def _start(self) -> Binlog:
        with self._sessions.sql() as connection:
            return log_end.start_position(connection, flavour(connection))

    def retained(self) -> int | None:
        """See the port. The server keeps its log by age, not for us."""
        return None

    def parse(self, text: str) -> Binlog:
        """See the port."""
        return Binlog.parse(text)

    def teardown(self) -> list[str]:
        """See the port. Nothing of ours is kept at the source."""
        return []

    def close(self) -> None:
        """See the port."""
        self._sessions.close()


def open(config: Config, context: Context) -> MysqlSource:  # noqa: A001 - the word every connector uses
    """Return the source. Nothing is connected before its first use."""
    return MysqlSource(config, context)
