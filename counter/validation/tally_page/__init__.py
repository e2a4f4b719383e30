"""Files of the tally page; see :mod:`counter.validation.server`."""
