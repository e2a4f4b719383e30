"""Rules of each site, from ``rules.toml`` in the service's data folder.

Every line is optional; times are minutes, breaks local times::

    [default]                # for every building
    late = 10

    [building.arts]          # by the building's id; stands above the default
    start_offset = 15        # academic quarter: the first fifteen minutes are not taught
    breaks = ["10:30-10:45", "15:00-15:15"]

Names are those of `analytics.domain.plan.MatchRules`. The file is read when the service starts; when a building's rules
are others than before, the past year is computed again (`analytics.rule_changes`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from analytics.assemble import RulesOf
from analytics.domain.model import Building
from analytics.domain.plan import MatchRules

RULES_FILE = "rules.toml"
_KINDS = {
    f.name: type(getattr(MatchRules(), f.name)) for f in fields(MatchRules) if f.name not in ("breaks", "version")
}
_BREAK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


class RulesError(Exception):
    """The rules cannot be used; the message names the file, section, field and value."""


def load_rules(folder: Path) -> RulesOf:
    """Rules by building; those of ``MatchRules`` where the file, or a section in it, is absent.

    Raises:
        RulesError: not readable, an unknown name, or a value that does not fit.
    """
    path = folder / RULES_FILE
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        document = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RulesError(f"{path}: {error}") from None
    for name in document:
        if name not in ("default", "building"):
            raise RulesError(f"{path}: [{name}] is no section; there are [default] and [building.ID]")
    default = _values(path, "default", document.get("default", {}))
    common = _rules(path, "default", default)
    sections = document.get("building", {})
    if not isinstance(sections, Mapping):
        raise RulesError(f"{path}: building is no section; write [building.ID]")
    by_building = {
        name: _rules(path, f"building.{name}", default | _values(path, f"building.{name}", section))
        for name, section in sections.items()
    }

    def rules_of(building: Building) -> MatchRules:
        return by_building.get(building.id, common)

    return rules_of


def _values(path: Path, section: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise RulesError(f"{path}: [{section}] is no section")
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name == "breaks":
            values[name] = _breaks(path, section, value)
            continue
        kind = _KINDS.get(name)
        if kind is None:
            raise RulesError(f"{path}: [{section}] {name}: no such rule; there are breaks, {', '.join(_KINDS)}")
        if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
            raise RulesError(f"{path}: [{section}] {name} = {value!r}: expected a {'whole ' * (kind is int)}number")
        values[name] = kind(value)
    return values


def _breaks(path: Path, section: str, value: Any) -> tuple[tuple[int, int], ...]:
    found = []
    for text in value if isinstance(value, list) else [value]:
        match = _BREAK.fullmatch(text) if isinstance(text, str) else None
        begin, end = (60 * int(match[1]) + int(match[2]), 60 * int(match[3]) + int(match[4])) if match else (0, 0)
        if not begin < end <= 1440:
            raise RulesError(f'{path}: [{section}] breaks {text!r}: expected times such as "10:30-10:45"')
        found.append((begin, end))
    return tuple(found)


def _rules(path: Path, section: str, values: Mapping[str, Any]) -> MatchRules:
    try:
        return MatchRules(**values)
    except ValueError as error:
        raise RulesError(f"{path}: [{section}] {error}") from None
