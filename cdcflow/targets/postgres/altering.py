"""A statement that alters a target table, and the words for a person where what depends on it keeps it as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import errors

from cdcflow.errors import SchemaStop
from cdcflow.model.route import Route


def run(execute: Callable[[str], Any], statement: str, route: Route, at: str) -> None:
    """Run a statement that brings the route's table to another shape. at: the target's address, for the report.

    Raises:
        SchemaStop: a view, a function or another object of the target needs what the statement would change, or a value
            that is there cannot be what it would become.
        psycopg.Error: every other failure.
    """
    try:
        execute(statement)
    except (errors.DataError, errors.CannotCoerce) as error:
        raise SchemaStop(
            f"table {route.target} cannot be altered as the source was: {statement}",
            at=at,
            why=f"a value that is there cannot be what it would become: {error.diag.sqlstate}",
            do="mend the rows at the target, or give the column the type yourself, then start cdcflow again",
        ) from None
    except (errors.DependentObjectsStillExist, errors.FeatureNotSupported) as error:
        raise SchemaStop(
            f"table {route.target} cannot be altered as the source was: {statement}",
            at=at,
            why=". ".join(part for part in (error.diag.message_primary, error.diag.message_detail) if part),
            do="mend it at the target (a view or function depends on the column), then start cdcflow again",
        ) from None
