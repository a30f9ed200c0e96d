"""Who runs a server: a process of our own, a container, or somebody else."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.servers import compose
from tests.servers.cache import account
from tests.servers.waiting import until

STOP_LIMIT_SECONDS = 150
# A server that ends this often before it is ready will not come up.
SPAWN_LIMIT = 3


class Runs(Protocol):
    """Starts, stops and crashes one server; whether it is ready is for its client to say."""

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def log(self) -> str: ...
    def remove(self) -> None: ...


class OwnProcess:
    """A process in a folder of its own, under the servers' account; `start` does not wait until it is ready."""

    def __init__(self, folder: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._command = list(command)
        self._environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", **(environment or {})}
        self._account = account()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log"
        if not folder.exists():
            folder.mkdir(parents=True)
            self._account.own(folder)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return what the server has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it unless it runs."""
        if self.running:
            return
        with self._log.open("ab") as log:
            self._process = self._popen(self._command, log)

    def call(self, *command: str, limit: float = 60) -> str:
        """Run another program as the server runs, to its end, and return what it prints.

        Raises:
            RuntimeError: it ended with an error.
        """
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            cwd=self.folder,
            env=self._environment,
            **self._account.popen_arguments(),  # type: ignore[call-overload]
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)[-200:]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def stop(self) -> None:
        """Stop it in order and wait until it is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Crash it and what it started."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Stop it for good and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _popen(self, command: Sequence[str], log: object) -> subprocess.Popen[bytes]:
        started: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            # The person's Ctrl-C is for pytest; the servers are stopped by it in order.
            start_new_session=True,
            env=self._environment,
            **self._account.popen_arguments(),  # type: ignore[call-overload]
        )
        return started

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        self._process.wait(timeout=STOP_LIMIT_SECONDS)
        self._process = None


class Container:
    """One service of a compose file, in a project of its own."""

    def __init__(self, file: Path, service: str, port: int, environment: Mapping[str, str]) -> None:
        self._file, self._service, self._environment = file, service, dict(environment)
        self._project = f"cdcflow-test-{os.getpid()}-{port}"

    @property
    def running(self) -> bool:
        """Whether the container runs."""
        return bool(self._compose("ps", "-q", "--status", "running", self._service).strip())

    def start(self) -> None:
        """Start it unless it runs."""
        if not self.running:
            self._compose("up", "-d", self._service)

    def stop(self) -> None:
        """Stop it in order."""
        self._compose("stop", self._service)

    def kill(self) -> None:
        """Crash it."""
        if self.running:
            self._compose("kill", "-s", "SIGKILL", self._service)
            until(lambda: not self.running, limit=60, what=f"{self._service} in {self._project} ends")

    def log(self) -> str:
        """Return what the server has logged."""
        return self._compose("logs", "--no-log-prefix", self._service)

    def ctl(self, *arguments: str) -> str:
        """Run the command of a RabbitMQ in its container and return what it prints."""
        return self._compose("exec", "-T", self._service, "rabbitmqctl", "-q", *arguments)

    def remove(self) -> None:
        """Remove the container and its data."""
        self._compose("down", "-v", "-t", "1")

    def _compose(self, *arguments: str) -> str:
        return compose.run(self._project, self._file, *arguments, **self._environment)


class Elsewhere:
    """Used, never stopped: a test that has to stop its server is left out, because the person named this one."""

    def __init__(self, variable: str) -> None:
        self._variable = variable
        self.running = True

    def start(self) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Leave the test out."""
        pytest.skip(f"the server of {self._variable} is not ours to stop")

    def kill(self) -> None:
        """Leave the test out."""
        self.stop()

    def log(self) -> str:
        """Not ours to read."""
        return ""

    def ctl(self, *arguments: str) -> str:
        """Leave the test out."""
        pytest.skip(f"the server of {self._variable} is not ours to command: {' '.join(arguments)}")

    def remove(self) -> None:
        """Leave it as it is."""


def start_until(runs: Runs, ready: Callable[[], bool], *, limit: float, what: str) -> None:
    """Start a server and wait until `ready()`; it is started again a few times where it ends before that.

    Raises:
        AssertionError: not within `limit` seconds, or it ends each time; with the end of its log.
    """
    spawned = 0

    def settled() -> bool:
        nonlocal spawned
        if not runs.running:
            if spawned == SPAWN_LIMIT:
                return True
            spawned += 1
            runs.start()
        return ready() and runs.running

    try:
        until(settled, limit=limit, what=what)
    except AssertionError as late:
        raise AssertionError(f"{late}\n{runs.log()[-3000:]}") from late
    if not runs.running:
        raise AssertionError(f"it ended {SPAWN_LIMIT} times: {what}\n{runs.log()[-3000:]}")
