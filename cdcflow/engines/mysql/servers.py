"""Which server it is, in words that stay the same over restarts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from cdcflow.engines.mysql.connect import Flavour

Query = Callable[[str], Sequence[tuple[Any, ...]]]


def name(query: Query, flavour: Flavour) -> str:
    """Return MySQL's server_uuid; of MariaDB the server id, which most servers leave at 1, with a digest of where its
    data lie."""
    if flavour.engine == "mysql":
        ((uuid,),) = query("SELECT @@server_uuid")
        return _text(uuid)
    ((server, *place),) = query("SELECT @@server_id, @@hostname, @@port, @@datadir")
    told = [_text(part) for part in place]
    return f"{_text(server)}-{blake2b(repr(told).encode(), digest_size=4).hexdigest()}"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
