"""The page of types says what the code does."""

from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "types_page.py"


def test_the_types_page_is_up_to_date() -> None:
    found = runpy.run_path(str(SCRIPT))
    assert found["PAGE"].read_text(encoding="utf-8") == found["render"](), "run: python docs/types_page.py"
