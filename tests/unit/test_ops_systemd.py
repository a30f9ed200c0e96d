"""The systemd unit: what it promises, and what systemd itself thinks of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cdcflow.errors import AccessDenied, CheckFailed, ConfigError, Fenced, PositionLost, SourceUnavailable

UNIT = Path(__file__).parents[2] / "packaging" / "systemd" / "cdcflow@.service"

# Keys that an older systemd ignores, with the first version that knows them.
NEWER = {"RestartSteps": 254, "RestartMaxDelaySec": 254}

# `systemd-analyze security`: 0 is closed, 10 is open, 2 is where it stops to recommend.
MOST_EXPOSURE = 2.0


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as an instance whose program exists, which systemd insists on."""
    unit = tmp_path / "cdcflow@shop.service"
    unit.write_text(UNIT.read_text().replace("/opt/cdcflow/bin/cdcflow", sys.executable))
    return unit


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        # What can be said without systemd is said by the other tests of this file.
        pytest.skip("systemd-analyze is not installed on this machine")
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60)


def test_the_unit_says_ready_is_watched_and_reads_the_instance_s_configuration() -> None:
    found = settings()
    assert found["Type"] == ["notify"]
    assert found["WatchdogSec"] == ["5min"]
    (command,) = found["ExecStart"]
    assert command == "/opt/cdcflow/bin/cdcflow run --config /etc/cdcflow/%i.yaml --log-format json"


def test_what_a_restart_can_mend_is_restarted_and_what_it_cannot_is_not() -> None:
    found = settings()
    assert found["Restart"] == ["on-failure"]
    assert found["RestartForceExitStatus"] == [str(SourceUnavailable.exit_code)]
    (prevented,) = found["RestartPreventExitStatus"]
    in_vain = {kind.exit_code for kind in (ConfigError, CheckFailed, AccessDenied, Fenced, PositionLost)}
    assert {int(code) for code in prevented.split()} == in_vain


def test_passwords_come_as_credentials_and_stand_nowhere_in_the_unit() -> None:
    found = settings()
    assert [entry.split(":")[0] for entry in found["LoadCredential"]] == ["source-password", "target-password"]
    # A default each: a pipeline that needs no password starts without the file.
    assert found["SetCredential"] == ["source-password:unset", "target-password:unset"]
    assert "Environment" not in found


def test_the_service_has_an_account_of_its_own_and_a_limit_on_memory() -> None:
    found = settings()
    assert found["DynamicUser"] == ["yes"]
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["ProtectSystem"] == ["strict"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["MemoryMax"] == ["512M"]


def test_systemd_accepts_the_unit(installed: Path) -> None:
    done = analyze("verify", str(installed))
    version = int(re.findall(r"systemd (\d+)", analyze("--version").stdout)[0])
    complaints = [
        line
        for line in done.stderr.splitlines()
        if str(installed) in line and not any(f"'{key}'" in line and version < since for key, since in NEWER.items())
    ]
    assert complaints == []
    assert done.returncode == 0, done.stderr


def test_systemd_finds_the_unit_hardly_exposed(installed: Path) -> None:
    done = analyze("security", "--offline=yes", "--no-pager", str(installed))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSURE
