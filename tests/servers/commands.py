"""The command under test: a folder with its config and rules, and processes that run in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import yaml

from tests.servers.forks import Forked, forks
from tests.servers.waiting import until

COMMAND = [sys.executable, "-m", "cdcflow"]
RUN_LIMIT_SECONDS = 120


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a process of cdcflow: ours, without a terminal's habits."""
    names = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    return {**names, **(extra or {})}


def _start(
    arguments: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    out: IO[bytes],
    err: IO[bytes],
    prefix: Sequence[str] = (),
    *,
    forked: bool,
) -> subprocess.Popen[bytes] | Forked:
    if forked and not prefix and forks().fits(env):
        return forks().start(arguments, folder, env, out.fileno(), err.fileno())
    return subprocess.Popen(
        [*prefix, *COMMAND, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        env=env,
        start_new_session=True,
    )


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


@dataclass(slots=True)
class PipelineFolder:
    """A folder with `cdcflow.yaml` and `rules.yaml` for one pipeline."""

    path: Path
    name: str
    source_url: str
    target_url: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.path / "cdcflow.yaml"

    @property
    def rules(self) -> Path:
        """The rules file."""
        return self.path / "rules.yaml"

    def write_config(self, **settings: Any) -> PipelineFolder:
        """Write the configuration; `settings` replace or add top-level keys, and None removes one."""
        self.settings.update(settings)
        whole = {
            "pipeline": self.name,
            "source": {"url": self.source_url},
            "target": {"url": self.target_url},
            "rules": "rules.yaml",
            **self.settings,
        }
        self.config.write_text(
            yaml.safe_dump({key: value for key, value in whole.items() if value is not None}, sort_keys=False)
        )
        return self

    def write_rules(
        self, *tables: str | Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> PipelineFolder:
        """Write the rules; a plain string is a `match`."""
        rules: dict[str, Any] = {"version": 1}
        if defaults:
            rules["defaults"] = dict(defaults)
        rules["tables"] = [{"match": rule} if isinstance(rule, str) else dict(rule) for rule in tables]
        self.rules.write_text(yaml.safe_dump(rules, sort_keys=False, allow_unicode=True))
        return self

    def through(self, *, source: str | None = None, target: str | None = None) -> PipelineFolder:
        """Put other URLs (of a proxy, or of another role) into the configuration."""
        self.source_url = source or self.source_url
        self.target_url = target or self.target_url
        return self.write_config()


class Running:
    """A process of cdcflow in the background, its output kept in files."""

    def __init__(
        self,
        folder: Path,
        number: int,
        arguments: Sequence[str],
        env: Mapping[str, str] | None,
        prefix: Sequence[str],
        *,
        forked: bool = True,
    ) -> None:
        self.arguments = list(arguments)
        self._out, self._err = folder / f"out-{number}.txt", folder / f"log-{number}.txt"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = _start(arguments, folder, environment(env), out, err, prefix, forked=forked)

    def __repr__(self) -> str:
        return f"<cdcflow {' '.join(self.arguments)}: {self.returncode if self.ended else 'running'}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs, minus the signal's number after a kill."""
        return self.process.poll()

    def out(self) -> str:
        """Return what it has printed to standard output."""
        return self._out.read_text(errors="replace")

    def log(self) -> str:
        """Return what it has printed to standard error: its log and its error report."""
        return self._err.read_text(errors="replace")

    def output(self) -> str:
        """Return both."""
        return self.out() + self.log()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self.process.wait(30)

    def terminate(self) -> None:
        """SIGTERM: it drains and ends by itself; `wait` for it."""
        self._signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT, as by Ctrl-C."""
        self._signal(signal.SIGINT)

    def pause(self) -> None:
        """SIGSTOP: it stands still and keeps its connections."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end and return the exit code.

        Raises:
            AssertionError: it still runs after `timeout` seconds; the end of its log is in the message.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} still runs after {timeout} s:\n{self.output()[-4000:]}") from None

    def until_output(self, text: str, limit: float = 60) -> None:
        """Wait until it has printed `text`; fails at once when it ends without."""
        until(lambda: text in self.output() or self.ended, limit=limit, what=f"{self} prints {text!r}")
        assert text in self.output(), f"{self} never printed {text!r}:\n{self.output()[-4000:]}"

    def memory_bytes(self) -> int:
        """Return the greatest resident memory so far (VmHWM)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self} has no memory")

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended:
            self.process.send_signal(number)


class Commands:
    """Starts cdcflow in one folder and remembers what runs, so that nothing outlives the test.

    forked: whether processes may do without an interpreter of their own, see `forks`.
    """

    def __init__(self, folder: Path, *, forked: bool = True) -> None:
        self._folder = folder
        self.forked = forked
        self._started: list[Running] = []

    def call(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        timeout: float = RUN_LIMIT_SECONDS,
        exit_code: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `cdcflow ARGUMENTS` to its end; with `exit_code`, assert it."""
        with TemporaryFile() as out, TemporaryFile() as err:
            process = _start(arguments, self._folder, environment(env), out, err, forked=self.forked)
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
                raise AssertionError(
                    f"cdcflow {' '.join(arguments)} ran for {timeout} s:\n{_text(err)[-8000:]}"
                ) from None
            done = subprocess.CompletedProcess(list(arguments), code, _text(out), _text(err))
        if exit_code is not None and done.returncode != exit_code:
            raise AssertionError(
                f"cdcflow {' '.join(arguments)} ended with {done.returncode}, not {exit_code}:\n"
                f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
            )
        return done

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Running:
        """Start `cdcflow ARGUMENTS` in the background; `prefix` stands before it (`taskset -c 0`)."""
        running = Running(self._folder, len(self._started) + 1, arguments, env, prefix, forked=self.forked)
        self._started.append(running)
        return running

    def end(self) -> None:
        """Kill what still runs."""
        for running in self._started:
            running.kill()
