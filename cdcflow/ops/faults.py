"""Moments at which a test may have this process killed: named, so that each can be met on purpose.

`CDCFLOW_KILL_AT=batch committed:3` ends the process by SIGKILL when it reaches that moment for the third time.
Without the variable a moment costs one comparison.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

VARIABLE: Final = "CDCFLOW_KILL_AT"

# Every moment that `moment` is called with, in the order of a pipeline's life.
MOMENTS: Final = (
    "slot made",
    "position saved",
    "chunk sent",
    "chunk committed",
    "piece written",
    "batch sent",
    "batch committed",
)

_wanted, _left = "", 1
_lock = threading.Lock()


def arm() -> None:
    """Read from the environment which moment is meant; done once when this is imported."""
    global _wanted, _left
    _wanted, _, count = os.environ.get(VARIABLE, "").partition(":")
    _left = int(count or 1)


def moment(name: str) -> None:
    """Die here, if this is the moment that was asked for."""
    if not _wanted or name != _wanted:
        return
    global _left
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()  # the signal is on its way: nothing more is done


arm()
