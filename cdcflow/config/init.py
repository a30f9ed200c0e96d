"""The files that `cdcflow init` writes: a configuration and rules with comments, and their schemas for editors."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Final

from cdcflow.config.schema import shipped
from cdcflow.errors import ConfigError

# The configuration will hold passwords or say where they are: its owner reads it, nobody else.
_TEMPLATES: Final = (("cdcflow.yaml", 0o600), ("rules.yaml", 0o644))
SCHEMA_FOLDER: Final = ".cdcflow"


def write_templates(directory: Path) -> list[Path]:
    """Write `cdcflow.yaml`, `rules.yaml` and `.cdcflow/*.schema.json`; return their paths, the two to edit first.

    Raises:
        ConfigError: one of the first two is there already (nothing was written), or the folder cannot be written.
    """
    targets = [(directory / name, mode) for name, mode in _TEMPLATES]
    for path, _ in targets:
        if path.exists() or path.is_symlink():
            raise ConfigError(
                f"{path} is there already", why="nothing was written", do="choose another folder: cdcflow init DIR"
            )
    written = []
    try:
        (directory / SCHEMA_FOLDER).mkdir(parents=True, exist_ok=True)
        for path, mode in targets:
            content = (files("cdcflow.config") / f"template.{path.name}").read_bytes()
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
            written.append(path)
        for name, text in shipped().items():
            path = directory / SCHEMA_FOLDER / name
            path.write_text(text, "utf-8")
            written.append(path)
    except OSError as error:
        raise ConfigError(f"cannot write to {directory}", why=error.strerror or "") from None
    return written
