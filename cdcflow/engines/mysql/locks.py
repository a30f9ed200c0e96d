"""Names of the locks (GET_LOCK) by which the sessions of one pipeline know one another in a MySQL or MariaDB server.

The names are the server's, not a database's, and have 64 characters at most:
https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html
"""

from __future__ import annotations

from hashlib import blake2b


def lease_name(pipeline: str) -> str:
    """Return the lock that the running instance's lease is."""
    return f"cdcflow.lease.{_digest(pipeline)}"


def writer_name(pipeline: str) -> str:
    """Return the lock that the session which applies changes holds, so that the next instance can find and end it
    where the server has not noticed that its client is gone."""
    return f"cdcflow.writer.{_digest(pipeline)}"


def _digest(pipeline: str) -> str:
    return blake2b(pipeline.encode(), digest_size=16).hexdigest()
