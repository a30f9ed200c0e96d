"""Logs: fixed lower-case messages with their data in fields, as text for people or JSON lines for machines.

Everything goes to stderr through the standard library's logging, so that a library's own records come out in
the same shape. No cell value is ever logged; passwords are masked here as the last line of defence.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO, TypeGuard

import structlog

Format = Literal["text", "json"]

FORMATS: Final = ("text", "json")
LEVELS: Final = ("debug", "info", "warning", "error")

MASK: Final = "***"

# A URL's user and everything behind its colon. Passwords come with `@`, `/` and spaces in them where nobody
# escaped them, so the password ends at the last `@` before the next URL rather than at the first.
_URL: Final = re.compile(
    r"(?P<head>\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*):(?P<rest>.*?)(?=\b[a-zA-Z][a-zA-Z0-9+.-]*://|\Z)", re.S
)
_PORT: Final = re.compile(r"\d{1,5}(?![^\s/?,;:)\]\"'])")
_PAIR: Final = re.compile(
    r"(?P<name>\b(?:[a-z]*password|passwd|passphrase|secret)\b[\"']?\s*[=:]\s*)"
    r"(?P<value>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s&,;)}]+)",
    re.I,
)
_SECRET_FIELD: Final = re.compile(r"(password|passwd|passphrase|secret|credential)", re.I)


def redact(text: str) -> str:
    """Return the text with passwords in URLs and `password=...` pairs masked."""
    if "://" in text:
        text = _URL.sub(_mask_url, text)
    return _PAIR.sub(rf"\g<name>{MASK}", text)


def _mask_url(found: re.Match[str]) -> str:
    head, rest = found["head"], found["rest"]
    word = re.match(r"\S*", rest)
    assert word is not None
    end = word.group().rfind("@")
    if end < 0:
        if _PORT.match(rest):  # host:port, there is no password in it
            return found.group()
        end = rest.rfind("@")
    return found.group() if end < 0 else f"{head}:{MASK}{rest[end:]}"


def _masked(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: MASK if _is_secret(key) else _masked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item) for item in value]
    if isinstance(value, BaseException):
        return redact(str(value))
    return value


def _is_secret(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and _SECRET_FIELD.search(name) is not None


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that masks what looks like a secret in any field."""
    for name, value in event.items():
        # structlog's own entries (`_record`, `_from_structlog`) are objects that the formatter needs as they are
        if not name.startswith("_"):
            event[name] = MASK if _is_secret(name) else _masked(value)
    return event


def _text(value: object) -> str:
    text = str(value)
    return repr(text) if not text or re.search(r"[\s\"'=]", text) else text


def _plain(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """Render `12:30:01 info    copied table  rows=100 table=public.orders`."""
    time = str(event.pop("time", ""))
    level = str(event.pop("level", "info"))
    message = str(event.pop("event", ""))
    trace = event.pop("exception", "")
    event.pop("logger", None)
    fields = " ".join(f"{name}={_text(value)}" for name, value in event.items())
    line = f"{time} {level:<7} {message}"
    if fields:
        line += f"  {fields}"
    return f"{line}\n{trace}" if trace else line


def _coloured(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    level = str(event.get("level", "info"))
    colour = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m", "debug": "\x1b[2m"}.get(level, "")
    line = _plain(_logger, _method, event)
    return f"{colour}{line}\x1b[0m" if colour else line


def configure(
    style: Format = "text",
    level: str = "info",
    *,
    stream: TextIO | None = None,
    write: Callable[[str], None] | None = None,
) -> None:
    """Set up logging for the process; called again, it replaces what was there.

    Args:
        style: `text`, or `json` for one object a line with `time` (UTC, ISO 8601), `level`, `event` and fields.
        level: the lowest level that is written: `debug`, `info`, `warning` or `error`.
        stream: where to; stderr when not given.
        write: takes each finished line instead of a stream (a terminal display that draws lines above its bars).
    """
    out = stream if stream is not None else sys.stderr
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    renderers: list[Any]
    if style == "json":
        shared.insert(0, structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"))
        shared.insert(1, structlog.stdlib.add_logger_name)
        renderers = [structlog.processors.JSONRenderer(default=str, ensure_ascii=False)]
    else:
        shared.insert(0, structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="time"))
        renderers = [_coloured if write is None and out.isatty() else _plain]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[*shared, structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )
    handler: logging.Handler = logging.StreamHandler(out) if write is None else _Lines(write)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # libraries only speak when something is wrong
    logging.getLogger("cdcflow").setLevel(level.upper())


class _Lines(logging.Handler):
    """Hands finished lines to a function."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except Exception:
            self.handleError(record)


class _Event(dict[str, Any]):
    """A message with its fields, readable also where somebody else's formatter writes it."""

    def __str__(self) -> str:
        fields = (f"{name}={_text(value)}" for name, value in self.items() if name not in ("event", "exc_info"))
        return " ".join([str(self.get("event", "")), *fields])


def _handed_over(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[_Event], dict[str, dict[str, Any]]]:
    return (_Event(mask_secrets(logger, method, event)),), {"extra": {"_logger": logger, "_name": method}}


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger for a module: `log = get_logger(__name__)`, `log.info("copied table", table=name)`.

    It writes through the standard library's logger of that name. Neither this nor `configure` touches
    structlog's own global settings: cdcflow may be a guest in a process that has its own.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _handed_over,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger
