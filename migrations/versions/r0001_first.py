"""The first tables: checkpoints with the lease's epoch, table states, finished chunks, shapes, dead letters."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001"
down_revision = None

# A writer calls one of these in its own transaction, with COMMIT already behind it on the wire: an epoch
# that is no longer current must therefore fail in the server. `fence` holds the row against a new lease
# (which takes it FOR UPDATE) but not against `advance`, so loaders and the applier do not wait for one
# another.
FUNCTIONS = """
CREATE FUNCTION cdcflow.refuse(pipeline_ text, epoch_ bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    current_ bigint;
BEGIN
    SELECT c.epoch INTO current_ FROM cdcflow.checkpoints c WHERE c.pipeline = pipeline_;
    IF current_ IS NULL THEN
        RAISE EXCEPTION 'the checkpoint of pipeline "%" was removed', pipeline_ USING ERRCODE = 'CDC01';
    END IF;
    RAISE EXCEPTION 'pipeline "%" was taken over: epoch % follows our %', pipeline_, current_, epoch_
        USING ERRCODE = 'CDC01';
END $$;

CREATE FUNCTION cdcflow.advance(pipeline_ text, epoch_ bigint, position_ text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE cdcflow.checkpoints c SET position = position_, updated_at = pg_catalog.now()
        WHERE c.pipeline = pipeline_ AND c.epoch = epoch_;
    IF NOT FOUND THEN
        PERFORM cdcflow.refuse(pipeline_, epoch_);
    END IF;
END $$;

CREATE FUNCTION cdcflow.fence(pipeline_ text, epoch_ bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM cdcflow.checkpoints c WHERE c.pipeline = pipeline_ AND c.epoch = epoch_ FOR KEY SHARE;
    IF NOT FOUND THEN
        PERFORM cdcflow.refuse(pipeline_, epoch_);
    END IF;
END $$;
"""


BINARY = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}


def upgrade() -> None:
    server = op.get_context().dialect.name
    # MySQL cannot have a text of any length in a key, nor a default for one.
    key = sa.Text().with_variant(mysql.VARCHAR(64, **BINARY), "mysql")
    text = sa.Text().with_variant(mysql.LONGTEXT(**BINARY), "mysql")
    json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    moment = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")
    empty = "" if server != "mysql" else None
    now = sa.func.current_timestamp() if server != "mysql" else None
    make(
        "checkpoints",
        sa.Column("pipeline", key, primary_key=True),
        sa.Column("position", text, nullable=False, server_default=empty),
        sa.Column("source", json, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("owner", json, nullable=False),
        sa.Column("leased_at", moment, nullable=False, server_default=now),
        sa.Column("updated_at", moment, nullable=False, server_default=now),
    )
    make(
        "tables",
        sa.Column("pipeline", key, primary_key=True),
        sa.Column("table_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("source_schema", text, nullable=False),
        sa.Column("source_table", text, nullable=False),
        sa.Column("target_schema", text, nullable=False),
        sa.Column("target_table", text, nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("copied_from", text, nullable=False, server_default=empty),
        sa.Column("copied_upto", text, nullable=False, server_default=empty),
        sa.Column("stamp", text, nullable=False, server_default=empty),
        sa.Column("shape", text, nullable=False, server_default=empty),
        sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("reason", text, nullable=False, server_default=empty),
        sa.Column("hint", text, nullable=False, server_default=empty),
        sa.Column("updated_at", moment, nullable=False, server_default=now),
    )
    make(
        "chunks",
        sa.Column("pipeline", key, primary_key=True),
        sa.Column("table_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("low", text, nullable=False),
        sa.Column("high", text, nullable=False),
        sa.Column("changed_since", text, nullable=False),
        sa.Column("position", text, nullable=False),
        sa.Column("token", text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    make(
        "schemas",
        sa.Column("pipeline", key, primary_key=True),
        sa.Column("table_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", text, nullable=False),
        sa.Column("shape", text, nullable=False),
    )
    identity = () if server == "mysql" else (sa.Identity(),)
    make(
        "dead_letters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), *identity, primary_key=True),
        sa.Column("pipeline", key, nullable=False),
        sa.Column("table_id", sa.BigInteger, nullable=False),
        sa.Column("position", text, nullable=False),
        sa.Column("event", json, nullable=False),
        sa.Column("error", json, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=now),
    )
    if server == "postgresql":
        # One row is written with every batch: room in its page lets the server do it without touching the
        # index and clean up behind itself.
        op.execute("ALTER TABLE cdcflow.checkpoints SET (fillfactor = 20)")
        op.execute(FUNCTIONS)


def make(name: str, *columns: sa.Column[Any]) -> None:
    """Create one table, unless an attempt that ended in the middle made it."""
    attributes = context.config.attributes
    name, schema = attributes["prefix"] + name, attributes["schema"]
    if not sa.inspect(op.get_bind()).has_table(name, schema=schema):
        options = {f"mysql_{key}": value for key, value in (("engine", "InnoDB"), ("charset", "utf8mb4"))}
        op.create_table(name, *columns, schema=schema, **options)
