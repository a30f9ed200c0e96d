"""PostgreSQL as a source: logical replication through pgoutput, and a parallel copy by block ranges."""

from __future__ import annotations

from cdcflow.model.context import Context
from cdcflow.sources.postgres.config import Config
from cdcflow.sources.postgres.position import Lsn
from cdcflow.sources.postgres.source import PostgresSource


def open(config: Config, context: Context) -> PostgresSource:  # noqa: A001
    """Return the source. Nothing is connected before its first use."""
    return PostgresSource(config, context)


__all__ = ["Config", "Lsn", "PostgresSource", "open"]
