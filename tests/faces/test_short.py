"""The short way through a client cannot be told from the library's full way, but for the time it takes."""

from __future__ import annotations

import gzip
import json
import logging
import pickle
import socket
import threading

import anyio
import httpx
import httpx2
import pytest

import meshlib.client
import meshlib.httpx
import meshlib.httpx2
from meshlib.testing import mesh_of
from tests.conftest import endpoint_slice, service

PLAIN = b"HTTP/1.1 200 Fine\r\nContent-Type: application/json\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 13\r\n\r\n"
ZIPPED = gzip.compress(b"squeezed")
ANSWERS = {
    "/plain": PLAIN + b'{"name": "x"}',
    "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "/zipped": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(ZIPPED), ZIPPED),
    "/cookie": b"HTTP/1.1 200 OK\r\nSet-Cookie: crumb=7; Path=/\r\nContent-Length: 0\r\n\r\n",
    "/moved": b"HTTP/1.1 302 Found\r\nLocation: /plain\r\nContent-Length: 4\r\n\r\nmove",
    "/latin": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Length: 1\r\n\r\n\xe9",
    "/bad": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno",
}


class Recorder:
    """Answers by path and keeps the bytes of every request."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.seen: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        buffered = b""
        with connection:
            while True:
                while b"\r\n\r\n" not in buffered:
                    more = connection.recv(65536)
                    if not more:
                        return
                    buffered += more
                head, _, buffered = buffered.partition(b"\r\n\r\n")
                length = 0
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                while len(buffered) < length:
                    buffered += connection.recv(65536)
                body, buffered = buffered[:length], buffered[length:]
                self.seen.append(head + b"\r\n\r\n" + body)
                path = head.split(b" ", 2)[1].decode().partition("?")[0]
                answer = ANSWERS[path]
                if head.startswith(b"HEAD"):
                    answer = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                connection.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone would leave a thread waiting in accept()
        self._listener.close()

    def last(self) -> bytes:
        """The last request, without the id that the mesh draws."""
        lines = self.seen[-1].split(b"\r\n")
        return b"\r\n".join(line for line in lines if not line.lower().startswith(b"x-request-id"))


@pytest.fixture
def peer():
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture
def mesh(peer):
    with mesh_of(service("svc"), endpoint_slice("svc", "v1", ("127.0.0.1", peer.port))) as made:
        yield made


LIBRARIES = {
    "httpx": (httpx, meshlib.client, meshlib.httpx),
    "httpx2": (httpx2, meshlib.httpx2, meshlib.httpx2),
}


class Pair:
    """A mesh client and the library's own over the same mesh, both asked the same way."""

    def __init__(self, library: str, colour: str, mesh, **options) -> None:
        self.library, clients, faces = LIBRARIES[library]
        self.blocking = colour == "blocking"
        if self.blocking:
            self.short = clients.MeshClient(mesh, **options)
            self.full = self.library.Client(transport=faces.MeshTransport(mesh), **options)
        else:
            self.short = clients.AsyncMeshClient(mesh, **options)
            self.full = self.library.AsyncClient(transport=faces.AsyncMeshTransport(mesh), **options)

    def ask(self, *args, **kwargs):
        """(response of the short way, response of the full way)."""
        if self.blocking:
            with self.short as short, self.full as full:
                return short.request(*args, **kwargs), full.request(*args, **kwargs)

        async def both():
            async with self.short as short, self.full as full:
                return await short.request(*args, **kwargs), await full.request(*args, **kwargs)

        return anyio.run(both)


@pytest.fixture(params=["httpx", "httpx2"])
def library(request):
    return request.param


@pytest.fixture(params=["blocking", "cooperative"])
def colour(request):
    return request.param


def facts(response):
    """All that a caller can see of a response."""
    request = response.request
    return {
        "status": response.status_code,
        "headers": response.headers.raw,
        "content": response.content,
        "text": response.text,
        "encoding": response.encoding,
        "reason": response.reason_phrase,
        "version": response.http_version,
        "url": str(response.url),
        "method": request.method,
        "sent": [pair for pair in request.headers.raw if pair[0] != b"x-request-id"],
        "body": getattr(request, "_content", None),
        "timeout": request.extensions["timeout"],
        "history": [each.status_code for each in response.history],
        "next": None if response.next_request is None else str(response.next_request.url),
        "cookies": dict(response.cookies),
        "closed": (response.is_closed, response.is_stream_consumed),
        "flags": (response.is_success, response.is_redirect, response.is_error, response.has_redirect_location),
        "bytes": response.num_bytes_downloaded,
    }


CALLS = {
    "plain": (("GET", "http://svc:9080/plain"), {}),
    "query": (("GET", "http://svc:9080/plain?a=1&b=%20x"), {}),
    "lower-case method": (("get", "http://svc:9080/plain"), {}),
    "chunked": (("GET", "http://svc:9080/chunked"), {}),
    "zipped": (("GET", "http://svc:9080/zipped"), {}),
    "cookie": (("GET", "http://svc:9080/cookie"), {}),
    "redirect": (("GET", "http://svc:9080/moved"), {}),
    "followed": (("GET", "http://svc:9080/moved"), {"follow_redirects": True}),
    "latin": (("GET", "http://svc:9080/latin"), {}),
    "bad": (("GET", "http://svc:9080/bad"), {}),
    "head": (("HEAD", "http://svc:9080/plain"), {}),
    "json": (("POST", "http://svc:9080/plain"), {"json": {"a": [1, "é"]}}),
    "json with a type": (("POST", "http://svc:9080/plain"), {"json": 1, "headers": {"content-type": "text/x"}}),
    "bytes": (("PUT", "http://svc:9080/plain"), {"content": b"raw"}),
    "text": (("POST", "http://svc:9080/plain"), {"content": "téxt"}),
    "no bytes": (("POST", "http://svc:9080/plain"), {"content": b""}),
    "no body": (("POST", "http://svc:9080/plain"), {}),
    "headers": (("GET", "http://svc:9080/plain"), {"headers": {"X-One": "1", "User-Agent": "me"}}),
    "host": (("GET", "http://svc:9080/plain"), {"headers": {"Host": "svc.default"}}),
    "params": (("GET", "http://svc:9080/plain"), {"params": {"a": "b c"}}),
    "form": (("POST", "http://svc:9080/plain"), {"data": {"a": "b"}}),
    "auth": (("GET", "http://svc:9080/plain"), {"auth": ("me", "secret")}),
    "user in the URL": (("GET", "http://me:secret@svc:9080/plain"), {}),
    "timeout": (("GET", "http://svc:9080/plain"), {"timeout": 3.0}),
    "no timeout": (("GET", "http://svc:9080/plain"), {"timeout": None}),
    "dots": (("GET", "http://svc:9080/a/../plain"), {}),
    "upper-case host": (("GET", "http://SVC:9080/plain"), {}),
    "fragment": (("GET", "http://svc:9080/plain#there"), {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_short_and_full_cannot_be_told_apart(name, library, colour, mesh, peer):
    args, kwargs = CALLS[name]
    pair = Pair(library, colour, mesh)
    short, full = pair.ask(*args, **kwargs)
    assert facts(short) == facts(full)
    assert isinstance(short, pair.library.Response)
    count = len(peer.seen) // 2
    requests = [peer.seen.pop() for _ in range(count)]
    theirs = [b"\r\n".join(line for line in r.split(b"\r\n") if not line.startswith(b"x-request-id")) for r in requests]
    ours = [
        b"\r\n".join(line for line in r.split(b"\r\n") if not line.startswith(b"x-request-id")) for r in peer.seen[::-1]
    ]
    assert ours == theirs
    assert short.elapsed.total_seconds() > 0


def test_a_plain_call_does_take_the_short_way(library, colour, mesh):
    short, full = Pair(library, colour, mesh).ask("GET", "http://svc:9080/plain")
    assert type(short).__name__.startswith("Lazy")
    assert not type(full).__name__.startswith("Lazy")
    assert short.json() == {"name": "x"}


@pytest.mark.parametrize(
    "options",
    [
        {"auth": ("me", "secret")},
        {"params": {"always": "1"}},
        {"cookies": {"crumb": "7"}},
        {"base_url": "http://svc:9080"},
        {"headers": {"Host": "svc.default", "X-Always": "1"}},
        {"follow_redirects": True},
        {"timeout": 2.0},
        {"default_encoding": "latin-1"},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("url", ["http://svc:9080/moved", "http://svc:9080/plain"])
def test_what_the_client_was_made_with_holds(options, url, library, colour, mesh, peer):
    short, full = Pair(library, colour, mesh, **options).ask("GET", url)
    assert facts(short) == facts(full)


def test_relative_urls_are_joined(library, colour, mesh):
    short, full = Pair(library, colour, mesh, base_url="http://svc:9080").ask("GET", "/plain")
    assert facts(short) == facts(full)


def test_a_cookie_that_was_set_is_sent_from_then_on(library, mesh, peer):
    _, clients, _ = LIBRARIES[library]
    with clients.MeshClient(mesh) as client:
        client.get("http://svc:9080/cookie")
        client.get("http://svc:9080/plain")
    assert b"Cookie: crumb=7" in peer.last()


def test_hooks_see_every_call(library, mesh):
    _, clients, _ = LIBRARIES[library]
    seen = []
    with clients.MeshClient(mesh, event_hooks={"request": [seen.append], "response": [seen.append]}) as client:
        client.get("http://svc:9080/plain")
    assert len(seen) == 2


def test_a_subclass_that_changes_a_step_is_asked(library, mesh, peer):
    _, clients, _ = LIBRARIES[library]

    class Stamped(clients.MeshClient):
        def build_request(self, *args, **kwargs):
            request = super().build_request(*args, **kwargs)
            request.headers["x-stamp"] = "1"
            return request

    with Stamped(mesh) as client:
        assert not type(client.get("http://svc:9080/plain")).__name__.startswith("Lazy")
    assert b"x-stamp: 1" in peer.last()


def test_the_library_logs_the_same_line(library, mesh, caplog):
    _, clients, _ = LIBRARIES[library]
    with caplog.at_level(logging.INFO, logger=library), clients.MeshClient(mesh) as client:
        client.get("http://svc:9080/plain")
    assert 'HTTP Request: GET http://svc:9080/plain "HTTP/1.1 200 Fine"' in caplog.messages


def test_a_response_can_be_pickled(library, colour, mesh):
    short, full = Pair(library, colour, mesh).ask("GET", "http://svc:9080/plain")
    ours, theirs = pickle.loads(pickle.dumps(short)), pickle.loads(pickle.dumps(full))
    for name in ("status_code", "content", "text", "is_closed"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.headers == theirs.headers
    assert ours.request.url == theirs.request.url
    assert ours.elapsed == short.elapsed


def test_a_closed_client_refuses(library, mesh):
    _, clients, _ = LIBRARIES[library]
    client = clients.MeshClient(mesh)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.get("http://svc:9080/plain")


def test_a_status_is_raised_with_its_request(library, mesh):
    lib, clients, _ = LIBRARIES[library]
    with clients.MeshClient(mesh) as client, pytest.raises(lib.HTTPStatusError) as caught:
        client.get("http://svc:9080/bad").raise_for_status()
    assert str(caught.value.request.url) == "http://svc:9080/bad"


def test_json_that_json_does_not_know_is_refused_alike(library, mesh):
    _, clients, faces = LIBRARIES[library]
    lib = LIBRARIES[library][0]
    for client in (clients.MeshClient(mesh), lib.Client(transport=faces.MeshTransport(mesh))):
        with client, pytest.raises(ValueError, match="JSON"):
            client.post("http://svc:9080/plain", json=float("nan"))


def test_an_unknown_argument_is_refused(library, mesh):
    _, clients, _ = LIBRARIES[library]
    with clients.MeshClient(mesh) as client, pytest.raises(TypeError, match="colour"):
        client.request("GET", "http://svc:9080/plain", colour="red")


def test_what_the_short_way_knows_of_the_library_is_there(library):
    from meshlib.short import _NEEDED, _STEPS

    lib = LIBRARIES[library][0]
    for client in (lib.Client(), lib.AsyncClient()):
        assert [name for name in _NEEDED if not hasattr(client, name)] == []
        assert [name for name in _STEPS if not hasattr(client, name)] == []
    assert json.dumps({"a": "é"}, ensure_ascii=False) == '{"a": "é"}'
