"""Plain types and pure functions: occupancy, matching, metrics. No input or output here."""
