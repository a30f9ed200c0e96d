"""From a file's path to a checked configuration, or to every problem in it at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cdcflow import registry
from cdcflow import rules as rules_files
from cdcflow.config import url as urls
from cdcflow.config.fill import Surroundings, fill_document
from cdcflow.config.settings import Batch, Http, Settings
from cdcflow.model.context import Context
from cdcflow.registry import Endpoint, Side
from cdcflow.rules import Rules
from cdcflow.rules.document import Document, Place, read
from cdcflow.rules.problem import Problem, refuse, translate


@dataclass(frozen=True, slots=True)
class Config:
    """One pipeline's configuration, checked as far as possible without a server.

    memory is in bytes, `batch.max_delay` in seconds. every_table: no rules were given, which a bus may do without.
    Passwords are in no repr.
    """

    path: Path
    pipeline: str
    source: Endpoint
    target: Endpoint
    rules: Rules
    batch: Batch
    memory: int
    http: Http | None
    state: str = field(default="", repr=False)  # URL
    every_table: bool = False

    @property
    def state_url(self) -> str:
        """Where the state is kept when the target cannot hold it: by default a file beside the configuration."""
        return self.state or f"sqlite:///{(self.path.parent / f'{self.pipeline}.state.db').absolute()}"

    @property
    def context(self) -> Context:
        """What connectors are told of the pipeline."""
        typed = bool(getattr(self.target.connector, "TYPED_DOCUMENTS", False))
        return Context(self.pipeline, self.memory, self.batch.max_rows, self.batch.max_bytes, typed_documents=typed)


def load(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read, fill in and check a configuration and its rules. `environ` stands in for the process's variables.

    Raises:
        ConfigError: what is wrong, where, and the nearest thing that is right; all problems of one file at once.
    """
    surroundings = Surroundings(os.environ if environ is None else environ, path.parent)
    document, problems = fill_document(read(path), surroundings)
    # What could not be filled in is reported once, not again as a value that is not valid.
    unfilled = {problem.place for problem in problems}
    settings, more = _settings(document)
    sides: dict[Side, Endpoint] = {}
    for side in ("source", "target"):
        end, wrong = _endpoint(side, document, unfilled)
        more += wrong
        if end is not None:
            sides[side] = registry.anchored(end, path.parent)
    if settings is not None:
        more += _together(settings, document, sides.get("target"))
    problems += [problem for problem in more if problem.place not in unfilled]
    if problems:
        raise refuse(problems)
    assert settings is not None
    return Config(
        path,
        settings.pipeline,
        sides["source"],
        sides["target"],
        _rules(settings, document, path.parent),
        settings.batch,
        settings.memory,
        settings.http,
        settings.state.url if settings.state is not None else "",
        not settings.model_fields_set & {"rules", "tables"},
    )


def _settings(document: Document) -> tuple[Settings | None, list[Problem]]:
    try:
        return Settings.model_validate(document.value), []
    except ValidationError as error:
        return None, translate(error, document, Settings)


def _endpoint(side: Side, document: Document, unfilled: set[Place]) -> tuple[Endpoint | None, list[Problem]]:
    value: Any = document.value.get(side) if isinstance(document.value, dict) else None
    if not isinstance(value, dict):
        return None, []  # the settings' own check says so
    url = value.get("url")
    if "url" not in value:
        example = "url: postgresql://user@host:5432/database"
        return None, [Problem(document.key_place((side,)), f'"{side}.url" is missing', do=f"add `{example}`")]
    if not isinstance(url, str):
        what = f'"{side}.url" ' + ("has no value" if url is None else "must be text")
        return None, [Problem(document.value_place((side, "url")), what)]
    wrong = None
    if document.value_place((side, "url")) not in unfilled:
        wrong = urls.check(url, registry.schemes(side), document, side)
    scheme = urls.scheme_of(url) or ""
    connector = registry.connector(side, scheme)
    if connector is None:
        return None, [wrong] if wrong else []
    problems = [wrong] if wrong else []
    try:
        options = connector.Config.model_validate(value)
    except ValidationError as error:
        found = translate(error, document, connector.Config, (side,))
        # A URL that is wrong already is not reported twice.
        return None, problems + [p for p in found if wrong is None or p.place != wrong.place]
    return (registry.endpoint(side, scheme, options) if wrong is None else None), problems


def _together(settings: Settings, document: Document, target: Endpoint | None) -> list[Problem]:
    """Check keys against one another."""
    problems = []
    given = settings.model_fields_set
    if "rules" in given and "tables" in given:
        place = document.key_place(("tables",))
        problems.append(Problem(place, '"tables" and "rules" are both there', do="keep one of them"))
    elif "rules" in given and "defaults" in given:
        place = document.key_place(("defaults",))
        problems.append(Problem(place, '"defaults" belongs beside "tables"', do=f"move it into {settings.rules}"))
    elif not given & {"rules", "tables"} and not _to_bus(settings):
        do = "add `rules: rules.yaml`, or the rules themselves under `tables:`"
        problems.append(Problem(document.key_place(()), '"rules" is missing', do=do))
    if settings.state is not None and target is not None and registry.holds_state(target):
        why = "the target keeps it itself, so that rows and position commit together"
        problems.append(
            Problem(document.key_place(("state",)), '"state" has no use with this target', why, "remove it")
        )
    if settings.batch.max_bytes > settings.memory:
        problems.append(
            Problem(
                document.value_place(("batch", "max_bytes")),
                f'"batch.max_bytes" ({settings.batch.max_bytes}) is more than "memory" ({settings.memory})',
                do="make it a quarter of memory, or leave it out",
            )
        )
    return problems


def _to_bus(settings: Settings) -> bool:
    """Return whether the target is one that other pipelines read: what they want of it, their rules say."""
    url = settings.target.get("url")
    return isinstance(url, str) and urls.scheme_of(url) in registry.BUSES


def _rules(settings: Settings, document: Document, folder: Path) -> Rules:
    if "rules" in settings.model_fields_set:
        return rules_files.load(folder / settings.rules)
    inline = {key: document.value[key] for key in ("defaults", "tables") if key in document.value}
    inline.setdefault("tables", [{"match": "*"}])
    return Rules.of(document, inline)
