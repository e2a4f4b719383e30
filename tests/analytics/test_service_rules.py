"""Portal, API and scheduled roll-ups judge by the same rules of the site."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

import headroom
from analytics.domain.model import Building
from analytics.site_rules import RULES_FILE
from tests.analytics.service_parts import bench

ARTS, OTHER = (Building("default", name, name) for name in ("arts", "other"))


def test_pages_and_roll_ups_share_the_rules_of_the_file(tmp_path: Path) -> None:
    (tmp_path / RULES_FILE).write_text("[building.arts]\nstart_offset = 15\n")
    with bench(tmp_path) as parts:
        rules = parts.services.portal.rules_of
        assert (rules(ARTS).start_offset, rules(OTHER).start_offset) == (15, 0)
        assert parts.services.jobs._rules_of is rules


def test_wrong_rules_end_the_start_with_the_field_named(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    folder.mkdir(mode=0o700)
    (folder / RULES_FILE).write_text('[default]\nlate = "soon"\n')
    result = CliRunner().invoke(headroom.cli, ["serve", "--data", str(folder), "--port", "0"])
    assert result.exit_code == 2
    assert "late" in result.output
