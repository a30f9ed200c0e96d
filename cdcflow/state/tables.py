"""The state's tables as SQLAlchemy sees them. `migrations/` makes them; a test holds both together."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

SCHEMA: Final = "cdcflow"

metadata = sa.MetaData(schema=SCHEMA)

_json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_moment = sa.DateTime(timezone=True)

# `position` is '' from the first lease until the pipeline's slot exists.
checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("position", sa.Text, nullable=False),
    sa.Column("source", _json, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("owner", _json, nullable=False),
    sa.Column("leased_at", _moment, nullable=False),
    sa.Column("updated_at", _moment, nullable=False),
)

tables = sa.Table(
    "tables",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("table_id", sa.BigInteger, primary_key=True),
    sa.Column("source_schema", sa.Text, nullable=False),
    sa.Column("source_table", sa.Text, nullable=False),
    sa.Column("target_schema", sa.Text, nullable=False),
    sa.Column("target_table", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("copied_from", sa.Text, nullable=False),
    sa.Column("copied_upto", sa.Text, nullable=False),
    sa.Column("stamp", sa.Text, nullable=False),
    sa.Column("shape", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("asked", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("updated_at", _moment, nullable=False),
)

chunks = sa.Table(
    "chunks",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("table_id", sa.BigInteger, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("low", sa.Text, nullable=False),
    sa.Column("high", sa.Text, nullable=False),
    sa.Column("changed_since", sa.Text, nullable=False),
    sa.Column("position", sa.Text, nullable=False),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)

schemas = sa.Table(
    "schemas",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("table_id", sa.BigInteger, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("position", sa.Text, nullable=False),
    sa.Column("shape", sa.Text, nullable=False),
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("table_id", sa.BigInteger, nullable=False),
    sa.Column("position", sa.Text, nullable=False),
    sa.Column("event", _json, nullable=False),
    sa.Column("error", _json, nullable=False),
    sa.Column("created_at", _moment, nullable=False),
)
