"""A wish for a new copy of a table, kept apart from what the running instance writes of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    attributes = context.config.attributes
    table, schema = attributes["prefix"] + "tables", attributes["schema"]
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table, schema=schema)}
    if "asked" not in there:  # MySQL: an attempt may have ended behind it
        asked = sa.Column("asked", sa.Boolean, nullable=False, server_default=sa.false())
        op.add_column(table, asked, schema=schema)
