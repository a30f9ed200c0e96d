"""MySQL and MariaDB as a target: one object that makes tables, hands out loaders and applies batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pymysql

from cdcflow.engines.mysql import servers
from cdcflow.engines.mysql.connect import safe_url
from cdcflow.engines.mysql.errors import fenced, translate
from cdcflow.engines.mysql.names import ident, qualified
from cdcflow.errors import TargetUnavailable
from cdcflow.model.change import ChangeBatch, Receipt
from cdcflow.model.check import Finding
from cdcflow.model.ports import Capabilities
from cdcflow.model.position import Position
from cdcflow.model.route import Route
from cdcflow.ops.logs import get_logger
from cdcflow.targets.mysql import alter, bookkeeping, catalog, check, ddl, defaults, finish, held
from cdcflow.targets.mysql.applier import Applier
from cdcflow.targets.mysql.compare import impossible, problems, refuse
from cdcflow.targets.mysql.loader import MysqlLoader
from cdcflow.targets.mysql.session import Session, text

log = get_logger(__name__)

# A table was made by somebody else meanwhile.
_THERE = 1050

# What a default or a generated column may say that the server does not understand or does not allow: syntax, unknown
# function or column, invalid default, not allowed in an expression, BLOB with a default.
_LACKS = (1054, 1064, 1067, 1101, 1294, 1305, 1901, 1906, 3102, 3105, 3106, 3109, 3757, 3763, 3770, 3772, 3774)


class MysqlTarget:
    """Implements `model.ports.Target`. Connects when asked for something, never before.

    `create`, `clear`, `finish` and `check` use a connection of their own for each call.
    """

    capabilities = Capabilities(transactional=True, holds_state=True, ddl_in_transaction=False, schema_changes=True)

    def __init__(self, url: str, pipeline: str) -> None:
        self._url = url
        self._pipeline = pipeline
        self.address = safe_url(url)
        self._epoch: int | None = None
        self._applier: Applier | None = None

    def check(self, routes: Sequence[Route]) -> list[Finding]:
        with self._connected() as session:
            return check.findings(session, self._pipeline, routes, self.address)

    def identity(self) -> dict[str, str]:
        with self._connected() as session:
            return {"engine": session.flavour.engine, "server": servers.name(session.query, session.flavour)}

    def holds(self, route: Route) -> bool:
        with self._connected() as session:
            return catalog.table(session, route.target) is not None and catalog.has_rows(session, route.target)

    def create(self, route: Route) -> None:
        with self._connected() as session:
            if self._epoch is not None:
                self._forget_part_before(session, route, self._epoch)
            server = catalog.server(session)
            refuse(route, impossible(route, server))
            table = catalog.table(session, route.target)
            if table is None:
                if not catalog.has_database(session, route.target.schema):
                    session.define(
                        f"CREATE DATABASE IF NOT EXISTS {ident(route.target.schema)} DEFAULT CHARACTER SET utf8mb4"
                    )
                if self._create_table(session, route, server):
                    log.info("made a table", table=str(route.target), source=str(route.source.name))
                    return
                table = catalog.table(session, route.target)
                assert table is not None
            self._adopt(session, route, table, server)

    def _create_table(self, session: Session, route: Route, server: catalog.Server) -> bool:
        """Make the table; return False where somebody else just has."""
        try:
            try:
                session.define(ddl.create_table(route, server, self._pipeline))
            except pymysql.Error as error:
                if error.args[0] not in _LACKS:
                    raise
                self._create_less(session, route, server, f"error {error.args[0]}")
        except pymysql.Error as error:
            if error.args[0] != _THERE:
                raise
            return False
        for lacking, what in defaults.left_out(route, ddl.column_types(route, server)):
            log.info(f"left out {what}", table=str(route.target), column=lacking)
        for column, name in route.columns:
            wanted = column.type.collation
            if wanted and wanted not in server.collations:
                made = catalog.table(session, route.target)
                there = made.column(name) if made else None
                log.info(
                    "the target lacks a collation",
                    table=str(route.target),
                    column=name,
                    source=wanted,
                    target=there.collation if there else "",
                )
        return True

    def _create_less(self, session: Session, route: Route, server: catalog.Server, reason: str) -> None:
        left_out = "left out generated columns"
        try:
            session.define(ddl.create_table(route, server, self._pipeline, generated=False))
        except pymysql.Error as error:
            if error.args[0] not in _LACKS:
                raise
            left_out, reason = "left out defaults and generated columns", f"error {error.args[0]}"
            session.define(ddl.create_table(route, server, self._pipeline, generated=False, defaulting=False))
        log.info(left_out, table=str(route.target), reason=reason)

    def _adopt(self, session: Session, route: Route, table: catalog.TargetTable, server: catalog.Server) -> None:
        """Compare a table that is there; one of our own that fell behind the source is brought up to it."""
        if table.made_by:
            empty = not catalog.has_rows(session, route.target)
            for statement in alter.reshape(route, table, server, self._pipeline, empty=empty):
                held.follow(session, statement, route.target, route, self.address)
            table = catalog.table(session, route.target) or table
        refuse(route, problems(route, table, server))

    def clear(self, route: Route, before: Route) -> None:
        epoch = self._begun()
        with self._connected() as session:
            server = catalog.server(session)
            table = catalog.table(session, route.target)
            if table is not None and not table.made_by:  # else it would be refused when its rows are gone
                refuse(route, problems(route, table, server))
            session.define(bookkeeping.MAKE_PARTIAL)
            self._begin_fenced(session, epoch)
            # First, for TRUNCATE commits: the record says by itself that the copy starts over.
            session.run(bookkeeping.forget_chunks(self._pipeline, route.source.id))
            self._forget_part(session, route)
            session.commit()
            if table is not None:
                self._empty(session, route)
                if table.made_by:
                    for statement in alter.moved(before, route, table):
                        held.follow(session, statement, route.target, route, self.address)
                    table = catalog.table(session, route.target) or table
                    for statement in alter.reshape(route, table, server, self._pipeline, empty=True):
                        held.follow(session, statement, route.target, route, self.address)
        log.info("emptied a table", table=str(route.target))

    def _begin_fenced(self, session: Session, epoch: int) -> None:
        session.begin()
        if not session.query(bookkeeping.fence(self._pipeline, epoch)):
            session.rollback()
            raise fenced(self.address, f"the lease of pipeline {self._pipeline} has another epoch than {epoch}")

    def _forget_part_before(self, session: Session, route: Route, epoch: int) -> None:
        """No change of a table arrives before its copy begins: what is on record is of an earlier time, when the rules
        named it, too."""
        session.define(bookkeeping.MAKE_PARTIAL)
        rows = session.query(bookkeeping.get_partial(self._pipeline))
        if rows and route.source.id in bookkeeping.read_changes(text(rows[0][1])):
            self._begin_fenced(session, epoch)
            self._forget_part(session, route)
            session.commit()

    def _forget_part(self, session: Session, route: Route) -> None:
        """What a batch that was cut short wrote of the table is gone with its rows."""
        rows = session.query(bookkeeping.get_partial(self._pipeline) + " FOR UPDATE")
        if rows:
            changes = bookkeeping.read_changes(text(rows[0][1]))
            if changes.pop(route.source.id, None) is not None:
                session.run(bookkeeping.set_partial(self._pipeline, text(rows[0][0]), changes))
        if self._applier is not None:
            self._applier.forget(route.source.id)

    def _empty(self, session: Session, route: Route) -> None:
        try:
            session.define(f"TRUNCATE TABLE {qualified(route.target)}")
        except pymysql.Error as error:
            if error.args[0] not in (1142, 1701):
                raise
            session.run(f"DELETE FROM {qualified(route.target)}")  # DROP was not granted, or rows refer to it

    def adapt(self, routes: Sequence[Route]) -> bool:
        """Nothing changes in MySQL's types but by a schema change; enums from elsewhere are text here."""
        return False

    def finish(self, routes: Sequence[Route]) -> None:
        with self._connected() as session:
            finish.finish(session, routes, self._problem)

    def loader(self) -> MysqlLoader:
        return MysqlLoader(self._url, self._pipeline, self._begun())

    def begin(self, pipeline: str, epoch: int) -> None:
        if self._applier is not None:
            self._applier.close()
        self._pipeline, self._epoch = pipeline, epoch
        self._applier = Applier(self._url, pipeline, epoch)

    def apply(self, batch: ChangeBatch) -> Receipt:
        return self._session().apply(batch)

    def heartbeat(self, position: Position) -> Receipt:
        return self._session().heartbeat(position)

    def flush(self, *, force: bool) -> Position | None:
        return self._session().flush(force=force)

    def close(self) -> None:
        if self._applier is not None:
            self._applier.close()
            self._applier = None

    def _session(self) -> Applier:
        if self._applier is None:
            raise RuntimeError("begin comes before apply, heartbeat and flush")
        return self._applier

    def _begun(self) -> int:
        if self._epoch is None:
            raise RuntimeError("begin comes before clear and loader: they write under the lease's epoch")
        return self._epoch

    @contextmanager
    def _connected(self) -> Iterator[Session]:
        session: Session | None = None
        try:
            session = Session(self._url, f"cdcflow {self._pipeline}")
            yield session
        except (pymysql.Error, OSError) as error:
            lost = session is not None and not session.alive()
            found = translate(error, side="target", at=self.address)
            if lost and not isinstance(found, TargetUnavailable):
                raise TargetUnavailable(
                    "the connection to the target was lost", at=self.address, why=found.what
                ) from None
            raise found from None
        finally:
            if session is not None:
                session.rollback()
                session.close()

    def _problem(self, error: pymysql.Error) -> str:
        """Give a server's error in words for the log, which hold no values."""
        found = translate(error, side="target", at="")
        return f"{found.what}: {found.why}" if found.why else found.what
