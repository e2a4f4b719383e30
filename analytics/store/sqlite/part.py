"""What every part of the embedded store leans on."""

from __future__ import annotations

import json
from collections.abc import Collection

from analytics.store.sealing import NameSealer
from analytics.store.sqlite.connection import Connections


class Part:
    """A part of the store: it shares the connections and the sealer."""

    connections: Connections
    sealer: NameSealer


def id_list(ids: Collection[str]) -> str:
    """For ``IN (SELECT value FROM json_each(?))``: any number of ids as one parameter."""
    return json.dumps(list(ids))
