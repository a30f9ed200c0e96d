"""What the broker calls that which a share is of; and a share's place that never goes back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from cdcflow.migrations.versions.r0001_first import BINARY
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"

# As in 0003, and who would set a share back does not know what was applied: its rows were applied before.
FUNCTION = """
CREATE OR REPLACE FUNCTION cdcflow.advance_shares(pipeline_ text, moved_ text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    updated_ bigint;
BEGIN
    UPDATE cdcflow.shares s SET place = (m.value ->> 1)::bigint, updated_at = pg_catalog.now()
        FROM pg_catalog.jsonb_each(moved_::jsonb) m
        WHERE s.pipeline = pipeline_ AND s.share = m.key AND s.epoch = (m.value ->> 0)::bigint
            AND s.place <= (m.value ->> 1)::bigint;
    GET DIAGNOSTICS updated_ = ROW_COUNT;
    IF updated_ <> (SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_object_keys(moved_::jsonb)) THEN
        RAISE EXCEPTION 'a share of pipeline "%" was taken over', pipeline_ USING ERRCODE = 'CDC01';
    END IF;
END $$;
"""


def upgrade() -> None:
    attributes = context.config.attributes
    table, schema = attributes["prefix"] + "shares", attributes["schema"]
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table, schema=schema)}
    if "identity" not in there:  # MySQL: an attempt may have ended behind it
        kind = sa.Text().with_variant(mysql.VARCHAR(64, **BINARY), "mysql")
        op.add_column(table, sa.Column("identity", kind, nullable=False, server_default=""), schema=schema)
    if op.get_context().dialect.name == "postgresql":
        op.execute(FUNCTION)
