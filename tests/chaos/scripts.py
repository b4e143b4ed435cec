"""The scripts of ``benchmarks/`` as modules, so that tests hold what the documentation says of them."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from tests.chaos.peers import ROOT

__all__ = ["script"]


def script(name: str) -> ModuleType:
    """``benchmarks/NAME.py``."""
    spec = spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
