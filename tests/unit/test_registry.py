"""Which connector speaks which URL scheme."""

from __future__ import annotations

import sys
from contextlib import closing
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from cdcflow import registry
from cdcflow.config import load
from cdcflow.errors import ConfigError
from cdcflow.model.context import Context


class Config(BaseModel, extra="forbid"):
    url: str
    topic: str = "changes"


@pytest.fixture
def plugin(monkeypatch):
    """A connector of another package, for `loop://` on both sides."""
    module = SimpleNamespace(
        Config=Config,
        open=lambda config, context: ("opened", config, context),
        open_store=lambda config, context: ("store", config, context),
    )
    monkeypatch.setitem(sys.modules, "loop_connector", module)
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("loop", "loop_connector", group)])
    return module


def test_postgresql_is_spoken_on_both_sides():
    for side in ("source", "target"):
        assert {"postgres", "postgresql"} <= set(registry.schemes(side))
        connector = registry.connector(side, "postgresql")
        assert connector is not None
        assert connector is registry.connector(side, "postgres")
        assert "url" in connector.Config.model_fields
        assert callable(connector.open)


def test_mysql_and_mariadb_are_spoken_by_one_connector_on_both_sides_and_sqlite_is_written_to():
    for side in ("source", "target"):
        connector = registry.connector(side, "mysql")
        assert connector is not None
        assert connector is registry.connector(side, "mariadb")
        assert "url" in connector.Config.model_fields
    assert registry.connector("target", "sqlite") is not None
    assert registry.connector("source", "sqlite") is None


def test_scheme_that_nobody_speaks_has_no_connector():
    assert registry.connector("source", "gopher") is None


def test_installed_package_adds_a_scheme(plugin, tmp_path):
    known = ["amqp", "amqps", "kafka", "loop", "mariadb", "mysql", "postgres", "postgresql", "sqlite"]
    assert registry.schemes("target") == known
    path = tmp_path / "cdcflow.yaml"
    path.write_text(
        "pipeline: p\nsource: {url: 'loop://a'}\ntarget: {url: 'loop://u:secret@b/c?d=e', topic: t}\n"
        "tables: [{match: '*'}]\nmemory: 100MB\n"
    )
    config = load(path, {})
    context = Context("p", 100_000_000, 50_000, 64_000_000)
    assert registry.open_source(config) == ("opened", Config(url="loop://a"), context)
    assert registry.open_target(config) == ("opened", Config(url="loop://u:secret@b/c?d=e", topic="t"), context)
    assert registry.open_store(config)[0] == "store"
    assert config.target.address == "loop://b/c"
    assert "secret" not in repr(config)


def test_target_that_cannot_hold_state_has_it_in_a_file_beside_the_configuration(plugin, tmp_path):
    del plugin.open_store
    path = tmp_path / "cdcflow.yaml"
    path.write_text("pipeline: p\nsource: {url: 'loop://a'}\ntarget: {url: 'loop://b'}\ntables: [{match: '*'}]")
    with closing(registry.open_store(load(path, {}))) as store:
        store.migrate()
        assert store.acquire("p", {"host": "here"}) == 1
    assert (tmp_path / "p.state.db").exists()


def test_target_that_cannot_hold_state_has_it_where_the_configuration_says(plugin, tmp_path):
    del plugin.open_store
    path = tmp_path / "cdcflow.yaml"
    path.write_text(
        "pipeline: p\nsource: {url: 'loop://a'}\ntarget: {url: 'loop://b'}\ntables: [{match: '*'}]\n"
        f"state: {{url: 'sqlite:///{tmp_path}/elsewhere.db'}}"
    )
    with closing(registry.open_store(load(path, {}))) as store:
        store.migrate()
    assert (tmp_path / "elsewhere.db").exists()


def test_connector_that_cannot_be_imported_says_so(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("loop", "no_such_module_here", group)])
    with pytest.raises(ConfigError) as caught:
        registry.connector("source", "loop")
    assert caught.value.what == "the source connector for loop:// cannot be imported"
    assert "no_such_module_here" in caught.value.why


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:5432/d?password=p", "postgresql://h:5432/d"),
        ("postgresql://u:p@h1:1,h2:2/d", "postgresql://h1:1,h2:2/d"),
        ("postgresql:///d", "postgresql:///d"),
        ("postgresql://u:p@[::1/d", "postgresql://..."),
    ],
)
def test_address_is_the_url_without_secrets(url, shown):
    assert registry.safe_url(url) == shown
