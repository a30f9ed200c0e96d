"""Writes docs/types.md from the map in `values`: `python -m cdcflow.codecs.types_page`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cdcflow.codecs.values import BUILT_IN, EXTENSIONS

PAGE: Final = Path(__file__).parents[2] / "docs" / "types.md"

_HEAD: Final = """# Types

Generated from the map in `cdcflow/codecs/values.py` by `python -m cdcflow.codecs.types_page`; a test compares the two.

From PostgreSQL to PostgreSQL **nothing is lost**, for any type, known here or not: a value travels as the text that
the server prints and its own input function reads, with the session's settings pinned on both sides (`TimeZone=UTC`,
`DateStyle=ISO`, `IntervalStyle=postgres`, `extra_float_digits=1`, `bytea_output=hex`, UTF-8). The target's column has
the source's own type. (One exception is PostgreSQL's own: `regoper` and `regproc` of an overloaded name print a name
that the input function then refuses.)

The table says what `from cdcflow import read` and the rules see. The logical type is what a target of another engine
maps to its own.

| PostgreSQL type | logical type | Python value | lost to PostgreSQL |
| --- | --- | --- | --- |
"""

_MADE: Final = (
    ("array of any of these", "array", "list (nested for more dimensions, None for NULL), or Array: see below"),
    ("enum", "enum", "str, the label"),
    ("domain", "its base type's", "its base type's"),
    ("composite", "other", "tuple of its fields' values"),
    ("range of your own, anything else", "other", "str, the canonical text"),
)

_FOOT: Final = """
## Values that Python has no type for

All are small frozen dataclasses in `cdcflow.codecs.values`; each goes back to exactly the text it came from.

| value | stands for |
| --- | --- |
| `Beyond(text)` | a date or time outside Python's range: `infinity`, `-infinity`, years BC and past 9999, `24:00:00` |
| `Interval(months, days, microseconds)` | an interval; `timedelta` has no months, and a day is not always 24 hours |
| `Json(text)` | a json or jsonb document; `.value` parses it when asked: whole numbers as `int`, others as `Decimal`. \
White space and repeated keys of `json` stay in `.text`; JSON null is `Json('null')`, NULL is `None` |
| `Array(items, lower)` | an array with a lower bound other than 1, such as `[0:2]={a,b,c}` |
| `Range(lower, upper, lower_inclusive, upper_inclusive, empty)` | a range; None as a bound is no bound |

## What to know

- `numeric` is exact at any length: `Decimal('1.10')` keeps its scale; `NaN` and the infinities are `Decimal`s too.
- `real` becomes the float whose shortest form is the text that the server printed: `0.1` stays `0.1`.
- `character(n)` keeps its padding, as the server prints it.
- `money` is text in the server's own currency format (`lc_monetary`): the same locale is needed on both sides.
- `timestamp with time zone` is always in UTC: PostgreSQL does not store the zone that was written.
- `bit`, `inet`, `macaddr`, `xml`, `tsvector` and the geometric types are `str`, as printed.
- Text that is not in its type's form is an error that names the type and the place, and never the value.
"""


def render() -> str:
    """Return the whole page."""
    rows = [(entry.name, entry.logical.value, entry.codec.python) for entry in BUILT_IN]
    rows += [(f"{name} (extension)", logical.value, codec.python) for name, (logical, codec) in EXTENSIONS.items()]
    rows += list(_MADE)
    lines = [f"| {name} | {logical} | {python} | nothing |" for name, logical, python in rows]
    return _HEAD + "\n".join(lines) + "\n" + _FOOT


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
