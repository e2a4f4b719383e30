"""The way to our ``models`` package, also where another package of that name stands in front of it.

Detector repositories have a ``models/`` folder of their own, and people run Headroom from inside them: then ``import
models`` finds theirs. Ours lies beside this package and is loaded from there under the name ``headroom_models``; it
uses relative imports only, so it does not mind.

``uplink`` needs no such care: only ``counter.counting`` imports it, no known project has a package of that name, and an
import of a wrong one fails at once with the name it lacks (docs/architecture.md).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ALIAS = "headroom_models"
_OURS = Path(__file__).resolve().parent.parent / "models"


def load(name: str = "") -> ModuleType:
    """Our ``models`` package, or its module ``name`` (``"registry"``).

    Raises:
        ModuleNotFoundError: the installation is damaged, or a dependency of the module is missing.
    """
    package = _package()
    return importlib.import_module(f"{package}.{name}") if name else sys.modules[package]


def _package() -> str:
    for name in ("models", ALIAS):
        module = sys.modules.get(name)
        if module is not None and _is_ours(getattr(module, "__file__", None)):
            return name
    if "models" not in sys.modules:
        try:
            spec = importlib.util.find_spec("models")
        except (ImportError, ValueError):
            spec = None
        if spec is not None and _is_ours(spec.origin):
            importlib.import_module("models")
            return "models"
    spec = importlib.util.spec_from_file_location(ALIAS, _OURS / "__init__.py", submodule_search_locations=[str(_OURS)])
    if spec is None or spec.loader is None or not (_OURS / "__init__.py").is_file():
        raise ModuleNotFoundError(f"the package 'models' of Headroom is not in {_OURS}; install Headroom again")
    module = importlib.util.module_from_spec(spec)
    sys.modules[ALIAS] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[ALIAS]
        raise
    return ALIAS


def _is_ours(file: str | None) -> bool:
    return file is not None and Path(file).resolve().parent == _OURS
