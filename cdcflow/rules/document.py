"""YAML as plain values, with the line and column of every key and value.

Scalars follow the YAML 1.2 core schema, not 1.1: `no`, `on`, `12:30` and `2024-01-01` are text, so columns and
tables may be called that.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from cdcflow.errors import ConfigError

Steps = tuple[str | int, ...]
"""The way from the top of a file to a value: keys and list indexes."""

# A file of rules for 10,000 tables has about 100,000 nodes. More than this comes from aliases that multiply.
NODES_LIMIT: Final = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line and column, both counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content.

    value: dicts, lists, text, numbers, booleans and None.
    keys, values: where each key and each value stands.
    filled: values that were filled in from outside (variables, secret files) and so are never printed.
    """

    file: str
    value: Any
    keys: Mapping[Steps, Place]
    values: Mapping[Steps, Place]
    filled: frozenset[Steps] = frozenset()

    def nearest(self, steps: Steps) -> Steps:
        """Return the longest beginning of `steps` that the file has."""
        while steps and steps not in self.values:
            steps = steps[:-1]
        return steps

    def key_place(self, steps: Steps) -> Place:
        """Return where the key stands, or the list item, or what is nearest above it."""
        steps = self.nearest(steps)
        return self.keys.get(steps) or self.value_place(steps)

    def value_place(self, steps: Steps) -> Place:
        """Return where the value stands, or what is nearest above it."""
        return self.values.get(self.nearest(steps)) or Place(self.file, 1, 1)


def read(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        ConfigError: it cannot be read, or is not YAML.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"file not found: {path}", do="cdcflow init writes a commented one") from None
    except OSError as error:
        raise ConfigError(f"file cannot be read: {path}", why=error.strerror or "") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError("file is not UTF-8 text", at=f"{path}:{line}") from None
    return parse(text, str(path))


def parse(text: str, file: str) -> Document:
    """Parse YAML text; `file` is the name in messages.

    Raises:
        ConfigError: not YAML, a key twice in one mapping, several documents, a tag.
    """
    try:
        node = _Loader(text).get_single_node()
        if node is None:
            raise ConfigError("file is empty", at=f"{file}:1:1", do="cdcflow init writes a commented one")
        builder = _Builder(file)
        value = builder.build(node, (), ())
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError("invalid YAML: a control character", at=f"{file}:{line}") from None
    except RecursionError:
        raise ConfigError("invalid YAML: nested too deeply", at=file) from None
    return Document(file, value, builder.keys, builder.values)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


_NULL, _BOOL, _INT, _FLOAT, _STR = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))

for _tag, _pattern, _first in (
    (_NULL, r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    (_BOOL, r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    (_INT, r"^[-+]?[0-9]+$", list("-+0123456789")),
    (_FLOAT, r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


class _Builder:
    """Turns a tree of YAML nodes into values, and notes where each stood."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.keys: dict[Steps, Place] = {}
        self.values: dict[Steps, Place] = {}

    def build(self, node: yaml.Node, steps: Steps, above: tuple[int, ...]) -> Any:
        place = self._place(node)
        self.values[steps] = place
        if len(self.values) > NODES_LIMIT or id(node) in above:
            raise ConfigError("invalid YAML: aliases that multiply or hold themselves", at=str(place))
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, steps, above)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*steps, index), above) for index, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, steps: Steps, above: tuple[int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = self._place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError("invalid YAML: a key must be text", at=str(place))
            key: str = key_node.value
            if key in found:
                first = self.keys[(*steps, key)]
                raise ConfigError(
                    f'key "{key}" is there twice', at=str(place), why=f"the first one is at {first}", do="remove one"
                )
            self.keys[(*steps, key)] = place
            found[key] = self.build(value_node, (*steps, key), above)
        return found

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        text: str = node.value
        tag: Hashable = node.tag
        try:
            if tag == _STR:
                return text
            if tag == _NULL:
                return None
            if tag == _BOOL:
                return {"true": True, "false": False}[text.lower()]
            if tag == _INT:
                return int(text)
            if tag == _FLOAT:
                return float(text)
        except (ValueError, KeyError):
            raise ConfigError("a number or boolean cannot be read", at=str(place)) from None
        raise ConfigError(
            "YAML tags are not used here", at=str(place), do="put quotes around a value that begins with !"
        )

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1, node.start_mark.column + 1)


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> ConfigError:
    """Translate; PyYAML's snippet of the file is left out because the line may hold a password."""
    mark = error.problem_mark or error.context_mark
    at, line = file, ""
    if mark is not None:
        at = f"{file}:{mark.line + 1}:{mark.column + 1}"
        lines = text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
    problem = error.problem or "cannot be parsed"
    # These name the alias, anchor or tag, which may be the beginning of an unquoted password.
    for word, first in (("alias", "*"), ("anchor", "&"), ("tag", "!")):
        if word in problem or word in (error.context or ""):
            problem = f"an {word}" if word != "tag" else "a tag"
            problem += f" that is not known, or a value that begins with {first} without quotes"
            break
    do = "check brackets, quotes and indentation from here upwards"
    if "\\t" in problem:
        do = "indent with spaces, not tabs"
    elif "${" in line and "{" in line.replace("${", ""):
        do = "inside {...}, put quotes around a value that holds ${...}"
    elif "mapping values are not allowed" in problem:
        do = "check the indentation, and put quotes around a value that holds ': '"
    elif problem == "but found another document":
        problem, do = "a second document", "one file holds one document: remove the second ---"
    return ConfigError(f"invalid YAML: {problem}", at=at, do=do)
