"""Bodies that can be taken once, deadlines and hidden second sends, in every colour."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import anyio
import pytest

from meshlib import errors
from meshlib.dataplane.outcome import Failure
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from meshlib.transport.base import WireError
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS

RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http:
  - match: [{uri: {prefix: /retried}}]
    retries: {attempts: 2, retryOn: "5xx,reset", backoff: 1ms}
    route: [{destination: {host: svc}}]
  - match: [{uri: {prefix: /bounded}}]
    timeout: 300ms
    retries: {attempts: 50, retryOn: 5xx, backoff: 20ms}
    route: [{destination: {host: svc}}]
  - match: [{uri: {prefix: /copied}}]
    mirror: {host: shadow}
    route: [{destination: {host: svc}}]
  - route: [{destination: {host: svc}}]
"""
YAML = "---\n".join(
    [
        service("svc", 80),
        service("shadow", 80),
        endpoint_slice("svc", "v1", ("10.0.0.1", 80), ("10.0.0.2", 80)),
        endpoint_slice("shadow", "v1", ("10.0.0.9", 80)),
        RULES,
    ]
)
BOTH = ("10.0.0.1:80", "10.0.0.2:80")


@contextmanager
def mesh_with(**options):
    mesh = mesh_of(YAML, telemetry=False, **options)
    try:
        yield mesh
        assert mesh.replays.used == 0
        assert all((c.active, c.retries) == (0, 0) for c in mesh.state.clusters())
    finally:
        mesh.close()


def streamed(colour, *pieces, breaks_at=None):
    """A generator of the colour's kind, and how many pieces were taken of it."""
    taken = []

    def make():
        for number, piece in enumerate(pieces):
            if number == breaks_at:
                raise ValueError("the source broke")
            taken.append(piece)
            yield piece

    async def amake():
        for piece in make():
            await anyio.lowlevel.checkpoint()
            yield piece

    return (make() if colour.run == "threads" else amake()), taken


def both(*steps):
    return ScriptedTransport({address: list(steps) for address in BOTH})


@pytest.mark.parametrize("colour", COLOURS)
def test_a_file_is_sent_again_from_its_beginning(colour, tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(b"0123456789" * 1000)
    wire = both(503, 200)
    with mesh_with(clock=ManualClock()) as mesh, path.open("rb") as file:
        content = file if colour.run == "threads" else streamed(colour, path.read_bytes())[0]
        while 200 not in [response.status_code for response in [_post(colour, mesh, "/retried", wire, content)]]:
            pytest.fail("retried until it was taken")
    assert set(wire.bodies) == {path.read_bytes()}
    assert len(wire.bodies) > 1


def _post(colour, mesh, path, wire, content):
    return colour.send(mesh, "POST", f"http://svc{path}", wire, content=content)


@pytest.mark.parametrize("colour", COLOURS)
def test_beyond_the_cap_of_one_or_of_all_nothing_is_repeated(colour):
    for options in ({"replay_buffer": 5}, {"replay_memory": 5}, {"replay_buffer": 0}):
        wire = both(503)
        with mesh_with(clock=ManualClock(), **options) as mesh:
            content, taken = streamed(colour, b"abc", b"def")
            assert _post(colour, mesh, "/retried", wire, content).status_code == 503
            assert (wire.bodies, len(taken)) == ([b"abcdef"], 2)


@pytest.mark.parametrize("colour", COLOURS)
def test_what_was_never_taken_can_always_be_sent(colour):
    refused = WireError(Failure.CONNECT, "refused", sent=False)
    for size in (1, 1 << 20):
        wire = _Unconnected({address: [refused, refused, 200] for address in BOTH})
        with mesh_with(clock=ManualClock(), replay_buffer=0) as mesh:
            content, taken = streamed(colour, b"x" * size)
            with pytest.raises(errors.ConnectFailure):
                _post(colour, mesh, "/", wire, content)
            assert len(wire.seen) == 3
            assert taken == []


class _Unconnected(ScriptedTransport):
    """Fails before the body is asked for, as a real connection does."""

    def send(self, target, request):
        request.body = None
        return super().send(target, request)

    def cooperative(self):
        inner = super().cooperative()
        send = inner.send

        async def unread(target, request):
            request.body = None
            return await send(target, request)

        inner.send = unread
        return inner


class _Partial(ScriptedTransport):
    """Takes one piece of the body, then the connection breaks."""

    def send(self, target, request):
        self.seen.append(target.address)
        self.bodies.append(next(iter(request.body)))
        raise WireError(Failure.CLOSED, "broke", sent=True)

    def cooperative(self):
        inner = super().cooperative()

        async def broken(target, request):
            self.seen.append(target.address)
            self.bodies.append(await anext(aiter(request.body)))
            raise WireError(Failure.CLOSED, "broke", sent=True)

        inner.send = broken
        return inner


@pytest.mark.parametrize("colour", COLOURS)
def test_a_body_that_was_sent_in_part_begins_anew_each_time(colour):
    wire = _Partial()
    with mesh_with(clock=ManualClock()) as mesh:
        content, taken = streamed(colour, b"one", b"two")
        with pytest.raises(colour.library.RemoteProtocolError):
            _post(colour, mesh, "/retried", wire, content)
        assert (wire.bodies, taken) == ([b"one"] * 3, [b"one"])


@pytest.mark.parametrize("colour", COLOURS)
def test_a_source_that_breaks_ends_the_call_with_its_own_error(colour):
    wire = both(200)
    with mesh_with(clock=ManualClock()) as mesh:
        content, _ = streamed(colour, b"one", b"two", breaks_at=1)
        with pytest.raises(ValueError, match="the source broke"):
            _post(colour, mesh, "/retried", wire, content)
        assert wire.bodies == []


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_may_have_been_processed_is_not_sent_again_unasked(colour, method):
    for failure in (Failure.CLOSED, Failure.RESET, Failure.READ_TIMEOUT, Failure.PROTOCOL, Failure.WRITE):
        wire = both(WireError(failure, "broke", sent=True))
        with mesh_with(clock=ManualClock()) as mesh:
            with pytest.raises(colour.library.TransportError):
                colour.send(mesh, method, "http://svc/", wire, content=b"x")
            assert len(wire.seen) == 1, failure
    wire = both(WireError(Failure.REFUSED_STREAM, "not processed", sent=False))
    with mesh_with(clock=ManualClock()) as mesh:
        with pytest.raises(colour.library.TransportError):
            colour.send(mesh, method, "http://svc/", wire, content=b"x")
        assert len(wire.seen) == 3, "a refused stream was not processed"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_stream_is_mirrored_once_it_was_sent_whole(colour):
    wire = ScriptedTransport()
    with mesh_with() as mesh:
        content, _ = streamed(colour, b"one", b"two")
        if colour.run == "threads":
            _post(colour, mesh, "/copied", wire, content)
            _until_mirrored(mesh)
        else:

            async def main():
                face = colour.faces.AsyncMeshTransport(mesh, transport=wire.cooperative())
                async with colour.library.AsyncClient(transport=face) as client:
                    await client.post("http://svc/copied", content=content)
                    while mesh.mirrors.running:
                        await anyio.sleep(0.002)

            colour.main(main)
        assert wire.bodies == [b"onetwo", b"onetwo"]
        assert wire.seen[1] == "10.0.0.9:80"
        assert mesh.status().mirrors == {"running": 0, "sent": 1, "failed": 0, "dropped": 0}


def _until_mirrored(mesh):
    ends = time.monotonic() + 10
    while mesh.mirrors.running:
        assert time.monotonic() < ends
        time.sleep(0.002)


# Deadlines over real sockets ------------------------------------------------------------------------------------------


@contextmanager
def peer(talk):
    """A server that talks to each connection in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=run, args=(connection,), daemon=True).start()

    def run(connection):
        with connection:
            try:
                connection.recv(65536)
                talk(connection)
            except OSError:
                """The client has gone, as it should."""

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def trickle(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b"x")
        time.sleep(0.01)


def fail(connection):
    connection.sendall(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def silent(connection):
    connection.recv(1)


@pytest.mark.parametrize("talk", [trickle, fail, silent])
@pytest.mark.parametrize("colour", COLOURS)
def test_everything_ends_at_the_deadline(colour, talk):
    with peer(talk) as port:
        slices = endpoint_slice("svc", "v1", ("127.0.0.1", port))
        mesh = mesh_of(service("svc", 80), slices, RULES, telemetry=False)
        try:
            colour.send(mesh, "GET", f"http://127.0.0.1:{port}/") if talk is fail else None  # everything is loaded
            best = 9.0
            for _ in range(5):
                started = time.monotonic()
                with pytest.raises(errors.DeadlineExceeded, match=r"route's timeout of 0\.3 s"):
                    colour.send(mesh, "GET", "http://svc/bounded")
                best = min(best, time.monotonic() - started)
                if best < 0.35:
                    break
            assert 0.29 < best < 0.35
            assert all((c.active, c.retries) == (0, 0) for c in mesh.state.clusters())
        finally:
            mesh.close()


@pytest.mark.parametrize("colour", [param for param in COLOURS if "threads" not in param.id])
def test_a_request_body_that_is_never_made_ends_at_the_deadline(colour):
    async def never():
        yield b"one"
        await anyio.sleep_forever()

    with peer(silent) as port:
        mesh = mesh_of(service("svc", 80), endpoint_slice("svc", "v1", ("127.0.0.1", port)), RULES, telemetry=False)
        try:
            started = time.monotonic()
            with pytest.raises(errors.DeadlineExceeded):
                colour.send(mesh, "POST", "http://svc/bounded", content=never())
            assert time.monotonic() - started < 5
        finally:
            mesh.close()
