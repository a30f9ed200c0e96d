"""Which of the messages that were sent the broker has not confirmed yet."""

from __future__ import annotations


class Confirms:
    """Delivery tags count from 1 in the order of sending; confirms come in any order, one by one or up to a tag."""

    def __init__(self) -> None:
        self.sent = 0
        self._below = 0  # everything up to here is confirmed
        self._single: set[int] = set()

    @property
    def waiting(self) -> int:
        """How many are not confirmed."""
        return self.sent - self._below - len(self._single)

    def confirm(self, tag: int, *, multiple: bool) -> None:
        """Note a confirm."""
        if multiple:
            upto = self.sent if tag == 0 else tag
            if upto > self._below:
                self._below = upto
                if self._single:
                    self._single = {each for each in self._single if each > upto}
        else:
            self._single.add(tag)
        while self._single and self._below + 1 in self._single:
            self._below += 1
            self._single.discard(self._below)
