"""What keeps the house livable: light imports, public names, docstrings, a core without clocks."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "meshlib"
FILES = sorted(SOURCE.rglob("*.py"))
PUBLIC = [
    "meshlib",
    "meshlib.config.resources",
    "meshlib.diff",
    "meshlib.context",
    "meshlib.errors",
    "meshlib.grpc",
    "meshlib.grpc.aio",
    "meshlib.grpc.server",
    "meshlib.httpx",
    "meshlib.httpx2",
    "meshlib.providers",
    "meshlib.testing",
]
CORE = ("dataplane", "model", "config/compile", "config/validation")
BANNED = {
    "time": {"time", "sleep", "monotonic", "perf_counter"},
    "random": {"random", "choice", "randrange", "randint", "uniform", "shuffle"},
    "asyncio": {"sleep"},
    "socket": {"socket", "create_connection", "getaddrinfo"},
}


def test_importing_meshlib_is_light():
    heavy = ["grpc", "google.protobuf", "opentelemetry", "pydantic", "httpx", "httpx2", "yaml", "re2", "anyio"]
    program = f"import sys, meshlib; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist(name):
    module = importlib.import_module(name)
    assert module.__all__ == sorted(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_module_says_what_it_holds_and_stays_small(path):
    text = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert text.count("\n") <= 600


@pytest.mark.parametrize("folder", CORE)
def test_the_core_has_no_clock_and_no_luck(folder):
    for path in sorted((SOURCE / folder).rglob("*.py")):
        if "drivers" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.attr not in BANNED.get(node.value.id, ()), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.ImportFrom) and node.module in BANNED:
                names = {alias.name for alias in node.names}
                assert not names & BANNED[node.module], f"{path.name}:{node.lineno}"
