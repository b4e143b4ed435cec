"""The sizing of pools: Little's law, held by a simulation of what it promises."""

from __future__ import annotations

import heapq
import json
import random

import pytest
import yaml
from click.testing import CliRunner

from meshlib.cli.commands import meshlib
from meshlib.sizing import size


def test_what_is_under_way_is_rate_times_latency_and_the_swing_comes_on_top():
    found = size(500, 0.040)
    assert found.under_way == pytest.approx(20)
    assert (found.max_connections, found.max_pending) == (34, 34)
    assert found.idle_timeout == 59
    shared = size(500, 0.040, workers=8, wait=0.080)
    assert (shared.under_way, shared.max_connections, shared.max_pending) == (2.5, 8, 16)
    assert shared.total_connections == 64 > found.max_connections, "workers share nothing"


@pytest.mark.parametrize(("rps", "latency"), [(20, 0.1), (500, 0.04), (300, 0.5)])
def test_few_arrivals_find_every_connection_busy(rps, latency):
    connections, rng, now, busy, waited = size(rps, latency).max_connections, random.Random(7), 0.0, [], 0
    for _ in range(20_000):
        now += rng.expovariate(rps)
        while busy and busy[0] <= now:
            heapq.heappop(busy)
        waited += len(busy) >= connections
        heapq.heappush(busy, now + rng.expovariate(1 / latency))
    assert waited / 20_000 < 0.01


@pytest.mark.parametrize("wrong", [{"rps": 0}, {"latency": -1}, {"workers": 0}, {"wait": 0}, {"rps": float("nan")}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        size(**{"rps": 10, "latency": 0.1, **wrong})


def test_the_command_prints_what_goes_into_a_destination_rule():
    run = CliRunner().invoke(meshlib, ["size", "--rps", "500", "--latency", "40ms", "--workers", "8"])
    assert run.exit_code == 0, run.output
    block = yaml.safe_load(run.output[run.output.index("connectionPool:") :])
    assert block["connectionPool"]["tcp"] == {"maxConnections": 8}
    run = CliRunner().invoke(meshlib, ["size", "--rps", "500", "--latency", "0.04", "--output", "json"])
    assert json.loads(run.output)["max_connections"] == 34
    run = CliRunner().invoke(meshlib, ["size", "--rps", "0", "--latency", "1s"])
    assert run.exit_code == 2
    assert CliRunner().invoke(meshlib, ["size", "--rps", "1", "--latency", "soon"]).exit_code == 2
