"""The pages with figures: Now, Overview, Rooms, Room, Bookings, Compare."""

from __future__ import annotations

from analytics.web.portal.pages.figures_now import add_now_page
from analytics.web.portal.pages.figures_overview import add_overview_page
from analytics.web.portal.pages.figures_room import add_room_page
from analytics.web.portal.pages.figures_rooms import add_rooms_page
from analytics.web.portal.visit import Pages


def add_figure_pages(pages: Pages) -> None:
    """Register the routes."""
    add_now_page(pages)
    add_overview_page(pages)
    add_rooms_page(pages)
    add_room_page(pages)
