"""Writes to PostgreSQL: makes the tables, loads copies, applies batches together with their position."""

from __future__ import annotations

from cdcflow.model.context import Context
from cdcflow.targets.postgres.config import Config
from cdcflow.targets.postgres.target import PostgresTarget

SCHEMES = ("postgresql", "postgres")


def open(config: Config, context: Context) -> PostgresTarget:  # noqa: A001 - the word every connector uses
    """Return the target. Connects to nothing yet."""
    return PostgresTarget(config.url, context.pipeline)


__all__ = ["SCHEMES", "Config", "PostgresTarget", "open"]
