"""Frames whose large binary values stand raw."""

from __future__ import annotations

import struct

import pytest

from cdcflow.model.frame import LEAST_RAW_BYTES, RAW_CELL, RowBatch, image, spelled
from tests.integration.target_shapes import column, key_column, route, table

ROUTE = route(table(key_column(), column("blob"), column("v")))


def raw(value: bytes) -> bytes:
    return struct.pack("=i", RAW_CELL - len(value)) + value


def batch(*after: bytes) -> RowBatch:
    sizes = b"".join(struct.pack("=i", len(each)) for each in after)
    return RowBatch(ROUTE, ("id", "blob", "v"), b"I" * len(after), b"".join(after), sizes, b"", bytes(4 * len(after)))


@pytest.mark.parametrize("size", [LEAST_RAW_BYTES, LEAST_RAW_BYTES + 7, 3 * LEAST_RAW_BYTES])
def test_raw_cells_are_spelled_out_and_all_others_stay(size: int) -> None:
    value = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    small = image([b"1", b"\\x00ff", None])
    large = struct.pack("=i", 1) + b"2" + raw(value) + image([b"behind"])
    found = spelled(batch(small, large, small))
    assert list(found.rows()) == list(
        batch(small, image([b"2", b"\\x" + value.hex().encode(), b"behind"]), small).rows()
    )
    assert raw(value) not in found.after


def test_a_frame_without_large_values_is_left_as_it_is() -> None:
    frame = batch(image([b"1", b"\\x00", b"v"]))
    assert spelled(frame) is frame
