"""Bringing the state's tables to the revision that this code knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from cdcflow.errors import CdcflowError, OperatorError, TargetUnavailable
from cdcflow.state.tables import FILE_PREFIX, SCHEMA, tables_of

# In order. Kept here so that a start with nothing to do need not load Alembic; a test compares it with the files.
REVISIONS: Final = ("0001", "0002", "0003", "0004")

# Two that migrate one database take turns. The number is "cdcflow" in ASCII.
_MIGRATION_LOCK: Final = int.from_bytes(b"cdcflow", "big")
_MYSQL_MIGRATION_LOCK: Final = "cdcflow.migration"
_PATIENCE_SECONDS: Final = 30


def migrate(connection: sa.Connection, at: str) -> None:
    """Make or upgrade the tables inside the connection's transaction. Does nothing at the newest revision.

    Raises:
        OperatorError: a newer cdcflow made the tables.
        sqlalchemy.exc.DBAPIError: the server refused, for instance for want of a privilege.
    """
    if _current(connection, at) == REVISIONS[-1]:
        return
    with _alone(connection, at):
        if _current(connection, at) != REVISIONS[-1]:
            _make_schema(connection)
            _upgrade(connection)


@contextmanager
def _alone(connection: sa.Connection, at: str) -> Iterator[None]:
    """Keep others that migrate the same database waiting. In SQLite the transaction does it."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    if connection.dialect.name != "mysql":
        yield
        return
    # MySQL commits each statement that makes a table, so the lock is the session's.
    if connection.scalar(sa.select(sa.func.get_lock(_MYSQL_MIGRATION_LOCK, _PATIENCE_SECONDS))) != 1:
        why = f"it takes longer than {_PATIENCE_SECONDS} seconds"
        raise TargetUnavailable("another instance is making the state's tables", at=at, why=why)
    try:
        connection.exec_driver_sql("COMMIT")  # what was read before is older than the lock
        yield
        connection.exec_driver_sql("COMMIT")  # before the lock goes; the caller's own commit then has nothing to do
    finally:
        connection.execute(sa.select(sa.func.release_lock(_MYSQL_MIGRATION_LOCK)))


def _make_schema(connection: sa.Connection) -> None:
    # CREATE ... IF NOT EXISTS asks for the privilege even where the schema is there.
    if connection.dialect.name == "postgresql":
        if connection.scalar(sa.text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}) is None:
            connection.execute(sa.text(f"CREATE SCHEMA {SCHEMA}"))
    elif connection.dialect.name == "mysql":
        wanted = sa.text("SELECT 1 FROM information_schema.schemata WHERE schema_name = :name")
        if connection.scalar(wanted, {"name": SCHEMA}) is None:
            connection.execute(sa.text(f"CREATE DATABASE {SCHEMA} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"))


def scripts() -> Path:
    """Return the folder of the revisions: the installed package, or the one beside the package in a checkout.

    Raises:
        CdcflowError: neither is there.
    """
    spec = find_spec("cdcflow.migrations")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    places.append(str(Path(__file__).parents[2] / "migrations"))
    for place in map(Path, places):
        if (place / "env.py").is_file():
            return place
    raise CdcflowError(
        "the installation lacks cdcflow.migrations", at=places[0], do="pip install --force-reinstall cdcflow"
    )


def _current(connection: sa.Connection, at: str) -> str:
    """Return the revision of the tables that are there, '' for none."""
    dialect, name = connection.dialect.name, tables_of(connection.engine).version
    table = name if dialect == "sqlite" else f"{SCHEMA}.{name}"
    if dialect == "postgresql":
        found = connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": table})
    elif dialect == "mysql":
        wanted = "SELECT 1 FROM information_schema.tables WHERE table_schema = :schema AND table_name = :name"
        found = connection.scalar(sa.text(wanted), {"schema": SCHEMA, "name": name})
    else:
        found = sa.inspect(connection).has_table(name)
    if not found:
        return ""
    revision = str(connection.scalar(sa.text(f"SELECT version_num FROM {table}")) or "")
    if revision and revision not in REVISIONS:
        raise OperatorError(
            "the state's tables were made by a newer cdcflow",
            at=at,
            why=f"they are at revision {revision}; this version knows revisions up to {REVISIONS[-1]}",
            do="pip install --upgrade cdcflow",
        )
    return revision


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.attributes["connection"] = connection
    in_file = connection.dialect.name == "sqlite"
    config.attributes["schema"] = None if in_file else SCHEMA
    config.attributes["prefix"] = FILE_PREFIX if in_file else ""
    command.upgrade(config, "head")
