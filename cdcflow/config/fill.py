"""`${VARIABLE}` and `${file:/path}` in a configuration, filled in without ever being shown.

A value that lands inside a URL, as user, password, path or a parameter's value, is percent-encoded there, so a
password may hold any character. `$${` stands for `${`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cdcflow.rules.document import Document, Place, Steps
from cdcflow.rules.problem import Problem, nearest

# systemd's own limit for a credential.
FILE_LIMIT_BYTES: Final = 1024 * 1024
# Deeper than `${file:${CREDENTIALS_DIRECTORY}/name}` nobody needs.
DEPTH_LIMIT: Final = 5

_OPENING = re.compile(r"\$\$\{|\$\{")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class FillError(Exception):
    """A placeholder that cannot be filled. Says which, never what it holds."""

    def __init__(self, what: str, *, why: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.do = what, why, do


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where values come from: the environment, and the folder that a relative path starts at."""

    environ: Mapping[str, str]
    folder: Path


def fill_document(document: Document, surroundings: Surroundings) -> tuple[Document, list[Problem]]:
    """Return the document with every text filled in, and what could not be."""
    problems: list[Problem] = []
    filled: set[Steps] = set()

    def walk(value: Any, steps: Steps) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner, (*steps, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, (*steps, index)) for index, inner in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        place: Place = document.value_place(steps)
        try:
            text, any_filled = fill(value, surroundings)
        except FillError as error:
            problems.append(Problem(place, error.what, error.why, error.do))
            return value
        if any_filled:
            filled.add(steps)
        return text

    value = walk(document.value, ())
    return replace(document, value=value, filled=frozenset(filled)), problems


def fill(text: str, surroundings: Surroundings) -> tuple[str, bool]:
    """Return the text with its placeholders filled in, and whether there were any.

    Raises:
        FillError: a variable is not set, a file cannot be read, or a placeholder is not written right.
    """
    pieces = _pieces(text)
    values = [_value(piece, surroundings, 1) if index % 2 else piece for index, piece in enumerate(pieces)]
    return "".join(_encode(values)), len(pieces) > 1


def _pieces(text: str) -> list[str]:
    """Split into literal text (even indexes) and what stands between `${` and its `}` (odd ones)."""
    pieces = [""]
    at = 0
    while (found := _OPENING.search(text, at)) is not None:
        pieces[-1] += text[at : found.start()]
        at = found.end()
        if found[0] == "$${":
            pieces[-1] += "${"
            continue
        end = _closing(text, at)
        pieces += [text[at:end], ""]
        at = end + 1
    pieces[-1] += text[at:]
    return pieces


def _closing(text: str, at: int) -> int:
    depth = 1
    for found in re.compile(r"\$\{|\}").finditer(text, at):
        depth += 1 if found[0] == "${" else -1
        if depth == 0:
            return found.start()
    raise FillError("a ${ without its }", do="close it, or write $${ for the two characters themselves")


def _value(inside: str, surroundings: Surroundings, depth: int) -> str:
    if depth > DEPTH_LIMIT:
        raise FillError("${...} nested too deeply")
    if inside.startswith("file:"):
        nested = _pieces(inside.removeprefix("file:"))
        values = (_value(piece, surroundings, depth + 1) if n % 2 else piece for n, piece in enumerate(nested))
        return _content("".join(values), surroundings.folder)
    if not _VARIABLE.fullmatch(inside):
        # Not shown: it may be a piece of a password that holds ${.
        raise FillError(
            "a ${...} that is neither a variable nor a file",
            do="write ${NAME} or ${file:/path}; $${ stands for the two characters themselves",
        )
    if inside not in surroundings.environ:
        close = nearest(inside, surroundings.environ)
        why = f"{close} is set: a typo?" if close else ""
        raise FillError(f"variable {inside} is not set", why=why, do=f"export {inside}=...")
    return surroundings.environ[inside]


def _content(name: str, folder: Path) -> str:
    if not name or "\0" in name:
        raise FillError("${file:...} without a path", do="write ${file:/path}")
    path = folder / name
    try:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise FillError(f"file {path} is too large to be a value", why=f"the limit is {FILE_LIMIT_BYTES} bytes")
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise FillError(f"file {path} does not exist", do="create it, or correct the path") from None
    except OSError as error:
        raise FillError(f"file {path} cannot be read", why=error.strerror or "") from None
    except UnicodeDecodeError:
        raise FillError(f"file {path} is not UTF-8 text") from None
    return text.rstrip("\r\n")


def _encode(pieces: list[str]) -> list[str]:
    """Percent-encode the odd pieces where the even ones make them a part of a URL.

    The parts are told apart by the literal text alone, so nothing in a value can move their borders. A value
    that stands for scheme, host or port, or for the whole URL, stays as it is.
    """
    start = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", pieces[0])
    if len(pieces) == 1 or start is None:
        return pieces
    literal = "\0".join(pieces[0::2])
    authority_end = next((at for at in range(start.end(), len(literal)) if literal[at] in "/?#"), len(literal))
    user_end = literal.rfind("@", start.end(), authority_end)
    query_start = literal.find("?", authority_end)
    encoded, at = [], 0
    for index, piece in enumerate(pieces):
        if not index % 2:
            encoded.append(piece)
            at += len(piece)
            continue
        if at < user_end or 0 <= query_start < at:
            encoded.append(quote(piece, safe=""))
        elif authority_end < at:
            encoded.append(quote(piece, safe="/"))
        else:
            encoded.append(piece)
        at += 1
    return encoded
