"""A pytest plugin (`-p tests.without_cython`): this process finds no Cython, like a plain installation."""

from __future__ import annotations

import sys

# None makes `import cython` raise ModuleNotFoundError.
sys.modules["cython"] = None  # type: ignore[assignment]
