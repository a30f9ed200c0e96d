"""Charsets and collations of one server: what a column has where its definition leaves them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Charsets:
    """A server's charsets: default collation and bytes of a character by charset, charset by collation.

    `names` are collations by their number. `utf8` is what the alias stands for (MariaDB: `old_mode`).
    """

    defaults: Mapping[str, str]
    widths: Mapping[str, int]
    charset_of: Mapping[str, str]
    names: Mapping[int, str] = field(default_factory=dict)
    utf8: str = "utf8mb3"

    def charset(self, name: str) -> str:
        """Return the charset as this server calls it; raises KeyError for one that it does not have."""
        for candidate in (self.utf8,) if name == "utf8" else (name,):
            if candidate in self.defaults:
                return candidate
        if name in ("utf8", "utf8mb3") and "utf8" in self.defaults:  # MySQL up to 8.0.28
            return "utf8"
        raise KeyError(name)

    def collation(self, name: str) -> str:
        """Return the collation as this server calls it; raises KeyError for one that it does not have."""
        if name in self.charset_of:
            return name
        first, _, rest = name.partition("_")
        for candidate in (f"utf8mb3_{rest}", f"utf8_{rest}"):
            if first in ("utf8", "utf8mb3") and candidate in self.charset_of:
                return candidate
        raise KeyError(name)

    def with_defaults(self, changed: Mapping[str, str]) -> Charsets:
        """Return them with a session's own default collations (`default_collation_for_utf8mb4` and the like)."""
        return replace(self, defaults={**self.defaults, **changed}) if changed else self

    def resolve(self, charset: str, collation: str, binary: bool, otherwise: str) -> tuple[str, str]:
        """Return charset and collation of a column that says this much; `otherwise` is its table's collation.

        Raises:
            KeyError: a name that this server does not know.
        """
        if collation and collation != "default":
            full = self._contextual(collation, charset, otherwise)
            return self.charset_of[full], full
        if charset:
            known = self.charset(charset)
            return known, self._binary(known) if binary else self.defaults[known]
        inherited = self.charset_of[otherwise]
        if collation == "default":
            return inherited, self.defaults[inherited]
        return inherited, self._binary(inherited) if binary else otherwise

    def _binary(self, charset: str) -> str:
        return "binary" if charset == "binary" else self.collation(f"{charset}_bin")

    def _contextual(self, collation: str, charset: str, otherwise: str) -> str:
        """Complete MariaDB's collations without a charset: `uca1400_ai_ci`."""
        try:
            return self.collation(collation)
        except KeyError:
            known = self.charset(charset) if charset else self.charset_of[otherwise]
            return self.collation(f"{known}_{collation}")
