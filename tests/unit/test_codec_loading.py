"""Which form of a hot module is loaded where a sibling that it needs was not compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cdcflow
from cdcflow.codecs import loaded


@pytest.mark.parametrize(
    ("missing", "needs_it"),
    [("frames_cy", "pgoutput_cy"), ("keytable_cy", "net_cy"), ("binlogtime_cy", "binlogrow_cy")],
)
def test_a_module_whose_sibling_was_not_compiled_runs_plain_too(tmp_path: Path, missing: str, needs_it: str) -> None:
    if loaded()[f"cdcflow.codecs.{needs_it}"] != "compiled":
        pytest.skip("nothing is compiled here")
    shutil.copytree(
        Path(cdcflow.__file__).parent,
        tmp_path / "cdcflow",
        ignore=shutil.ignore_patterns(f"{missing}.*.so", "*.c", "__pycache__"),
    )
    done = subprocess.run(
        [sys.executable, "-c", "from cdcflow.codecs import loaded; print(*loaded().items(), sep='\\n')"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "CDCFLOW_CODECS": "auto"},
        capture_output=True,
        text=True,
        check=False,
    )
    forms = dict(eval(line) for line in done.stdout.splitlines())
    assert [forms[f"cdcflow.codecs.{name}"] for name in (missing, needs_it, "copytext_cy")] == [
        "plain",
        "plain",
        "compiled",
    ], done.stderr
