"""What `cdcflow check` looks at in a PostgreSQL target, and the statement that mends each finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import Connection

from cdcflow.engines.postgres.names import ident, qualified
from cdcflow.errors import CdcflowError
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Mode, Route
from cdcflow.model.schema import TableName
from cdcflow.targets.postgres import catalog, types
from cdcflow.targets.postgres.catalog import Shape, TargetTable
from cdcflow.targets.postgres.compare import bad_names, is_narrower, needed, problems

OLDEST, NEWEST = 14, 18
STATE_SCHEMA = "cdcflow"

_SERVER = """
SELECT current_setting('server_version'), current_setting('server_version_num')::int, current_database()::text,
       current_user::text, current_setting('server_encoding'), pg_is_in_recovery(),
       has_database_privilege(current_database(), 'CREATE'),
       has_database_privilege(current_database(), 'TEMP'),
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""


def findings(connection: Connection, pipeline: str, routes: Sequence[Route]) -> list[Finding]:
    """Look at the server, the role and every routed table; change nothing.

    Raises psycopg's errors where it cannot even look.
    """
    return list(_Check(connection, pipeline, routes).all())


class _Check:
    """One look at the target: the connection, the pipeline's routes, and who we are there."""

    def __init__(self, connection: Connection, pipeline: str, routes: Sequence[Route]) -> None:
        self._connection = connection
        self._pipeline = pipeline
        self._routes = routes
        row = connection.execute(_SERVER).fetchone()
        assert row is not None
        self._words, self._version, self._database, user, self._encoding, self._standby, self._creates, temp, sup = row
        self._may_stage, self._super = bool(temp), bool(sup)
        self._role = ident(user)
        self._off = self._may_switch_triggers_off()
        self._recorded = self._records()
        self._ours = {name for owner, name in self._recorded if owner == pipeline}

    def all(self) -> Iterator[Finding]:
        yield self._server_version()
        yield self._writable()
        yield self._text_encoding()
        yield self._triggers_off()
        yield self._staging()
        yield self._state()
        shapes = [(route, catalog.shape(self._connection, route)) for route in self._routes]
        yield from self._schemas(shapes)
        yield from self._extensions(shapes)
        for route, shape in shapes:
            yield from self._types(route, shape)
            for each in bad_names(route):
                yield Finding(Level.BLOCKER, each.name, str(route.target), f"{each.what}: {each.why}", each.do)
            if shape.table is None:
                yield _ok("target.table", str(route.target), f"will be made like {route.source.name}")
            else:
                yield from self._table(route, shape.table)
        yield from self._shared()

    def _server_version(self) -> Finding:
        name, subject = "target.version", "server version"
        major = self._version // 10000
        if major < OLDEST:
            do = f"upgrade the target to PostgreSQL {OLDEST} or later"
            return Finding(Level.BLOCKER, name, subject, f"PostgreSQL {self._words} is too old", do)
        if major > NEWEST:
            found = f"PostgreSQL {self._words} is newer than what cdcflow is tested with ({OLDEST} to {NEWEST})"
            return Finding(Level.NOTE, name, subject, found)
        return _ok(name, subject, f"PostgreSQL {self._words}")

    def _writable(self) -> Finding:
        if self._standby:
            return Finding(
                Level.BLOCKER,
                "target.writable",
                f"database {self._database}",
                "the server is a standby and takes no writes",
                "point target.url at the primary",
            )
        return _ok("target.writable", f"database {self._database}", "takes writes")

    def _text_encoding(self) -> Finding:
        name, subject = "target.encoding", "text encoding"
        if self._encoding == "UTF8":
            return _ok(name, subject, "UTF8")
        if self._encoding == "SQL_ASCII":
            found = "SQL_ASCII stores any bytes and knows no characters; text will be UTF-8 bytes"
        else:
            found = f"{self._encoding} cannot hold every character; a row with another one is refused"
        do = "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, unless the source has only such text"
        return Finding(Level.WARNING, name, subject, found, do)

    def _may_switch_triggers_off(self) -> bool:
        try:
            with self._connection.transaction(force_rollback=True):
                self._connection.execute("SET LOCAL session_replication_role = replica")
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    def _triggers_off(self) -> Finding:
        name, subject = "target.session_replication_role", f"role {self._role}"
        if self._off:
            return _ok(name, subject, "may switch triggers and foreign keys off while rows are applied")
        found = "may not set session_replication_role: the target's triggers fire and its foreign keys are checked"
        if self._version >= 150000:
            do = f"GRANT SET ON PARAMETER session_replication_role TO {self._role}"
        else:
            do = f"ALTER ROLE {self._role} SUPERUSER (before version 15 only superusers may set it)"
        return Finding(Level.WARNING, name, subject, found, do)

    def _staging(self) -> Finding:
        name, subject = "target.temporary", f"database {self._database}"
        if self._may_stage:
            return _ok(name, subject, "takes temporary tables, which large batches pass through")
        do = f"GRANT TEMPORARY ON DATABASE {ident(self._database)} TO {self._role}"
        return Finding(Level.BLOCKER, name, subject, "the role may not make temporary tables for large batches", do)

    def _state(self) -> Finding:
        name, subject = "target.state", f"schema {STATE_SCHEMA}"
        row = self._connection.execute(
            "SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE')"
            " FROM pg_namespace WHERE nspname = %s",
            (STATE_SCHEMA,),
        ).fetchone()
        if row is None:
            if self._creates:
                return _ok(name, subject, "will be made")
            return Finding(
                Level.BLOCKER,
                name,
                subject,
                "is not there, and the role may not make it",
                f"CREATE SCHEMA {STATE_SCHEMA} AUTHORIZATION {self._role}",
            )
        if not row[0]:
            grant = f"GRANT USAGE, CREATE ON SCHEMA {STATE_SCHEMA} TO {self._role}"
            return Finding(Level.BLOCKER, name, subject, "the role may not make tables in it", grant)
        return _ok(name, subject, "is there and may be written")

    def _schemas(self, shapes: Sequence[tuple[Route, Shape]]) -> Iterator[Finding]:
        """Whether missing tables can be made: needs CREATE on the schema, or on the database for the schema."""
        needed = {route.target.schema for route, shape in shapes if shape.table is None}
        for schema in sorted(needed):
            name, subject = "target.schema", f"schema {ident(schema)}"
            row = self._connection.execute(
                "SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = %s", (schema,)
            ).fetchone()
            if row is None and not self._creates:
                do = f"GRANT CREATE ON DATABASE {ident(self._database)} TO {self._role}"
                yield Finding(Level.BLOCKER, name, subject, "is not there, and the role may not make it", do)
            elif row is None:
                yield _ok(name, subject, "will be made")
            elif not row[0]:
                do = f"GRANT USAGE, CREATE ON SCHEMA {ident(schema)} TO {self._role}"
                yield Finding(Level.BLOCKER, name, subject, "the role may not make tables in it", do)
            else:
                yield _ok(name, subject, "tables may be made in it")

    def _extensions(self, shapes: Sequence[tuple[Route, Shape]]) -> Iterator[Finding]:
        there = {name for _, shape in shapes for name in shape.extensions}
        wanted = {each.name for route, _ in shapes for each in route.source.types if each.kind == "extension"}
        for schema, name in sorted((each.schema, each.table) for each in wanted):
            subject = f"extension {ident(name)}"
            if name in there:
                yield _ok("target.extension", subject, "is there")
                continue
            row = self._connection.execute(
                "SELECT bool_or(superuser), bool_or(trusted) FROM pg_available_extension_versions WHERE name = %s",
                (name,),
            ).fetchone()
            if row is None or row[0] is None:
                do = f"install {name} on the target's machine, or leave its columns out with `columns: exclude`"
                yield Finding(Level.BLOCKER, "target.extension", subject, "the server does not have it", do)
            elif self._super or (self._creates and (not row[0] or row[1])):
                yield _ok("target.extension", subject, "will be made")
            else:
                do = f"CREATE EXTENSION {ident(name)} SCHEMA {ident(schema)} (as a superuser)"
                yield Finding(Level.BLOCKER, "target.extension", subject, "the role may not make it", do)

    def _types(self, route: Route, shape: Shape) -> Iterator[Finding]:
        try:
            types.statements(route.source.types, shape)
        except CdcflowError as error:
            yield Finding(Level.BLOCKER, "target.type", str(route.target), f"{error.what}: {error.why}", error.do)

    def _table(self, route: Route, table: TargetTable) -> Iterator[Finding]:
        found = [
            *(
                Finding(Level.BLOCKER, each.name, str(route.target), each.what, each.do)
                for each in problems(route, table)
            ),
            *self._privileges(route, table),
            *self._firing(route, table),
            *_types_that_differ(route, table),
            *self._rows_of_before(route, table),
        ]
        if not any(each.level in (Level.BLOCKER, Level.WARNING) for each in found):
            yield _ok("target.table", str(route.target), f"is there and fits {route.source.name}")
        yield from found

    def _privileges(self, route: Route, table: TargetTable) -> Iterator[Finding]:
        wanted = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]
        if route.mode is Mode.APPEND:
            wanted = ["SELECT", "INSERT"]
        lacks = [name for name in wanted if not self._one("SELECT has_table_privilege(%s::oid, %s)", table.oid, name)]
        if lacks:
            grant = f"GRANT {', '.join(lacks)} ON {qualified(table.name)} TO {self._role}"
            level = Level.WARNING if lacks == ["TRUNCATE"] else Level.BLOCKER
            yield Finding(level, "target.privilege", str(table.name), f"the role lacks {', '.join(lacks)}", grant)
        if self._one("SELECT row_security_active(%s::oid)", table.oid):
            yield Finding(
                Level.BLOCKER,
                "target.row_security",
                str(table.name),
                "row-level security hides rows from the role",
                f"ALTER ROLE {self._role} BYPASSRLS",
            )

    def _firing(self, route: Route, table: TargetTable) -> Iterator[Finding]:
        """Name the triggers, foreign keys and checks that will see the rows as they are applied."""
        modes = "'R', 'A'" if self._off else "'O', 'A'"
        rows = self._connection.execute(
            f"SELECT tgname::text, tgenabled::text FROM pg_trigger"
            f" WHERE tgrelid = %s AND NOT tgisinternal AND tgenabled IN ({modes}) ORDER BY 1",
            (table.oid,),
        ).fetchall()
        for name, enabled in rows:
            alter = f"ALTER TABLE {qualified(table.name)} "
            do = alter + (f"DISABLE TRIGGER {ident(name)}" if not self._off else f"ENABLE TRIGGER {ident(name)}")
            why = " (it is enabled for replicas too)" if enabled in "RA" else ""
            found = f"trigger {ident(name)} fires for every row that is applied{why}"
            yield Finding(Level.WARNING, "target.trigger", str(table.name), found, do)
        rows = self._connection.execute(
            "SELECT conname::text, contype::text FROM pg_constraint"
            " WHERE conrelid = %s AND contype IN ('c', 'f', 'x') ORDER BY 1",
            (table.oid,),
        ).fetchall()
        for name, kind in rows:
            if kind == "f" and self._off:
                continue
            drop = f"ALTER TABLE {qualified(table.name)} DROP CONSTRAINT {ident(name)}"
            word = {"c": "check constraint", "f": "foreign key", "x": "exclusion constraint"}[kind]
            level = Level.WARNING if kind == "f" else Level.NOTE
            if kind == "f" or not table.made_by:
                found = f"{word} {ident(name)} is checked for every row; one that fails it stops the pipeline"
                yield Finding(level, "target.constraint", str(table.name), found, f"{drop}, if the source may break it")

    def _rows_of_before(self, route: Route, table: TargetTable) -> Iterator[Finding]:
        """Rows that the first copy would collide with, or double where there is no key."""
        if table.kind not in ("r", "p") or table.name in self._ours:
            return
        try:
            if not self._one(f"SELECT EXISTS (SELECT FROM {table.alone})"):
                return
        except psycopg.errors.InsufficientPrivilege:
            return  # told already
        found = "holds rows already, and this pipeline has not copied it yet: "
        found += "equal keys stop its copy" if route.key else "without a key its rows will be there twice"
        do = f"TRUNCATE {qualified(table.name)}, unless other rows belong there"
        yield Finding(Level.WARNING, "target.rows", str(table.name), found, do)

    def _records(self) -> list[tuple[str, TableName]]:
        """Read which pipeline writes which table, as far as it is known and may be read."""
        if not self._one("SELECT to_regclass('cdcflow.tables') IS NOT NULL"):
            return []
        if not self._one("SELECT has_table_privilege('cdcflow.tables', 'SELECT')"):
            return []
        rows = self._connection.execute(
            "SELECT pipeline, target_schema, target_table FROM cdcflow.tables ORDER BY 1, 2, 3"
        ).fetchall()
        return [(pipeline, TableName(schema, table)) for pipeline, schema, table in rows]

    def _shared(self) -> Iterator[Finding]:
        """Find tables that another pipeline writes too."""
        targets = {route.target for route in self._routes}
        for pipeline, name in self._recorded:
            if pipeline != self._pipeline and name in targets:
                yield Finding(
                    Level.WARNING,
                    "target.shared",
                    str(name),
                    f"pipeline {pipeline} writes it too; the later writer wins",
                    f"give one of them another table with `to:`, or forget the other with `cdcflow teardown`,"
                    f" whose `pipeline:` is {pipeline}",
                )

    def _one(self, query: str, *parameters: object) -> bool:
        row = self._connection.execute(query, parameters or None).fetchone()  # names may hold `%`
        return bool(row and row[0])


def _types_that_differ(route: Route, table: TargetTable) -> Iterator[Finding]:
    for column, name in route.columns:
        there = table.column(name)
        if there is None or there.type == column.type.text:
            continue
        alter = f"ALTER TABLE {qualified(route.target)} ALTER COLUMN {ident(name)} TYPE {column.type.text}"
        found = f"column {ident(name)} is {there.type}, {needed(route)} {column.type.text}"
        if is_narrower(column.type.text, there.type):
            found += ": a value that does not fit stops the pipeline"
            yield Finding(Level.WARNING, "target.column_type", str(route.target), found, alter)
        else:
            yield Finding(Level.NOTE, "target.column_type", str(route.target), found)


def _ok(name: str, subject: str, found: str) -> Finding:
    return Finding(Level.OK, name, subject, found)
