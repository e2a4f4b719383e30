"""Every text of the portal has a Dutch one, with the same gaps."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from analytics.web.portal.core import HERE
from analytics.web.portal.language import UNKNOWN, Language, catalogue
from analytics.web.portal.pages.audit import ACTIONS

CALL = re.compile(r"""\bt\(\s*"((?:[^"\\]|\\.)*)\"""")


def texts_of(path: Path) -> set[str]:
    return {text.replace('\\"', '"') for text in CALL.findall(path.read_text("utf-8"))}


@pytest.mark.parametrize(
    "path",
    sorted(HERE.rglob("*.html")) + [path for path in sorted(HERE.rglob("*.py")) if path.name != "language.py"],
    ids=lambda path: path.name,
)
def test_every_text_has_a_dutch_one(path: Path) -> None:
    missing = sorted(text for text in texts_of(path) if text and text not in catalogue("nl"))
    assert not missing, f"add to texts/nl*.toml: {missing}"


def test_every_action_of_the_audit_log_has_words() -> None:
    """A new action is one that the program names and the table does not."""
    kinds = "|".join(sorted({action.partition(".")[0] for action in ACTIONS if "." in action}))
    named = re.compile(rf'"((?:{kinds})\.[a-z-]+)"')
    written = {one for path in HERE.parents[1].rglob("*.py") for one in named.findall(path.read_text("utf-8"))}
    written = {one for one in written if not one.endswith((".html", ".toml"))}
    assert written == {action for action in ACTIONS if "." in action}


def test_both_languages_have_the_same_gaps() -> None:
    for english, dutch in catalogue("nl").items():
        assert set(re.findall(r"\{(\w*)", english)) == set(re.findall(r"\{(\w*)", dutch)), english


def test_numbers_dates_and_the_unknown() -> None:
    nl, en = (Language(code, ZoneInfo("Europe/Amsterdam")) for code in ("nl", "en"))
    assert (nl.number(1234.5, 1), en.number(1234.5, 1)) == ("1.234,5", "1,234.5")
    assert nl.percent(1.25) == "125\u202f%"
    assert nl.number(None) == nl.percent(float("nan")) == UNKNOWN
    assert nl.date(date(2026, 3, 3)) == "di 3 mrt 2026"
    assert nl.moment(datetime(2026, 7, 1, 12, tzinfo=UTC)) == "wo 1 jul 2026 14:00"
