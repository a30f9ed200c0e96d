"""Changes to an input that follow from a name alone: the same name gives the same change everywhere."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.fuzz.decoders import buffer
from tests.fuzz.packed import Input

# Lengths and counts that programs get wrong, in both byte orders and in the sizes that the formats use.
EDGES = [
    number.to_bytes(size, order, signed=number < 0)
    for size in (1, 2, 4, 8)
    for number in (0, 1, -1, -2, -3, 2 ** (8 * size - 1) - 1, -(2 ** (8 * size - 1)))
    for order in ("little", "big")
]


def mutated(name: str, found: Input) -> Input:
    """Return an input that differs in one to three places."""
    chance = random.Random(name)
    if not found.numbers and chance.random() < 0.3:
        # A stream whose lengths may be wrong too: one part, marked by a number.
        found = Input(b"\1", (buffer(found),))
    parts = list(found.parts)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(parts))
        if len(parts) > 5 and chance.random() < 0.3:
            _rearrange(chance, parts, place)
        else:
            parts[place] = chance.choice(CHANGES)(chance, parts[place])
        if not parts:
            break
    return found.with_parts(parts)


def _rearrange(chance: random.Random, parts: list[bytes], place: int) -> None:
    """Leave out, repeat or move a message."""
    match chance.randrange(3):
        case 0:
            del parts[place]
        case 1:
            parts.insert(place, chance.choice(parts))
        case _:
            parts.insert(chance.randrange(len(parts)), parts.pop(place))


def _cut(chance: random.Random, part: bytes) -> bytes:
    start = chance.randint(0, len(part))
    return part[:start] + part[start + chance.choice((1, 2, 4, 8, len(part))) :]


def _flip(chance: random.Random, part: bytes) -> bytes:
    changed = bytearray(part)
    if changed:
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _insert(chance: random.Random, part: bytes) -> bytes:
    place = chance.randint(0, len(part))
    return part[:place] + chance.randbytes(chance.choice((1, 2, 4, 8))) + part[place:]


def _edge(chance: random.Random, part: bytes) -> bytes:
    """Overwrite by a number at the end of its range, mostly where a number may stand."""
    edge = chance.choice(EDGES)
    place = chance.randint(0, len(part))
    if chance.random() < 0.5:
        place -= place % len(edge)
    return part[:place] + edge + part[place + len(edge) :]


def _splice(chance: random.Random, part: bytes) -> bytes:
    start, end = sorted((chance.randint(0, len(part)), chance.randint(0, len(part))))
    place = chance.randint(0, len(part))
    return part[:place] + part[start:end] + part[place:]


CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (_cut, _flip, _insert, _edge, _edge, _splice)
