"""What a table gets once its rows are there: statistics, indexes, foreign keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pymysql

from cdcflow.engines.mysql.names import ident, literal, qualified
from cdcflow.model.route import Route
from cdcflow.model.schema import ForeignKey, Index, TableName
from cdcflow.ops.logs import get_logger
from cdcflow.targets.mysql import catalog, ddl, foreign, types
from cdcflow.targets.mysql.catalog import TargetTable
from cdcflow.targets.mysql.foreign import Untranslatable
from cdcflow.targets.mysql.session import Session, text

log = get_logger(__name__)

# Making an index beside the applier may meet it in a deadlock or wait for it too long.
_ATTEMPTS = 3
_AGAIN = (1205, 1213)

_NAME = r"`(?:[^`]|``)+`"
_DEFINITION = re.compile(
    rf"^CREATE (?P<kind>UNIQUE |FULLTEXT |SPATIAL |VECTOR )?INDEX {_NAME} ON {_NAME}\.{_NAME} \((?P<pieces>.*)\)"
    r"(?P<tail>(?: USING \w+)?)(?: /\*.*\*/)?$",
    re.DOTALL,
)
_PLAIN = re.compile(rf"({_NAME})((?:\(\d+\))?(?: DESC)?)(?:, |$)")
_RULES = re.compile(r"\)((?: ON (?:DELETE|UPDATE) [A-Z ]+?)*)$")


def finish(session: Session, routes: Sequence[Route], problem: Callable[[pymysql.Error], str]) -> None:
    """Complete the tables that `create` made. What cannot be made is logged with its reason and left out.

    Args:
        problem: gives a server's error in words that hold no values.

    Raises:
        pymysql.Error: the connection broke.
    """
    work = _Finish(session, problem)
    made = [(route, table) for route in routes if (table := catalog.table(session, route.target)) and table.made_by]
    for route, table in made:
        work.analyze(table)
        work.indexes(route, table)
    by_name = {route.source.name: route for route in routes}
    for route, table in made:
        work.foreign_keys(route, table, by_name)


class _Finish:
    """One call of `finish`."""

    def __init__(self, session: Session, problem: Callable[[pymysql.Error], str]) -> None:
        self._session = session
        self._problem = problem

    def analyze(self, table: TargetTable) -> None:
        """Without statistics the first large updates would choose their plans blindly."""
        self._try(f"ANALYZE NO_WRITE_TO_BINLOG TABLE {qualified(table.name)}", "left out statistics", table.name, "")

    def indexes(self, route: Route, table: TargetTable) -> None:
        rows = self._session.query(
            "SELECT DISTINCT index_name FROM information_schema.statistics"
            f" WHERE table_schema = {literal(table.name.schema)} AND table_name = {literal(table.name.table)}"
        )
        there = {text(row[0]).lower() for row in rows}
        for index in route.source.indexes:
            if index.name.lower() in there or index.name == "PRIMARY":
                continue
            try:
                if types.is_family(route.source):
                    clause = index_clause(route, index)
                else:
                    clause = foreign.index_clause(route, index, table)
            except Untranslatable as reason:
                log.warning("left out an index", table=str(route.target), index=index.name, reason=str(reason))
                continue
            if clause is None:
                continue
            log.info("making an index", table=str(route.target), index=index.name)
            self._try(f"ALTER TABLE {qualified(route.target)} {clause}", "left out an index", route.target, index.name)

    def foreign_keys(self, route: Route, table: TargetTable, by_name: dict[TableName, Route]) -> None:
        rows = self._session.query(
            "SELECT constraint_name FROM information_schema.table_constraints WHERE constraint_type = 'FOREIGN KEY'"
            f" AND table_schema = {literal(route.target.schema)} AND table_name = {literal(route.target.table)}"
        )
        there = {text(row[0]).lower() for row in rows}
        for key in route.source.foreign_keys:
            if key.name.lower() in there or key.refers_to not in by_name:
                continue
            referred = by_name[key.refers_to]
            try:
                if types.is_family(route.source):
                    clause = foreign_key_clause(route, key, referred)
                else:
                    clause = foreign.foreign_key_clause(route, key, referred, table)
            except Untranslatable as reason:
                log.warning("left out a foreign key", table=str(route.target), name=key.name, reason=str(reason))
                continue
            log.info("making a foreign key", table=str(route.target), name=key.name)
            statement = f"ALTER TABLE {qualified(route.target)} {clause}"
            self._try(statement, "left out a foreign key", route.target, key.name)

    def _try(self, statement: str, failed: str, table: TableName, name: str) -> None:
        """Run one statement; a refusal is logged, a deadlock with the applier tried again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._session.define(statement)
                return
            except pymysql.Error as error:
                if not self._session.alive():
                    raise
                if error.args[0] not in _AGAIN or attempt == _ATTEMPTS:
                    log.warning(failed, table=str(table), name=name, reason=self._problem(error))
                    return


def index_clause(route: Route, index: Index) -> str | None:
    """Return `ADD INDEX ..` for the target's table; None for one that `create` made.

    Raises:
        Untranslatable: a column of it is not replicated, or an expression in it names a renamed column.
    """
    names = {column.name: name for column, name in route.columns}
    generated = {column.name for column in route.source.columns if column.generated}
    if index.unique and set(index.columns) == set(route.key) and set(route.key) != set(route.source.primary_key):
        return None  # `cdcflow_key`
    found = _DEFINITION.match(index.definition)
    if not found:
        raise Untranslatable("its definition is not understood")
    pieces = found["pieces"]
    changed = {column.name for column in route.source.columns if names.get(column.name) != column.name} - generated
    if ddl.words(pieces) & changed:
        pieces = _renamed(pieces, names)
    kind = found["kind"] or ""
    if kind == "UNIQUE " and not ddl.is_mirror(route):
        kind = ""
    return f"ADD {kind}INDEX {ident(index.name)} ({pieces}){found['tail']}"


def _renamed(pieces: str, names: dict[str, str]) -> str:
    made, at = [], 0
    while at < len(pieces):
        found = _PLAIN.match(pieces, at)
        if not found:
            raise Untranslatable(
                "an expression in it names a column that has another name in the target or is left out"
            )
        name = found[1][1:-1].replace("``", "`")
        if name not in names:
            raise Untranslatable(f"column {ident(name)} of it is not replicated")
        made.append(ident(names[name]) + found[2])
        at = found.end()
    return ", ".join(made)


def foreign_key_clause(route: Route, key: ForeignKey, referred: Route) -> str:
    """Return `ADD CONSTRAINT ..` for a foreign key between two routed tables.

    Raises:
        Untranslatable: a column on either side is not replicated, or the target keeps deleted rows.
    """
    if not ddl.is_mirror(route) or not ddl.is_mirror(referred):
        raise Untranslatable("the target does not hold the same rows as the source")
    found = _RULES.search(key.definition)
    here, there = foreign.names(route, key.columns), foreign.names(referred, key.refers_columns)
    return (
        f"ADD CONSTRAINT {ident(key.name)} FOREIGN KEY ({ddl.column_list(here)})"
        f" REFERENCES {qualified(referred.target)} ({ddl.column_list(there)}){found[1] if found else ''}"
    )
