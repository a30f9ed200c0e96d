"""How a failure is told: the report on stderr, as text or JSON, and the exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import click

from cdcflow.errors import CdcflowError, UsageError


@dataclass(frozen=True, slots=True)
class Style:
    """How a failure is written. `traceback`: also where in the code, for one that nobody foresaw."""

    json: bool = False
    traceback: bool = False


def style_of(words: Sequence[str]) -> Style:
    """Tell from the raw command line how a failure is to be written: an unknown option must be told so too."""
    values = {(word, after) for word, after in pairwise([*words, ""])}
    values |= {(name, value) for name, equals, value in (word.partition("=") for word in words) if equals}
    return Style("--json" in words or ("--log-format", "json") in values, ("--log-level", "debug") in values)


def report(exc: Exception, style: Style) -> int:
    """Write what went wrong to stderr and return the exit code for it."""
    from cdcflow.ops.logs import redact

    error = as_cdcflow_error(exc)
    unforeseen = error is not exc and not isinstance(error, UsageError)
    trace = "".join(traceback.format_exception(exc)) if unforeseen and style.traceback else ""
    if style.json:
        fields = error.fields() | ({"traceback": trace} if trace else {})
        line = {name: redact(text) for name, text in fields.items()}
        whole = {**line, "kind": type(error).__name__, "exit_code": error.exit_code}
        print(json.dumps(whole, ensure_ascii=False), file=sys.stderr)
    else:
        if trace:
            print(redact(trace), file=sys.stderr)
        print(_painted(redact(error.report())), file=sys.stderr)
    return error.exit_code


def as_cdcflow_error(exc: Exception) -> CdcflowError:
    """Return the exception as one of ours."""
    if isinstance(exc, CdcflowError):
        return exc
    if isinstance(exc, click.ClickException):
        return _usage(exc)
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
