"""Where server binaries are kept between runs, and who runs the servers."""

from __future__ import annotations

import fcntl
import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class ServerMissing(RuntimeError):
    """A server that the tests need cannot be had; the message says what to install or to set."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account that server processes run under."""

    name: str
    uid: int
    gid: int

    def popen_arguments(self) -> dict[str, object]:
        """Return what `subprocess` needs to start a process under this account."""
        return {} if self.uid == os.getuid() else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_reach(self, path: Path) -> bool:
        """Return whether the account may pass through every folder above `path`."""
        return self.uid == os.getuid() or all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)

    def own(self, path: Path) -> None:
        """Hand a folder to the account."""
        if self.uid != os.getuid():
            os.chown(path, self.uid, self.gid)


def account() -> Account:
    """Return the account for servers: PostgreSQL refuses to run as root, so root's servers run as nobody."""
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    return Account(user.pw_name, user.pw_uid, user.pw_gid)


def cache_folder() -> Path:
    """Return the folder for server binaries: `CDCFLOW_CACHE`, else one that the servers' account can read.

    Raises:
        ServerMissing: `CDCFLOW_CACHE` lies under a folder that the account may not enter.
    """
    named = os.environ.get("CDCFLOW_CACHE")
    if named:
        folder = Path(named).absolute()
    elif os.getuid() == 0:
        folder = Path("/var/cache/cdcflow")  # root's home is usually closed to nobody
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cdcflow"
    folder.mkdir(parents=True, exist_ok=True)
    if not account().can_reach(folder / "x"):
        raise ServerMissing(
            f"the servers run as {account().name}, who cannot enter {folder}: set CDCFLOW_CACHE to another folder"
        )
    return folder


def run_folder() -> Path:
    """Return the folder under which each session keeps its data: never inside the checkout or the cache."""
    folder = Path(tempfile.gettempdir()).absolute()
    if account().can_reach(folder / "x"):
        return folder
    folder = cache_folder() / "run"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o1777)
    return folder


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Hold a lock of this name among all test processes of the machine."""
    with (cache_folder() / f"{name}.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
