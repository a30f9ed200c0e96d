"""The format that a configuration asks for; Avro and Protobuf are imported only where they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, cast

from cdcflow.bus.config import Decoding, Encoding
from cdcflow.bus.formats import Format

# Each module has `open_<format>(config, pipeline, registry, database)`.
_MODULES: Final = {
    "json": "cdcflow.bus.formats.json",
    "avro": "cdcflow.bus.formats.avro",
    "protobuf": "cdcflow.bus.formats.protobuf",
}


def open_format(config: Encoding | Decoding, pipeline: str = "", registry: Any = None, database: str = "") -> Format:
    """Return the format for writing or reading, as the configuration says.

    Args:
        pipeline: told to readers as the name of the source. database: likewise, where its engine has schemas in
            databases.
        registry: a client of the schema registry to use; None makes one from the configuration.

    Raises:
        ConfigError: a key that the format needs is missing.
    """
    opened = getattr(import_module(_MODULES[config.format]), f"open_{config.format}")
    return cast("Format", opened(config, pipeline, registry, database))


def encoding(config: Encoding) -> Format:
    """Return the format for writing. Raises ConfigError where a key that it needs is missing."""
    return open_format(config)


def decoding(config: Decoding) -> Format:
    """Return the format for reading. Raises ConfigError where a key that it needs is missing."""
    return open_format(config)
