"""How a failure is told: the report on stderr, as text or JSON, and the exit code."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Literal

import click

from cdcflow.errors import CdcflowError, UsageError

Style = Literal["text", "json"]

UNEXPECTED = 1


def style_of(words: Sequence[str]) -> Style:
    """Tell from the raw command line how a failure is to be written: an unknown option must be told so too."""
    for index, word in enumerate(words):
        if word in ("--json", "--log-format=json") or (
            word == "--log-format" and words[index + 1 : index + 2] == ["json"]
        ):
            return "json"
    return "text"


def report(exc: Exception, style: Style) -> int:
    """Write what went wrong to stderr and return the exit code for it."""
    error = as_cdcflow_error(exc)
    from cdcflow.ops.logs import redact

    if style == "json":
        fields = {name: redact(text) for name, text in error.fields().items()}
        line = {**fields, "kind": type(error).__name__, "exit_code": error.exit_code}
        print(json.dumps(line, ensure_ascii=False), file=sys.stderr)
    else:
        print(_painted(redact(error.report())), file=sys.stderr)
    return error.exit_code


def as_cdcflow_error(exc: Exception) -> CdcflowError:
    """Return the exception as one of ours; one that nobody foresaw keeps its traceback for the debug log."""
    if isinstance(exc, CdcflowError):
        return exc
    if isinstance(exc, click.ClickException):
        return _usage(exc)
    logging.getLogger("cdcflow").debug("unexpected failure", exc_info=exc)
    said = str(exc).strip().splitlines()
    return CdcflowError(
        f"unexpected {type(exc).__name__}" + (f": {said[0]}" if said else ""),
        why="this is a defect in cdcflow, not in what you did",
        do="re-run with --log-level debug for the traceback",
    )


def _usage(exc: click.ClickException) -> UsageError:
    sentence = exc.format_message().strip().rstrip(".")
    context = getattr(exc, "ctx", None)
    command = context.command_path if isinstance(context, click.Context) else "cdcflow"
    return UsageError(sentence[:1].lower() + sentence[1:], do=f"{command} --help")


def _painted(text: str) -> str:
    """Colour the labels on a terminal."""
    if not sys.stderr.isatty() or not _colours_wanted():
        return text
    first, *rest = text.splitlines()
    lines = [first.replace("error:", "\x1b[1;31merror:\x1b[0m", 1)]
    for line in rest:
        label, text_of_it = line[:8], line[8:]
        if label.strip() == "do:":
            text_of_it = f"\x1b[1m{text_of_it}\x1b[0m"
        lines.append(f"\x1b[36m{label}\x1b[0m{text_of_it}")
    return "\n".join(lines)


def _colours_wanted() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"
