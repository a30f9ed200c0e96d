"""Everybody who watches a pipeline that runs as a service, for as long as it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cdcflow.ops.health import Health
from cdcflow.ops.http import Endpoint, pages
from cdcflow.ops.logs import get_logger
from cdcflow.ops.metrics import Metrics
from cdcflow.ops.notify import Notifier


@contextmanager
def watching(
    pipeline: str, listen: str | None, *, version: str = ""
) -> Iterator[tuple[Metrics, Health, Notifier] | tuple[Notifier]]:
    """Serve metrics and health at `listen` (nowhere when None) and talk to the service manager.

    Yields the observers that the pipeline has to be given.

    Raises:
        ConfigError: the address cannot be bound.
    """
    notifier = Notifier()
    endpoint = None
    try:
        if listen is None:
            yield (notifier,)
            return
        metrics, health = Metrics(pipeline, version=version), Health()
        endpoint = Endpoint(listen, pages(metrics, health))
        get_logger(__name__).info("serving metrics and health", address=endpoint.address)
        yield metrics, health, notifier
    except Exception as exc:
        notifier.failed(getattr(exc, "what", type(exc).__name__))
        raise
    finally:
        if endpoint is not None:
            endpoint.close()
        notifier.close()
