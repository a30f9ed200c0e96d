"""The sync rules: which tables go where, under which names, and what deletes, truncates and new columns do."""

from __future__ import annotations

from pathlib import Path

from cdcflow.rules.document import parse as parse_document
from cdcflow.rules.document import read as read_document
from cdcflow.rules.plan import Plan, Rules

__all__ = ["Plan", "Rules", "load", "parse"]


def load(path: Path) -> Rules:
    """Read a rules file.

    Raises:
        ConfigError: it is missing, not YAML, or has problems: all of them, each with its place.
    """
    document = read_document(path)
    return Rules.of(document, document.value)


def parse(text: str, file: str = "rules.yaml") -> Rules:
    """Read rules from text; `file` is the name in messages.

    Raises:
        ConfigError: as `load`.
    """
    document = parse_document(text, file)
    return Rules.of(document, document.value)
