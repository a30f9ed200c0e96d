"""What commits by itself in the middle of a batch: statements that change tables, and emptying a large one."""

from __future__ import annotations

from typing import Final

import pymysql

from cdcflow.engines.mysql.names import ident, qualified
from cdcflow.model.change import SchemaChange, Step, Truncate
from cdcflow.model.route import SOFT_DELETE_COLUMN, OnDelete, OnTruncate, Route
from cdcflow.ops.logs import get_logger
from cdcflow.targets.mysql import alter, catalog, held
from cdcflow.targets.mysql.session import Session

log = get_logger(__name__)

# Up to so many rows (by the server's estimate) a table is emptied by DELETE, in the batch's own transaction.
# TRUNCATE commits, as DDL does, and takes as long for many rows as for few.
_DELETED_ROWS: Final = 100_000


def is_one(session: Session, step: Step) -> bool:
    """Whether a step commits."""
    if isinstance(step, SchemaChange):
        return True
    if not isinstance(step, Truncate):
        return False
    tables = [catalog.table(session, route.target) for route in _emptied(step)]
    return any(table is not None and table.rows > _DELETED_ROWS for table in tables)


def pass_one(session: Session, step: Step, pipeline: str, at: str) -> None:
    """Do what such a step says.

    Raises:
        SchemaStop: the table cannot be altered as the source was.
        TargetUnavailable: not now.
    """
    if isinstance(step, SchemaChange):
        _alter(session, step, pipeline, at)
        return
    assert isinstance(step, Truncate)
    _mark_all(session, step)
    for route in _emptied(step):
        try:
            session.define(f"TRUNCATE TABLE {qualified(route.target)}")
        except pymysql.Error as error:
            if error.args[0] not in (1142, 1701):
                raise
            session.run(f"DELETE FROM {qualified(route.target)}")  # DROP was not granted, or rows refer to it


def delete_all(session: Session, step: Truncate) -> None:
    """Empty tables within the batch's transaction."""
    _mark_all(session, step)
    for route in _emptied(step):
        session.run(f"DELETE FROM {qualified(route.target)}")


def _mark_all(session: Session, step: Truncate) -> None:
    for route in step.routes:
        if route.on_truncate is OnTruncate.TRUNCATE and route.on_delete is OnDelete.SOFT:
            column = ident(SOFT_DELETE_COLUMN)
            session.run(f"UPDATE {qualified(route.target)} SET {column} = UTC_TIMESTAMP(6) WHERE {column} IS NULL")


def _alter(session: Session, step: SchemaChange, pipeline: str, at: str) -> None:
    server = catalog.server(session)
    table = catalog.table(session, step.new.target)
    for statement in alter.statements(step.old, step.new, table, server, pipeline):
        log.info("the target table is altered", table=str(step.new.target), statement=statement)
        held.follow(session, statement, step.old.target, step.new, at)


def _emptied(step: Truncate) -> list[Route]:
    return [
        route
        for route in step.routes
        if route.on_truncate is OnTruncate.TRUNCATE and route.on_delete is OnDelete.DELETE
    ]
