"""Ctrl-C and SIGTERM: the first asks the pipeline to drain and end, the second ends the process at once."""

from __future__ import annotations

import os
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

    Dying at the second signal loses nothing: what was not committed in the target is read again.
    """
    stop = threading.Event()
    ended = threading.Event()
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work(stop))
        except BaseException as exc:  # handed to the caller's thread below
            failure.append(exc)
        finally:
            ended.set()

    def heard(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
            os._exit(128 + number)
        stop.set()
        asked()

    before = {number: signal.signal(number, heard) for number in SIGNALS}
    try:
        thread = threading.Thread(target=body, name="cdcflow-pipeline", daemon=True)
        thread.start()
        ended.wait()
        thread.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failure:
        raise failure[0]
    return outcome[0]
