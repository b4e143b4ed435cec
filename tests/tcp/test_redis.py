"""The example with a real driver, over a Redis from the system's packages and over the small one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALLED = shutil.which("redis-server")


@pytest.mark.parametrize(
    "real", [False, pytest.param(True, marks=pytest.mark.skipif(not INSTALLED, reason="needs redis-server"))]
)
def test_no_command_is_lost_once_the_dead_server_is_ejected(real):
    path = os.environ["PATH"] if real else ""
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    run = [sys.executable, "-W", "error", str(ROOT / "examples" / "redis_client.py")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=50, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("redis-server on" in done.stdout) is real
    assert "200 commands, none failed" in done.stdout
