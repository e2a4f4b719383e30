"""Where counts, master data and the timetable are kept: one Protocol, two implementations."""
