"""The report in Dutch or English: the English text is the key, ``texts/nl.toml`` holds the Dutch one.

As in the portal, whole sentences with named gaps are translated, never pieces that are put together.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "nl")
UNKNOWN = "–"
_TEXTS = Path(__file__).parent / "texts"


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """English text to the language's own; empty for English."""
    return {} if language == "en" else tomllib.loads((_TEXTS / f"{language}.toml").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Language:
    """How one reader reads: texts and numbers."""

    code: str = "en"

    def __call__(self, text: str, /, **values: object) -> str:
        """The text in the language, its gaps filled: ``t("{count} rooms", count=3)``."""
        found = catalogue(self.code).get(text, text)
        return found.format(**values) if values else found

    def number(self, value: float | None, digits: int = 1, *, sign: bool = False) -> str:
        """``5.1`` or ``5,1``, with its sign where asked for; a dash for unknown."""
        if value is None:
            return UNKNOWN
        text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
        return text.replace(".", ",") if self.code == "nl" else text

    def percent(self, value: float | None, *, digits: int = 1, sign: bool = False) -> str:
        """``0.051`` as ``5.1 %``; a dash for unknown."""
        return UNKNOWN if value is None else f"{self.number(value * 100, digits, sign=sign)} %"
