"""What is wrong in a file, said so that a person can mend it: place, valid keys and choices, nearest match."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from cdcflow.errors import ConfigError
from cdcflow.rules.document import Document, Place, Steps


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong at one place."""

    place: Place
    what: str
    why: str = ""
    do: str = ""


def refuse(problems: Sequence[Problem]) -> ConfigError:
    """Make one error of one or more problems, in the order of the file."""
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: problem.place)
    first, rest = ordered[0], ordered[1:]
    why = [first.why] if first.why else []
    if rest:
        why.append(f"and {len(rest)} more:")
        why.extend(f"{p.place}: {p.what}" + (f" ({p.do})" if p.do else "") for p in rest)
    return ConfigError(first.what, at=str(first.place), why="\n".join(why), do=first.do)


def invalid(what: str, *, why: str = "", do: str = "") -> PydanticCustomError:
    """Make the error that a pydantic validator raises when it knows what a person should do."""
    return PydanticCustomError("invalid", "{what}", {"what": what, "why": why, "do": do})


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that `word` is most likely a typo of."""
    choices = list(choices)
    folded = {choice.casefold(): choice for choice in reversed(choices)}
    found = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def either(choices: Sequence[str]) -> str:
    """Write `a, b or c`."""
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def translate(error: ValidationError, document: Document, model: type[BaseModel], prefix: Steps = ()) -> list[Problem]:
    """Say pydantic's errors in the words and places of the file. `prefix` is where the model's part begins."""
    wrong: dict[Steps, list[ErrorDetails]] = {}
    problems: list[Problem] = []
    missing: list[Steps] = []
    misspelt: set[Steps] = set()
    for detail in error.errors(include_url=False):
        steps: Steps = (*prefix, *detail["loc"])
        match detail["type"]:
            case "extra_forbidden":
                valid = _keys(model, steps[len(prefix) : -1])
                close = nearest(str(steps[-1]), valid)
                misspelt.add((*steps[:-1], close or ""))
                do = f'did you mean "{close}"?' if close else f"valid keys here: {', '.join(valid)}"
                problems.append(Problem(document.key_place(steps), f'unknown key "{steps[-1]}"', do=do))
            case "missing":
                missing.append(steps)
            case _:
                wrong.setdefault(document.nearest(steps), []).append(detail)
    problems.extend(
        Problem(document.key_place(document.nearest(steps)), f'"{steps[-1]}" is missing', do=_example(steps))
        for steps in missing
        if steps not in misspelt
    )
    problems.extend(_wrong_value(steps, details, document) for steps, details in wrong.items())
    return problems


def _wrong_value(steps: Steps, details: list[ErrorDetails], document: Document) -> Problem:
    place = document.value_place(steps)
    name = _name(steps)
    value = details[0]["input"]
    if value is None:
        return Problem(place, f'"{name}" has no value', do="give it one, or remove the key")
    for detail in details:
        if detail["type"] == "invalid":
            ctx = detail["ctx"]
            return Problem(place, f'"{name}" {ctx["what"]}', ctx["why"], ctx["do"])
    expected = either(list(dict.fromkeys(_expectation(detail) for detail in details)))
    secret = steps in document.filled or "url" in steps
    empty = all(detail["type"] in ("too_short", "string_too_short") for detail in details)
    shown = "" if secret or empty else _shown(value)
    choices = [choice for detail in details for choice in _choices(detail)]
    close = nearest(value, choices) if isinstance(value, str) and choices else None
    return Problem(place, f'"{name}" must be {expected}{shown}', do=f'did you mean "{close}"?' if close else "")


def _name(steps: Steps) -> str:
    """Write the keys below the last list item, or the item's list where there are none."""
    keys: list[str] = []
    for step in reversed(steps):
        if isinstance(step, str):
            keys.insert(0, step)
        elif keys:
            break
    return ".".join(keys) or "the file"


def _shown(value: object) -> str:
    match value:
        case str() if len(value) <= 40:
            return f', not "{value}"'
        case bool():
            return f", not {str(value).lower()}"
        case int() | float():
            return f", not {value}"
        case list():
            return ", not a list"
        case dict():
            return ", not a mapping"
    return ""


def _choices(detail: ErrorDetails) -> list[str]:
    """Return the valid choices of an enumeration or literal; pydantic gives them as `'a', 'b' or 'c'`."""
    if detail["type"] not in ("enum", "literal_error"):
        return []
    text: str = detail["ctx"]["expected"].replace(" or ", ", ")
    return [part.strip("'") for part in text.split(", ")]


_NOUNS = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "float_parsing": "a number",
    "list_type": "a list, like [a, b]",
    "tuple_type": "a list, like [a, b]",
    "dict_type": "a mapping, like {a: b}",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "string_too_short": "text that is not empty",
    "too_short": "a list that is not empty",
}
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def _expectation(detail: ErrorDetails) -> str:
    kind = detail["type"]
    if choices := _choices(detail):
        return either(choices)
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        return f"{words} {detail['ctx'][key]}"
    if kind in _NOUNS:
        return _NOUNS[kind]
    # A connector's own ValueError says what is wrong in its words; others in pydantic's.
    text = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"valid: {text[:1].lower()}{text[1:]}"


def _example(steps: Steps) -> str:
    examples = {
        "pipeline": "pipeline: shop",
        "url": "url: postgresql://user@host:5432/database",
        "match": 'match: "public.*"',
        "source": "source: {url: ...}",
        "target": "target: {url: ...}",
        "tables": 'tables: [{match: "public.*"}]',
    }
    example = examples.get(str(steps[-1]))
    return f"add `{example}`" if example else f"add `{steps[-1]}:`"


def _keys(model: type[BaseModel], steps: Steps) -> list[str]:
    """Return the keys that are valid at `steps` below a model."""
    annotation: Any = model
    for step in steps:
        found = _model(annotation)
        if isinstance(step, str) and found is not None:
            field = found.model_fields.get(step)
            # A union's tag in pydantic's path is no step of the file.
            annotation = field.annotation if field is not None else annotation
        elif isinstance(step, int):
            annotation = next(iter(get_args(annotation)), None)
    found = _model(annotation)
    return list(found.model_fields) if found is not None else []


def _model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for arm in get_args(annotation) if (found := _model(arm))), None)
    return None
