"""What all tests share: where the real footage lies, and a clean environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says something about the machine, not about the code: timed things are benchmarks.
settings.register_profile("headroom", deadline=None)
settings.load_profile("headroom")


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
