"""The wire contract as JSON Schema, for people who write a sensor of their own: ``python -m uplink.schema FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from uplink.keyfiles import write_atomic
from uplink.messages import SCHEMA_VERSION, Batch, BatchAnswer, CountRecord

MODELS: dict[str, type[BaseModel]] = {
    f"count-record-v{SCHEMA_VERSION}.json": CountRecord,
    f"batch-v{SCHEMA_VERSION}.json": Batch,
    f"batch-answer-v{SCHEMA_VERSION}.json": BatchAnswer,
}


def document(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of one model. Unknown fields are allowed: a reader ignores them."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(by_alias=True)}


def text(model: type[BaseModel]) -> str:
    """The file's content."""
    return json.dumps(document(model), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write every schema into the named folder."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m uplink.schema FOLDER\n")
        return 2
    for name, model in MODELS.items():
        write_atomic(Path(arguments[0]) / name, text(model).encode(), mode=0o644)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
