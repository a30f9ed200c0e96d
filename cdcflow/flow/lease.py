"""Whether this instance may still write."""

from __future__ import annotations

from cdcflow.errors import Fenced
from cdcflow.flow.parts import Parts

# How often the lease is looked at while nothing else would notice its loss.
LEASE_EVERY_SECONDS = 5.0


def check(parts: Parts) -> None:
    """Raise Fenced when the lease is no longer ours. Called by one thread only."""
    if not parts.store.held():
        raise Fenced(
            f'another instance took pipeline "{parts.settings.pipeline}" over',
            at=f"target {parts.target.address}",
            why="our lease is gone, and only one instance may write",
            do="run one instance only",
        )
