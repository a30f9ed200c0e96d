"""COPY text: what is encoded reads back as the same cells, whatever they hold and however large they are."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.codecs.copytext_cy import ImageError, copy_text, key_arrays, offsets
from cdcflow.model.frame import UNCHANGED, image

ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t"}
CELLS = st.one_of(
    st.none(), st.binary(max_size=20), st.lists(st.sampled_from([b"\\", b"\n", b"\r", b"\t", b"N", b"."])).map(b"".join)
)


def decoded(field: bytes) -> bytes | None:
    """Read one field of COPY text, as its documentation says."""
    if field == b"\\N":
        return None
    out, at = bytearray(), 0
    while at < len(field):
        step = 2 if field[at : at + 1] == b"\\" else 1
        out += ESCAPES[field[at : at + 2]] if step == 2 else field[at : at + 1]
        at += step
    return bytes(out)


@settings(deadline=None)
@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[CELLS] * width), min_size=1, max_size=20)))
def test_rows_read_back_as_they_were(rows: list[tuple[bytes | None, ...]]) -> None:
    images = [image(list(row)) for row in rows]
    blocks: list[bytes] = []
    starts = offsets(array("i", map(len, images)).tobytes())
    width = len(rows[0])
    assert copy_text(b"".join(images), b"", starts, width, tuple(range(width)), blocks.append) == len(rows)
    lines = b"".join(blocks).split(b"\n")
    assert lines.pop() == b""
    assert [tuple(decoded(field) for field in line.split(b"\t")) for line in lines] == rows


def test_columns_go_out_in_the_order_that_was_asked_for() -> None:
    blocks: list[bytes] = []
    copy_text(
        image([b"a", UNCHANGED, None]), image([b"m", b"n", b"o"]), array("q", [0]).tobytes(), 3, (2, 0), blocks.append
    )
    copy_text(b"", image([b"m", b"n", b"o"]), array("q", [-1]).tobytes(), 3, (1,), blocks.append)
    assert b"".join(blocks) == b"\\N\ta\nn\n"


def test_an_absent_cell_cannot_be_written() -> None:
    with pytest.raises(ImageError):
        copy_text(image([b"a", UNCHANGED]), b"", array("q", [0]).tobytes(), 2, (0, 1), lambda block: None)


@pytest.mark.parametrize("size", [262_143, 262_144, 1_000_001])
def test_a_value_larger_than_a_block_is_whole(size: int) -> None:
    value = (b"x\\\n\t" * size)[:size]
    blocks: list[bytes] = []
    copy_text(image([value, b"end"]), b"", array("q", [0]).tobytes(), 2, (0, 1), blocks.append)
    first, last = b"".join(blocks).rstrip(b"\n").split(b"\t")
    assert (decoded(first), last) == (value, b"end")


@given(st.binary(max_size=60), st.binary(max_size=30), st.lists(st.integers(-70, 70), max_size=5))
def test_images_that_are_not_what_they_say_are_an_image_error(
    after: bytes, merged: bytes, references: list[int]
) -> None:
    try:
        copy_text(after, merged, array("q", references).tobytes(), 2, (0, 1), lambda block: None)
    except ImageError:
        pass


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=8))
def test_keys_become_one_array_literal_a_column(keys: list[tuple[str, str]]) -> None:
    images = [image([part.encode() for part in key]) for key in keys]
    spans: list[int] = []
    at = 0
    for each in images:
        spans += [at, len(each)]
        at += len(each)
    literals = key_arrays(b"".join(images), array("q", spans).tobytes(), 2)
    for column, literal in enumerate(literals):
        quoted = [key[column].replace("\\", "\\\\").replace('"', '\\"') for key in keys]
        assert literal.decode() == "{" + ",".join(f'"{part}"' for part in quoted) + "}"
