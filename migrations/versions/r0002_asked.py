"""A wish for a new copy of a table, kept apart from what the running instance writes of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    asked = sa.Column("asked", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("tables", asked, schema=context.config.attributes["schema"])
