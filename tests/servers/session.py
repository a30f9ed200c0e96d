"""The folder of one test process, and the removal of what a killed one left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import IO

from tests.servers.cache import only_one, run_folder
from tests.servers.waiting import until

PREFIX = "cdcflow-tests-"


class Session:
    """A folder that lives as long as this process: a lock in it tells the next session whether that is so."""

    def __init__(self) -> None:
        sweep()
        with only_one("sessions"):  # or a sweep could take the lock of a folder that is just being made
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=run_folder()))
            self.path.chmod(0o711)
            self._alive: IO[str] = (self.path / "alive").open("w")
            fcntl.flock(self._alive, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove the folder; the servers in it are stopped by then."""
        self._alive.close()
        shutil.rmtree(self.path, ignore_errors=True)


def sweep() -> None:
    """Stop the processes and remove the folders of sessions that were killed."""
    with only_one("sessions"):
        _sweep()


def _sweep() -> None:
    for folder in run_folder().glob(f"{PREFIX}*"):
        try:
            with (folder / "alive").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end_processes_of(folder)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # it is in use, being made, or another user's


def _end_processes_of(folder: Path) -> None:
    for pid in _processes_of(folder):
        # PostgreSQL puts away its shared memory; others may take this for a question.
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGQUIT if Path(f"/proc/{pid}/comm").read_text() == "postgres\n" else signal.SIGKILL)
    try:
        until(lambda: not _processes_of(folder), limit=60)
    except AssertionError:
        for pid in _processes_of(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes_of(folder: Path) -> list[int]:
    """Return the processes that were started with a path in `folder` or work in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if any(argument.startswith(os.fsencode(folder)) for argument in arguments) or (
                (entry / "cwd").resolve().is_relative_to(folder)
            ):
                found.append(int(entry.name))
    return found
