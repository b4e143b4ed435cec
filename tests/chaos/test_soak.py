"""A short soak: what ten minutes of ``benchmarks/soak.py`` hold, in ten seconds."""

from __future__ import annotations

import json

import pytest

from tests.chaos.scripts import script


@pytest.mark.slow
def test_nothing_is_left_behind_by_flapping_servers_pushes_and_callers_that_give_up():
    report = script("soak").Soak(seconds=10.0, seed=2).run()
    assert report["ok"], json.dumps(report)
    assert report["pushes"] >= 5
    assert report["outcomes"].get("200", 0) > 100
    assert report["outcomes"].get("cancelled", 0) > 0
