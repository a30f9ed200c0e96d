"""What `cdcflow check` looks at in each table of a MySQL or MariaDB source, and what mends each finding."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pymysql
from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.engines.mysql.names import ident, qualified
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Mode, OnDelete, Route
from cdcflow.model.schema import ForeignKey, ReplicaIdentity, Table, TableName
from cdcflow.sources.mysql import catalog, types
from cdcflow.sources.mysql.catalog import Storage
from cdcflow.sources.mysql.grants import Grants
from cdcflow.sources.mysql.log_end import rows

_ACTION: Final = re.compile(r" ON DELETE ([A-Z ]+?) ON UPDATE ([A-Z ]+)$")
_CHANGES: Final = ("CASCADE", "SET NULL", "SET DEFAULT")

# Engines whose rows are not, or not only, what this server's log says.
_ELSEWHERE: Final = {
    "BLACKHOLE": "keeps no rows: a copy is empty and the log has them",
    "CONNECT": "has its rows elsewhere: changes that are made there are not in the log",
    "FEDERATED": "has its rows on another server: changes that are made there are not in the log",
    "MRG_MYISAM": "shows the rows of other tables: changes to those are not in its log",
    "MERGE": "shows the rows of other tables: changes to those are not in its log",
    "NDBCLUSTER": "has its rows in a cluster: changes through other servers are in the log only with ndb_log_bin",
    "SPIDER": "has its rows on other servers: changes that are made there are not in the log",
    "S3": "has its rows elsewhere: changes that are made there are not in the log",
}


@dataclass(frozen=True, slots=True)
class Filters:
    """Databases to which the log is limited (binlog_do_db), and those left out of it (binlog_ignore_db)."""

    only: tuple[str, ...]
    without: tuple[str, ...]

    def hides(self, database: str) -> bool:
        return (bool(self.only) and database not in self.only) or database in self.without


@dataclass(frozen=True, slots=True)
class Log:
    """What of the server's log matters for its tables.

    cascades: see `cascades_logged`. labels: the log names columns and labels (binlog_row_metadata=FULL). gtids: every
    transaction has one. views: a view of the data says where in the log it stands (MariaDB).
    """

    filters: Filters
    cascades: bool
    labels: bool
    gtids: bool
    views: bool


def cascades_logged(flavour: Flavour, settings: Mapping[str, str]) -> bool:
    """Return whether rows that a foreign key changes are in the log: of MySQL from 9.6 on, unless it is told to leave
    it to InnoDB. `settings` as `check.settings` returns them."""
    return (
        flavour.engine == "mysql"
        and flavour.version >= (9, 6)
        and settings.get("innodb_native_foreign_keys", "OFF") == "OFF"
    )


def refusal(table: Table, route: Route, *, logged: bool) -> Finding | None:
    """See `model.ports.Source.refusal`. `logged` is `cascades_logged`.

    Rows of a child table that its foreign key deletes or empties change without a row event, so the copy would
    silently differ from then on. A table under MariaDB's system versioning logs a DELETE as an update of a hidden
    column, and for each UPDATE an insert of what the row was.
    """
    if any(column.generated and column.default == catalog.ROW_END for column in table.columns):
        return Finding(
            Level.BLOCKER,
            "table.versioned",
            str(table.name),
            "it keeps its own history (WITH SYSTEM VERSIONING), and the log does not tell its past rows from its"
            " present ones as those of other tables",
            f"ALTER TABLE {qualified(table.name)} DROP SYSTEM VERSIONING, which forgets the history;\n"
            f'or in the rules: {{match: "{table.name}", exclude: true}}',
        )
    if route.mode is Mode.APPEND:
        return None
    if table.identity is not ReplicaIdentity.FULL and table.key and not set(route.key) <= set(table.key):
        return Finding(
            Level.BLOCKER,
            "table.identity",
            str(table.name),
            f"the rule's key ({', '.join(route.key)}) is not in what the log holds of old rows"
            f" ({', '.join(table.key)})",
            "SET PERSIST binlog_row_image = 'FULL' at the source; or drop `key` from the rule",
        )
    if logged:
        return None
    for key in table.foreign_keys:
        on_delete, _ = _actions(key)
        if on_delete not in _CHANGES or (on_delete == "CASCADE" and route.on_delete is OnDelete.IGNORE):
            continue
        ignore = f', or {{match: "{table.name}", on_delete: ignore}}' if on_delete == "CASCADE" else ""
        return Finding(
            Level.BLOCKER,
            "table.cascade",
            str(table.name),
            f"foreign key {key.name} (ON DELETE {on_delete}) changes its rows without a word in the log, when"
            f" rows of {key.refers_to} are deleted",
            f"let the application change them, and {_without_actions(table.name, key)};\n"
            "or MySQL 9.6 or later with innodb_native_foreign_keys=OFF, which logs them;\n"
            f'or in the rules: {{match: "{table.name}", exclude: true}}{ignore}',
        )
    return None


def cascades(table: Table, route: Route, *, logged: bool) -> list[Finding]:
    """Return what `check` says of a table's foreign keys and of all else that `refusal` looks at."""
    said = refusal(table, route, logged=logged)
    if said is not None:
        return [said]
    return [] if logged or route.mode is Mode.APPEND else list(_updates(table))


def findings(
    connection: Connection,
    grants: Grants,
    log: Log,
    routes: Sequence[Route],
    refused: Sequence[Table],
) -> Iterator[Finding]:
    """Look at every table that the rules name; the rest as in `check.findings`."""
    kept = {route.source.id for route in routes}
    by_id = {route.source.id: route for route in routes}
    tables = [*(route.source for route in routes), *(table for table in refused if table.id not in kept)]
    stored = catalog.storage(connection, [table.name for table in tables])
    fine = 0
    for table in tables:
        found = list(_table(connection, grants, log, table, by_id.get(table.id), stored.get(table.name)))
        fine += not any(each.level is Level.BLOCKER for each in found)
        yield from found
    if tables:
        yield Finding(
            Level.OK if fine == len(tables) else Level.NOTE,
            "source.tables",
            "tables",
            f"{fine} of {len(tables)} tables that the rules name can be copied and followed",
        )


def _table(
    connection: Connection,
    grants: Grants,
    log: Log,
    table: Table,
    route: Route | None,
    stored: Storage | None,
) -> Iterator[Finding]:
    subject = str(table.name)
    yield from _readable(connection, grants, table, route)
    if log.filters.hides(table.name.schema):
        found = "the server leaves its database out of the log (binlog_do_db, binlog_ignore_db)"
        do = "remove these options from the server's configuration and restart it, or exclude the table in the rules"
        yield Finding(Level.BLOCKER, "table.filtered", subject, found, do)
    if stored is not None:  # the catalogue does not show what the user may not read
        yield from _stored(table, stored)
    yield from _keys(grants, log, table, route, stored)
    said = refusal(table, route or Route(table, table.name, (), table.key), logged=log.cascades)
    if said is not None:
        yield said
    elif not log.cascades and (route is None or route.mode is not Mode.APPEND):
        yield from _updates(table)
    for column in table.columns:
        if not log.labels and any("?" in label for label in column.type.labels):
            found = (
                f"column {column.name} has a label with a question mark, or with a character that the server's catalog"
                " cannot say (beyond U+FFFF), and the log does not name labels"
            )
            do = "SET PERSIST binlog_row_metadata = 'FULL' (and in the server's configuration)"
            yield Finding(Level.WARNING, "table.labels", subject, found, do)
        if types.logical(column.type).value == "other":
            found = f"column {column.name} has type {column.type.text}, which cdcflow does not know"
            do = f'exclude it in the rules: {{match: "{table.name}", columns: {{exclude: [{column.name}]}}}}'
            yield Finding(Level.WARNING, "table.type", subject, found, do)


def _readable(connection: Connection, grants: Grants, table: Table, route: Route | None) -> Iterator[Finding]:
    """Ask for no row of all columns: only that tells what roles and column privileges come to."""
    columns = [column.name for column, _ in route.columns] if route else list(table.column_names)
    hidden = {name for name, _ in catalog.HIDDEN_PERIOD}
    chosen = ", ".join(ident(name) for name in columns if name not in hidden) or "1"
    try:
        rows(connection, f"SELECT {chosen} FROM {qualified(table.name)} LIMIT 0")
    except pymysql.Error as error:
        number = error.args[0] if error.args else 0
        if number in (1049, 1054, 1146):
            found = "was dropped or altered a moment ago"
            yield Finding(Level.WARNING, "table.exists", str(table.name), found, "run cdcflow check again")
            return
        if number not in (1044, 1142, 1143):
            raise
        do = f"GRANT SELECT ON {qualified(table.name)} TO {grants.account}"
        yield Finding(Level.BLOCKER, "table.select", str(table.name), "the user may not read it", do)


def _stored(table: Table, stored: Storage) -> Iterator[Finding]:
    engine, subject = stored.engine, str(table.name)
    words = _ELSEWHERE.get(engine.upper())
    if words:
        do = f'exclude it in the rules: {{match: "{table.name}", exclude: true}}'
        yield Finding(Level.WARNING, "table.engine", subject, f"its engine {engine} {words}", do)
    elif not stored.transactional:
        kept = " and loses its rows when the server restarts" if engine.upper() == "MEMORY" else ""
        found = f"its engine {engine} has no transactions{kept}: a statement that fails half-way leaves its rows"
        yield Finding(Level.NOTE, "table.engine", subject, found, f"ALTER TABLE {qualified(table.name)} ENGINE=InnoDB")


def _keys(grants: Grants, log: Log, table: Table, route: Route | None, stored: Storage | None) -> Iterator[Finding]:
    keyless = not table.key and not (route is not None and route.key)
    if keyless and not (route is not None and route.mode is Mode.APPEND):
        found = "has no key: each change finds its row by all columns, which is slow in a large table"
        do = f"ALTER TABLE {qualified(table.name)} ADD PRIMARY KEY (...), or `key: [...]` in the rules"
        yield Finding(Level.NOTE, "table.identity", str(table.name), found, do)
    # Where nothing else says what a copy holds, the table is locked for a moment (see `views`).
    plain = keyless and (not log.views or (stored is not None and not stored.transactional))
    if (plain or not log.gtids) and not grants.has("LOCK TABLES", table.name.schema):
        why = "has no key" if log.gtids else "is in a log without GTIDs"
        found = f"{why}, so it is locked against writes for a moment when it is copied, and the user may not"
        do = f"GRANT LOCK TABLES ON {ident(table.name.schema)}.* TO {grants.account}"
        yield Finding(Level.BLOCKER, "table.lock", str(table.name), found, do)


def _updates(table: Table) -> Iterator[Finding]:
    for key in table.foreign_keys:
        _, on_update = _actions(key)
        if on_update in _CHANGES:
            found = (
                f"foreign key {key.name} (ON UPDATE {on_update}) changes its rows without a word in the log, should"
                f" {', '.join(key.refers_columns)} of a row of {key.refers_to} ever be changed"
            )
            yield Finding(Level.WARNING, "table.cascade", str(table.name), found, _without_actions(table.name, key))


def _actions(key: ForeignKey) -> tuple[str, str]:
    """Return what a foreign key does ON DELETE and ON UPDATE."""
    found = _ACTION.search(key.definition)
    return (found[1], found[2]) if found else ("", "")


def _without_actions(name: TableName, key: ForeignKey) -> str:
    plain = _ACTION.sub("", key.definition)
    return (
        f"ALTER TABLE {qualified(name)} DROP FOREIGN KEY {ident(key.name)};"
        f" ALTER TABLE {qualified(name)} ADD CONSTRAINT {ident(key.name)} {plain}"
    )
