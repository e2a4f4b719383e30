"""A sensor becomes part of its board: systemd units with a narrow sandbox, a user of its own, a state folder."""
