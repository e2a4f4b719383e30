"""What goes wrong with a model, said so that a person can mend it."""

from __future__ import annotations


class ModelError(Exception):
    """A model is unknown, missing, damaged or cannot be used. The message names it and says what to do."""
