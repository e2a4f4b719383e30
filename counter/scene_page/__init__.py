"""The local page on which lines and zones are drawn; see :mod:`counter.scene_page.server`."""
