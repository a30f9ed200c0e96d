"""Runs revisions on the connection that `cdcflow.state.migrate` opened, inside its transaction.

MySQL and MariaDB commit each DDL statement by itself: there a revision may have ended in the middle, and leaves alone
what it finds.
"""

from __future__ import annotations

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes["prefix"] + "alembic_version",
    version_table_schema=attributes["schema"],
)
with context.begin_transaction():
    context.run_migrations()
