"""`cdcflow demo`, whole but small: the copy, two kills, and both databases equal at the end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)


def cdcflow(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cdcflow", *words], cwd=folder, capture_output=True, text=True, timeout=400
    )


def test_the_demo_ends_with_no_difference_and_is_removed_without_a_trace(tmp_path: Path) -> None:
    assert_the_demo_holds(tmp_path)


def assert_the_demo_holds(folder: Path, *words: str) -> None:
    """Run a small demo, go on with it by hand, and remove it."""
    folder.chmod(0o755)
    try:
        told = cdcflow(folder, "demo", "--rows", "20000", "--seconds", "1", *words)
        assert told.returncode == 0, told.stdout + told.stderr
        assert re.search(r"^ +differences +0$", told.stdout, re.MULTILINE)
        assert re.search(r"^ +killed and restarted +2 times", told.stdout, re.MULTILINE)
        status = cdcflow(folder, "status", "-c", "cdcflow-demo/cdcflow.yaml")
        assert status.returncode == 0, status.stdout + status.stderr
        again = cdcflow(folder, "run", "-c", "cdcflow-demo/cdcflow.yaml", "--until-caught-up")
        assert again.returncode == 0, again.stderr
    finally:
        removed = cdcflow(folder, "demo", "--down")
    assert removed.returncode == 0, removed.stderr
    assert not any(folder.iterdir())


def test_a_folder_of_somebody_else_is_refused_with_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "cdcflow-demo").mkdir()
    (tmp_path / "cdcflow-demo" / "mine.txt").write_text("mine")
    for words in (["demo"], ["demo", "--down"]):
        told = cdcflow(tmp_path, *words)
        assert told.returncode == 2
        assert "cdcflow-demo" in told.stderr
    assert (tmp_path / "cdcflow-demo" / "mine.txt").exists()
