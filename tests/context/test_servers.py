"""The middlewares around real and scripted servers."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import pytest

from meshlib.context import AsgiContext, WsgiContext, current, deadline, remaining
from meshlib.context.grpc import AioServerContext, ServerContext

# ASGI ----------------------------------------------------------------------------------------------------------------


def test_asgi_serves_requests_and_websockets_in_context_and_leaves_the_lifespan_alone():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["type"], remaining() is not None, current().headers))

    async def main():
        guarded = AsgiContext(app, ["x-canary"])
        headers = [(b"grpc-timeout", b"1S"), (b"x-canary", b"1"), (b"x-other", b"2")]
        for kind in ("lifespan", "http", "websocket"):
            await guarded({"type": kind, "path": "/", "headers": headers}, None, None)

    asyncio.run(main())
    inherited = ((b"x-canary", b"1"),)
    assert seen == [("lifespan", False, ()), ("http", True, inherited), ("websocket", True, inherited)]
    assert current().headers == ()


# WSGI ----------------------------------------------------------------------------------------------------------------

ENVIRON = {"REQUEST_METHOD": "GET", "PATH_INFO": "/a", "HTTP_X_REQUEST_ID": "7", "HTTP_GRPC_TIMEOUT": "9S"}


def ids():
    return [value for _, value in current().headers]


def test_wsgi_serves_the_request_and_the_body_that_it_streams_in_context():
    closed = []

    class Body:
        def __iter__(self):
            yield from ids()
            yield b"left" if remaining() > 0 else b"late"

        def close(self):
            closed.extend(ids())

    def app(environ, start_response):
        return [*ids()] if environ.get("whole") else Body()

    guarded = WsgiContext(app)
    body = guarded(dict(ENVIRON), None)
    assert list(body) == [b"7", b"left"]
    body.close()
    assert closed == [b"7"]
    assert guarded({**ENVIRON, "whole": True}, None) == [b"7"]
    assert (remaining(), ids()) == (None, [])


def test_a_body_that_the_wsgi_server_sends_as_a_file_stays_one():
    class Files:
        def __init__(self, file):
            self.file = file

    def app(environ, start_response):
        return environ["wsgi.file_wrapper"](io.BytesIO(b"x"))

    assert isinstance(WsgiContext(app)({**ENVIRON, "wsgi.file_wrapper": Files}, None), Files)


def test_wsgi_requests_do_not_inherit_from_each_other():
    seen = []
    guarded = WsgiContext(lambda environ, start_response: seen.append(ids()) or [])
    with deadline(1.0):
        guarded(dict(ENVIRON), None)
        guarded({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, None)
    assert seen == [[b"7"], []]


# gRPC ----------------------------------------------------------------------------------------------------------------

METADATA = (("x-request-id", "7"), ("end-user", "jason"), ("user-bin", b"\0\1"), ("other", "x"))


def told():
    left = remaining()
    time = "none" if left is None else "some" if 0 < left < 10 else str(left)
    return " ".join([time, *(f"{name.decode()}={value.decode()}" for name, value in current().headers)]).encode()


WANTED = b"some end-user=jason user-bin=AAE= x-request-id=7"


class Sync(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/s/unary":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: told())
        if details.method == "/s/stream":
            return grpc.stream_stream_rpc_method_handler(lambda requests, context: (told() for _ in requests))
        return None


class Aio(grpc.GenericRpcHandler):
    def service(self, details):
        async def unary(request, context):
            await asyncio.sleep(0)
            return told()

        async def stream(requests, context):
            async for _ in requests:
                yield told()

        if details.method == "/s/unary":
            return grpc.unary_unary_rpc_method_handler(unary)
        if details.method == "/s/sync":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: told())
        if details.method == "/s/stream":
            return grpc.stream_stream_rpc_method_handler(stream)
        return None


def check(port, methods):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in methods:
            assert channel.unary_unary(method)(b"", timeout=5, metadata=METADATA) == WANTED
        answers = channel.stream_stream("/s/stream")(iter([b"", b""]), timeout=5, metadata=METADATA)
        assert list(answers) == [WANTED, WANTED]
        assert channel.unary_unary("/s/unary")(b"", wait_for_ready=True) == b"none"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/s/absent")(b"", timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_grpc_server_serves_each_kind_of_method_in_context():
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[ServerContext(["end-user", "user-bin"])])
    server.add_generic_rpc_handlers((Sync(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        check(port, ["/s/unary"])
    finally:
        server.stop(None).wait(5)


def test_a_grpc_aio_server_serves_each_kind_of_method_in_context():
    async def main():
        server = grpc.aio.server(interceptors=[AioServerContext(["end-user", "user-bin"])])
        server.add_generic_rpc_handlers((Aio(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            await asyncio.to_thread(check, port, ["/s/unary", "/s/sync"])
        finally:
            await server.stop(None)

    asyncio.run(main())
