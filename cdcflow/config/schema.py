"""The JSON Schemas of both files, for editors: `python -m cdcflow.config.schema` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from cdcflow import registry
from cdcflow.config.settings import Settings
from cdcflow.registry import Side
from cdcflow.rules.file import RulesFile

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
CONFIG_SCHEMA: Final = "cdcflow.schema.json"
RULES_SCHEMA: Final = "rules.schema.json"


def config_schema() -> dict[str, Any]:
    """Return the schema of cdcflow.yaml, with the options of every connector that is built in."""
    schema = _of(Settings, "")
    schema["properties"]["source"] = _side("source", registry.built_in("source"), schema)
    schema["properties"]["target"] = _side("target", registry.built_in("target"), schema)
    ruled = [{"required": ["rules"]}, {"required": ["tables"]}]
    to_bus = {"url": {"pattern": rf"^({'|'.join(registry.BUSES)})://|\$\{{"}}
    schema["oneOf"] = [*ruled, {"not": {"anyOf": ruled}, "properties": {"target": {"properties": to_bus}}}]
    _accept_placeholders(schema)
    return {"$schema": DIALECT, **schema}


def rules_schema() -> dict[str, Any]:
    """Return the schema of rules.yaml."""
    return {"$schema": DIALECT, **_of(RulesFile, "")}


def shipped() -> dict[str, str]:
    """Return both schemas as text from the installed package, by file name."""
    return {
        CONFIG_SCHEMA: (files("cdcflow.config") / CONFIG_SCHEMA).read_text("utf-8"),
        RULES_SCHEMA: (files("cdcflow.rules") / RULES_SCHEMA).read_text("utf-8"),
    }


def text(schema: dict[str, Any]) -> str:
    """Write a schema as it is shipped."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _side(side: Side, modules: Mapping[str, str], schema: dict[str, Any]) -> dict[str, Any]:
    """Describe `source` or `target`: one connector's options or another's, told apart by the URL's scheme."""
    arms = []
    for module in dict.fromkeys(modules.values()):
        names = [scheme for scheme, found in modules.items() if found == module]
        connector = registry.connector(side, names[0])
        assert connector is not None
        arm = _of(connector.Config, f"{side}_{names[0]}_")
        schema["$defs"].update(arm.pop("$defs", {}))
        # A URL that is filled in whole begins with its placeholder.
        arm["properties"]["url"]["pattern"] = rf"^(({'|'.join(names)})://|.*\$\{{)"
        arms.append(arm)
    described = {"description": schema["properties"][side]["description"]}
    return described | (arms[0] if len(arms) == 1 else {"anyOf": arms})


def _of(model: type[BaseModel], prefix: str) -> dict[str, Any]:
    """Return a model's schema, its definitions' names prefixed."""
    found = model.model_json_schema(ref_template="#/$defs/" + prefix + "{model}")
    if "$defs" in found:
        found["$defs"] = {prefix + name: inner for name, inner in found["$defs"].items()}
    _tidy(found)
    return found


def _tidy(node: Any) -> None:
    """Drop the titles that pydantic makes of field names, null where a key left out is meant, empty defaults."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    if not isinstance(node, dict):
        return
    # A connector may have a key that is called `properties`: its description is a schema, not a table of them.
    if isinstance(node.get("properties"), dict) and not isinstance(node["properties"].get("type"), str):
        for inner in node["properties"].values():
            inner.pop("title", None)
            # Optional in Python is a key that may be left out, not one that may be null.
            arms = [arm for arm in inner.get("anyOf", []) if arm != {"type": "null"}]
            if len(arms) < len(inner.get("anyOf", [])):
                del inner["anyOf"]
                inner.update(arms[0] if len(arms) == 1 else {"anyOf": arms})
            if inner.get("default") in (None, "", [], {}) or isinstance(inner["default"], dict):
                inner.pop("default", None)
    for inner in node.values():
        _tidy(inner)


def _accept_placeholders(node: Any) -> None:
    """Let `${VARIABLE}` stand where a number or boolean is wanted: it is checked when the file is loaded."""
    if isinstance(node, list):
        for item in node:
            _accept_placeholders(item)
    elif isinstance(node, dict):
        if node.get("type") in ("integer", "number", "boolean"):
            node["type"] = [node["type"], "string"]
            node["pattern"] = r"\$\{"
        for inner in node.values():
            _accept_placeholders(inner)


def main() -> None:
    """Write both files into the source tree."""
    package = Path(__file__).parent.parent
    (package / "config" / CONFIG_SCHEMA).write_text(text(config_schema()), "utf-8")
    (package / "rules" / RULES_SCHEMA).write_text(text(rules_schema()), "utf-8")


if __name__ == "__main__":
    main()
