"""What a broker's closing of a channel or connection means, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.errors import AccessDenied, CdcflowError, OperatorError, RowRejected, Unavailable

# https://www.rabbitmq.com/amqp-0-9-1-reference.html#constants
CONTENT_TOO_LARGE = 311
NO_ROUTE = 312
CONNECTION_FORCED = 320
ACCESS_REFUSED = 403
NOT_FOUND = 404
RESOURCE_LOCKED = 405
PRECONDITION_FAILED = 406
NOT_ALLOWED = 530
NOT_IMPLEMENTED = 540

# What is there but not up, its node being away or only just started, is not what was deleted: the broker has the code
# of the latter for it, or that of a wrong setting, and other words.
_AWAY_WORDS: Final = ("inaccessible", "stopped by supervisor", "running replica", "failed consuming from stream")
_AWAY: Final = 0


class Refused(Exception):  # noqa: N818 - named for what happened
    """The broker closed a channel (`hard=False`) or the connection with a code and its own words."""

    def __init__(self, code: int, text: str, *, hard: bool) -> None:
        super().__init__(f"{code} {text}")
        if code == NOT_FOUND and any(words in text for words in _AWAY_WORDS):
            code = _AWAY
        self.code, self.text, self.hard = code, text, hard


def permissions(address: Address, exchange: str) -> str:
    """Return the command that grants a user what a pipeline of the exchange needs, and not more."""
    ours = f"^{_literal(exchange)}(\\..*)?$"
    return (
        f"rabbitmqctl set_permissions -p {_quoted(address.vhost)} {_quoted(address.user)} "
        f"{_quoted(ours)} {_quoted(ours)} {_quoted(ours)}"
    )


def translate(refused: Refused, address: Address, exchange: str, unavailable: type[Unavailable]) -> CdcflowError:
    """Return the error that a person understands."""
    at, why = address.text, refused.text
    match refused.code:
        case 403 if refused.hard:
            return AccessDenied(
                f'RabbitMQ refuses the login of user "{address.user}"',
                at=at,
                why=why,
                do=f"check user and password in the URL; rabbitmqctl change_password {_quoted(address.user)} ...",
            )
        case 403:
            return AccessDenied(
                f'user "{address.user}" lacks a permission on virtual host "{address.vhost}"',
                at=at,
                why=why,
                do=permissions(address, exchange),
            )
        case 530:
            return AccessDenied(
                f'virtual host "{address.vhost}" is not there, or not for user "{address.user}"',
                at=at,
                why=why,
                do=f"rabbitmqctl add_vhost {_quoted(address.vhost)}; {permissions(address, exchange)}",
            )
        case 406 if any(words in why for words in _AWAY_WORDS):
            return unavailable("a queue or stream of RabbitMQ is not up", at=at, why=why)
        case 406 if "delivery acknowledgement" in why:
            # https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout: what was not acknowledged comes again.
            what = "RabbitMQ waited no longer for what is being applied, or waits at a mark for other shares"
            return unavailable(what, at=at, why=why)
        case 406 if "larger than" in why:
            return too_large(at, why, ())
        case 406 if "inequivalent" in why:
            return OperatorError(
                "an exchange or queue is there with other settings than ours",
                at=at,
                why=why,
                do="choose another `exchange:`, or delete it once nothing in it is needed: "
                f"rabbitmqctl -p {_quoted(address.vhost)} delete_queue NAME",
            )
        case 404:
            return OperatorError("an exchange or queue of the pipeline is not there", at=at, why=why)
        case 311 | 406 | 540:
            return OperatorError("RabbitMQ refuses what the pipeline needs", at=at, why=why)
    return unavailable("RabbitMQ closed the connection", at=at, why=why)


# The key of a row in an error is for finding it, and no page of its own.
_KEY_LETTERS: Final = 200

Large = tuple[str, bytes | None, int]
"""A message of which the broker may say that it is too large: its table, the row's key as it is sent, its bytes."""


def too_large(at: str, why: str, sent: Iterable[Large]) -> RowRejected:
    """Return the error for a message that is larger than the broker takes; `sent`: those that it may be."""
    limit = re.search(r"max size (\d+)", why)
    found = next((each for each in sent if limit is not None and each[2] > int(limit[1])), None)
    what = "a message is larger than the broker takes"
    if found is not None:
        table, key, size = found
        what = f"a row of table {table} makes a message of {size:,} bytes, which is more than the broker takes"
        text = (key or b"").decode("utf-8", "replace")[:_KEY_LETTERS]
        at = f"key {text}, {at}" if text and text.isprintable() else at
    return RowRejected(
        what,
        at=at,
        why=why,
        do="raise max_message_size in rabbitmq.conf, or leave the large column out: `columns: {exclude: [..]}`",
    )


def _literal(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-" else "\\" + letter for letter in name)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
