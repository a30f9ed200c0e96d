"""The layout of an exchange as it is written down."""

from __future__ import annotations

import json

import pytest

from cdcflow.bus.rabbitmq import address
from cdcflow.bus.rabbitmq.layout import Layout, Made, read_layout
from cdcflow.bus.rabbitmq.starts import is_another, is_behind
from cdcflow.errors import OperatorError
from cdcflow.model.position import Share

WHERE = address.parse("amqp://guest:guest@localhost/")


def test_what_was_written_is_read() -> None:
    layout = Layout("shop", "stream", 2)
    made = {"shop.0": Made(7, again=False), "shop.1": Made(9, again=True)}
    noted = read_layout(layout.note(9, [3, 4], made), WHERE)
    assert (noted.kind, noted.partitions, noted.generation, noted.floors) == ("stream", 2, 9, (3, 4))
    assert noted.made == made
    assert noted.identity("shop.1") == "9"


def test_a_note_that_names_no_streams_is_read() -> None:
    text = Layout("shop", "quorum", 2).note(9, [3, 4], {})
    assert "made" not in json.loads(text)
    noted = read_layout(text, WHERE)
    assert noted.made == {}
    assert noted.identity("shop.0") == ""


@pytest.mark.parametrize("made", [[1], {"shop.0": 1}, {"shop.0": [1]}, {"shop.0": ["x", False]}])
def test_a_note_of_another_form_is_refused(made: object) -> None:
    text = json.dumps({**json.loads(Layout("shop", "stream", 1).note(9, [3], {})), "made": made})
    with pytest.raises(OperatorError, match="note of a layout"):
        read_layout(text.encode(), WHERE)


@pytest.mark.parametrize(
    ("made", "share", "another"),
    [
        (Made(7, again=True), Share(1, 5, "7"), False),
        (Made(7, again=True), Share(1, 5, "6"), True),
        (Made(7, again=False), Share(1, 5, "6"), True),  # the whole broker was made anew
        (Made(7, again=True), Share(1, 0, "6"), False),  # nothing was read
        (Made(7, again=True), Share(1, 5), True),
        (Made(7, again=False), Share(1, 5), False),
        (None, Share(1, 5), False),
        (None, Share(1, 5, "6"), False),
    ],
)
def test_a_place_is_one_in_the_stream_that_was_made_when_it_was_recorded(
    made: Made | None, share: Share, another: bool
) -> None:
    streams = {"shop.0": made} if made is not None else {}
    noted = read_layout(Layout("shop", "stream", 1).note(9, [3], streams), WHERE)
    assert is_another(noted, "shop.0", share) is another


@pytest.mark.parametrize(
    ("recorded", "behind"),
    [
        (None, False),
        (Share(1, 4, "7"), False),
        (Share(1, 5, "7"), True),
        (Share(1, 9, "6"), False),
        (Share(1, 5), True),
    ],
)
def test_an_end_is_reached_in_its_own_stream(recorded: Share | None, behind: bool) -> None:
    assert is_behind(recorded, Share(0, 5, "7")) is behind
