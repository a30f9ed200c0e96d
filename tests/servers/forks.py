"""Processes of cdcflow without the time that Python takes to import it: forked from one that has it imported.

Starting the interpreter and importing was most of what the tests used a processor for. What is forked is a process
like any other: its own session, environment, folder and files, and it ends through the interpreter's own exit. A test
that is about the start itself, or about memory, is marked `own_interpreter`.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdcflow.ops import faults

# Read while modules are imported or the interpreter starts: where one differs, nothing may be forked.
_EARLY = ("PYTHON", "CDCFLOW_", "LC_", "LANG", "LD_")
_MOST_BYTES = 200_000


class Forked:
    """A process that was forked; as much of `subprocess.Popen` as the tests use."""

    def __init__(self, arguments: Sequence[str], pid: int, status: int) -> None:
        self.args = list(arguments)
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, minus the signal's number after a kill, or None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code. Raises subprocess.TimeoutExpired."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
                told = os.read(self._status, 64)
                os.close(self._status)
                # Without a word the process that forked it is gone, and it with it.
                self.returncode = int(told) if told else -signal.SIGKILL
            return self.returncode


class Forks:
    """One process that has cdcflow imported, and forks on demand."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._early = _early(os.environ)
        self._socket = ours
        self._lock = threading.Lock()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "tests.servers.forks", str(theirs.fileno())]
        root = Path(__file__).parent.parent.parent
        self._process = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with this environment may be forked."""
        return _early(environment) == self._early

    def start(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: int, err: int
    ) -> Forked:
        """Start `cdcflow ARGUMENTS` in a folder, without input; out, err: open files."""
        wanted = {"arguments": list(arguments), "folder": str(folder), "environment": dict(environment)}
        status, told = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._socket, [json.dumps(wanted).encode()], [out, err, told])
                pid = int(self._socket.recv(64) or b"0")
        finally:
            os.close(told)
        assert pid, "the process that forks has ended"
        return Forked(arguments, pid, status)

    def end(self) -> None:
        """Let the process go; what it forked goes on."""
        self._socket.close()
        self._process.wait(30)


_forks: Forks | None = None


def forks() -> Forks:
    """Return this process's own; it starts on first use."""
    global _forks
    if _forks is None:
        _forks = Forks()
        atexit.register(_forks.end)
    return _forks


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that was read before a process could be forked."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_EARLY) and name not in ("PYTHONUNBUFFERED", "CDCFLOW_CACHE", faults.VARIABLE)
    }


# -- the process that forks


def _import_all() -> None:
    """Import what a command may need."""
    import importlib
    import pkgutil

    import cdcflow

    for module in pkgutil.walk_packages(cdcflow.__path__, "cdcflow."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _serve(control: socket.socket) -> list[str]:
    """Fork as told until the other end closes; return in each new process, with its arguments."""
    running: dict[int, tuple[int, int]] = {}  # by the file that tells its end: process, where to tell it
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != control.fileno():
                pid, told = running.pop(ready)
                poll.unregister(ready)
                os.close(ready)
                os.write(told, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
                os.close(told)
                continue
            words, files, _, _ = socket.recv_fds(control, _MOST_BYTES, 3)
            if not words:
                os._exit(0)
            pid = os.fork()
            if not pid:
                return _become(json.loads(words), files, control)
            for file in files[:2]:
                os.close(file)
            end = os.pidfd_open(pid)
            running[end] = pid, files[2]
            poll.register(end, select.POLLIN)
            control.send(str(pid).encode())


def _become(wanted: Mapping[str, Any], files: Sequence[int], control: socket.socket) -> list[str]:
    os.setsid()
    os.dup2(files[0], 1)
    os.dup2(files[1], 2)
    control.detach()
    os.closerange(3, 4096)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    time.tzset()
    faults.arm()
    return list(wanted["arguments"])


def _main() -> int:
    import gc

    from cdcflow.cli import main

    _import_all()
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: a lock that one holds would be held for ever in what is forked"
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=int(sys.argv[1]))
    words = _serve(control)
    sys.argv = ["cdcflow", *words]
    return main()


if __name__ == "__main__":
    sys.exit(_main())
