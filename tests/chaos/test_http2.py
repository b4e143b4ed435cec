"""Peers that turn HTTP/2 streams away: GOAWAY in the middle of POSTs, REFUSED_STREAM, resets; in every colour."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx
import pytest

from meshlib.testing import mesh_of
from tests.chaos.peers import Peers
from tests.chaos.test_http1 import COLOURS, gauges, rules

_IDS = itertools.count()


@pytest.fixture(scope="module")
def peers():
    with Peers(1) as started:
        yield started


def ten_posts(peers, colour, mode, retries):
    """What ten POSTs at once came to, by id; gauges are zero and connections closed afterwards."""
    peers.behave(0, f"h2-{mode}")
    mesh = mesh_of(peers.yaml(rules(retries), protocol="http2"), telemetry=False)
    outcomes = {}
    names = [f"stream-{next(_IDS)}" for _ in range(10)]

    async def one(client, name):
        try:
            outcomes[name] = (await client.post("http://svc/", content=b"a" * 2000, headers={"x-id": name})).status_code
        except httpx.HTTPError as error:
            outcomes[name] = error

    async def main():
        face = colour.faces.AsyncMeshTransport(mesh)
        async with httpx.AsyncClient(transport=face) as client, anyio.create_task_group() as group:
            for name in names:
                group.start_soon(one, client, name)

    def main_of_threads():
        def send(name):
            try:
                outcomes[name] = client.post("http://svc/", content=b"a" * 2000, headers={"x-id": name}).status_code
            except httpx.HTTPError as error:
                outcomes[name] = error

        with httpx.Client(transport=colour.faces.MeshTransport(mesh)) as client, ThreadPoolExecutor(10) as threads:
            list(threads.map(send, names))

    try:
        main_of_threads() if colour.run == "threads" else colour.main(main)
        assert gauges(mesh) == set()
    finally:
        mesh.close()
    assert peers.open_after() == 0
    return outcomes


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("retries", ["none", "default"])
@pytest.mark.parametrize("mode", ["ok", "goaway", "refused-stream", "reset-stream"])
def test_no_stream_is_acted_upon_twice_and_every_answer_was_earned(peers, colour, mode, retries):
    outcomes = ten_posts(peers, colour, mode, retries)
    processed = peers.processed()
    assert len(outcomes) == 10
    for name, got in outcomes.items():
        assert got == 200 or isinstance(got, httpx.RemoteProtocolError | httpx.ReadError), got
        assert processed[name] <= 1
        assert (processed[name] == 1) == (got == 200) or mode == "reset-stream"
    if mode == "ok" or (mode == "goaway" and retries == "default"):
        assert set(outcomes.values()) == {200}
    if mode == "reset-stream":
        assert all(isinstance(got, httpx.ReadError) for got in outcomes.values())
        assert all(processed[name] == 1 for name in outcomes)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_refused_stream_is_sent_again_by_default(peers, colour):
    alone = ten_posts(peers, colour, "refused-stream", "none")
    retried = ten_posts(peers, colour, "refused-stream", "default")
    assert sum(got == 200 for got in retried.values()) > sum(got == 200 for got in alone.values())
