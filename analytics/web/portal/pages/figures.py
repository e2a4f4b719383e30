"""The pages with figures: Now, Overview, Rooms, Room, Bookings, Compare."""

from __future__ import annotations

from analytics.web.portal import charts
from analytics.web.portal.pages.figures_bookings import add_bookings_page
from analytics.web.portal.pages.figures_compare import add_compare_page
from analytics.web.portal.pages.figures_now import add_now_page
from analytics.web.portal.pages.figures_overview import add_overview_page
from analytics.web.portal.pages.figures_room import add_room_page
from analytics.web.portal.pages.figures_rooms import add_rooms_page
from analytics.web.portal.pages.figures_shared import add_shared_page
from analytics.web.portal.view import templates
from analytics.web.portal.visit import Pages

templates.globals.update(plotly_style_ids=charts.style_ids)


def add_figure_pages(pages: Pages) -> None:
    """Register the routes."""
    add_now_page(pages)
    add_overview_page(pages)
    add_rooms_page(pages)
    add_room_page(pages)
    add_bookings_page(pages)
    add_compare_page(pages)
    add_shared_page(pages)
