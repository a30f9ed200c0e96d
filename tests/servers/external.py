"""A server that somebody else runs, named by a URL in the environment."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.servers.cluster import StopMode


class External:
    """Used, never stopped: a test that has to stop its server is left out, because the person named this one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.port = urlsplit(url).port or 5432
        with psycopg.connect(url) as connection:
            self.version = connection.info.server_version // 10_000

    def __repr__(self) -> str:
        return f"<PostgreSQL {self.version} of the environment, port {self.port}>"

    def url(self, database: str = "postgres", *, user: str = "", password: str = "") -> str:
        """Return the URL with another database, and with another login when one is named."""
        parts = urlsplit(self._url)
        netloc = parts.netloc
        if user and user != "postgres":
            netloc = f"{user}{':' + password if password else ''}@{netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=netloc, path=f"/{database}"))

    @property
    def running(self) -> bool:
        """It is not ours to ask."""
        return True

    def log(self) -> str:
        """Not ours to read."""
        return ""

    def start(self) -> External:
        """Nothing to do."""
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """Leave the test out."""
        pytest.skip(f"{self} is not ours to stop")

    def restart(self, mode: StopMode = "fast") -> None:
        """Leave the test out."""
        self.stop(mode)

    def configure(self, **settings: str) -> None:
        """Leave the test out."""
        pytest.skip(f"{self} is not ours to configure")

    def remove(self) -> None:
        """Leave it as it is."""
