"""The configuration file: read, filled in from variables and secret files, and checked."""

from cdcflow.config.load import Config, load

__all__ = ["Config", "load"]
