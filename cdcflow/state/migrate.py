"""Bringing the state's tables to the revision that this code knows."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from cdcflow.errors import CdcflowError, OperatorError
from cdcflow.state.tables import SCHEMA

# In order. Kept here so that a start with nothing to do need not load Alembic; a test compares it with the files.
REVISIONS: Final = ("0001", "0002")

# Two that migrate one database take turns. The number is "cdcflow" in ASCII.
_MIGRATION_LOCK: Final = int.from_bytes(b"cdcflow", "big")


def migrate(connection: sa.Connection, at: str) -> None:
    """Make or upgrade the tables inside the connection's transaction. Does nothing at the newest revision.

    Raises:
        OperatorError: a newer cdcflow made the tables.
        sqlalchemy.exc.DBAPIError: the server refused, for instance for want of a privilege.
    """
    if _current(connection, at) == REVISIONS[-1]:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        if _current(connection, at) == REVISIONS[-1]:
            return
        # CREATE SCHEMA IF NOT EXISTS asks for the privilege even where the schema is there.
        if connection.scalar(sa.text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}) is None:
            connection.execute(sa.text(f"CREATE SCHEMA {SCHEMA}"))
    _upgrade(connection)


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
    if connection.dialect.name == "postgresql":
        table = f"{SCHEMA}.alembic_version"
        found = connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": table})
    else:
        table = "alembic_version"
        found = sa.inspect(connection).has_table(table)
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
    config.attributes["schema"] = SCHEMA if connection.dialect.name == "postgresql" else None
    command.upgrade(config, "head")
