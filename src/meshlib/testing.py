"""What tests need that want no cluster and no real time: a clock by hand and a transport by script.

wire = ScriptedTransport({"10.0.0.1:80": [503, 200]})
client = httpx.Client(transport=MeshTransport(mesh_of(YAML, clock=ManualClock()), transport=wire))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from meshlib.mesh import Mesh
from meshlib.providers import StaticProvider
from meshlib.transport.base import Target, WireRequest, WireResponse

__all__ = ["ManualClock", "ScriptedTransport", "StaticProvider", "mesh_of"]


class ManualClock:
    """A ``Clock`` that moves only when it is told to, or slept on.

    Attributes:
        time: Seconds.
        slept: Every sleep that was asked for, in order.
    """

    def __init__(self, time: float = 1000.0) -> None:
        self.time = time
        self.slept: list[float] = []

    def now(self) -> float:
        """The time."""
        return self.time

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds

    def sleep(self, seconds: float) -> None:
        """Passes at once."""
        self.slept.append(seconds)
        self.time += seconds

    async def asleep(self, seconds: float) -> None:
        """Passes at once, but is a moment at which a task may be cancelled."""
        import anyio.lowlevel

        await anyio.lowlevel.checkpoint()
        self.sleep(seconds)


def mesh_of(*yaml: str, **options: Any) -> Mesh:
    """A mesh of YAML texts, ready to use; ``options`` are those of ``Mesh``."""
    mesh = Mesh(StaticProvider(*yaml), **options)
    mesh.ready()
    return mesh


class _Bytes:
    def __init__(self, transport: ScriptedTransport, chunks: Sequence[bytes | Exception]) -> None:
        self._transport = transport
        self._chunks = chunks
        self._open = True
        transport.open += 1

    def whole(self) -> None:
        """Scripted bodies are read piece by piece."""

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        import anyio.lowlevel

        for chunk in self:
            await anyio.lowlevel.checkpoint()
            yield chunk

    def close(self) -> None:
        if self._open:
            self._open = False
            self._transport.open -= 1

    async def aclose(self) -> None:
        self.close()

    abandon = close


Step = int | Exception | tuple[int, Mapping[str, str], bytes]


class ScriptedTransport:
    """Answers by script instead of a network, in both colours.

    Each endpoint has a list of steps, taken in turn, the last one for ever: a status; a (status, headers, body) triple;
    or an exception to raise (a ``WireError`` for what happens on wires).

    Args:
        script: ``address:port`` -> steps. Endpoints without a script answer 200.

    Attributes:
        seen: ``address:port`` of every attempt, in order.
        requests: What was sent, in order.
        open: Response bodies that were handed out and not closed yet.
    """

    def __init__(self, script: Mapping[str, Sequence[Step]] | None = None) -> None:
        self._script = {address: list(steps) for address, steps in (script or {}).items()}
        self.seen: list[str] = []
        self.requests: list[WireRequest] = []
        self.bodies: list[bytes] = []
        self.open = 0

    def _answer(self, target: Target, request: WireRequest) -> WireResponse:
        address = f"{target.address}:{target.port}"
        self.seen.append(address)
        self.requests.append(request)
        request.has_connection()
        steps = self._script.get(address, [200])
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if isinstance(step, Exception):
            raise step
        status, headers, body = step if isinstance(step, tuple) else (step, {}, b"ok")
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        return WireResponse(status, raw, _Bytes(self, [body]))

    def cooperative(self) -> _Async:
        """The cooperative face of the same script."""
        return _Async(self)

    def send(self, target: Target, request: WireRequest) -> WireResponse:
        """See ``BlockingTransport.send``."""
        body: Any = request.body or b""
        self.bodies.append(body if isinstance(body, bytes) else b"".join(body))
        return self._answer(target, request)

    def close(self) -> None:
        """Nothing is open."""


class _Async:
    keeps_deadlines = False

    def __init__(self, scripted: ScriptedTransport) -> None:
        self._scripted = scripted

    async def send(self, target: Target, request: WireRequest) -> WireResponse:
        import anyio.lowlevel

        await anyio.lowlevel.checkpoint()
        body: Any = request.body or b""
        self._scripted.bodies.append(body if isinstance(body, bytes) else b"".join([chunk async for chunk in body]))
        return self._scripted._answer(target, request)

    async def aclose(self) -> None:
        """Nothing is open."""
