"""Ctrl-C and SIGTERM: the first asks the pipeline to drain and end, the second ends the process at once."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final, TypeVar

Result = TypeVar("Result")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_SHOW_CURSOR: Final = "\x1b[?25h"


def until_done(work: Callable[[threading.Event], Result], asked: Callable[[], None] = lambda: None) -> Result:
    """Run `work(stop)` and return what it returns; the first signal sets `stop` and calls `asked`.

    The work runs in a thread of its own, because Python runs signal handlers in the main thread only, between
    two of its instructions: a main thread inside a driver's blocking call would not hear Ctrl-C.

    The kernel may hand a signal to any thread. One that another thread took does not end a wait of the main
    thread for a lock, so the main thread waits for a byte in a pipe, which Python's own handler writes.

    Dying at the second signal loses nothing: what was not committed in the target is read again.
    """
    stop = threading.Event()
    ended = threading.Event()
    wake_out, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work(stop))
        except BaseException as exc:  # handed to the caller's thread below
            failure.append(exc)
        finally:
            ended.set()
            os.write(wake_in, b"\0")

    def heard(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
            os._exit(128 + number)
        stop.set()
        asked()

    before = {number: signal.signal(number, heard) for number in SIGNALS}
    wakened_before = signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
    try:
        thread = threading.Thread(target=body, name="cdcflow-pipeline", daemon=True)
        thread.start()
        while not ended.is_set():
            select.select([wake_out], [], [])
            os.read(wake_out, 4096)
        thread.join()
    finally:
        signal.set_wakeup_fd(wakened_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(wake_out)
        os.close(wake_in)
    if failure:
        raise failure[0]
    return outcome[0]
