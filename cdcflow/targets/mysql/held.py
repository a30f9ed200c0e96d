"""Foreign keys that keep a column from being altered as the source's was: they go, as they went at the source."""

from __future__ import annotations

import re
from typing import Final

import pymysql

from cdcflow.engines.mysql.errors import translate
from cdcflow.engines.mysql.names import ident, literal, qualified
from cdcflow.engines.mysql.rowfaults import row_fault
from cdcflow.errors import SchemaStop, TargetUnavailable
from cdcflow.model.route import Route
from cdcflow.model.schema import TableName
from cdcflow.ops.logs import get_logger
from cdcflow.targets.mysql import catalog
from cdcflow.targets.mysql.session import Session, text

log = get_logger(__name__)

# A column, or an index, is needed in a foreign key; the two columns of one would be incompatible.
# https://dev.mysql.com/doc/mysql-errors/9.0/en/server-error-reference.html
_HELD: Final = (1553, 1828, 1829, 1830, 1832, 1833, 1834, 3780)

_NAMED = re.compile(r"foreign key constraint ['`](?:[^'`]*[/.`])?([^'`/.]+)['`]", re.IGNORECASE)


def define(session: Session, statement: str, table: TableName) -> None:
    """Alter a table, if need be without the foreign keys that hold it back."""
    try:
        session.define(statement)
    except pymysql.Error as error:
        if not session.alive() or not _release(session, error, table):
            raise
        session.define(statement)


def follow(session: Session, statement: str, table: TableName, route: Route, at: str) -> None:
    """Alter a table as `define` does. table: as it is called so far. route, at: for the report.

    Raises:
        SchemaStop: the target refuses the statement, for what its table holds or what depends on it.
        TargetUnavailable: not now.
        pymysql.Error: the connection is gone, or a lock was not had.
    """
    try:
        define(session, statement, table)
    except pymysql.Error as error:
        if not session.alive() or (row_fault(error) is None and error.args[0] in (1205, 1213)):
            raise
        found = translate(error, side="target", at=at)
        if isinstance(found, TargetUnavailable):
            raise
        raise SchemaStop(
            f"table {route.target} cannot be altered as the source was: {statement}",
            at=at,
            why=found.what + (f": {found.why}" if found.why else ""),
            do=f"mend it at the target, then start cdcflow again; or cdcflow resync {route.source.name}",
        ) from None


def _release(session: Session, error: pymysql.Error, table: TableName) -> bool:
    """Drop the foreign keys that made the server refuse to alter a table; return whether there were any.

    Only those of tables that cdcflow made: a person's own are theirs to drop.
    """
    if error.args[0] not in _HELD:
        return False
    found = _NAMED.search(str(error.args[1]))
    named = f" AND k.constraint_name = {literal(found[1])}" if found else ""
    rows = session.query(
        "SELECT k.constraint_schema, k.table_name, k.constraint_name"
        " FROM information_schema.referential_constraints k"
        f" WHERE k.constraint_schema = {literal(table.schema)}"
        f" AND {literal(table.table)} IN (k.table_name, k.referenced_table_name){named}"
    )
    dropped = False
    for schema, name, constraint in rows:
        holder = TableName(text(schema), text(name))
        there = catalog.table(session, holder)
        if there is None or not there.made_by:
            continue
        log.info("dropping a foreign key that holds a column back", table=str(holder), name=text(constraint))
        session.define(f"ALTER TABLE {qualified(holder)} DROP FOREIGN KEY {ident(text(constraint))}")
        dropped = True
    return dropped
