"""What all tests share: where the real footage lies, and a clean environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with real footage; the test skips with the reason where it is not there."""
    value = os.environ.get("HEADROOM_DATA", "")
    if not value:
        pytest.skip("HEADROOM_DATA names no folder with real footage")
    folder = Path(value)
    if not (folder / "truth.json").is_file():
        pytest.skip(f"HEADROOM_DATA={value}: there is no truth.json in it")
    return folder
