"""PostgreSQL as a target: one object that makes tables, hands out loaders and applies batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psycopg
from psycopg import Connection, RawCursor, errors

from cdcflow.engines.postgres.connect import connect, safe_url
from cdcflow.engines.postgres.errors import translate
from cdcflow.engines.postgres.names import ident, qualified
from cdcflow.errors import AccessDenied, ConfigError, OperatorError, TableRefused
from cdcflow.model.change import ChangeBatch, Receipt, SchemaChange
from cdcflow.model.check import Finding
from cdcflow.model.ports import Capabilities
from cdcflow.model.position import Position
from cdcflow.model.route import Route, SchemaChanges
from cdcflow.ops.logs import get_logger
from cdcflow.targets.postgres import alter, altering, catalog, check, ddl, finish, foreign, types
from cdcflow.targets.postgres.applier import Applier
from cdcflow.targets.postgres.compare import bad_names, problems, refuse
from cdcflow.targets.postgres.loader import PostgresLoader
from cdcflow.targets.sql import bookkeeping

log = get_logger(__name__)

# Two that make one schema, type or table at once would fail on the catalog's own unique indexes.
_DDL_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('cdcflow: making tables', 0))"

# How long a connection beside the apply session waits for a lock. What holds it longer is a stranger's open
# transaction, or our own that is written in pieces and would wait for us: both are better told than waited for.
_LOCK_WAIT_SECONDS = 60

# What a default or a generated column may call and the target may lack.
_LACKS = (
    errors.UndefinedFunction,
    errors.UndefinedObject,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.InvalidSchemaName,
    errors.InvalidTableDefinition,
    errors.InvalidObjectDefinition,
)


_IDENTITY = "SELECT system_identifier::text, current_database()::text FROM pg_control_system()"


class PostgresTarget:
    """Implements `model.ports.Target`. Connects when asked for something, never before.

    `create`, `clear`, `finish` and `check` use a connection of their own for each call.
    """

    capabilities = Capabilities(transactional=True, holds_state=True, ddl_in_transaction=True, schema_changes=True)

    def __init__(self, url: str, pipeline: str) -> None:
        self._url = url
        self._pipeline = pipeline
        self.address = safe_url(url)
        self._epoch: int | None = None
        self._applier: Applier | None = None
        self._open = False  # a transaction of the apply session waits for its next piece

    def check(self, routes: Sequence[Route]) -> list[Finding]:
        with self._connected() as connection:
            return check.findings(connection, self._pipeline, catalog.local(connection, *routes))

    def identity(self) -> dict[str, str]:
        with self._connected() as connection:
            try:
                row = connection.execute(_IDENTITY).fetchone()
            except errors.InsufficientPrivilege:
                return {}
        assert row is not None
        return {"engine": "postgresql", "system": row[0], "database": row[1]}

    def holds(self, route: Route) -> bool:
        with self._connected() as connection:
            if catalog.table(connection, route.target) is None:
                return False
            row = connection.execute(f"SELECT EXISTS (SELECT FROM {qualified(route.target)})").fetchone()
        return row == (True,)

    def create(self, route: Route) -> None:
        refuse(route, bad_names(route))
        lost = foreign.left_out(route)
        with self._connected() as connection, connection.transaction():
            connection.execute(_DDL_LOCK)
            (route,) = catalog.local(connection, route)
            have = catalog.shape(connection, route)
            self._make_types(connection, route, have)
            if have.table is not None:
                self._adopt(connection, route, have)
                return
            schemas = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (route.target.schema,))
            if schemas.fetchone() is None:
                connection.execute(f"CREATE SCHEMA {ident(route.target.schema)}")
            self._create_table(connection, route, have.version)
            for statement in ddl.key_statements(route):
                connection.execute(statement)
            connection.execute(ddl.comments(route, catalog.mark(self._pipeline, route.source.comment)))
            finish.complete_defaults(connection, route, self._problem)
        log.info("made a table", table=str(route.target), source=str(route.source.name))
        for column, what in lost:
            reason = f"{route.source.engine}'s expression has no form in PostgreSQL"
            log.info(f"left out {what}", table=str(route.target), column=column, reason=reason)

    def _make_types(self, connection: Connection, route: Route, have: catalog.Shape) -> None:
        self._require_extensions(connection, route, have)
        for statement in types.statements(route.source.types, have):
            connection.execute(statement)

    def _adopt(self, connection: Connection, route: Route, have: catalog.Shape) -> None:
        """Compare a table that is there; one of our own that fell behind the source is brought up to it."""
        table = have.table
        if table is not None and table.made_by:
            row = connection.execute(f"SELECT EXISTS (SELECT FROM {table.alone})").fetchone()
            for statement in alter.reshape(route, have, empty=row == (False,)):
                altering.run(connection.execute, statement, route, self.address)
            table = catalog.table(connection, route.target)
        if table is not None:
            refuse(route, problems(route, table))

    def _create_table(self, connection: Connection, route: Route, version: int) -> None:
        try:
            with connection.transaction():
                connection.execute(ddl.create_table(route, version))
            return
        except _LACKS:
            connection.execute(ddl.create_table(route, version, generated=False))
        for column in route.source.columns:
            if not ddl.is_computable(route, column):
                continue
            line = ddl.generated_line(column, version)
            try:
                with connection.transaction():
                    connection.execute(f"ALTER TABLE {qualified(route.target)} ADD COLUMN {line}")
            except _LACKS as error:
                reason = self._problem(error)
                log.info("left out a generated column", table=str(route.target), column=column.name, reason=reason)

    def _require_extensions(self, connection: Connection, route: Route, have: catalog.Shape) -> None:
        for each in route.source.types:
            if each.kind != "extension" or each.name.table in have.extensions:
                continue
            name = each.name.table
            row = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = %s", (name,)).fetchone()
            if row is None:
                raise OperatorError(
                    f"the target server does not have extension {ident(name)}",
                    at=self.address,
                    why=f"table {route.source.name} has a column of one of its types",
                    do=f"install {name} on the target's machine, or leave the columns out with `columns: exclude`",
                )

    def clear(self, route: Route, before: Route) -> None:
        epoch = self._begun()
        with self._connected() as connection, connection.transaction():
            connection.execute(_DDL_LOCK)
            before, route = catalog.local(connection, before, route)
            have = catalog.shape(connection, route)
            if have.table is not None:
                if not have.table.made_by:  # else it would be refused when its rows are gone
                    refuse(route, problems(route, have.table))
                self._empty(connection, route, have.table.alone)
                if have.table.made_by:
                    self._make_types(connection, route, have)
                    for statement in alter.moved(before, route, have):
                        altering.run(connection.execute, statement, route, self.address)
                    for statement in alter.reshape(route, catalog.shape(connection, route), empty=True):
                        altering.run(connection.execute, statement, route, self.address)
            cursor = RawCursor(connection)
            cursor.execute(bookkeeping.FENCE, [self._pipeline, epoch])
            cursor.execute(bookkeeping.FORGET_CHUNKS, [self._pipeline, route.source.id])
        log.info("emptied a table", table=str(route.target))

    def _empty(self, connection: Connection, route: Route, table: str) -> None:
        with suppress(errors.InsufficientPrivilege), connection.transaction():
            # Else triggers and foreign keys see the rows go.
            connection.execute("SET LOCAL session_replication_role = replica")
        try:
            with connection.transaction():
                connection.execute(f"TRUNCATE {table}")
            return
        except (errors.FeatureNotSupported, errors.InsufficientPrivilege):
            pass  # another table refers to it, or only DELETE was granted
        try:
            with connection.transaction():
                connection.execute(f"DELETE FROM {table}")
        except errors.ForeignKeyViolation as error:
            raise TableRefused(
                f"table {route.target} cannot be emptied before it is copied again",
                at=self.address,
                why=f"rows of {error.diag.schema_name}.{error.diag.table_name} refer to it",
                do=f"let the role set session_replication_role, or drop constraint"
                f" {ident(error.diag.constraint_name or 'unknown')} until the copy is done",
            ) from None

    def adapt(self, routes: Sequence[Route]) -> bool:
        with self._connected() as connection:
            added = [self._add_labels(connection, route) for route in routes]
        return any(added)

    def finish(self, routes: Sequence[Route]) -> None:
        self.adapt(routes)
        with self._connected() as connection:
            if not self._open:  # making an index waits for every older transaction, however long that takes
                connection.execute("SET lock_timeout = 0")
            local = catalog.local(connection, *routes)
            finish.finish(connection, local, beside_applier=self._open, problem=self._problem)

    def loader(self) -> PostgresLoader:
        return PostgresLoader(self._url, self._pipeline, self._begun())

    def begin(self, pipeline: str, epoch: int) -> None:
        if self._applier is not None:
            self._applier.close()
        self._pipeline, self._epoch, self._open = pipeline, epoch, False
        self._applier = Applier(self._url, pipeline, epoch)

    def apply(self, batch: ChangeBatch) -> Receipt:
        for step in batch.steps:
            if isinstance(step, SchemaChange):
                with self._connected() as connection:
                    self._add_labels(connection, step.new)
        self._open = not batch.complete
        return self._session().apply(batch)

    def _add_labels(self, connection: Connection, route: Route) -> bool:
        """Commit new enum labels ahead of the rows, which may not use them in the transaction that adds them."""
        enums = any(each.kind == "enum" for each in route.source.types)
        if not enums or route.schema_changes is not SchemaChanges.APPLY:
            return False
        try:
            # Not the table: the apply session may hold it altered, in the transaction that these rows are a piece of.
            statements = types.new_labels(route.source.types, catalog.types_of(connection, route))
        except ConfigError as error:
            log.error("an enum differs at the target", table=str(route.target), **error.fields())
            return False
        for statement in statements:
            connection.execute(statement)
            log.info("added a label to an enum", table=str(route.target), statement=statement)
        return bool(statements)

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
    def _connected(self) -> Iterator[Connection]:
        connection = connect(self._url, side="target", application=f"cdcflow {self._pipeline}")
        try:
            with connection:
                connection.execute(f"SET lock_timeout = '{_LOCK_WAIT_SECONDS}s'")
                yield connection
        except psycopg.Error as error:
            raise self._error(error) from None

    def _error(self, error: psycopg.Error) -> Exception:
        found = translate(error, side="target", at=self.address)
        if isinstance(found, AccessDenied) and "extension" in found.why:
            found.do = "create the extension as a superuser: CREATE EXTENSION, then start cdcflow again"
        return found

    def _problem(self, error: psycopg.Error) -> str:
        """Give a server's error in words for the log, which hold no values."""
        found = translate(error, side="target", at="")
        return f"{found.what}: {found.why}" if found.why else found.what
