"""A response whose body has come with its headers cannot be told from the library's own, however it is used."""

from __future__ import annotations

import pickle

import anyio
import httpx
import httpx2
import pytest

import meshlib.httpx
import meshlib.httpx2
from meshlib.lazy import ReadyResponse
from meshlib.testing import mesh_of
from tests.conftest import endpoint_slice, service
from tests.faces.test_short import Recorder

LIBRARIES = {"httpx": (httpx, meshlib.httpx), "httpx2": (httpx2, meshlib.httpx2)}


@pytest.fixture
def peer():
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture
def mesh(peer):
    with mesh_of(service("svc"), endpoint_slice("svc", "v1", ("127.0.0.1", peer.port))) as made:
        yield made


def facts(response):
    """What a caller can see."""
    return {
        "status": response.status_code,
        "reason": response.reason_phrase,
        "version": response.http_version,
        "headers": response.headers.raw,
        "content": response.content,
        "text": response.text,
        "encoding": response.encoding,
        "closed": response.is_closed,
        "consumed": response.is_stream_consumed,
        "downloaded": response.num_bytes_downloaded,
        "took": response.elapsed.total_seconds() > 0,
        "method": response.request.method,
        "history": response.history,
    }


@pytest.mark.parametrize("path", ["/plain", "/chunked", "/zipped", "/cookie", "/latin", "/bad"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_it_reads_as_the_librarys_own(library, path, mesh, peer):
    lib, faces = LIBRARIES[library]
    with lib.Client(transport=faces.MeshTransport(mesh)) as client, lib.Client() as plain:
        ours, theirs = client.get(f"http://svc:9080{path}"), plain.get(f"http://127.0.0.1:{peer.port}{path}")
        assert facts(ours) == facts(theirs)
        assert dict(client.cookies) == dict(plain.cookies)
        assert isinstance(ours, ReadyResponse) == (path != "/zipped")
        again = pickle.loads(pickle.dumps(ours))
        assert (again.content, again.headers.raw) == (theirs.content, theirs.headers.raw)


@pytest.mark.parametrize("library", LIBRARIES)
def test_it_streams_as_the_librarys_own(library, mesh, peer):
    lib, faces = LIBRARIES[library]
    with lib.Client(transport=faces.MeshTransport(mesh)) as client, lib.Client() as plain:
        for read in (
            lambda r: b"".join(r.iter_raw()),
            lambda r: b"".join(r.iter_bytes()),
            lambda r: b"".join(r.iter_bytes(3)),
            lambda r: "".join(r.iter_text()),
            lambda r: list(r.iter_lines()),
            lambda r: r.read(),
        ):
            found = []
            for asked, url in ((client, "http://svc:9080/plain"), (plain, f"http://127.0.0.1:{peer.port}/plain")):
                with asked.stream("GET", url) as response:
                    before = response.is_closed, response.is_stream_consumed
                    got = read(response)
                found.append((before, got, response.is_closed))
            assert found[0] == found[1]
        with client.stream("GET", "http://svc:9080/plain") as response:
            list(response.iter_raw())
            with pytest.raises(lib.StreamConsumed):
                list(response.iter_raw())


@pytest.mark.parametrize("library", LIBRARIES)
def test_tasks_read_and_stream_it_too(library, mesh, peer):
    lib, faces = LIBRARIES[library]

    async def main():
        async with lib.AsyncClient(transport=faces.AsyncMeshTransport(mesh)) as client, lib.AsyncClient() as plain:
            ours, theirs = (
                await client.get("http://svc:9080/plain"),
                await plain.get(f"http://127.0.0.1:{peer.port}/plain"),
            )
            assert isinstance(ours, ReadyResponse)
            assert facts(ours) == facts(theirs)
            async with client.stream("GET", "http://svc:9080/plain") as response:
                assert b"".join([piece async for piece in response.aiter_raw()]) == theirs.content
            async with client.stream("GET", "http://svc:9080/plain") as response:
                assert await response.aread() == theirs.content
            assert response.is_closed

    anyio.run(main)


def test_the_call_is_over_when_the_body_has_come(mesh):
    client = httpx.Client(transport=meshlib.httpx.MeshTransport(mesh))
    with client, client.stream("GET", "http://svc:9080/plain") as response:
        call = response.extensions["mesh"]
        assert (call.flags, call.response_bytes) == ("-", 13)
        assert [cluster.active for cluster in mesh.state.clusters()] == [0]
