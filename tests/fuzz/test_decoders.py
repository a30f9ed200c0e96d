"""Whatever bytes arrive, a decoder has a result or its own error: never another one, a crash, or a form's own view.

`CDCFLOW_FUZZ_MUTATIONS` says how many changed inputs are made of each file of the corpus (default 60).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdcflow.codecs import loaded
from tests.fuzz.decoders import TARGETS
from tests.fuzz.exercise import CORPUS

ROOT = Path(__file__).parents[2]
MUTATIONS = int(os.environ.get("CDCFLOW_FUZZ_MUTATIONS", "60"))
FORMS = ("plain", "compiled") if set(loaded().values()) == {"compiled"} else ("plain",)

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the corpus holds native numbers of its recorder")


def exercised(target: str, form: str, mutations: int) -> dict[str, str]:
    """Return what became of each input, by its name. Its own process, for a decoder may end it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.exercise", target, str(mutations)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CDCFLOW_CODECS": form},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{form} ended with {done.returncode} at {lines[-1:]}\n{done.stderr[-2000:]}"
    return {case: told for case, _, told in (line.partition(" ") for line in lines)}


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_server_said_is_decoded_and_alike_in_both_forms(target: str) -> None:
    found = [exercised(target, form, 0) for form in FORMS]
    assert len(found[0]) == len(list((CORPUS / target).glob("*.bin"))) > 0
    assert found[0] == found[-1]
    assert [
        case for case, told in found[0].items() if case.startswith("real-") and not told.startswith("result ")
    ] == []


@pytest.mark.parametrize("target", TARGETS)
def test_changed_inputs_have_a_result_or_the_decoders_own_error(target: str) -> None:
    found = [exercised(target, form, MUTATIONS) for form in FORMS]
    for form, told in zip(FORMS, found, strict=True):
        assert {case: what for case, what in told.items() if what.startswith("fault")} == {}, form
    differing = {case: (what, found[-1][case]) for case, what in found[0].items() if found[-1][case] != what}
    assert differing == {}
