"""What `cdcflow check` asks the schema registry: whether it answers, and would take the tables' schemas."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

from cdcflow.bus.config import Decoding, Encoding
from cdcflow.bus.formats.opening import decoding, open_format
from cdcflow.bus.registry import Definition, Kind, Part, Registered, SchemaRegistry, opened
from cdcflow.errors import CdcflowError, TargetUnavailable
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Route

_NAME = "target.registry"
_SOURCE = "source.registry"
_T = TypeVar("_T")
_EXAMPLE = "registry: {url: http://registry:8081}"


class Trial:
    """Stands in for a registry when writers are made: asks about schemas, and registers none."""

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry
        self.refused: dict[str, str] = {}  # subject -> in which words

    def subject(self, topic: str, part: Part, record: str) -> str:
        return self._registry.subject(topic, part, record)

    def once(self, key: Hashable, ask: Callable[[], _T]) -> _T:
        return ask()

    def latest(self, subject: str) -> Definition | None:
        return self._registry.latest(subject)

    def register(self, subject: str, kind: Kind, text: str) -> Registered:
        refusal = self._registry.refusal(subject, kind, text)
        if refusal is not None:
            self.refused[subject] = refusal
        return Registered(0, subject)


def findings(config: Encoding, routes: Iterable[tuple[str, Route]], pipeline: str) -> Iterator[Finding]:
    """Ask the registry about the schemas of tables under their topics' names. Changes nothing.

    Args:
        routes: (topic, route) of each table.
    """
    if config.format == "json" and config.registry is None:
        return
    if config.registry is None:
        words = f"{config.format} needs a schema registry"
        yield Finding(Level.BLOCKER, _NAME, "registry", words, _EXAMPLE)
        return
    try:
        registry = opened(config)
    except CdcflowError as error:
        yield _failed("registry", error)
        return
    try:
        known = registry.subjects()
        yield Finding(Level.OK, _NAME, registry.url, f"answers, and knows {known} subjects")
        trial = Trial(registry)
        written = open_format(config, pipeline, trial)
        for topic, route in routes:
            trial.refused.clear()
            try:
                written.writer(topic, route, tuple(column.name for column, _ in route.columns))
            except TargetUnavailable:
                raise
            except CdcflowError as error:
                yield _failed(topic, error)
                continue
            yield from _judged(config.registry.incompatible == "new_subject", registry.url, topic, trial.refused)
    except CdcflowError as error:
        yield _failed(registry.url, error)
    finally:
        registry.close()


def reading(config: Decoding) -> list[Finding]:
    """Ask whether the registry that messages are read with answers."""
    if config.format == "json" and config.registry is None:
        return []
    if config.registry is None:
        words = f"{config.format} needs a schema registry"
        return [Finding(Level.BLOCKER, _SOURCE, "registry", words, _EXAMPLE)]
    try:
        decoding(config).ready()
    except CdcflowError as error:
        return [_failed("registry", error, _SOURCE)]
    return [Finding(Level.OK, _SOURCE, "registry", "answers")]


def _judged(goes_on: bool, url: str, topic: str, refused: dict[str, str]) -> Iterator[Finding]:
    if not refused:
        yield Finding(Level.OK, "target.schema", topic, "the registry takes its schemas")
    for subject, why in refused.items():
        if goes_on:
            words = f"its schema is not compatible with subject {subject}: a new subject is used ({why})"
            yield Finding(Level.NOTE, "target.schema", topic, words)
        else:
            words = f"its schema is not compatible with subject {subject}: {why}"
            do = "set `registry.incompatible: new_subject` to go on under a new subject, or lower the subject's"
            yield Finding(
                Level.BLOCKER, "target.schema", topic, words, f"{do} compatibility: PUT {url}/config/{subject}"
            )


def _failed(subject: str, error: CdcflowError, name: str = _NAME) -> Finding:
    words = f"{error.what}: {error.why}" if error.why else error.what
    return Finding(Level.BLOCKER, name, subject, words, error.do or "start the registry, or correct `registry.url`")
