"""What the process asks of the C library's heap."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from typing import Final

# `malloc.h` of glibc: https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html
_ARENA_MAX: Final = -8
_ARENAS: Final = 2


def share_arenas() -> None:
    """Let threads share two heaps, where the C library is glibc. Else it gives each thread one of its own, and what was
    freed in one does not serve another: values of many megabytes go from thread to thread.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library has no such function
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS)
