"""Run one target over its corpus and say what became of each input: `python -m tests.fuzz.exercise net 300`.

One line an input: `file#number`, then `result` with a digest, `refused`, or `fault` with what was raised. Number 0 is
the file as it is. A process that dies has told everything before. `python -m tests.fuzz.exercise net real-1.bin#17`
writes that one input to standard output, to be kept in the corpus.
"""

from __future__ import annotations

import hashlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.decoders import TARGETS, Target
from tests.fuzz.mutations import mutated
from tests.fuzz.packed import Input, pack, unpack

CORPUS = Path(__file__).parent / "corpus"

# Inputs have some kilobytes. This is what the interpreter and a COPY block need beside them: who believes a wrong
# length and asks for more gets a MemoryError, and that is a fault.
ROOM_BYTES = 32 * 1024 * 1024

# The widest growth there is: a binlog's byte of NULL bits becomes a row of thirteen cells of four bytes, and the digest
# is taken of the printed form, in which a byte takes up to four characters.
MOST_GROWTH = 256
LEAST_BYTES = 4096


def inputs(target: str, mutations: int) -> Iterator[tuple[str, Input]]:
    """Yield each file of a target's corpus as it is, then changed."""
    for path in sorted((CORPUS / target).glob("*.bin")):
        found = unpack(path.read_bytes())
        yield f"{path.name}#0", found
        for number in range(1, mutations + 1):
            yield f"{path.name}#{number}", mutated(f"{target}/{path.name}#{number}", found)


def outcome(target: Target, found: Input) -> str:
    """Return what became of one input, in one line."""
    try:
        shown = repr(target.run(found)).encode()
    except target.error as error:
        return "refused" if type(error) is target.error else f"fault {error!r}"
    except Exception as error:  # any other is what this looks for
        return f"fault {type(error).__name__}: {str(error)[:100]}"
    if len(shown) > MOST_GROWTH * sum(map(len, found.parts)) + LEAST_BYTES:
        return f"fault: {len(shown)} bytes"
    return f"result {hashlib.blake2b(shown, digest_size=8).hexdigest()}"


def bounded() -> None:
    """Refuse this process more than `ROOM_BYTES` above what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(name: str, what: str) -> None:
    """Run a target over its inputs, or write one of them."""
    if "#" in what:
        number = int(what.partition("#")[2])
        sys.stdout.buffer.write(pack(dict(inputs(name, number))[what]))
        return
    if sys.platform == "linux":
        bounded()
    for case, found in inputs(name, int(what)):
        sys.stdout.write(f"{case} ")
        sys.stdout.flush()
        sys.stdout.write(outcome(TARGETS[name], found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
