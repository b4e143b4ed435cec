"""Sources that cannot be had at the start: what nobody told is no empty mesh, and who waits hears why."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from meshlib import Mesh, MeshClient, errors
from meshlib.config.resources import load_dict
from meshlib.providers import Facts
from meshlib.providers.base import ProviderError
from tests.mesh.test_mesh import until

ENTRY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "ServiceEntry",
    "metadata": {"name": "db"},
    "spec": {
        "hosts": ["db.test"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1"}],
    },
}


class Unwell:
    """Raises until told otherwise, then knows a service."""

    name = "unwell"

    def __init__(self, error):
        self.error = error

    async def run(self, publish):
        if self.error is not None:
            raise self.error
        publish(Facts(tuple(load_dict(ENTRY).resources)))
        await asyncio.Event().wait()


def test_who_waits_for_sources_that_failed_for_good_hears_of_it_at_once():
    with Mesh(Unwell(ProviderError("no credentials")), telemetry=False, ready_timeout=600.0) as mesh:
        started = monotonic()
        for wait in (mesh.ready, mesh.wait_ready, lambda: mesh.explain("GET", "http://db.test/")):
            with pytest.raises(errors.NotReady, match=r"no configuration \(unwell failed no credentials\)"):
                wait()
        assert monotonic() - started < 60.0
        with MeshClient(mesh) as client, pytest.raises(errors.NotReady):
            client.get("http://db.test/")
        assert not mesh.is_ready


def test_a_source_that_is_down_at_the_start_is_no_empty_mesh_and_counts_once_it_is_up():
    """Else every host would be unknown, and be let pass without its rules."""
    provider = Unwell(ConnectionRefusedError("nobody listens"))
    with Mesh(provider, telemetry=False) as mesh:
        until(lambda: mesh.status().providers[0]["failures"] > 0, 20.0)
        with pytest.raises(errors.NotReady, match=r"no configuration within 0\.05 s \(unwell waiting .*nobody listens"):
            mesh.ready(timeout=0.05)
        provider.error = None
        mesh.ready(["db.test:80"], timeout=60.0)


@pytest.mark.parametrize("error", [ProviderError("no credentials"), ConnectionRefusedError("nobody listens")])
def test_one_source_that_is_down_does_not_keep_the_others_from_counting(error):
    with Mesh(Unwell(error), ENTRY, telemetry=False) as mesh:
        mesh.ready(["db.test:80"], timeout=60.0)
        (down, up) = mesh.status().providers
        assert (down["state"], up["state"]) == ("failed" if isinstance(error, ProviderError) else "waiting", "running")
        assert str(error) in down["error"]
