"""Which connector speaks which URL scheme; each is imported when a configuration first names it.

A new source, target or bus is one line here, or an entry point of a package that was installed beside this one, in the
group `cdcflow.sources` or `cdcflow.targets`: its name is the scheme, its value the module. The module has

    Config                      a pydantic model with `url: str` and the connector's options, extra="forbid"
    open(config, context)       -> Source or Target; connects to nothing yet
    open_store(config, context) -> Store; only where a target holds the state in a way of its own
    TYPED_DOCUMENTS             True where a target reads `codecs.mysqldocuments` (see `model.context`)

A bus is a package with two such modules, `source` and `target`. Its source may be a `model.sharing.SharedSource`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, cast
from urllib.parse import urlsplit

from pydantic import BaseModel

from cdcflow.errors import ConfigError
from cdcflow.model.context import Context
from cdcflow.model.ports import Source, Store, Target

Side = Literal["source", "target"]

SOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "postgresql": "cdcflow.sources.postgres",
        "postgres": "cdcflow.sources.postgres",
        "mysql": "cdcflow.sources.mysql",
        "mariadb": "cdcflow.sources.mysql",
    }
)
TARGETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "postgresql": "cdcflow.targets.postgres",
        "postgres": "cdcflow.targets.postgres",
        "mysql": "cdcflow.targets.mysql",
        "mariadb": "cdcflow.targets.mysql",
        "sqlite": "cdcflow.targets.sqlite",
    }
)
# Brokers between pipelines: each package has a module `source` and a module `target`.
BUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "kafka": "cdcflow.bus.kafka",
        "amqp": "cdcflow.bus.rabbitmq",
        "amqps": "cdcflow.bus.rabbitmq",
    }
)
# Where a target's state is kept: a function of the URL. A target's module may have `open_store` instead.
STORES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "postgresql": "cdcflow.state:open_store",
        "postgres": "cdcflow.state:open_store",
        "mysql": "cdcflow.state:open_store",
        "mariadb": "cdcflow.state:open_store",
        "sqlite": "cdcflow.state:open_store",
    }
)

_BUILT_IN: Final[Mapping[Side, Mapping[str, str]]] = {
    "source": {**SOURCES, **{scheme: f"{package}.source" for scheme, package in BUSES.items()}},
    "target": {**TARGETS, **{scheme: f"{package}.target" for scheme, package in BUSES.items()}},
}


class Connector(Protocol):
    """What a connector's module has."""

    @property
    def Config(self) -> type[BaseModel]: ...  # noqa: N802 - a class

    def open(self, config: Any, context: Context) -> Any: ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of a pipeline, checked and ready to be opened.

    `options` is the connector's own `Config`; it holds the password, so it is in no repr. `address` is the URL
    without secrets.
    """

    side: Side
    scheme: str
    address: str
    options: BaseModel = field(repr=False)
    connector: Connector = field(repr=False)


class Opened(Protocol):
    """What opening needs: `cdcflow.config.Config` has it."""

    @property
    def source(self) -> Endpoint: ...

    @property
    def target(self) -> Endpoint: ...

    @property
    def context(self) -> Context: ...

    @property
    def state_url(self) -> str:
        """Where the state is kept when the target cannot hold it."""


def holds_state(target: Endpoint) -> bool:
    """Return whether a target keeps the pipeline's state itself."""
    return target.scheme in STORES or hasattr(target.connector, "open_store")


def built_in(side: Side) -> Mapping[str, str]:
    """Return the module of each URL scheme that needs no other package."""
    return _BUILT_IN[side]


def schemes(side: Side) -> list[str]:
    """Return the URL schemes that this installation supports."""
    return sorted({*_BUILT_IN[side], *_installed(side)})


def connector(side: Side, scheme: str) -> Connector | None:
    """Import and return the connector for a URL scheme; None where there is none.

    Raises:
        ConfigError: it is installed and cannot be imported.
    """
    try:
        if scheme in _BUILT_IN[side]:
            found = import_module(_BUILT_IN[side][scheme])
        elif scheme in _installed(side):
            found = _installed(side)[scheme].load()
        else:
            return None
    except ImportError as error:
        raise ConfigError(
            f"the {side} connector for {scheme}:// cannot be imported", why=str(error), do="install the package again"
        ) from error
    return cast("Connector", found)


def endpoint(side: Side, scheme: str, options: BaseModel) -> Endpoint:
    """Join checked options with the connector that understands them."""
    found = connector(side, scheme)
    assert found is not None
    return Endpoint(side, scheme, safe_url(str(getattr(options, "url", ""))), options, found)


def anchored(end: Endpoint, folder: Path) -> Endpoint:
    """Let a side that is a file start at the configuration's folder: a module may have `anchored(config, folder)`."""
    anchor = getattr(end.connector, "anchored", None)
    if anchor is None:
        return end
    options = anchor(end.options, folder)
    return replace(end, options=options, address=safe_url(options.url))


def open_source(config: Opened) -> Source:
    """Return the pipeline's source. Connects to nothing yet."""
    return cast("Source", config.source.connector.open(config.source.options, config.context))


def open_target(config: Opened) -> Target:
    """Return the pipeline's target. Connects to nothing yet."""
    return cast("Target", config.target.connector.open(config.target.options, config.context))


def open_store(config: Opened) -> Store:
    """Return where the pipeline's state is kept: with the target, else behind `config.state_url`. Connects to nothing
    yet."""
    target = config.target
    own = getattr(target.connector, "open_store", None)
    if own is not None:
        return cast("Store", own(target.options, config.context))
    # A target that cannot hold it has it in a database of its own.
    opener = STORES.get(target.scheme, STORES["sqlite"])
    url = getattr(target.options, "url") if target.scheme in STORES else config.state_url  # noqa: B009 - all have it
    module, _, name = opener.partition(":")
    return cast("Store", getattr(import_module(module), name)(url))


def safe_url(url: str) -> str:
    """Return a URL without what may be secret: only scheme, host, port and path stay."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return re.split("://", url)[0] + "://..."
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _installed(side: Side) -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group=f"cdcflow.{side}s")}
