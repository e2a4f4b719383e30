"""Headroom works from a folder that holds a ``models/`` package of its own, as detector repositories do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from counter import _models

SCRIPT = """
import models                                   # theirs
import models.yolo
from counter import PeopleCounter, Detections   # ours
import numpy as np

assert models.WHOSE == "theirs", models.__file__
assert models.yolo.LAYERS == 3
counter = PeopleCounter(lambda frame: Detections.empty(), lines=["0.1,0.5,0.9,0.5"])
counter.update(np.zeros((48, 64, 3), np.uint8), 0.0)

from counter import _models
registry = _models.load("registry")
assert registry.registry().models, "our registry is read"
import models as again
assert again.WHOSE == "theirs", "ours never takes their place"
try:
    PeopleCounter("no-such-model")
except Exception as error:
    assert "no-such-model" in str(error) and next(iter(registry.registry().models)) in str(error), error
print("both work")
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder as detector repositories are: ``models/`` in its root, imported by its scripts."""
    package = tmp_path / "models"
    package.mkdir()
    (package / "__init__.py").write_text('WHOSE = "theirs"\n')
    (package / "yolo.py").write_text("LAYERS = 3\n")
    (package / "registry.py").write_text('raise ImportError("this registry is theirs")\n')
    (tmp_path / "train.py").write_text(SCRIPT)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(4):
        cv2.imwrite(str(pictures / f"{i}.png"), np.zeros((48, 64, 3), np.uint8))
    return tmp_path


def run(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [*command], cwd=folder, env=kept | env, capture_output=True, text=True, timeout=240, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_script_gets_its_own_models_and_our_counter(repository: Path) -> None:
    done = run(repository, sys.executable, "train.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "both work"


@pytest.mark.parametrize("how", ["program", "module", "PYTHONPATH"])
def test_the_program_finds_its_own_registry(repository: Path, how: str) -> None:
    """An unknown name is answered with our registry's names, however the program is started."""
    program = [str(Path(sys.executable).with_name("headroom"))]
    command = [sys.executable, "-m", "headroom"] if how == "module" else program
    env = {"PYTHONPATH": str(repository)} if how == "PYTHONPATH" else {}
    done = run(repository, *command, "count", "pictures", "--fps", "2", "--model", "no-such-model", **env)
    assert done.returncode == 2, done.stderr
    known = next(iter(_models.load("registry").registry().models))
    assert known in " ".join(done.stderr.split()), "the names that our registry offers"


@pytest.mark.footage
def test_the_program_counts_there(repository: Path, data_folder: Path, tmp_path: Path) -> None:
    clip = data_folder / "footage" / "people-detection.gif"
    done = run(repository, sys.executable, "-m", "headroom", "count", str(clip), "--json", "--out", "counts.csv")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 23
    assert (repository / "counts.csv").is_file()
