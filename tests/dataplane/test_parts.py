"""The parts of the data plane stand alone: an own client can take one of them and leave the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_router_balancer_detector_breaker_and_bucket_work_alone_and_import_nothing_else():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = [sys.executable, "-W", "error", str(ROOT / "examples" / "parts.py")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=50, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "router: /admin/users takes rule 'admin'",
        "balancer: 10.0.0.3:80 is idle",
        "hash: user-1 belongs to worker 2",
        "detector: 10.0.0.1:80 is out until 41 s",
        "breaker: open after 2 errors in a row, tried again from 12 s",
        "bucket: [True, True, False]",
        "imported besides the standard library: nothing",
    ]
