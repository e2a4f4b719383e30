"""Which adapters there are: ours and those that other packages add under the entry point group."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from .base import Adapter, ConfigurationError

GROUP = "headroom.timetable_adapters"


def adapters() -> dict[str, str]:
    """Name of each adapter to the object that implements it (``module:Class``); nothing is imported yet."""
    return {entry.name: entry.value for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def load(name: str) -> type[Adapter[Any]]:
    """The class of one adapter.

    Raises:
        ConfigurationError: unknown, or what it needs is not installed.
    """
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        raise ConfigurationError(f"kind: there is no adapter {name!r}; there are: {', '.join(adapters())}")
    try:
        adapter = found[0].load()
    except ImportError as error:
        raise ConfigurationError(
            f"kind: the adapter {name!r} needs {error.name or 'a package'}, which is missing"
        ) from error
    if not (isinstance(adapter, type) and issubclass(adapter, Adapter)):
        raise ConfigurationError(f"kind: {name!r} is registered, but is no timetable adapter")
    return adapter
