"""The page of the matching rules: every rule, with the value that each building is judged by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from html import unescape

import pytest

from analytics.accounts.rights import Role
from analytics.domain.model import Building
from analytics.domain.plan import MatchRules
from analytics.web.portal.language import catalogue
from analytics.web.portal.pages.settings_rules import GROUPS, Unit
from tests.analytics.portal_parts import ORG, Site, simulated_site

RULES = {rule.name: rule for _, rules in GROUPS for rule in rules}
PAGE = f"/o/{ORG}/settings/rules"
QUARTER, TECHNICAL = "sim-quarter", "sim-technical"
"""Buildings of the simulated campus that have rooms; the first one gets rules of its own."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with simulated_site(tmp_path_factory.mktemp("rules"), rooms=3, weeks=1) as made:

        def rules_of(building: Building) -> MatchRules:
            ours = MatchRules(late=12, over_people=1.5)
            if building.id != QUARTER:
                return ours
            return replace(ours, start_offset=15, grace=20, breaks=((630, 645), (900, 915)), min_coverage=0.625)

        made.app.state.portal = made.portal = replace(made.portal, rules_of=rules_of)
        yield made


def row(text: str, name: str) -> str:
    found = re.search(rf"<tr><th scope=\"row\">[^<]*<code>{name}</code>.*?</tr>", text, re.DOTALL)
    assert found is not None, f"{name} is not on the page"
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", found.group())).split())


def test_every_rule_is_explained_in_both_languages() -> None:
    assert list(RULES) != []
    assert set(RULES) == {field.name for field in fields(MatchRules)} - {"version"}
    for rule in RULES.values():
        assert rule.text.endswith(".")
        assert {rule.title, rule.text} <= set(catalogue("nl"))


def test_units_fit_their_values() -> None:
    shipped = MatchRules()
    for name, rule in RULES.items():
        value = getattr(shipped, name)
        assert (rule.unit is Unit.TIMES) == isinstance(value, tuple)
        assert (rule.unit is Unit.SHARE) == (name in {"min_coverage", "dip", "over_share"})
        assert (rule.unit is Unit.PEOPLE) == (name in {"min_people", "over_people"})


def test_a_value_says_where_it_comes_from_and_where_it_holds(site: Site) -> None:
    text = site.person(Role.CONTROLLER).get(PAGE).text
    names = {building.id: building.name for building in site.store.buildings(ORG)}
    first = names.pop(QUARTER)
    assert row(text, "late").endswith("12 min set here; shipped: 10 min"), "one value for all: no building is named"
    assert row(text, "bridge").endswith("15 min as shipped")
    assert row(text, "over_people").endswith("1.5 people set here; shipped: 1 person")
    assert f"15 min {first} set here; shipped: 0 min" in row(text, "start_offset")
    assert f"10:30–10:45, 15:00–15:15 {first} set here; shipped: none" in row(text, "breaks")
    assert f"62.5\u202f% {first}".replace("\u202f", " ") in row(text, "min_coverage")
    assert all(other in row(text, "start_offset") for other in names.values())


def test_in_dutch(site: Site) -> None:
    text = site.person(Role.CONTROLLER, language="nl").get(PAGE).text
    assert row(text, "late").endswith("12 min hier ingesteld; standaard: 10 min")
    assert "1,5 mensen" in row(text, "over_people")
    assert "geen" in row(text, "breaks")


def test_whoever_sees_figures_sees_the_rules_of_their_buildings(site: Site) -> None:
    """A viewer has no other part of the settings; a page with outcomes leads to this one."""
    viewer = site.person(Role.VIEWER, buildings=frozenset({TECHNICAL}))
    text = viewer.get(PAGE).text
    assert row(text, "start_offset").endswith("0 min as shipped")
    assert "Arts" not in text
    assert re.findall(r'href="(/o/[^"]*/settings[^"]*)"', text) == [PAGE]
    assert PAGE in viewer.get(f"/o/{ORG}/overview").text
    assert PAGE in site.person(Role.TIMETABLER).get(f"/o/{ORG}/bookings?show=no_show").text


def test_who_sees_no_figures_is_refused(site: Site) -> None:
    operator = site.person(Role.OPERATOR)
    assert operator.get(PAGE).status_code == 403
    assert "settings/rules" not in operator.get(f"/o/{ORG}/settings").text


def test_an_organisation_without_buildings_gets_the_rules_of_a_new_one(site: Site) -> None:
    text = site.person(Role.CONTROLLER, org="empty").get("/o/empty/settings/rules").text
    assert row(text, "late").endswith("12 min set here; shipped: 10 min")


def test_a_figure_that_hangs_on_a_rule_names_its_value(site: Site) -> None:
    for buildings, minutes in (((), "10–20"), ((QUARTER,), "20"), ((TECHNICAL,), "10")):
        reader = site.person(Role.VIEWER, buildings=frozenset(buildings))
        text = reader.get(f"/o/{ORG}/overview?from=2026-09-07&to=2026-09-11").text
        assert f"were released {minutes} min after their start" in text
