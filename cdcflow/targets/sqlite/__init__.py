"""Writes to a SQLite file: makes the tables, loads copies, applies batches together with their position."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from cdcflow.engines.sqlite.connect import path_of
from cdcflow.model.context import Context
from cdcflow.targets.sqlite.config import Config
from cdcflow.targets.sqlite.target import SqliteTarget

SCHEMES = ("sqlite",)


def anchored(config: Config, folder: Path) -> Config:
    """Return the configuration with a path that starts at `folder` where it is relative."""
    path = path_of(config.url, folder.absolute())
    return config.model_copy(update={"url": f"sqlite:///{quote(str(path))}"})


def open(config: Config, context: Context) -> SqliteTarget:  # noqa: A001 - the word every connector uses
    """Return the target. Opens nothing yet.

    Raises:
        ConfigError: the URL names no file.
    """
    return SqliteTarget(path_of(config.url), config.url, context.pipeline)


__all__ = ["SCHEMES", "Config", "SqliteTarget", "open"]
