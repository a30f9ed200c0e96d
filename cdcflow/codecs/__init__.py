"""What the bytes mean: pure functions between protocol messages, frames, COPY text and Python values."""

from __future__ import annotations

from cdcflow.codecs.loading import HOT_MODULES, load, loaded

__all__ = ["loaded"]

for _name in HOT_MODULES:
    if _name.startswith(__name__ + "."):
        load(_name)
