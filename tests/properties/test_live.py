"""A live call over any configuration answers, or raises what the documentation names; and leaves nothing behind."""

from __future__ import annotations

import random

import httpx
from hypothesis import given
from hypothesis import strategies as st

from meshlib.dataplane.outcome import Failure
from meshlib.errors import MeshError
from meshlib.httpx import MeshTransport
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from meshlib.transport.base import WireError
from tests.strategies import bounded, requests, worlds

STEPS = st.lists(
    st.sampled_from(
        [
            200,
            404,
            503,
            (200, {"set-cookie": "a=b", "x-envoy-ratelimited": "1"}, b"body"),
            WireError(Failure.CONNECT, "refused", sent=False),
            WireError(Failure.RESET, "reset", sent=True),
        ]
    ),
    min_size=1,
    max_size=4,
)


class Unknown(httpx.BaseTransport):
    """What is not in the mesh goes nowhere."""

    def handle_request(self, request):
        return httpx.Response(299)


class Wire(ScriptedTransport):
    """Every endpoint answers by the same script."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def _answer(self, target, request):
        self._script[f"{target.address}:{target.port}"] = [self.steps[len(self.seen) % len(self.steps)]]
        return super()._answer(target, request)


def built(client, method, url, headers):
    """The request, where httpx itself makes one that it would send."""
    try:
        request = client.build_request(method, url, headers=headers)
    except (httpx.InvalidURL, UnicodeEncodeError):
        return None
    return request if request.url.scheme in ("http", "https") and request.url.host and method.isascii() else None


@bounded(80)
@given(worlds(damaged=True), st.lists(requests(), min_size=1, max_size=3), STEPS)
def test_a_live_call_answers_or_raises_what_is_documented_and_leaves_nothing_behind(world, asked, steps):
    wire = Wire(steps)
    mesh = mesh_of(*world, clock=ManualClock(), rng=random.Random(1), telemetry=False)
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=wire, passthrough=Unknown()), timeout=30) as client:
        for method, url, headers in asked:
            request = built(client, method, url, headers)
            if request is not None:
                try:
                    client.send(request)
                except (MeshError, httpx.HTTPError):
                    pass
        assert wire.open == 0
        for cluster in mesh.status().clusters:
            assert (cluster["active"], cluster["retries"]) == (0, 0)
