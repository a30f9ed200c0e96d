"""What a table gets once its rows are there: statistics, defaults, sequences, indexes, foreign keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg
from psycopg import Connection, errors

from cdcflow.engines.postgres.names import ident, literal, qualified
from cdcflow.model.route import Route
from cdcflow.model.schema import Index, TableName
from cdcflow.ops.logs import get_logger
from cdcflow.targets.postgres import catalog, ddl
from cdcflow.targets.postgres.catalog import TargetTable
from cdcflow.targets.postgres.foreign import shortened
from cdcflow.targets.postgres.indexes import (
    TargetIndex,
    Untranslatable,
    parse,
    same,
    target_foreign_key,
    target_index,
)

log = get_logger(__name__)

# Making an index beside the applier may meet it in a deadlock (it alters or truncates the table); the server
# ends one of the two, and the other attempt finds the way free.
_ATTEMPTS = 5

_AGAIN = (errors.DeadlockDetected, errors.LockNotAvailable)


def finish(
    connection: Connection, routes: Sequence[Route], *, beside_applier: bool, problem: Callable[[psycopg.Error], str]
) -> None:
    """Complete the tables that `create` made. What cannot be made is logged with its reason and left out.

    Args:
        connection: one of its own, in autocommit mode.
        beside_applier: rows are being written meanwhile, so nothing may block them for long.
        problem: gives a server's error in words that hold no values.

    Raises:
        TargetUnavailable: the connection broke.
    """
    work = _Finish(connection, beside_applier, problem)
    made = [(route, table) for route in routes if (table := catalog.table(connection, route.target)) and table.made_by]
    for route, table in made:
        work.analyze(table)
        work.defaults(route, table)
        work.indexes(route, table)
    by_name = {route.source.name: route for route in routes}
    for route, table in made:
        work.foreign_keys(route, table, by_name)
        work.sequences(route)


def complete_defaults(connection: Connection, route: Route, problem: Callable[[psycopg.Error], str]) -> None:
    """Set the defaults, and make the sequences, that a table made by `create` lacks.

    Inside a transaction each is tried under a savepoint: a default may call a function that the target lacks.
    """
    table = catalog.table(connection, route.target)
    if table is None:
        return
    for column, name in route.columns:
        there = table.column(name)
        if there is None or there.default is not None or there.identity or there.generated:
            continue
        sequence = ddl.sequence_of(route, column)
        try:
            with connection.transaction():
                if sequence and _is_free(connection, sequence):
                    connection.execute(ddl.create_sequence(sequence, column))
                    connection.execute(ddl.own_sequence(route, sequence, name))
                for default in ddl.defaults(route):
                    if default.column == name:
                        connection.execute(default.statement)
        except psycopg.Error as error:
            if connection.closed or _is_temporary(error):
                raise
            log.info("left out a default", table=str(route.target), column=name, reason=problem(error))


def _is_free(connection: Connection, name: TableName) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NULL", (qualified(name),)).fetchone()
    return bool(row and row[0])


_INDEXES = """
SELECT i.relname::text, pg_get_indexdef(x.indexrelid), x.indisvalid
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = %s
"""

_CONSTRAINTS = "SELECT conname::text, pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conrelid = %s"


class _Finish:
    """One call of `finish`: the connection, and how careful it has to be."""

    def __init__(self, connection: Connection, beside_applier: bool, problem: Callable[[psycopg.Error], str]) -> None:
        self._connection = connection
        self._concurrently = beside_applier
        self._problem = problem

    def analyze(self, table: TargetTable) -> None:
        """Without statistics the first large updates would choose their plans blindly."""
        row = self._connection.execute("SELECT reltuples < 0 FROM pg_class WHERE oid = %s", (table.oid,)).fetchone()
        if row and row[0]:
            self._try(f"ANALYZE {qualified(table.name)}", "left out statistics", table.name, "")

    def defaults(self, route: Route, table: TargetTable) -> None:
        complete_defaults(self._connection, route, self._problem)

    def indexes(self, route: Route, table: TargetTable) -> None:
        translated = [(index, self._translate(route, index)) for index in route.source.indexes]
        ours = {index.name for pair in translated for index in pair if index is not None}
        there = {}
        for name, definition, valid in self._connection.execute(_INDEXES, (table.oid,)).fetchall():
            if valid:
                unique, rest = parse(definition)
                there[unique, same(rest)] = name
            elif name in ours:
                how = "CONCURRENTLY " if self._concurrently else ""
                drop = f"DROP INDEX {how}{qualified(TableName(route.target.schema, name))}"
                self._try(drop, "could not drop an unfinished index", route.target, name)
        for _, wanted in translated:
            if wanted is None or (wanted.unique, same(wanted.rest)) in there:
                continue
            log.info("making an index", table=str(route.target), index=wanted.name)
            if self._make(route.target, wanted):
                there[wanted.unique, same(wanted.rest)] = wanted.name

    def _translate(self, route: Route, index: Index) -> TargetIndex | None:
        try:
            return target_index(route, index)
        except Untranslatable as reason:
            log.warning("left out an index", table=str(route.target), index=index.name, reason=str(reason))
            return None

    def _make(self, table: TableName, wanted: TargetIndex) -> bool:
        failed = "left out an index"
        if wanted.statement:
            return self._try(wanted.statement, failed, table, wanted.name)
        named = _is_free(self._connection, TableName(table.schema, wanted.name))
        create = wanted.create(table, concurrently=self._concurrently, named=named)
        if not self._try(create, failed, table, wanted.name):
            if self._concurrently and named:  # what a failed concurrent attempt leaves behind
                name = qualified(TableName(table.schema, wanted.name))
                self._try(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", "could not drop an index", table, wanted.name)
            return False
        if wanted.constraint is not None and named:
            using = f"UNIQUE USING INDEX {ident(wanted.name)}{wanted.constraint}"
            add = f"ALTER TABLE {qualified(table)} ADD CONSTRAINT {ident(wanted.name)} {using}"
            self._try(add, "left out a constraint", table, wanted.name)
        return True

    def foreign_keys(self, route: Route, table: TargetTable, by_name: dict[TableName, Route]) -> None:
        rows = self._connection.execute(_CONSTRAINTS, (table.oid,)).fetchall()
        there = {name: validated for name, _, validated in rows}
        alter = f"ALTER TABLE {qualified(route.target)} "
        for key in route.source.foreign_keys:
            if there.get(shortened(key.name)) or key.refers_to not in by_name:
                continue
            try:
                definition = target_foreign_key(route, key, by_name[key.refers_to])
            except Untranslatable as reason:
                log.warning("left out a foreign key", table=str(route.target), name=key.name, reason=str(reason))
                continue
            log.info("making a foreign key", table=str(route.target), name=key.name)
            name = ident(shortened(key.name))
            # Two steps, so that writers wait only for the short first one.
            if shortened(key.name) in there or self._try(
                f"{alter}ADD CONSTRAINT {name} {definition} NOT VALID", "left out a foreign key", route.target, key.name
            ):
                validate = f"{alter}VALIDATE CONSTRAINT {name}"
                if not self._try(validate, "left out a foreign key", route.target, key.name):
                    self._try(f"{alter}DROP CONSTRAINT {name}", "left a foreign key", route.target, key.name)

    def sequences(self, route: Route) -> None:
        """Set each sequence behind the largest value of its column, so that the target can be written to."""
        for column, name in route.columns:
            sequence = ddl.sequence_of(route, column)
            if not column.identity and not sequence:
                continue
            if column.identity:
                text = f"pg_get_serial_sequence({literal(qualified(route.target))}, {literal(name)})"
            else:
                assert sequence is not None
                text = f"to_regclass({literal(qualified(sequence))})::text"
            self._advance(route.target, name, text)

    def _advance(self, table: TableName, column: str, sequence: str) -> None:
        failed = "left a sequence where it is"
        try:
            row = self._connection.execute(f"SELECT {sequence}").fetchone()
            if row is None or row[0] is None:
                return
            name = str(row[0])  # already quoted by the server
            self._connection.execute(
                f"SELECT setval({literal(name)}::regclass, found.largest)"
                f" FROM (SELECT max({ident(column)})::bigint AS largest FROM {qualified(table)}) found, {name} now"
                f" WHERE found.largest > now.last_value OR (found.largest = now.last_value AND NOT now.is_called)"
            )
        except psycopg.Error as error:
            if self._connection.closed or _is_temporary(error):
                raise
            log.warning(failed, table=str(table), column=column, reason=self._problem(error))

    def _try(self, statement: str, failed: str, table: TableName, name: str) -> bool:
        """Run one statement; a refusal is logged, a deadlock with the applier tried again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._connection.execute(statement)
                return True
            except _AGAIN as error:
                if attempt == _ATTEMPTS:
                    log.warning(failed, table=str(table), name=name, reason=self._problem(error))
            except psycopg.Error as error:
                if self._connection.closed or _is_temporary(error):
                    raise
                log.warning(failed, table=str(table), name=name, reason=self._problem(error))
                return False
        return False


def _is_temporary(error: psycopg.Error) -> bool:
    return not error.sqlstate or error.sqlstate[:2] in ("08", "57", "53", "58")
