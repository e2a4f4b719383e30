"""docs/definitions.md says what the code computes."""

from __future__ import annotations

import re
from pathlib import Path

from analytics.domain.matching import Outcome
from analytics.domain.metrics import DEFINITION, FIGURES
from analytics.domain.occupancy import METHOD
from analytics.domain.plan import MatchRules

PAGE = (Path(__file__).parents[2] / "docs" / "definitions.md").read_text("utf-8")


def test_every_figure_is_on_the_page_with_its_unit_and_formula() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (\w+) \| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert {name: (unit, formula) for name, unit, formula in rows} == {
        name: (figure.unit, figure.formula) for name, figure in FIGURES.items()
    }


def test_versions_and_outcomes_are_on_the_page() -> None:
    for version in (DEFINITION, METHOD, MatchRules().version):
        assert f"**{version}**" in PAGE
    for outcome in Outcome:
        assert f"| {outcome.word.replace('_', ' ').replace('no show', 'no-show')} |" in PAGE
