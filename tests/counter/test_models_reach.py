"""The SDK works from a folder that holds a ``models`` package of its own, as detector repositories do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FIRST = "import sys; sys.path.insert(0, '.')\n"
CHECK = """
from counter import _models
ours = _models.load("registry")
assert ours.registry().models, ours
import models
assert models.MARK == "theirs", models
assert _models.load() is not models
assert _models.load("registry") is ours
print("fine")
"""


@pytest.mark.parametrize(
    "code",
    [
        FIRST + CHECK,
        FIRST + "import models, models.yolo\n" + CHECK,
        FIRST + "import models.yolo\nimport counter\n" + CHECK,
    ],
)
@pytest.mark.parametrize("as_package", [True, False])
def test_a_foreign_models_package_in_front(tmp_path: Path, code: str, as_package: bool) -> None:
    if as_package:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "__init__.py").write_text("MARK = 'theirs'\n")
        (tmp_path / "models" / "yolo.py").write_text("")
    else:
        (tmp_path / "models.py").write_text("MARK = 'theirs'\n")
        code = code.replace(", models.yolo", "").replace("import models.yolo", "import models")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr


def test_without_another_package_there_is_one_copy() -> None:
    code = "from counter import _models\nimport models\nassert _models.load() is models\nprint('fine')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr
