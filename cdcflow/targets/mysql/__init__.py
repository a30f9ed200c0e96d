"""Writes to MySQL and MariaDB: makes the tables, loads copies, applies batches together with their position."""

from __future__ import annotations

from cdcflow.model.context import Context
from cdcflow.targets.mysql.config import Config
from cdcflow.targets.mysql.target import MysqlTarget

SCHEMES = ("mysql", "mariadb")
TYPED_DOCUMENTS = True


def open(config: Config, context: Context) -> MysqlTarget:  # noqa: A001 - the word every connector uses
    """Return the target. Connects to nothing yet."""
    return MysqlTarget(config.url, context.pipeline)


__all__ = ["SCHEMES", "TYPED_DOCUMENTS", "Config", "MysqlTarget", "open"]
