"""What records a position with its rows: of a shared source only the shares that move, each under its claim's epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from cdcflow.model.position import Position, Share, Shares

_T = TypeVar("_T")


class Moves(Generic[_T]):
    """What this applier has on record. One thread.

    one: of a position's text, what records it. shares: of shares by their names, what records them. Either returns the
    last statement before COMMIT, or runs it.
    """

    def __init__(self, one: Callable[[str], _T], shares: Callable[[Mapping[str, Share]], _T]) -> None:
        self._one, self._shares = one, shares
        self._recorded: dict[str, Share] = {}

    def advance(self, position: Position) -> _T:
        """Return, or run, what records `position`."""
        moved = self.of(position)
        return self._one(str(position)) if moved is None else self._shares(moved)

    def of(self, position: Position) -> Mapping[str, Share] | None:
        """Return the shares that recording `position` moves, by name in one order for all writers; None where the
        position is not one of shares."""
        if not isinstance(position, Shares):
            return None
        return {name: at for name, at in sorted(position.shares.items()) if self._recorded.get(name) != at}

    def committed(self, position: Position) -> None:
        """Note that `position` is on record."""
        if isinstance(position, Shares):
            self._recorded = dict(position.shares)

    def forget(self) -> None:
        """Note that it is not known what is on record: a commit's outcome is unknown, or a session began."""
        self._recorded.clear()
