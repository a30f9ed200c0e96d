"""Whether a text is a URL, said without showing it."""

from __future__ import annotations

import re

from cdcflow.rules.document import Document
from cdcflow.rules.problem import Problem, either, nearest

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")


def scheme_of(url: str) -> str | None:
    """Return the scheme of a URL in lower case, None where there is none."""
    found = _SCHEME.match(url)
    return found[1].lower() if found else None


def check(url: str, supported: list[str], document: Document, side: str) -> Problem | None:
    """Say what is wrong with the URL of a side; None when it may be handed to its connector."""
    place = document.value_place((side, "url"))
    known = "postgresql" if "postgresql" in supported else supported[0] if supported else "scheme"
    example = f"{known}://user@host/database"
    scheme = scheme_of(url)
    if scheme is None:
        return Problem(place, f'"{side}.url" is not a URL', do=f"write it as {example}")
    if scheme not in supported:
        close = nearest(scheme, supported)
        return Problem(
            place,
            f"unsupported {side} URL scheme {scheme}://",
            f"supported now: {either([f'{name}://' for name in supported])}",
            f"did you mean {close}://?" if close else f"write it as {example}",
        )
    wrong = _malformed(url)
    if wrong:
        return Problem(
            place,
            f'"{side}.url" cannot be parsed: {wrong}',
            do="percent-encode what is written in the URL itself, or put the password into a variable: "
            "${PASSWORD} is encoded for you",
        )
    return None


def _malformed(url: str) -> str:
    """Name the first thing that makes a URL ambiguous (RFC 3986, section 2), '' when it is well-formed."""
    rest = url.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if any(char.isspace() or not char.isprintable() for char in url):
        return "it holds a space or a control character"
    if re.search(r"%(?![0-9A-Fa-f]{2})", url):
        return "a % is not followed by two hexadecimal digits"
    if authority.count("@") > 1:
        return "there is more than one @ before the host"
    if "@" in rest[len(authority) :].partition("?")[0]:
        return "there is an @ behind the first / or #"
    host = authority.rpartition("@")[2]
    if host.count("[") != host.count("]"):
        return "a bracket around an IPv6 address is missing"
    if "#" in rest:
        return "it holds a #"
    return ""
