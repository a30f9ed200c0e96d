"""What the service manager hears, over a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdcflow.ops.notify import Notifier


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class Manager:
    """Stands where the service manager does: a bound datagram socket."""

    def __init__(self, name: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@cdcflow-test-{os.getpid()}-{tmp_path.name}"


@pytest.fixture
def manager(name: str) -> Iterator[Manager]:
    bound = Manager(name)
    yield bound
    bound.socket.close()


def test_ready_is_said_once_at_the_first_copying_or_streaming(manager: Manager, name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.state("starting")
    assert not [text for text in manager.heard() if "READY=1" in text]
    notifier.state("copying")
    notifier.state("streaming")
    ready = [text for text in manager.heard() if "READY=1" in text]
    assert ready == ["READY=1\nSTATUS=copying"]


def test_the_status_tells_state_tables_position_and_lag(manager: Manager, name: str) -> None:
    clock = Clock()
    notifier = Notifier({"NOTIFY_SOCKET": name}, clock=clock)
    notifier.table_state("public.a", "live")
    notifier.table_state("public.b", "copying")
    notifier.state("streaming")
    clock.now += 60
    manager.heard()
    notifier.position("0/5A3F210", 64, 0.25)
    assert manager.heard() == ["STATUS=streaming: 1 of 2 tables live, at 0/5A3F210, 64 bytes behind, lag 0.2 s"]


def test_the_status_is_not_repeated_and_not_said_many_times_a_second(manager: Manager, name: str) -> None:
    clock = Clock()
    notifier = Notifier({"NOTIFY_SOCKET": name}, clock=clock)
    notifier.state("streaming")
    clock.now += 60
    manager.heard()
    for number in range(50):
        notifier.position(f"0/{number:X}", 0, 0.0)
    assert len(manager.heard()) == 1


def test_the_watchdog_is_fed_only_by_signs_of_life_and_at_half_its_limit(manager: Manager, name: str) -> None:
    clock = Clock()
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000"}, clock=clock)
    assert notifier.watched
    notifier.state("streaming")
    notifier.position("0/1", 0, 0.0)
    assert not [text for text in manager.heard() if "WATCHDOG" in text]
    notifier.alive()
    notifier.alive()
    assert manager.heard() == ["WATCHDOG=1"]
    clock.now += 29
    notifier.alive()
    assert manager.heard() == []
    clock.now += 2
    notifier.alive()
    assert manager.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize("extra", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}])
def test_without_a_watchdog_for_this_process_none_is_fed(manager: Manager, name: str, extra: dict[str, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name, **extra})
    notifier.alive()
    assert not notifier.watched
    assert manager.heard() == []


def test_stopping_is_said(manager: Manager, name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.state("streaming")
    manager.heard()
    notifier.state("stopping")
    assert manager.heard() == ["STOPPING=1\nSTATUS=stopping"]


def test_the_reason_of_a_failure_becomes_the_status(manager: Manager, name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.failed("replication slot is gone\nmore")
    assert manager.heard() == ["STATUS=replication slot is gone"]


def test_without_a_service_manager_nothing_is_said_and_nothing_fails() -> None:
    notifier = Notifier({})
    notifier.state("streaming")
    notifier.alive()
    notifier.close()


def test_a_service_manager_that_is_gone_or_does_not_listen_never_holds_the_pipeline(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    gone = Notifier({"NOTIFY_SOCKET": path})
    gone.state("streaming")
    deaf = Manager(path)
    try:
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2"}, clock=iter(range(100_000)).__next__)
        for _ in range(5_000):  # far more than a datagram queue holds
            notifier.alive()
    finally:
        deaf.socket.close()
    notifier.state("stopping")
