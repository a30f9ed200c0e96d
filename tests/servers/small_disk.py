"""A file system of a few megabytes, to run full: a tmpfs, which only root may mount."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.servers.cache import account, run_folder

PREFIX = "cdcflow-disk-"
PIECE = b"\0" * 4096


class SmallDisk:
    """A mounted file system that belongs to the account that servers run under.

    Tests that need one are left out where nothing may be mounted.
    """

    def __init__(self, megabytes: int) -> None:
        _sweep()
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=run_folder()))
        owner = account()
        options = f"size={megabytes}m,mode=0700,uid={owner.uid},gid={owner.gid}"
        done = _mount("mount", "-t", "tmpfs", "-o", options, "cdcflow", str(self.path))
        if done:
            self.path.rmdir()
            pytest.skip(f"a file system that runs full cannot be mounted here: {done}")
        self._filler = self.path / "filler"

    def fill(self) -> None:
        """Take what is left of it."""
        with self._filler.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(PIECE):
                pass

    def free(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink(missing_ok=True)

    def grow(self, megabytes: int) -> None:
        """Make it larger while it is in use."""
        failed = _mount("mount", "-o", f"remount,size={megabytes}m", str(self.path))
        assert not failed, failed

    def remove(self) -> None:
        """Unmount it; the servers that use it are stopped by then."""
        failed = _mount("umount", str(self.path))
        if failed:
            _mount("umount", "-l", str(self.path))
        self.path.rmdir()
        assert not failed, failed


def _mount(*command: str) -> str:
    """Run the command; return what went wrong, '' if nothing did."""
    if shutil.which(command[0]) is None:
        return f"there is no `{command[0]}`"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return "" if done.returncode == 0 else done.stderr.strip() or f"{command[0]} ended with {done.returncode}"


def _sweep() -> None:
    """Unmount what test processes that were killed left behind."""
    for folder in run_folder().glob(f"{PREFIX}*"):
        if not Path("/proc", folder.name.removeprefix(PREFIX).partition("-")[0]).exists():
            _mount("umount", "-l", str(folder))
            with contextlib.suppress(OSError):
                folder.rmdir()
