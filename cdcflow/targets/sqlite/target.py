"""SQLite as a target: one file that holds the tables and the pipeline's state."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cdcflow.model.change import ChangeBatch, Receipt
from cdcflow.model.check import Finding
from cdcflow.model.ports import Capabilities
from cdcflow.model.position import Position
from cdcflow.model.route import Route, SchemaChanges
from cdcflow.model.schema import Index
from cdcflow.ops.logs import get_logger
from cdcflow.targets.sqlite import alter, catalog, check, ddl
from cdcflow.targets.sqlite.applier import Applier
from cdcflow.targets.sqlite.catalog import FileTable
from cdcflow.targets.sqlite.compare import problems, refuse
from cdcflow.targets.sqlite.loader import SqliteLoader
from cdcflow.targets.sqlite.names import collision, folded, ident, refuse_names, table_of
from cdcflow.targets.sqlite.session import Session

log = get_logger(__name__)


class SqliteTarget:
    """Implements `model.ports.Target`. Opens the file when asked for something, never before.

    `create`, `clear`, `finish` and `holds` use a connection of their own for each call, and wait for the transaction
    that another thread has open.
    """

    capabilities = Capabilities(transactional=True, holds_state=True, ddl_in_transaction=True, schema_changes=True)

    def __init__(self, path: Path, address: str, pipeline: str) -> None:
        self._path, self.address = path, address
        self._pipeline = pipeline
        self._epoch: int | None = None
        self._applier: Applier | None = None

    def check(self, routes: Sequence[Route]) -> list[Finding]:
        return check.findings(self._path, routes, self._pipeline)

    def identity(self) -> dict[str, str]:
        """No source is a file."""
        return {}

    def holds(self, route: Route) -> bool:
        with self._reading() as connection:
            table = catalog.table(connection, table_of(route))
            if table is None:
                return False
            return connection.execute(f"SELECT 1 FROM {ident(table.name)} LIMIT 1").fetchone() is not None

    def create(self, route: Route) -> None:
        refuse_names(route)
        with self._writing() as (_, connection):
            self._refuse_double(connection, route)
            table = catalog.table(connection, table_of(route))
            if table is not None:
                self._adopt(connection, route, table)
                return
            connection.execute(ddl.create_table(route, self._pipeline))
            statement = ddl.key_index(route)
            if statement is not None:
                connection.execute(statement)
        log.info("made a table", table=table_of(route), source=str(route.source.name))

    def _adopt(self, connection: sqlite3.Connection, route: Route, table: FileTable) -> None:
        """Compare a table that is there; one of our own that fell behind the source is brought up to it."""
        reshapes = table.made_by and route.schema_changes is SchemaChanges.APPLY
        if reshapes and not ddl.has_shape(route, table):
            if connection.execute(f"SELECT 1 FROM {ident(table.name)} LIMIT 1").fetchone() is None:
                alter.rebuild(connection, table, route, ddl.move(route, route), self._pipeline)
            else:
                for column, name in route.columns:
                    if table.column(name) is None:
                        connection.execute(ddl.add_column(route, column, name))
            table = catalog.table(connection, table.name) or table
        refuse(route, problems(route, table))

    def _refuse_double(self, connection: sqlite3.Connection, route: Route) -> None:
        """Raise ConfigError where another table of the pipeline goes by that name in the file."""
        rows = connection.execute(
            "SELECT table_id, source_schema, source_table, target_table FROM cdcflow_tables WHERE pipeline = ?",
            (self._pipeline,),
        )
        for table_id, schema, source, target in rows:
            if table_id != route.source.id and folded(target) == folded(table_of(route)):
                raise collision(route, f"{schema}.{source}")

    def clear(self, route: Route, before: Route) -> None:
        epoch = self._begun()
        refuse_names(route)
        with self._writing() as (session, connection):
            table = catalog.table(connection, table_of(route))
            if table is not None and not table.made_by:  # else it would be refused when its rows are gone
                refuse(route, problems(route, table))
            if table is not None and table.kind == "table":
                connection.execute(f"DELETE FROM {ident(table.name)}")
                move = ddl.move(before, route)
                stale = any(table.column(name) for name in move.gone)
                stale = stale or any(was != name for _, was, _, name in move.kept)
                shaped = ddl.has_shape(route, table) and not stale
                if table.made_by and not shaped and route.schema_changes is SchemaChanges.APPLY:
                    alter.rebuild(connection, table, route, move, self._pipeline)
            session.fence(self._pipeline, epoch)
            session.forget_chunks(self._pipeline, [route.source.id])
        log.info("emptied a table", table=table_of(route))

    def finish(self, routes: Sequence[Route]) -> None:
        """Make the source's indexes: of plain columns, unique where the source's are. Foreign keys are not made."""
        for route in routes:
            with self._reading() as connection:
                table = catalog.table(connection, table_of(route))
            if table is None or not table.made_by:
                continue
            for index in route.source.indexes:
                columns = ddl.index_columns(route, index)
                if columns is None:
                    log.info("left out an index", table=table.name, name=index.name)
                else:
                    self._index(route, index, columns)

    def _index(self, route: Route, index: Index, columns: tuple[str, ...]) -> None:
        unique = ddl.is_unique(route, index)
        with self._reading() as connection:
            table = catalog.table(connection, table_of(route))
            if table is None or _has_index(table, columns, unique=unique):
                return
        # A change that adds it may still be on its way. SQLite takes a quoted name that is no column's for a text, and
        # an index of that makes the file unreadable with the column's arrival.
        lacking = [name for name in columns if table.column(name) is None]
        if lacking:
            log.info(
                "left out an index whose columns are not here yet", table=table.name, name=index.name, columns=lacking
            )
            return
        with self._writing() as (_, connection):
            name = index.name
            taken = "SELECT 1 FROM sqlite_schema WHERE lower(name) = ?"
            if connection.execute(taken, (folded(name),)).fetchone() or folded(name).startswith("sqlite_"):
                name = f"{table.name}_{name}"
                if connection.execute(taken, (folded(name),)).fetchone():
                    return
            log.info("making an index", table=table.name, name=name)
            made = "CREATE UNIQUE INDEX" if unique else "CREATE INDEX"
            try:
                connection.execute(f"{made} {ident(name)} ON {ident(table.name)} ({ddl.column_list(columns)})")
            except sqlite3.IntegrityError as error:
                log.warning("left out an index", table=table.name, name=name, reason=str(error))

    def adapt(self, routes: Sequence[Route]) -> bool:
        """A file has no types of its own."""
        return False

    def loader(self) -> SqliteLoader:
        return SqliteLoader(self._path, self._pipeline, self._begun())

    def begin(self, pipeline: str, epoch: int) -> None:
        if self._applier is not None:
            self._applier.close()
        self._pipeline, self._epoch = pipeline, epoch
        self._applier = Applier(self._path, pipeline, epoch)

    def apply(self, batch: ChangeBatch) -> Receipt:
        return self._begun_applier().apply(batch)

    def heartbeat(self, position: Position) -> Receipt:
        return self._begun_applier().heartbeat(position)

    def flush(self, *, force: bool) -> Position | None:
        return self._begun_applier().flush()

    def close(self) -> None:
        if self._applier is not None:
            self._applier.close()
            self._applier = None

    def _begun_applier(self) -> Applier:
        if self._applier is None:
            raise RuntimeError("begin comes before apply, heartbeat and flush")
        return self._applier

    def _begun(self) -> int:
        if self._epoch is None:
            raise RuntimeError("begin comes before clear and loader: they write under the lease's epoch")
        return self._epoch

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        session = Session(self._path)
        try:
            with session.reading() as connection:
                yield connection
        finally:
            session.close()

    @contextmanager
    def _writing(self) -> Iterator[tuple[Session, sqlite3.Connection]]:
        session = Session(self._path)
        try:
            with session.transaction() as connection:
                yield session, connection
        finally:
            session.close()


def _has_index(table: FileTable, columns: tuple[str, ...], *, unique: bool) -> bool:
    wanted = [folded(name) for name in columns]
    if [folded(name) for name in table.primary_key] == wanted:
        return True
    return any(
        [folded(name) for name in each.columns] == wanted and not each.partial and (each.unique or not unique)
        for each in table.indexes
    )
