"""A PostgreSQL server in a container, where a Docker daemon answers (compose/test-server.yaml)."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.cluster import StopMode, free_port
from tests.servers.waiting import until

FILE = Path(__file__).parents[2] / "compose" / "test-server.yaml"
UP_LIMIT_SECONDS = 300
SIGNALS = {"smart": "SIGTERM", "fast": "SIGINT", "immediate": "SIGQUIT", "kill": "SIGKILL"}


class ComposeFailed(RuntimeError):
    """The daemon answered but the server did not come up."""


@functools.cache
def answers() -> bool:
    """Return whether a Docker daemon answers."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def run(project: str, file: Path, *arguments: str, **environment: str) -> str:
    """Run `docker compose` on a project of the tests' own and return what it prints.

    Raises:
        ComposeFailed: it ended with an error.
    """
    done = subprocess.run(
        ["docker", "compose", "-p", project, "-f", str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=UP_LIMIT_SECONDS,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode != 0:
        raise ComposeFailed(f"docker compose {arguments[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout


class ComposeServer:
    """One container with a project name and a port of its own."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.port = free_port()
        self._project = f"cdcflow-test-{os.getpid()}-{self.port}"

    def __repr__(self) -> str:
        return f"<PostgreSQL {self.version} in {self._project}, port {self.port}>"

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str = "") -> str:
        """Return the URL of one of its databases."""
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    @property
    def running(self) -> bool:
        """Whether the container runs."""
        return bool(self._compose("ps", "-q", "--status", "running").strip())

    def log(self) -> str:
        """Return what the server has logged."""
        return self._compose("logs", "--no-log-prefix")

    def start(self) -> ComposeServer:
        """Start it and wait until it takes connections."""
        if not self.running:
            self._compose("up", "-d", "--wait")
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it; `immediate` and `kill` are crashes."""
        if self.running:
            self._compose("kill", "-s", SIGNALS[mode])
            until(lambda: not self.running, limit=60, what=f"{self} stops")

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def configure(self, **settings: str) -> None:
        """Set server parameters; those that need it take effect at a restart."""
        for name, value in settings.items():
            statement = f"ALTER SYSTEM SET {name} = {value}"
            self._compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-c", statement)
        self._compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-c", "SELECT pg_reload_conf()")

    def remove(self) -> None:
        """Remove the container and its data."""
        self._compose("down", "-v", "-t", "1")

    def _compose(self, *arguments: str) -> str:
        return run(self._project, FILE, *arguments, PG_VERSION=str(self.version), PG_PORT=str(self.port))
