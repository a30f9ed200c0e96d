"""A PostgreSQL source over a test's database, and what it makes there."""

from __future__ import annotations

from dataclasses import replace

from cdcflow.model.context import Context
from cdcflow.model.position import Checkpoint
from cdcflow.model.route import Route
from cdcflow.sources.postgres import Config, PostgresSource
from tests.servers.database import Database


def open_source(database: Database, **options: object) -> PostgresSource:
    """Return a source over a database; options as of its configuration."""
    url = str(options.pop("url", database.url))
    return PostgresSource(Config(url=url, **options), Context(database.name[-30:], 256_000_000, 100_000, 64_000_000))


def routes(source: PostgresSource, **changes: object) -> list[Route]:
    """Return routes of all tables as they are, but for what is named."""
    return [
        replace(Route(t, t.name, tuple((c, c.name) for c in t.columns if not c.generated), t.key), **changes)  # type: ignore[arg-type]
        for t in source.tables()
    ]


def begun(source: PostgresSource) -> Checkpoint:
    """Make the durable part and return the checkpoint at its beginning."""
    snapshot = source.prepare(routes(source))
    snapshot.close()
    return Checkpoint("p", str(snapshot.position), source.identity(), 1)


def slot_name(database: Database) -> str:
    """Return the name of the slot that is made."""
    return f"cdcflow_{database.name[-30:]}"


def members(database: Database, suffix: str = "") -> set[str]:
    """Return the tables of a publication of ours."""
    name = slot_name(database) + suffix
    return {t for (t,) in database.query("SELECT tablename FROM pg_publication_tables WHERE pubname = %s", [name])}
