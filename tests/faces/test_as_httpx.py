"""What httpx does over its own transport it does over the mesh: the same observations against the same server."""

from __future__ import annotations

import asyncio
import copy
import gzip
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import brotli
import httpx
import pytest
import zstandard

import meshlib.httpx
from meshlib.testing import mesh_of

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: local}}
spec:
  hosts: [localhost]
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
"""

CODED = {
    "/deflate": zlib.compress(b"deflated " * 99),
    "/br": brotli.compress(b"brotli " * 99),
    "/zstd": zstandard.compress(b"zstandard " * 99),
    "/gzip,br": brotli.compress(gzip.compress(b"twice " * 99)),
}
"""Path -> a body in the content coding that the path names."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        if path == "/slow":
            time.sleep(0.6)
        if path == "/broken":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            self.close_connection = True
            return
        if path == "/garbage":
            self.wfile.write(b"SPAM\r\n\r\n")
            self.close_connection = True
            return
        status, headers, raw = self._answer(path, body)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET

    def _answer(self, path: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        told = f"{self.command} {self.path} {self.headers.get('cookie')} {self.headers.get('authorization')} "
        raw = told.encode() + body
        if path.startswith("/redirect/"):
            return int(path.rpartition("/")[2]), [("Location", "/there?q=1")], b"moved"
        if path == "/loop":
            return 302, [("Location", "/loop")], b""
        if path == "/cookies":
            return 200, [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/no")], raw
        if path == "/protected" and not self.headers.get("authorization"):
            challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
            return 401, [("WWW-Authenticate", challenge)], b"who?"
        if path == "/protected":
            return 200, [], self.headers["authorization"].split()[0].encode()
        if path == "/gzip":
            return (
                200,
                [("Content-Encoding", "gzip"), ("Content-Type", "text/plain; charset=latin-1")],
                gzip.compress(b"\xe9" * 99),
            )
        if path in CODED:
            return 200, [("Content-Encoding", path[1:])], CODED[path]
        if path.startswith("/status/"):
            return int(path.rpartition("/")[2]), [("X-Case", "Kept"), ("X-Case", "twice")], b""
        return 200, [], raw

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()
    thread.join(5)


def said(response: httpx.Response) -> Any:
    """Everything of a response that is the server's or httpx's doing, apart from moments."""
    headers = [each for each in response.headers.raw if each[0].lower() != b"date"]
    history = [(each.status_code, str(each.url)) for each in response.history]
    facts = (response.status_code, response.reason_phrase, response.http_version, response.encoding)
    return (*facts, headers, response.content, history, str(response.url), response.num_bytes_downloaded)


REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "get": ("GET", "/a b?x=%20y&z", {}),
    "head": ("HEAD", "/", {}),
    "delete": ("DELETE", "/", {}),
    "json": ("POST", "/", {"json": {"a": [1, None]}}),
    "form": ("PUT", "/", {"data": {"a": "b c"}}),
    "chunked by name": ("POST", "/", {"content": b"abc", "headers": {"Transfer-Encoding": "chunked"}}),
    "gzip": ("GET", "/gzip", {}),
    **{path: ("GET", path, {}) for path in CODED},
    "204": ("GET", "/status/204", {}),
    "304": ("GET", "/status/304", {}),
    "404": ("GET", "/status/404", {}),
    "500": ("POST", "/status/500", {}),
    "not followed": ("GET", "/redirect/302", {}),
    "301 of a POST": ("POST", "/redirect/301", {"content": b"x", "follow_redirects": True}),
    "303 of a PUT": ("PUT", "/redirect/303", {"content": b"x", "follow_redirects": True}),
    "307 of a POST": ("POST", "/redirect/307", {"content": b"x", "follow_redirects": True}),
    "308 of a POST": ("POST", "/redirect/308", {"content": b"x", "follow_redirects": True}),
    "loop": ("GET", "/loop", {"follow_redirects": True}),
    "basic auth": ("GET", "/", {"auth": ("user", "secret")}),
    "digest auth": ("GET", "/protected", {"auth": httpx.DigestAuth("user", "secret")}),
    "read timeout": ("GET", "/slow", {"timeout": 0.15}),
    "closed half-way": ("POST", "/broken", {}),
    "no HTTP": ("POST", "/garbage", {}),
    "not absolute": ("GET", "//", {}),
}


def threads(transport: Any, base: str, ask: Callable[[httpx.Client], Any]) -> Any:
    with httpx.Client(transport=transport, base_url=base) as client:
        try:
            return ask(client)
        except httpx.HTTPError as error:
            return type(error).__mro__[-4:], str(error.request.url)


def tasks(transport: Any, base: str, ask: Callable[[httpx.AsyncClient], Any]) -> Any:
    async def main() -> Any:
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            try:
                return await ask(client)
            except httpx.HTTPError as error:
                return type(error).__mro__[-4:], str(error.request.url)

    return asyncio.run(main())


def compare(port: int, run: str, ask: Any) -> None:
    base = f"http://localhost:{port}"
    with mesh_of(ENTRY.format(port=port), telemetry=False) as mesh:
        if run == "threads":
            bare = threads(httpx.HTTPTransport(), f"http://127.0.0.1:{port}", ask)
            ours = threads(meshlib.httpx.MeshTransport(mesh), base, ask)
        else:
            bare = tasks(httpx.AsyncHTTPTransport(), f"http://127.0.0.1:{port}", ask)
            ours = tasks(meshlib.httpx.AsyncMeshTransport(mesh), base, ask)
    assert repr(ours).replace("localhost", "127.0.0.1") == repr(bare)


@pytest.mark.parametrize("run", ["threads", "asyncio"])
@pytest.mark.parametrize(("method", "path", "options"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_is_answered_or_fails_as_without_a_mesh(run, method, path, options, port):
    def ask(client: httpx.Client) -> Any:
        return said(client.request(method, path, **copy.deepcopy(options)))

    async def aask(client: httpx.AsyncClient) -> Any:
        return said(await client.request(method, path, **copy.deepcopy(options)))

    compare(port, run, ask if run == "threads" else aask)


@pytest.mark.parametrize("run", ["threads", "asyncio"])
def test_cookies_hooks_and_streams_are_as_without_a_mesh(run, port):
    pieces = [b"a" * 1000, b"", b"b" * 100_000]

    def ask(client: httpx.Client) -> Any:
        seen: list[Any] = []
        client.event_hooks = {
            "request": [lambda request: seen.append(request.method)],
            "response": [lambda response: seen.append((response.status_code, response.is_closed, response.read()))],
        }
        client.get("/cookies")
        seen.append((sorted(client.cookies.items()), client.get("/x").text))
        client.event_hooks = {}
        with client.stream("POST", "/", content=iter(pieces)) as response:
            seen.append((response.is_stream_consumed, b"".join(response.iter_bytes(777)), response.is_closed))
        with client.stream("GET", "/gzip") as response:
            seen.append(b"".join(response.iter_raw())[:4])
        return seen

    async def aask(client: httpx.AsyncClient) -> Any:
        seen: list[Any] = []

        async def asked(request: httpx.Request) -> None:
            seen.append(request.method)

        async def answered(response: httpx.Response) -> None:
            seen.append((response.status_code, response.is_closed, await response.aread()))

        async def content() -> Any:
            for piece in pieces:
                yield piece

        client.event_hooks = {"request": [asked], "response": [answered]}
        await client.get("/cookies")
        seen.append((sorted(client.cookies.items()), (await client.get("/x")).text))
        client.event_hooks = {}
        async with client.stream("POST", "/", content=content()) as response:
            body = b"".join([piece async for piece in response.aiter_bytes(777)])
            seen.append((response.is_stream_consumed, body, response.is_closed))
        async with client.stream("GET", "/gzip") as response:
            seen.append(b"".join([piece async for piece in response.aiter_raw()])[:4])
        return seen

    compare(port, run, ask if run == "threads" else aask)


def test_a_mount_keeps_other_urls_off_the_mesh(port):
    with mesh_of(ENTRY.format(port=port), telemetry=False) as mesh:
        mounts = {"all://127.0.0.1": httpx.HTTPTransport()}
        with httpx.Client(transport=meshlib.httpx.MeshTransport(mesh), mounts=mounts) as client:
            assert "mesh" in client.get(f"http://localhost:{port}/").extensions
            assert "mesh" not in client.get(f"http://127.0.0.1:{port}/").extensions
