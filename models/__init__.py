"""The ONNX models that ship, the registry of models that can be pulled, and the training recipe.

Inside this package imports are relative: it is loaded under another name where a user's own ``models`` package
stands in the way (docs/architecture.md).
"""

from __future__ import annotations

import os

# Official builds of ONNX Runtime report to their maker from their import on, unless this is set before it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
