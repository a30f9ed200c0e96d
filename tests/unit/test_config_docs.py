"""Schemas, templates and the reference page say what the loader does."""

from __future__ import annotations

import json
import re
import stat
from collections import defaultdict
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cdcflow.config import load
from cdcflow.config.init import write_templates
from cdcflow.config.schema import CONFIG_SCHEMA, RULES_SCHEMA, config_schema, rules_schema, shipped, text
from cdcflow.errors import ConfigError
from cdcflow.rules import parse
from cdcflow.rules.document import parse as parse_document

PAGE = Path(__file__).parents[2] / "docs" / "config.md"
EXAMPLES = re.findall(r"```yaml\n# (cdcflow|rules)\.yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
REST = {
    "pipeline": "shop",
    "source": {"url": "postgresql://db/x"},
    "target": {"url": "postgresql://db/y"},
    "tables": [{"match": "*"}],
}


def complaints(schema: dict[str, Any], value: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


def test_shipped_schemas_are_up_to_date():
    expected = {CONFIG_SCHEMA: text(config_schema()), RULES_SCHEMA: text(rules_schema())}
    assert shipped() == expected, "run: python -m cdcflow.config.schema"


@pytest.mark.parametrize("schema", [config_schema(), rules_schema()], ids=["config", "rules"])
def test_schemas_are_valid_and_describe_every_key(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for inner in (schema, *schema["$defs"].values()):
        for name, key in inner.get("properties", {}).items():
            assert "description" in key or "$ref" in key, name


def test_templates_are_valid_as_they_are_written(tmp_path: Path):
    written = write_templates(tmp_path)
    config = load(tmp_path / "cdcflow.yaml", {})
    assert config.pipeline == "main"
    assert config.rules.rules[0].pattern.text == "public.*"
    assert [path.name for path in written] == ["cdcflow.yaml", "rules.yaml", CONFIG_SCHEMA, RULES_SCHEMA]
    for name, schema in (("cdcflow.yaml", config_schema()), ("rules.yaml", rules_schema())):
        assert complaints(schema, yaml.safe_load((tmp_path / name).read_text())) == []


def test_templates_name_the_schemas_that_are_written_beside_them(tmp_path: Path):
    write_templates(tmp_path / "new" / "folder")
    for name in ("cdcflow.yaml", "rules.yaml"):
        path = tmp_path / "new" / "folder" / name
        found = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
        assert found is not None
        assert json.loads((path.parent / found[1]).read_text())["$schema"]


def test_examples_in_the_rules_template_are_valid_when_uncommented(tmp_path: Path):
    write_templates(tmp_path)
    head, _, examples = (tmp_path / "rules.yaml").read_text().partition("take the # away")
    lines = [line[4:] for line in examples.splitlines() if re.match(r"  #  ? ?(-|[a-z]+:| )", line)]
    uncommented = head[: head.rindex("\n")] + "\n" + "\n".join("  " + line for line in lines)
    assert len(parse(uncommented).rules) == 5
    assert complaints(rules_schema(), parse_document(uncommented, "x").value) == []


def test_configuration_is_readable_by_its_owner_only(tmp_path: Path):
    write_templates(tmp_path)
    assert stat.S_IMODE((tmp_path / "cdcflow.yaml").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["cdcflow.yaml", "rules.yaml"])
def test_files_that_are_there_are_not_overwritten(tmp_path: Path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError) as caught:
        write_templates(tmp_path)
    assert caught.value.what == f"{tmp_path / name} is there already"
    assert caught.value.why == "nothing was written"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_folder_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write to"):
        write_templates(tmp_path / "file" / "x")


def test_page_has_examples():
    assert len(EXAMPLES) >= 5
    assert len(EXAMPLES) == PAGE.read_text("utf-8").count("```yaml")


@pytest.mark.parametrize("example", [body for kind, body in EXAMPLES if kind == "rules"])
def test_rules_on_the_page_are_valid(example):
    assert parse(example).rules
    assert complaints(rules_schema(), parse_document(example, "x").value) == []


@pytest.mark.parametrize("example", [body for kind, body in EXAMPLES if kind == "cdcflow"])
def test_configurations_on_the_page_are_valid(example, tmp_path: Path):
    (tmp_path / "target").write_text("p@ss")
    (tmp_path / "rules.yaml").write_text("tables: [{match: '*'}]")
    value = parse_document(example.replace("/run/secrets/source", str(tmp_path / "target")), "x").value
    rest = {key: inner for key, inner in REST.items() if key != "tables" or "rules" not in value}
    (tmp_path / "cdcflow.yaml").write_text(json.dumps(rest | value))
    environ = defaultdict(str, SOURCE_PASSWORD="a", TARGET_PASSWORD="b", CREDENTIALS_DIRECTORY=str(tmp_path))
    assert load(tmp_path / "cdcflow.yaml", environ).rules.rules
    assert complaints(config_schema(), rest | value) == []


@pytest.mark.parametrize("schema", [config_schema(), rules_schema()], ids=["config", "rules"])
def test_every_key_of_the_schemas_is_on_the_page(schema):
    page = PAGE.read_text("utf-8")
    sides = [schema["properties"][side] for side in ("source", "target") if side in schema["properties"]]
    for inner in (schema, *sides, *schema["$defs"].values()):
        for name in inner.get("properties", {}):
            assert re.search(rf"`([a-z]+\.)?{name}(\.[a-z_*]+)?`", page), name


@pytest.mark.parametrize(
    "wrong",
    [
        {"tables": [{"match": "a.b", "on_delet": "soft"}]},
        {"tables": [{"match": "a.b", "on_delete": "sof"}]},
        {"tables": [{"match": "a.b", "mode": "history"}]},
        {"tables": [{"match": "a.b", "where": "x"}]},
        {"tables": [{"to": "a.b"}]},
        {"tables": []},
        {"version": 2, "tables": [{"match": "a.b"}]},
    ],
)
def test_schema_of_the_rules_refuses_what_the_loader_refuses(wrong):
    assert complaints(rules_schema(), wrong)
    with pytest.raises(ConfigError):
        parse(json.dumps(wrong))


def test_schema_of_the_configuration_lets_a_bus_have_no_rules():
    bare = {key: value for key, value in REST.items() if key != "tables"}
    assert complaints(config_schema(), bare)
    assert complaints(config_schema(), bare | {"target": {"url": "kafka://broker"}}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"pipeline": "My Shop"},
        {"memory": "lots"},
        {"batch": {"max_row": 1}},
        {"batch": {"max_delay": 5}},
        {"source": {"url": "oracle://x/y"}},
        {"source": {"url": "postgresql://x/y", "slott": "z"}},
        {"target": {}},
        {"rules": "rules.yaml"},
    ],
)
def test_schema_of_the_configuration_refuses_what_the_loader_refuses(wrong, tmp_path: Path):
    assert complaints(config_schema(), REST) == []
    assert complaints(config_schema(), REST | wrong)
    (tmp_path / "cdcflow.yaml").write_text(json.dumps(REST | wrong))
    with pytest.raises(ConfigError):
        load(tmp_path / "cdcflow.yaml", {})
