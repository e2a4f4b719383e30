"""Figures shared with another organisation: those buildings, those figures, and every look written down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from analytics.accounts.rights import Role
from tests.analytics.portal_parts import ORG, Site, simulated_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with simulated_site(tmp_path_factory.mktemp("shared"), rooms=5, weeks=4) as site:
        yield site


def test_a_share_shows_its_buildings_and_no_more_until_it_is_withdrawn(site: Site) -> None:
    shares, chief = site.portal.shares, site.chief(ORG)
    rooms = {room.building_id: room for room in site.store.rooms(ORG)}
    mine, other = sorted(rooms)[:2]
    names = {b.id: b.name for b in site.store.buildings(ORG)}
    secret = shares.offer(chief, ORG, [mine], "the neighbours", days=9).secret
    reader = site.person(Role.VIEWER, org="other")
    assert "Nothing is shared with you" in reader.get("/o/other/shared").text
    share = shares.activate(chief, "other", secret)
    assert "share with you: 1" in reader.get("/o/other/overview").text
    assert "the neighbours" in reader.get("/o/other/shared").text
    before = len(site.portal.audit.entries(ORG)), len(site.portal.audit.entries("other"))
    answer = reader.post("/o/other/shared", data={"share": share.id})
    assert answer.status_code == 200
    assert names[mine] in answer.text and "Booked, not used" in answer.text
    assert names[other] not in answer.text
    assert "meeting" not in answer.text and "Dutch Law" not in answer.text
    assert "Simulated data" in answer.text
    after = len(site.portal.audit.entries(ORG)), len(site.portal.audit.entries("other"))
    assert after == (before[0] + 1, before[1] + 1)
    assert site.portal.audit.entries(ORG, limit=1)[0].actor == "organisation other"
    assert reader.get(f"/o/{ORG}/overview").status_code == 404
    stranger = site.person(Role.VIEWER, org="empty")
    assert stranger.post("/o/empty/shared", data={"share": share.id}).status_code == 404
    shares.withdraw(chief, ORG, share.id)
    assert reader.post("/o/other/shared", data={"share": share.id}).status_code == 404


def test_a_share_may_demand_the_readers_pin(site: Site) -> None:
    shares, chief = site.portal.shares, site.chief(ORG)
    building = site.store.buildings(ORG)[0].id
    secret = shares.offer(chief, ORG, [building], "with a pin", days=9, demands_pin=True).secret
    share = shares.activate(chief, "other", secret)
    reader = site.person(Role.VIEWER, org="other")
    for pin in ("", "1234"):
        answer = reader.post("/o/other/shared", data={"share": share.id, "pin": pin})
        assert answer.status_code == 403
        assert "Booked, not used" not in answer.text
        assert "demands your personal PIN" in answer.text
