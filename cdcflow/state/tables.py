"""The state's tables as SQLAlchemy sees them. `migrations/` makes them; a test holds both together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

# The schema of a PostgreSQL target, the database beside a MySQL or MariaDB one.
SCHEMA: Final = "cdcflow"

# A SQLite file has no schemas, and a user's own table in it may well be called `tables`.
FILE_PREFIX: Final = "cdcflow_"

_MYSQL: Final = ("mysql", "mariadb")
_BINARY: Final = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}

# MySQL cannot have a text of any length in a key. A pipeline's name has 40 characters at most.
_key = sa.Text().with_variant(mysql.VARCHAR(64, **_BINARY), *_MYSQL)
# A Kafka topic's name has 249 characters at most, a queue's 255 bytes.
_name = sa.Text().with_variant(mysql.VARCHAR(300, **_BINARY), *_MYSQL)
_text = sa.Text().with_variant(mysql.LONGTEXT(**_BINARY), *_MYSQL)
_json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
# In MySQL without a time zone: what stands there is UTC.
_moment = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), *_MYSQL)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables under the names that one kind of home gives them."""

    metadata: sa.MetaData
    version: str  # Alembic's own table
    checkpoints: sa.Table
    tables: sa.Table
    chunks: sa.Table
    schemas: sa.Table
    dead_letters: sa.Table
    shares: sa.Table
    meetings: sa.Table


def _tables(schema: str | None, prefix: str) -> Tables:
    metadata = sa.MetaData(schema=schema)
    return Tables(
        metadata,
        f"{prefix}alembic_version",
        # `position` is '' from the first lease until the pipeline's slot exists.
        sa.Table(
            f"{prefix}checkpoints",
            metadata,
            sa.Column("pipeline", _key, primary_key=True),
            sa.Column("position", _text, nullable=False),
            sa.Column("source", _json, nullable=False),
            sa.Column("epoch", sa.BigInteger, nullable=False),
            sa.Column("owner", _json, nullable=False),
            sa.Column("leased_at", _moment, nullable=False),
            sa.Column("updated_at", _moment, nullable=False),
        ),
        sa.Table(
            f"{prefix}tables",
            metadata,
            sa.Column("pipeline", _key, primary_key=True),
            sa.Column("table_id", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("source_schema", _text, nullable=False),
            sa.Column("source_table", _text, nullable=False),
            sa.Column("target_schema", _text, nullable=False),
            sa.Column("target_table", _text, nullable=False),
            sa.Column("state", _text, nullable=False),
            sa.Column("copied_from", _text, nullable=False),
            sa.Column("copied_upto", _text, nullable=False),
            sa.Column("stamp", _text, nullable=False),
            sa.Column("shape", _text, nullable=False),
            sa.Column("rows", sa.BigInteger, nullable=False),
            sa.Column("reason", _text, nullable=False),
            sa.Column("hint", _text, nullable=False),
            sa.Column("asked", sa.Boolean, nullable=False, server_default=sa.false()),
            sa.Column("updated_at", _moment, nullable=False),
        ),
        sa.Table(
            f"{prefix}chunks",
            metadata,
            sa.Column("pipeline", _key, primary_key=True),
            sa.Column("table_id", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("low", _text, nullable=False),
            sa.Column("high", _text, nullable=False),
            sa.Column("changed_since", _text, nullable=False),
            sa.Column("position", _text, nullable=False),
            sa.Column("token", _text, nullable=False),
            sa.Column("rows", sa.BigInteger, nullable=False),
            sa.Column("bytes", sa.BigInteger, nullable=False),
        ),
        sa.Table(
            f"{prefix}schemas",
            metadata,
            sa.Column("pipeline", _key, primary_key=True),
            sa.Column("table_id", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("position", _text, nullable=False),
            sa.Column("shape", _text, nullable=False),
        ),
        sa.Table(
            f"{prefix}dead_letters",
            metadata,
            sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
            sa.Column("pipeline", _key, nullable=False),
            sa.Column("table_id", sa.BigInteger, nullable=False),
            sa.Column("position", _text, nullable=False),
            sa.Column("event", _json, nullable=False),
            sa.Column("error", _json, nullable=False),
            sa.Column("created_at", _moment, nullable=False),
        ),
        sa.Table(
            f"{prefix}shares",
            metadata,
            sa.Column("pipeline", _key, primary_key=True),
            sa.Column("share", _name, primary_key=True),
            sa.Column("epoch", sa.BigInteger, nullable=False),
            sa.Column("place", sa.BigInteger, nullable=False),
            sa.Column("owner", _json, nullable=False),
            sa.Column("claimed_at", _moment, nullable=False),
            sa.Column("updated_at", _moment, nullable=False),
            sa.Column("identity", _key, nullable=False, server_default=""),
        ),
        sa.Table(
            f"{prefix}meetings",
            metadata,
            sa.Column("pipeline", _key, primary_key=True),
            sa.Column("meeting", _name, primary_key=True),
            sa.Column("share", _name, primary_key=True),
            sa.Column("place", sa.BigInteger, nullable=False),
        ),
    )


SERVER: Final = _tables(SCHEMA, "")
FILE: Final = _tables(None, FILE_PREFIX)


def tables_of(engine: sa.Engine) -> Tables:
    """Return the tables as the engine's home names them."""
    return FILE if engine.dialect.name == "sqlite" else SERVER
