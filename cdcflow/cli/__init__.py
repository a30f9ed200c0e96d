"""The command `cdcflow`: its entry point, and the one place where an error becomes a report and an exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Final

# Messages of a broker are objects by the ten thousand, none of them in a cycle: looking for cycles each time that 700
# more are alive, as Python does unless told, took a quarter of an applier's time.
_OBJECTS_BETWEEN_COLLECTIONS: Final = 10_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done; 1 unexpected; 2 usage or configuration; 3 `check` found a blocker; 4 `verify` found differences;
    5 a person must act; 75 a temporary failure outlived its retries; 130 and 143 stopped at once by a signal.
    """
    import click

    from cdcflow.cli import failure
    from cdcflow.cli.group import cdcflow
    from cdcflow.ops.heap import share_arenas

    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)
    share_arenas()
    words = list(sys.argv[1:] if argv is None else argv)
    style = failure.style_of(words)
    try:
        code = cdcflow.main(args=words, prog_name="cdcflow", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough (`cdcflow read | head`). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as exc:
        return failure.report(exc, style)
    return code if isinstance(code, int) else 0


__all__ = ["main"]
