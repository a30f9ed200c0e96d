"""What instances that share a source hold of it, and where they wait for one another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from cdcflow.migrations.versions.r0001_first import BINARY, make
from sqlalchemy.dialects import mysql, postgresql

revision = "0003"
down_revision = "0002"

# As `advance`, for the shares that a transaction moves: `moved_` is {"share": [epoch, place]}. A share whose epoch is
# another was claimed by somebody else, or its record was removed.
FUNCTION = """
CREATE FUNCTION cdcflow.advance_shares(pipeline_ text, moved_ text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    updated_ bigint;
BEGIN
    UPDATE cdcflow.shares s SET place = (m.value ->> 1)::bigint, updated_at = pg_catalog.now()
        FROM pg_catalog.jsonb_each(moved_::jsonb) m
        WHERE s.pipeline = pipeline_ AND s.share = m.key AND s.epoch = (m.value ->> 0)::bigint;
    GET DIAGNOSTICS updated_ = ROW_COUNT;
    IF updated_ <> (SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_object_keys(moved_::jsonb)) THEN
        RAISE EXCEPTION 'a share of pipeline "%" was taken over', pipeline_ USING ERRCODE = 'CDC01';
    END IF;
END $$;
"""


def upgrade() -> None:
    server = op.get_context().dialect.name
    key = sa.Text().with_variant(mysql.VARCHAR(64, **BINARY), "mysql")
    # A Kafka topic's name has 249 characters at most, a queue's 255 bytes.
    name = sa.Text().with_variant(mysql.VARCHAR(300, **BINARY), "mysql")
    json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    moment = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")
    make(
        "shares",
        sa.Column("pipeline", key, primary_key=True),
        sa.Column("share", name, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("owner", json, nullable=False),
        sa.Column("claimed_at", moment, nullable=False),
        sa.Column("updated_at", moment, nullable=False),
    )
    make(
        "meetings",
        sa.Column("pipeline", key, primary_key=True),
        sa.Column("meeting", name, primary_key=True),
        sa.Column("share", name, primary_key=True),
        sa.Column("place", sa.BigInteger, nullable=False),
    )
    if server == "postgresql":
        # Written with every batch, as the checkpoints are.
        op.execute(f"ALTER TABLE {context.config.attributes['schema']}.shares SET (fillfactor = 20)")
        op.execute(FUNCTION)
