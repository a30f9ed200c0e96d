"""The shapes of the tables that are followed, as statements in the log change them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.errors import SchemaStop
from cdcflow.model.change import Recopy, SchemaChange, Step, Truncate
from cdcflow.model.ports import Router
from cdcflow.model.route import Route
from cdcflow.model.schema import Table, TableName
from cdcflow.sources.mysql.ddl_charsets import Charsets
from cdcflow.sources.mysql.ddl_intents import Change
from cdcflow.sources.mysql.logevents import Session
from cdcflow.sources.mysql.reshape import Server, TableExtras, apply, effect
from cdcflow.sources.mysql.statements import Altered, Doubtful, Emptied, Gone, TableChange

Describe = Callable[[TableName], Table | None]

_COLLATIONS = """
SELECT collation_name, character_set_name, id, is_default = 'Yes' FROM information_schema.collations
WHERE character_set_name IS NOT NULL
"""
# MariaDB 10.10 and newer: collations that fit several charsets have their full names apart.
_FULL_COLLATIONS = """
SELECT full_collation_name, character_set_name, id, is_default = 'Yes'
FROM information_schema.collation_character_set_applicability
"""
_WIDTHS = "SELECT character_set_name, maxlen, default_collate_name FROM information_schema.character_sets"
_DATABASES = "SELECT schema_name, default_collation_name FROM information_schema.schemata"
_TABLES = """
SELECT table_schema, table_name, table_collation FROM information_schema.tables WHERE table_collation IS NOT NULL
"""


class Shapes:
    """What a server's statements make of tables. Used by one stream."""

    def __init__(self, connection: Connection, flavour: Flavour, describe: Describe) -> None:
        """Read the server's charsets, and what databases have by default; tables that are on record without it, too.

        describe: reads a table's present shape, None where there is no such table.

        Raises pymysql's errors.
        """
        self._describe = describe
        self._collations = {TableName(row[0], row[1]): str(row[2]) for row in _rows(connection, _TABLES)}
        self._databases = {row[0]: row[1] for row in _rows(connection, _DATABASES)}
        self._extras: dict[TableName, TableExtras] = {}
        partial = _rows(connection, "SELECT @@global.binlog_row_image")[0][0] != "FULL"
        self.charsets = read_charsets(connection, flavour)
        explicit = bool(_rows(connection, "SELECT @@global.explicit_defaults_for_timestamp")[0][0])
        self.lower_names = bool(_rows(connection, "SELECT @@lower_case_table_names")[0][0])
        self._server = Server(flavour, self.charsets, explicit_timestamps=explicit, partial_images=partial)

    def now(self, name: TableName) -> Table | None:
        """Return a table as the server has it now, None where it has none."""
        return self._describe(name)

    def step(self, route: Route, change: TableChange, router: Router, session: Session) -> tuple[Step | None, Route]:
        """Return what a statement's change means to the table of `route`, and its route from there on.

        session: the statement's. No step where it means nothing. Behind a Recopy there are no more rows of the table.

        Raises:
            SchemaStop: the rules have no way for the new shape to the same target.
        """
        match change:
            case Emptied():
                return Truncate((route,), cascade=False, restart_identity=True), route
            case Gone(_, why):
                return Recopy(route, why), route
            case Doubtful(_, why):
                now = self._describe(route.source.name)
                same = now is not None and now.columns == route.source.columns and now.key == route.source.key
                return (None if same else Recopy(route, why)), route
            case Altered(_, changes):
                return self._altered(route, changes, router, session)

    def _altered(
        self, route: Route, changes: tuple[Change, ...], router: Router, session: Session
    ) -> tuple[Step | None, Route]:
        name = route.source.name
        extras = self._extras.get(name) or TableExtras(route.source.collation or self._collations.get(name, ""))
        server = replace(self._server, database_collation=self._databases.get(name.schema, ""))
        if session.explicit_timestamps is not None:
            server = replace(server, explicit_timestamps=session.explicit_timestamps)
        if (utf8mb4 := self.charsets.names.get(session.utf8mb4)) is not None:
            server = replace(server, charsets=self.charsets.with_defaults({"utf8mb4": utf8mb4}))
        asked: list[Table | None] = []

        def ask() -> Table | None:
            asked.append(self._describe(name))
            return asked[-1]

        before = numbered(route)
        outcome = apply(before.source, changes, ask, extras=extras, server=server)
        self._extras[name] = outcome.extras
        if outcome.uncertain and not (asked and _agree(outcome.table, asked[0])):
            return Recopy(route, f"what ALTER TABLE made of it is not certain: {outcome.doubts[0]}"), route
        found = effect(before.source, outcome.table, changes, session.sql_mode)
        if found.recopy:
            return Recopy(route, found.why), route
        if outcome.table is before.source:
            return None, route
        # A new name is told of by itself.
        table = replace(outcome.table, name=name, id=route.source.id)
        after = router(table)
        if after is None or after.target != route.target:
            raise SchemaStop(
                f"table {name} has no way to {route.target} any more",
                at=f"table {name}",
                why=f"the rules send it to {after.target}" if after else f"no rule matches {name}",
                do=f"cdcflow resync {name}",
            )
        return SchemaChange(before, after), after


def _agree(worked_out: Table, now: Table | None) -> bool:
    if now is None:
        return False
    return (now.columns, now.key, now.collation) == (worked_out.columns, worked_out.key, worked_out.collation)


def numbered(route: Route) -> Route:
    """Return the route with numbers on its table's columns, where it has none yet: they pair columns across a
    change, whatever they are called."""
    columns = route.source.columns
    if all(column.number for column in columns):
        return route
    made = {column.name: replace(column, number=number) for number, column in enumerate(columns, 1)}
    return replace(
        route,
        source=replace(route.source, columns=tuple(made.values())),
        columns=tuple((made[column.name], target) for column, target in route.columns),
    )


def read_charsets(connection: Connection, flavour: Flavour) -> Charsets:
    """Read a server's charsets and collations. Raises pymysql's errors."""
    rows = _rows(connection, _COLLATIONS)
    if flavour.engine == "mariadb" and flavour.version >= (10, 10):
        rows = [*rows, *_rows(connection, _FULL_COLLATIONS)]
    widths = _rows(connection, _WIDTHS)
    defaults = {row[0]: row[2] for row in widths}
    utf8 = "utf8mb3"
    if flavour.engine == "mariadb":
        modes = str(_rows(connection, "SELECT @@global.old_mode")[0][0])
        utf8 = "utf8mb3" if "UTF8_IS_UTF8MB3" in modes else "utf8mb4"
    return Charsets(
        defaults,
        {row[0]: int(row[1]) for row in widths},
        {str(row[0]): str(row[1]) for row in rows},
        {int(row[2]): str(row[0]) for row in rows if row[2] is not None},
        utf8,
    )


def _rows(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())
