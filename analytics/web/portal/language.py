"""Dutch and English. The English text is the key, ``texts/nl*.toml`` hold the Dutch one; numbers and dates follow.

Whole sentences with named gaps are translated, never pieces that are put together.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from zoneinfo import ZoneInfo

from analytics.web.portal.core import HERE

LANGUAGES = ("nl", "en")
UNKNOWN = "–"
"""Stands where nothing is known: never 0."""
_DAYS = {
    "nl": ("ma", "di", "wo", "do", "vr", "za", "zo"),
    "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
}
_MONTHS = {
    "nl": ("jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"),
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
}


def t(text: str) -> str:
    """Mark a text for translation: the test that looks for Dutch ones finds it, the page that shows it translates."""
    return text


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """English text to the language's own."""
    if language == "en":
        return {}
    texts: dict[str, str] = {}
    for path in sorted((HERE / "texts").glob(f"{language}*.toml")):
        texts.update(tomllib.loads(path.read_text("utf-8")))
    return texts


@dataclass(frozen=True, slots=True)
class Language:
    """How one reader reads: texts, numbers, dates."""

    code: str
    zone: ZoneInfo

    def __call__(self, text: str, /, **values: object) -> str:
        """The text in the language, its gaps filled: ``t("{count} rooms", count=3)``."""
        found = catalogue(self.code).get(text, text)
        return found.format(**values) if values else found

    def number(self, value: float | None, digits: int = 0) -> str:
        """``1.234,5`` or ``1,234.5``; a dash for unknown."""
        if value is None or math.isnan(value):
            return UNKNOWN
        text = f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.code == "nl" else text

    def percent(self, value: float | None, digits: int = 0) -> str:
        """A ratio as a percentage; above 100 % is shown as such."""
        if value is None or math.isnan(value):
            return UNKNOWN
        return f"{self.number(value * 100, digits)}\u202f%"

    def date(self, value: date) -> str:
        """``di 3 mrt 2026``."""
        return f"{_DAYS[self.code][value.weekday()]} {value.day} {_MONTHS[self.code][value.month - 1]} {value.year}"

    def time(self, value: datetime) -> str:
        """Local wall clock, ``14:05``."""
        return value.astimezone(self.zone).strftime("%H:%M")

    def moment(self, value: datetime | None) -> str:
        """Date and time, local; a dash for never."""
        if value is None:
            return UNKNOWN
        local = value.astimezone(self.zone)
        return f"{self.date(local.date())} {local:%H:%M}"

    def weekday(self, number: int) -> str:
        """0 = Monday."""
        return _DAYS[self.code][number]
