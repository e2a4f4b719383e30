"""rules.toml: academic quarters and breaks of each building."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics.domain.model import Building
from analytics.domain.plan import MatchRules
from analytics.site_rules import RulesError, load_rules

ARTS, OTHER = Building("org", "arts", "Arts"), Building("org", "other", "Other")


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load_rules(tmp_path)(ARTS) == MatchRules()


def test_a_building_stands_above_the_default(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(
        "[default]\nlate = 12\nmin_coverage = 1\n"
        '[building.arts]\nstart_offset = 15\nbreaks = ["10:30-10:45", "23:00-24:00"]\n'
    )
    rules_of = load_rules(tmp_path)
    assert rules_of(OTHER) == MatchRules(late=12, min_coverage=1.0)
    assert rules_of(ARTS) == MatchRules(late=12, min_coverage=1.0, start_offset=15, breaks=((630, 645), (1380, 1440)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("late = 3", r"\[late\] is no section"),
        ("[default]\nlatte = 3", "latte: no such rule"),
        ("[default]\nlate = 3.5", "late = 3.5: expected a whole number"),
        ("[default]\nlate = true", "expected a whole number"),
        ("[default]\nbreaks = ['10:45-10:30']", "10:45-10:30"),
        ("[default]\nmin_people = 0", "min_people is 0"),
        ("[building]\narts = 3", r"\[building.arts\] is no section"),
        ("building = 3", "write"),
        ("[", "rules.toml"),
    ],
)
def test_wrong_rules_name_file_section_field_and_value(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(RulesError, match=message):
        load_rules(tmp_path)
