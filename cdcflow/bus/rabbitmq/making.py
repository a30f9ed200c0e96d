"""The queues of a group that the publisher does not know: their readers make them, and finish what was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.doubts import MARK, PLACE, Session
from cdcflow.bus.rabbitmq.layout import bind, binding_key, made_key, own_key
from cdcflow.bus.rabbitmq.sender import Sender
from cdcflow.bus.rabbitmq.wire import Wire, short
from cdcflow.errors import SourceUnavailable

# What a queue begins with: one that does not lacks what was in it.
_FIRST: Final = Session(0, None).header


class _Unbound(Exception):  # noqa: N818 - named for what was found
    """No queue is bound with a message's routing key."""


class Making:
    """Makes queues in an order that tells how far they are, by any number of instances at once.

    A queue gets its first message, then the rows, and last a binding that says so: nothing else tells whether an empty
    one was never begun, or others have read all of it. Published through connections of their own, as in `asking`.
    """

    def __init__(self, address: Address, exchange: str) -> None:
        self._address, self._exchange = address, exchange

    def finish(self, wire: Wire, channel: int, queues: Mapping[str, int], empty: Collection[str]) -> list[str]:
        """Have the rows come to queues, given with their partitions, that may get them already; return those that get
        them from now on. empty: those in which nothing is, and nothing is known to have been.

        Raises:
            Refused, SourceUnavailable: the broker, also while it takes no messages and is to take one.
        """
        begun = [queue for queue in empty if not self._is_whole(queue)]
        for queue in queues:
            bind(wire, channel, queue, self._exchange, own_key(queue))
        for queue in begun:
            self._tell(own_key(queue), _FIRST, self._deleted)
        # One behind the other: a mark that comes meanwhile goes to some of them only.
        for queue, number in queues.items():
            bind(wire, channel, queue, self._exchange, binding_key(number))
        for queue in queues:
            bind(wire, channel, queue, self._exchange, made_key(queue))
        return begun

    def _is_whole(self, queue: str) -> bool:
        """Whether somebody has come to the last binding."""
        try:
            self._tell(made_key(queue), MARK, _Unbound)
        except _Unbound:
            return False
        return True

    def _tell(self, key: str, header: bytes, returned: Callable[[str], Exception]) -> None:
        with short(self._address, "cdcflow maker", SourceUnavailable) as (wire, _):
            sender = Sender(self._address, self._exchange, SourceUnavailable, returned)
            sender.send_alone(wire, key, [(PLACE, header)])

    def _deleted(self, key: str) -> SourceUnavailable:
        return SourceUnavailable("a queue was deleted while it was made", at=f"{key}, {self._address.text}")
