"""What appliers ask of a frame, and of the route of its rows, before they write it."""

from __future__ import annotations

from array import array

from cdcflow.codecs.copytext_cy import offsets
from cdcflow.model.frame import INSERT, UNCHANGED, UPDATE, Cell, RowBatch
from cdcflow.model.route import Mode, OnDelete, OnTruncate, Route


class Kept:
    """What the rules of a plan's route leave in the target."""

    __slots__ = ()
    route: Route

    @property
    def soft(self) -> bool:
        return self.route.on_delete is OnDelete.SOFT

    @property
    def keeps_deleted(self) -> bool:
        """Deleted rows may still be in the target, so a new row may find its key taken."""
        return self.route.on_delete is not OnDelete.DELETE

    @property
    def may_hold_more(self) -> bool:
        """The target may hold rows that the source has no longer, so any new key may be taken."""
        return self.keeps_deleted or self.append_only or self.route.on_truncate is OnTruncate.IGNORE

    @property
    def keeps_only_marked(self) -> bool:
        """Every row that the source has no longer says so itself."""
        return self.soft and self.route.on_truncate is OnTruncate.TRUNCATE

    @property
    def append_only(self) -> bool:
        return self.route.mode is Mode.APPEND


def moves_rows(frame: RowBatch, key: tuple[int, ...]) -> bool:
    """Whether an update changes a key. Netting makes of it a delete and an insert, and with `on_delete: soft` or
    `ignore` the row would stay under its old key too."""
    return any(
        op == UPDATE and before is not None and after is not None and _moved(key, before, after)
        for op, before, after in frame.rows()
    )


def _moved(key: tuple[int, ...], before: list[Cell], after: list[Cell]) -> bool:
    return any(before[place] is not UNCHANGED and before[place] != after[place] for place in key)


def inserted(frame: RowBatch) -> bytes:
    """Return where the inserted rows begin in `after`, as native int64."""
    starts = offsets(frame.after_sizes)
    if not frame.ops.strip(b"I"):
        return starts
    return array("q", [at for op, at in zip(frame.ops, array("q", starts), strict=True) if op == INSERT]).tobytes()
