"""The first tables: checkpoints with the lease's epoch, table states, finished chunks, shapes, dead letters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

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


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "checkpoints",
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("position", sa.Text, nullable=False, server_default=""),
        sa.Column("source", json, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("owner", json, nullable=False),
        sa.Column("leased_at", moment, nullable=False, server_default=sa.func.current_timestamp()),
        sa.Column("updated_at", moment, nullable=False, server_default=sa.func.current_timestamp()),
        schema=schema,
    )
    op.create_table(
        "tables",
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("table_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("source_schema", sa.Text, nullable=False),
        sa.Column("source_table", sa.Text, nullable=False),
        sa.Column("target_schema", sa.Text, nullable=False),
        sa.Column("target_table", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("copied_from", sa.Text, nullable=False, server_default=""),
        sa.Column("copied_upto", sa.Text, nullable=False, server_default=""),
        sa.Column("stamp", sa.Text, nullable=False, server_default=""),
        sa.Column("shape", sa.Text, nullable=False, server_default=""),
        sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("hint", sa.Text, nullable=False, server_default=""),
        sa.Column("updated_at", moment, nullable=False, server_default=sa.func.current_timestamp()),
        schema=schema,
    )
    op.create_table(
        "chunks",
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("table_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("low", sa.Text, nullable=False),
        sa.Column("high", sa.Text, nullable=False),
        sa.Column("changed_since", sa.Text, nullable=False),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        schema=schema,
    )
    op.create_table(
        "schemas",
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("table_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("shape", sa.Text, nullable=False),
        schema=schema,
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("table_id", sa.BigInteger, nullable=False),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("event", json, nullable=False),
        sa.Column("error", json, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=sa.func.current_timestamp()),
        schema=schema,
    )
    if op.get_context().dialect.name == "postgresql":
        # One row is written with every batch: room in its page lets the server do it without touching the
        # index and clean up behind itself.
        op.execute("ALTER TABLE cdcflow.checkpoints SET (fillfactor = 20)")
        op.execute(FUNCTIONS)
