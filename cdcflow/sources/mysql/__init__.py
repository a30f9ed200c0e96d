"""MySQL and MariaDB as a source: the binary log, and a parallel copy by ranges of the key."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from cdcflow.model.context import Context
from cdcflow.model.ports import Source
from cdcflow.sources.mysql.config import Config


def open(config: Config, context: Context) -> Source:  # noqa: A001 - the word every connector uses
    """Return the source. Nothing is connected before its first use."""
    return cast("Source", import_module("cdcflow.sources.mysql.source").open(config, context))


__all__ = ["Config", "open"]
