"""MySQL's binary JSON: every document as text, changes by parts, and nothing but the document's own bytes."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.codecs.mysqljson_cy import JsonText, MessageError, double_text
from cdcflow.codecs.mysqljsondiff import patched

Document = Any
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=30), st.floats(-1e12, 1e12)
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=8), inner, max_size=6)),
    max_leaves=25,
)


def size_of(length: int) -> bytes:
    out = bytearray()
    while length >= 128:
        out.append(length & 127 | 128)
        length >>= 7
    return bytes([*out, length])


def encoded(value: Document, wide: bool = False) -> tuple[int, bytes]:
    """Return type and bytes of a value: the format's own description, written down once more."""
    match value:
        case None:
            return 4, b"\0"
        case True:
            return 4, b"\1"
        case False:
            return 4, b"\2"
        case int():
            for kind, form, low, high in (
                (5, "<h", -(2**15), 2**15 - 1),
                (6, "<H", 0, 2**16 - 1),
                (7, "<i", -(2**31), 2**31 - 1),
                (8, "<I", 0, 2**32 - 1),
                (9, "<q", -(2**63), 2**63 - 1),
            ):
                if low <= value <= high:
                    return kind, struct.pack(form, value)
            return 10, struct.pack("<Q", value)
        case float():
            return 11, struct.pack("<d", value)
        case str():
            text = value.encode()
            return 12, size_of(len(text)) + text
    unit = 4 if wide else 2
    form = "<I" if wide else "<H"
    keyed = isinstance(value, dict)
    pairs = sorted((key.encode(), item) for key, item in value.items()) if keyed else [(b"", item) for item in value]
    pairs.sort(key=lambda pair: len(pair[0]))
    at = 2 * unit + len(pairs) * (unit + 1 + (unit + 2 if keyed else 0))
    keys, entries, tail = b"", b"", b""
    if keyed:
        for key, _ in pairs:
            keys += struct.pack(form, at + len(tail)) + struct.pack("<H", len(key))
            tail += key
    for _, item in pairs:
        kind, data = encoded(item, wide)
        if kind in (4, 5, 6) or (wide and kind in (7, 8)):
            entries += bytes([kind]) + data.ljust(unit, b"\0")
        else:
            entries += bytes([kind]) + struct.pack(form, at + len(tail))
            tail += data
    body = keys + entries + tail
    return (0 if keyed else 2) + wide, struct.pack(form, len(pairs)) + struct.pack(form, 2 * unit + len(body)) + body


def document(value: Document, wide: bool = False) -> bytes:
    kind, data = encoded(value, wide)
    return bytes([kind]) + data


def text(value: Document) -> str:
    """What the server prints: keys by length, a blank behind comma and colon."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return "{" + ", ".join(f"{text(key)}: {text(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text, value)) + "]"
    if isinstance(value, float):
        return double_text(value).decode()
    return json.dumps(value, ensure_ascii=False)


@settings(max_examples=300, deadline=None)
@given(documents, st.booleans())
def test_a_document_is_printed_as_the_server_does(value: Document, wide: bool) -> None:
    found = JsonText().text(document(value, wide)).decode()
    assert found == text(value)
    assert json.loads(found, strict=False) == value


@settings(max_examples=300, deadline=None)
@given(documents, st.data())
def test_a_damaged_document_is_printed_or_refused(value: Document, data: st.DataObject) -> None:
    changed = bytearray(document(value))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(0, len(changed)))])
    try:
        found = JsonText().text(cut)
    except MessageError:
        return
    assert len(found) <= 120 * (len(cut) + 1)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    for read in (JsonText().text, lambda found: patched(found, b"")):
        try:
            read(data)
        except MessageError:
            pass


def test_documents_are_as_deep_as_the_server_lets_them() -> None:
    deep: Document = 1
    for _ in range(100):
        deep = [deep]
    assert JsonText().text(document(deep)) == b"[" * 100 + b"1" + b"]" * 100
    with pytest.raises(MessageError, match="too deep"):
        JsonText().text(document([deep]))


def test_a_document_that_uses_its_bytes_twice_is_refused() -> None:
    inner = encoded([1] * 50)[1]
    entries = (bytes([2]) + struct.pack("<H", 4 + 3 * 100)) * 100
    body = struct.pack("<HH", 100, 4 + 300 + len(inner)) + entries + inner
    for read in (JsonText().text, lambda found: patched(found, b"")):
        with pytest.raises(MessageError, match="twice"):
            read(b"\2" + body)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (1e14, "100000000000000.0"),
        (1e15, "1e15"),
        (1234567890123456.8, "1234567890123456.8"),
        (1234567890123456.0, "1.234567890123456e15"),
        (1e-15, "0.000000000000001"),
        (1e-16, "1e-16"),
        (5e-324, "5e-324"),
        (-1.7976931348623157e308, "-1.7976931348623157e308"),
    ],
)
def test_numbers_as_the_server_prints_them(number: float, told: str) -> None:
    assert JsonText().text(document(number)) == told.encode()


def opaque(kind: int, data: bytes) -> bytes:
    return bytes([15, kind]) + size_of(len(data)) + data


def test_values_of_sql_types() -> None:
    day = ((2024 * 13 + 2) << 5 | 29) << 17
    clock = 12 << 12 | 34 << 6 | 56
    moment = ((day | clock) << 24 | 500000).to_bytes(8, "little")
    assert JsonText().text(opaque(12, moment)) == b'"2024-02-29 12:34:56.500000"'
    assert JsonText().text(opaque(10, (day << 24).to_bytes(8, "little"))) == b'"2024-02-29"'
    negative = (-(clock << 24)).to_bytes(8, "little", signed=True)
    assert JsonText().text(opaque(11, negative)) == b'"-12:34:56.000000"'
    assert JsonText().text(opaque(246, bytes([3, 2, 0x81, 50]))) == b"1.50"
    assert JsonText().text(opaque(252, b"a" * 60)).count(b"\\n") == 1
    for wrong in (opaque(246, b"\3\2\1"), opaque(246, b"\xff\2\1"), opaque(12, b"1234567")):
        with pytest.raises(MessageError):
            JsonText().text(wrong)


def change(operation: int, path: str, value: Document = None) -> bytes:
    out = bytes([operation]) + bytes([len(path.encode())]) + path.encode()
    data = b"" if operation == 2 else document(value)
    return out + (bytes([len(data)]) + data if operation != 2 else b"")


BASE = {"a": {"b": [1, 2, {"c": "x"}]}, "k k": 1, 'q"é': [True], "z": None}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([], text(BASE)),
        ([change(0, "$.a.b[0]", 10)], text({**BASE, "a": {"b": [10, 2, {"c": "x"}]}})),
        ([change(0, '$."k k"', "new")], text({**BASE, "k k": "new"})),
        ([change(0, '$."q\\"é"[0]', 2.0)], text({**BASE, 'q"é': [2.0]})),
        ([change(2, "$.a"), change(1, "$.aa", [1])], text({"k k": 1, 'q"é': [True], "z": None, "aa": [1]})),
        ([change(1, "$.a.b[1]", 7)], text({**BASE, "a": {"b": [1, 7, 2, {"c": "x"}]}})),
        ([change(1, "$.a.b[99]", 7)], text({**BASE, "a": {"b": [1, 2, {"c": "x"}, 7]}})),
        ([change(2, "$.a.b[last-1]")], text({**BASE, "a": {"b": [1, {"c": "x"}]}})),
        ([change(0, "$", [1])], "[1]"),
    ],
)
def test_changes_by_parts(changes: list[bytes], told: str) -> None:
    assert patched(document(BASE), b"".join(changes)).decode() == told


@pytest.mark.parametrize(
    "changes",
    [
        change(0, "$.none", 1),
        change(0, "$.a.b[9]", 1),
        change(1, "$.a", 1),
        change(2, "$.none"),
        change(2, "$"),
        change(1, "$", 1),
        change(0, "a", 1),
        change(0, "$.a[", 1),
        change(0, "$.a.b.c", 1),
        change(3, "$.a", 1),
        change(0, "$.a", 1)[:-1],
        b"\0",
        b"\0\xff",
    ],
)
def test_changes_that_do_not_fit_are_refused(changes: bytes) -> None:
    with pytest.raises(MessageError):
        patched(document(BASE), changes)


@given(st.binary(max_size=40))
def test_any_changes_are_applied_or_refused(changes: bytes) -> None:
    try:
        patched(document(BASE), changes)
    except MessageError:
        pass
