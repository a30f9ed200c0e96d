"""SQLite as a target."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from cdcflow.model.context import Context
from cdcflow.model.ports import Target
from cdcflow.targets.sqlite.config import Config


def open(config: Config, context: Context) -> Target:  # noqa: A001 - the word every connector uses
    """Return the target. Connects to nothing yet."""
    return cast("Target", import_module("cdcflow.targets.sqlite.target").open(config, context))


__all__ = ["Config", "open"]
