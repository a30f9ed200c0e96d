"""The words of a MySQL or MariaDB statement: names, strings, numbers and marks, comments left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

# sql_mode as a number, as it stands in the status variables of a QUERY event (MySQL: sql/sql_class.h and
# query_options.h; MariaDB has the same bits).
REAL_AS_FLOAT = 1 << 0
ANSI_QUOTES = 1 << 2
ORACLE = 1 << 9
MAXDB = 1 << 12
NO_BACKSLASH_ESCAPES = 1 << 20


class Flavour(Protocol):
    """Which server wrote the statement: `mysql` or `mariadb`, and its version as numbers."""

    @property
    def engine(self) -> str: ...

    @property
    def version(self) -> tuple[int, ...]: ...


class Mark(StrEnum):
    """What a token is."""

    WORD = "word"  # an unquoted name or a keyword
    NAME = "name"  # a quoted name
    STRING = "string"
    NUMBER = "number"
    BITS = "bits"  # 0x41, x'41', 0b1, b'1': `text` is as written
    SYMBOL = "symbol"  # one character
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `text` without quotes, `start` and `end` in the statement. `word` is its upper case, for keywords."""

    mark: Mark
    text: str
    start: int
    end: int
    word: str = ""
    charset: str = ""  # a string's introducer: _latin1'x'


class UnreadError(Exception):
    """The statement is not one that this reader understands. Never leaves the module's callers."""


def words(text: str) -> frozenset[str]:
    """Return the keywords of a list that is written as one text."""
    return frozenset(text.split())


_SPACE = " \t\n\r\v\f\0"
# Every character above ASCII may stand in an unquoted name.
_WORD = re.compile(r"[0-9A-Za-z_$\u0080-\U0010ffff]+")
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![0-9A-Za-z_$\u0080-\U0010ffff])")
_BITS = re.compile(r"0x[0-9A-Fa-f]+(?![0-9A-Za-z_$])|0b[01]+(?![0-9A-Za-z_$])|[xX]'[0-9A-Fa-f]*'|[bB]'[01]*'")
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
# A statement may hold megabytes between two quotes.
_PLAIN_RUNS = {
    (quote, escapes): re.compile(f"[^{quote}{chr(92) * 2 if escapes else ''}]+")
    for quote in "`'\""
    for escapes in (False, True)
}
_VERSION = re.compile(r"\d{5,6}")


def tokens(sql: str, flavour: Flavour, sql_mode: int = 0) -> Iterator[Token]:
    """Yield the tokens of `sql`, at last one with Mark.END.

    The content of a versioned comment (`/*!80000 .. */`, `/*M!100100 .. */`) counts where this server runs it.

    Raises:
        UnreadError: a quote or a comment that is not closed.
    """
    at, size = 0, len(sql)
    inside = 0  # versioned comments that are open
    after_dot = False
    while at < size:
        char = sql[at]
        if char in _SPACE:
            at += 1
            continue
        if char == "/" and sql.startswith("/*", at):
            at, opened = _comment(sql, at, flavour)
            inside += opened
            continue
        if inside and char == "*" and sql.startswith("*/", at):
            inside -= 1
            at += 2
            continue
        if char == "#" or (char == "-" and _dashes(sql, at)):
            at = sql.find("\n", at) + 1 or size
            continue
        token = _token(sql, at, after_dot, sql_mode)
        after_dot = token.mark is Mark.SYMBOL and token.text == "."
        yield token
        at = token.end
    yield Token(Mark.END, "", size, size)


def _dashes(sql: str, at: int) -> bool:
    return sql.startswith("--", at) and (at + 2 >= len(sql) or sql[at + 2] <= " ")


def _comment(sql: str, at: int, flavour: Flavour) -> tuple[int, int]:
    """Return where reading goes on and whether a versioned comment was entered."""
    body = at + 2
    maria = sql.startswith("M!", body)
    if sql.startswith("!", body) or maria:
        body += 2 if maria else 1
        version = _VERSION.match(sql, body)
        if _runs(int(version.group()) if version else 0, maria, flavour):
            return (version.end() if version else body), 1
        return _behind(sql, body, nested=True), 0
    return _behind(sql, body, nested=False), 0


def _behind(sql: str, at: int, *, nested: bool) -> int:
    """Return where the comment that is open at `at` ends; one that is not run may hold one more."""
    close = sql.find("*/", at)
    if close < 0:
        raise UnreadError("a comment is not closed")
    if nested:
        inner = sql.find("/*", at, close)
        if inner >= 0:
            return _behind(sql, _behind(sql, inner + 2, nested=False), nested=True)
    return close + 2


def _runs(version: int, maria: bool, flavour: Flavour) -> bool:
    major, minor, patch = (*flavour.version, 0, 0, 0)[:3]
    own = major * 10000 + minor * 100 + patch
    if flavour.engine != "mariadb":
        return not maria and version <= own
    # MySQL's own numbers since 5.7 mean nothing to MariaDB.
    return version <= own and (maria or not 50700 <= version <= 99999)


def _token(sql: str, at: int, after_dot: bool, sql_mode: int) -> Token:
    char = sql[at]
    if char == "`" or (char == '"' and sql_mode & ANSI_QUOTES):
        text, end = _quoted(sql, at, escapes=False)
        return Token(Mark.NAME, text, at, end)
    escapes = not sql_mode & NO_BACKSLASH_ESCAPES
    if char in "'\"":
        text, end = _quoted(sql, at, escapes=escapes)
        return Token(Mark.STRING, text, at, end)
    if not after_dot:
        found = _BITS.match(sql, at)
        if found:
            return Token(Mark.BITS, found.group(), at, found.end())
        if char in "nN" and sql.startswith("'", at + 1):
            text, end = _quoted(sql, at + 1, escapes=escapes)
            return Token(Mark.STRING, text, at, end, charset="utf8mb3")
        found = _NUMBER.match(sql, at) if char in "0123456789." else None
        if found:
            return Token(Mark.NUMBER, found.group(), at, found.end())
    found = _WORD.match(sql, at)
    if found:
        return Token(Mark.WORD, found.group(), at, found.end(), found.group().upper())
    return Token(Mark.SYMBOL, char, at, at + 1)


def _quoted(sql: str, at: int, *, escapes: bool) -> tuple[str, int]:
    """Return the text between the quotes and where they end; `\\%` and `\\_` keep their backslash."""
    quote, size = sql[at], len(sql)
    plain = _PLAIN_RUNS[quote, escapes]
    parts: list[str] = []
    at += 1
    while at < size:
        run = plain.match(sql, at)
        if run:
            parts.append(run.group())
            at = run.end()
            continue
        if sql[at] == quote:
            if not sql.startswith(quote, at + 1):
                return "".join(parts), at + 1
            parts.append(quote)
        elif at + 1 < size:
            follows = sql[at + 1]
            parts.append("\\" + follows if follows in "%_" else _ESCAPES.get(follows, follows))
        at += 2
    raise UnreadError("a quote is not closed")


@dataclass(slots=True)
class Reader:
    """Walks over tokens. `take` methods move on only where they find what they look for."""

    sql: str
    items: list[Token]
    at: int = 0
    lower_names: bool = False

    @property
    def now(self) -> Token:
        return self.items[self.at]

    def ahead(self, steps: int = 1) -> Token:
        """Return a later token, the end where there are fewer."""
        return self.items[min(self.at + steps, len(self.items) - 1)]

    @property
    def ended(self) -> bool:
        return self.now.mark is Mark.END

    def next(self) -> Token:
        """Return the token and go on; stays at the end."""
        token = self.items[self.at]
        if token.mark is not Mark.END:
            self.at += 1
        return token

    def sees(self, *words: str) -> bool:
        """Whether these keywords follow one another here."""
        return all(self.ahead(step).word == word for step, word in enumerate(words))

    def take(self, *words: str) -> bool:
        """Go past these keywords, or stay."""
        if not self.sees(*words):
            return False
        self.at += len(words)
        return True

    def take_any(self, *words: str) -> str:
        """Go past one of these keywords and return it, '' where none is here."""
        word = self.now.word
        if word and word in words:
            self.at += 1
            return word
        return ""

    def symbol(self, char: str) -> bool:
        """Go past this character, or stay."""
        if self.now.mark is Mark.SYMBOL and self.now.text == char:
            self.at += 1
            return True
        return False

    def sees_symbol(self, char: str) -> bool:
        return self.now.mark is Mark.SYMBOL and self.now.text == char

    def expect(self, char: str) -> None:
        """Go past this character. Raises UnreadError."""
        if not self.symbol(char):
            raise UnreadError(f"{char} expected at {self.now.start}")

    def name(self) -> str:
        """Go past a name, quoted or not, and return it. Raises UnreadError."""
        token = self.next()
        if token.mark not in (Mark.WORD, Mark.NAME):
            raise UnreadError(f"a name expected at {token.start}")
        return token.text

    def table_part(self) -> str:
        """Go past a database's or table's name, in lower case where the server keeps them so. Raises UnreadError."""
        return self.name().lower() if self.lower_names else self.name()

    def inside(self) -> Reader:
        """Go past a pair of parentheses and return a reader of what is between them. Raises UnreadError."""
        self.expect("(")
        first, depth = self.at, 1
        while depth:
            token = self.next()
            if token.mark is Mark.END:
                raise UnreadError("a parenthesis is not closed")
            if token.mark is Mark.SYMBOL:
                depth += {"(": 1, ")": -1}.get(token.text, 0)
        return self._part(first, self.at - 1)

    def split(self, char: str = ",") -> list[Reader]:
        """Return readers of the parts between top-level commas, up to the end."""
        parts: list[Reader] = []
        first = self.at
        depth = 0
        while not self.ended:
            token = self.next()
            if token.mark is not Mark.SYMBOL:
                continue
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            if depth < 0:
                raise UnreadError("a parenthesis too many")
            if depth == 0 and token.text == char:
                parts.append(self._part(first, self.at - 1))
                first = self.at
        if depth:
            raise UnreadError("a parenthesis is not closed")
        parts.append(self._part(first, self.at))
        return parts

    def _part(self, first: int, last: int) -> Reader:
        position = self.items[last].start
        items = [*self.items[first:last], Token(Mark.END, "", position, position)]
        return Reader(self.sql, items, lower_names=self.lower_names)

    def text(self) -> str:
        """Return what is left, as written."""
        if self.ended:
            return ""
        return self.sql[self.now.start : self.items[-2].end]


def reader(sql: str, flavour: Flavour, sql_mode: int = 0, *, lower_names: bool = False) -> Reader:
    """Return a reader of the statement; a semicolon at its end is left out. Raises UnreadError."""
    items = list(tokens(sql, flavour, sql_mode))
    while len(items) > 1 and items[-2].mark is Mark.SYMBOL and items[-2].text == ";":
        del items[-2]
    return Reader(sql, items, lower_names=lower_names)
