"""What meshlib decides about a request is what a real Envoy decides from the same snapshot.

The seed is fixed here; ``nox -s differential`` takes a random one and more worlds.
"""

from __future__ import annotations

import os
import random

import pytest

pytest.importorskip("envoy.config.route.v3", reason="xds-protos is not installed: pip install 'meshlib[test]'")

from tests.differential.batch import Pair, compare
from tests.differential.configurations import world
from tests.differential.requests import asked
from tests.differential.shrink import shrunk, story
from tests.differential.upstream import Upstream
from tests.envoy import ABSENT, ENVOY

pytestmark = pytest.mark.skipif(ENVOY is None, reason=ABSENT)

SEED = int(os.environ.get("MESHLIB_DIFFERENTIAL_SEED", "20"))
PAIRS = int(os.environ.get("MESHLIB_DIFFERENTIAL_PAIRS", "2400"))
OF_ONE_WORLD = 8
WORLDS_AT_ONCE = 300
SHOWN = 3


@pytest.fixture(scope="module")
def upstream():
    server = Upstream(10)
    yield server
    server.close()


@pytest.mark.timeout(600)
def test_every_decision_is_envoys(upstream):
    rng = random.Random(SEED)
    left = PAIRS
    while left > 0:
        pairs = []
        for number in range(min(WORLDS_AT_ONCE, -(-left // OF_ONE_WORLD))):
            made = world(rng, number, upstream.ports)
            pairs.extend(Pair(made, asked(rng, made)) for _ in range(OF_ONE_WORLD))
        left -= len(pairs)
        found = compare(pairs, upstream.ports[9])
        if found:
            smallest = [story(shrunk(each, upstream.ports[9])) for each in found[:SHOWN]]
            pytest.fail("\n\n".join([f"seed {SEED}: {len(found)} of {len(pairs)} pairs differ", *smallest]), False)
