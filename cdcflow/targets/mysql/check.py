"""What `cdcflow check` looks at in a MySQL or MariaDB target, and the statement that mends each finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pymysql

from cdcflow.engines.mysql.names import ident, literal, qualified
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Route
from cdcflow.model.schema import TableName
from cdcflow.targets.mysql import catalog, ddl
from cdcflow.targets.mysql.bookkeeping import STATE_DATABASE
from cdcflow.targets.mysql.catalog import TargetTable
from cdcflow.targets.mysql.compare import impossible, problems
from cdcflow.targets.mysql.grants import Grants, read
from cdcflow.targets.mysql.session import Session, text

OLDEST = {"mysql": (8, 0), "mariadb": (10, 6)}
NEWEST = {"mysql": (9, 7), "mariadb": (11, 8)}

# MySQL's own default of a client; a row larger than the server's setting cannot be sent to it.
_PACKET_BYTES = 16 * 1024 * 1024

NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX", "REFERENCES")


def findings(session: Session, pipeline: str, routes: Sequence[Route], address: str) -> list[Finding]:
    """Look at the server, the account and every routed table; change nothing.

    Raises PyMySQL's errors where it cannot even look.
    """
    return list(_Check(session, pipeline, routes).all())


class _Check:
    """One look at the target: the session, the pipeline's routes, and who we are there."""

    def __init__(self, session: Session, pipeline: str, routes: Sequence[Route]) -> None:
        self._session, self._pipeline, self._routes = session, pipeline, routes
        self._server = catalog.server(session)
        self._grants: Grants = read(session)
        self._recorded = self._records()
        self._ours = {name for owner, name in self._recorded if owner == pipeline}

    def all(self) -> Iterator[Finding]:
        yield self._version()
        yield self._writable()
        yield self._infile()
        yield self._packet()
        yield self._syncs()
        yield from self._log_format()
        yield self._privileges(STATE_DATABASE, (*NEEDED, "CREATE TEMPORARY TABLES"), "target.state")
        for name in sorted({route.target.schema for route in self._routes}):
            yield self._privileges(name, NEEDED, "target.privilege")
        for route in self._routes:
            yield from self._route(route)
        yield from self._shared()

    def _version(self) -> Finding:
        name, subject, flavour = "target.version", "server version", self._session.flavour
        if flavour.version[:2] < OLDEST[flavour.engine]:
            oldest = ".".join(map(str, OLDEST[flavour.engine]))
            do = f"upgrade the target to version {oldest} or later"
            return Finding(Level.BLOCKER, name, subject, f"{flavour} is too old", do)
        if flavour.version[:2] > NEWEST[flavour.engine]:
            newest = ".".join(map(str, NEWEST[flavour.engine]))
            found = f"{flavour} is newer than what cdcflow is tested with (up to {newest})"
            return Finding(Level.NOTE, name, subject, found)
        return _ok(name, subject, str(flavour))

    def _writable(self) -> Finding:
        on = {
            text(name)
            for name, value in self._session.query(
                "SHOW GLOBAL VARIABLES WHERE variable_name IN ('read_only', 'super_read_only', 'innodb_read_only')"
            )
            if text(value).upper() not in ("OFF", "0", "NO_LOCK_NO_ADMIN")
        }
        name, subject = "target.writable", "read_only"
        if on:
            do = f"point target.url at the primary, or SET GLOBAL {sorted(on)[0]} = OFF"
            return Finding(Level.BLOCKER, name, subject, f"{', '.join(sorted(on))} is on: it takes no writes", do)
        return _ok(name, subject, "takes writes")

    def _infile(self) -> Finding:
        name, subject = "target.local_infile", "local_infile"
        if self._session.infile:
            return _ok(name, subject, "takes LOAD DATA LOCAL, the quickest way in")
        found = "is off: copies and large batches go in by INSERT, at about half the speed"
        return Finding(Level.NOTE, name, subject, found, "SET GLOBAL local_infile = ON (and in its configuration)")

    def _packet(self) -> Finding:
        name, subject = "target.max_allowed_packet", "max_allowed_packet"
        ((size,),) = self._session.query("SELECT @@global.max_allowed_packet")
        if int(size) >= _PACKET_BYTES:
            return _ok(name, subject, f"{int(size) // (1024 * 1024)} MB")
        found = f"is {int(size)} bytes: a change of a larger row stops the pipeline"
        do = "SET GLOBAL max_allowed_packet = 1073741824 (and in its configuration)"
        return Finding(Level.WARNING, name, subject, found, do)

    def _syncs(self) -> Finding:
        name, subject = "target.durability", "innodb_flush_log_at_trx_commit"
        if self._session.syncs:
            return _ok(name, subject, "each commit is on disk")
        found = "commits are on disk about a second later; the source is told then"
        return Finding(Level.NOTE, name, subject, found, "SET GLOBAL innodb_flush_log_at_trx_commit = 1")

    def _log_format(self) -> Iterator[Finding]:
        ((on, form),) = self._session.query("SELECT @@log_bin, @@binlog_format")
        if on and text(form).upper() == "STATEMENT":
            found = "is STATEMENT: the target's own replicas may choose other rows among equal ones of a keyless table"
            do = "SET GLOBAL binlog_format = ROW (and in its configuration)"
            yield Finding(Level.WARNING, "target.binlog_format", "binlog_format", found, do)

    def _privileges(self, database: str, needed: Sequence[str], name: str) -> Finding:
        subject = f"database {ident(database)}"
        lacks = self._grants.lacking(needed, database)
        if not lacks:
            there = catalog.has_database(self._session, database)
            return _ok(name, subject, "may be written" if there else "will be made")
        level = Level.WARNING if self._grants.unsure else Level.BLOCKER
        grant = f"GRANT {', '.join(lacks)} ON {ident(database)}.* TO {self._grants.account}"
        return Finding(level, name, subject, f"the account lacks {', '.join(lacks)}", grant)

    def _route(self, route: Route) -> Iterator[Finding]:
        hopeless = impossible(route, self._server)
        for each in hopeless:
            yield Finding(Level.BLOCKER, each.name, str(route.target), f"{each.what}: {each.why}", each.do)
        if hopeless:
            return
        table = catalog.table(self._session, route.target)
        if table is None:
            yield _ok("target.table", str(route.target), f"will be made like {route.source.name}")
            return
        found = [
            *(
                Finding(Level.BLOCKER, each.name, str(route.target), each.what, each.do)
                for each in problems(route, table, self._server)
            ),
            *_triggers(route, table),
            *self._types_that_differ(route, table),
            *self._rows_of_before(route, table),
        ]
        if not any(each.level in (Level.BLOCKER, Level.WARNING) for each in found):
            yield _ok("target.table", str(route.target), f"is there and fits {route.source.name}")
        yield from found

    def _types_that_differ(self, route: Route, table: TargetTable) -> Iterator[Finding]:
        if table.made_by:
            return
        texts = ddl.column_types(route, self._server)
        for column, name in route.columns:
            there, wanted = table.column(name), texts[column.name].split(" ")[0].lower()
            if there is None or there.type.split(" ")[0].lower() == wanted or there.kind == wanted:
                continue
            found = (
                f"column {ident(name)} is {there.type}, the source's is {column.type.text}:"
                " a value that does not fit stops the pipeline"
            )
            change = f"ALTER TABLE {qualified(route.target)} MODIFY COLUMN {ident(name)} {texts[column.name]}"
            yield Finding(Level.NOTE, "target.column_type", str(route.target), found, change)

    def _rows_of_before(self, route: Route, table: TargetTable) -> Iterator[Finding]:
        """Rows that the first copy would collide with, or double where there is no key."""
        if table.kind != "BASE TABLE" or table.name in self._ours:
            return
        try:
            if not catalog.has_rows(self._session, table.name):
                return
        except pymysql.Error:
            return  # told already
        found = "holds rows already, and this pipeline has not copied it yet: "
        found += "equal keys stop its copy" if route.key else "without a key its rows will be there twice"
        do = f"TRUNCATE TABLE {qualified(table.name)}, unless other rows belong there"
        yield Finding(Level.WARNING, "target.rows", str(table.name), found, do)

    def _records(self) -> list[tuple[str, TableName]]:
        """Read which pipeline writes which table, as far as it is known and may be read."""
        there = self._session.query(
            "SELECT 1 FROM information_schema.tables"
            f" WHERE table_schema = {literal(STATE_DATABASE)} AND table_name = 'tables'"
        )
        if not there:
            return []
        rows = self._session.query(
            f"SELECT pipeline, target_schema, target_table FROM {STATE_DATABASE}.`tables` ORDER BY 1, 2, 3"
        )
        return [(text(pipeline), TableName(text(schema), text(table))) for pipeline, schema, table in rows]

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


def _triggers(route: Route, table: TargetTable) -> Iterator[Finding]:
    for name in table.triggers:
        trigger = qualified(TableName(table.name.schema, name))
        found = f"trigger {ident(name)} fires for every row that is applied; MySQL cannot switch it off for a session"
        yield Finding(Level.WARNING, "target.trigger", str(table.name), found, f"DROP TRIGGER {trigger}")


def _ok(name: str, subject: str, found: str) -> Finding:
    return Finding(Level.OK, name, subject, found)
