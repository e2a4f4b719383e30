"""Imported before anything else here: a counter reports to nobody.

Official Linux builds of ONNX Runtime from 1.29 on send telemetry (hashes and sizes of models, the kind of machine) to
their maker from the moment of their import, and keep a database of it in the cache folder. The variable is read at
that import; https://github.com/microsoft/onnxruntime/pull/27379.
"""

from __future__ import annotations

import os

VARIABLE = "ORT_DISABLE_TELEMETRY"
os.environ[VARIABLE] = "1"
