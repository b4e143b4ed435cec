"""What is raised: errors that are gRPC's and ours at once, so that ``except grpc.RpcError`` goes on working.

``details()`` of what was decided here ends with route, cluster, endpoint and Envoy's flag. What the peer said is raised
as it came, with the same facts as a note and as ``mesh``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

try:
    import grpc
    import grpc.aio
except ImportError as error:  # pragma: no cover - depends on what is installed
    raise ImportError(f"meshlib.grpc needs grpcio: pip install 'meshlib[grpc]' ({error})") from error

from meshlib import errors
from meshlib.dataplane.call import Call
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.model.grpc_status import grpc_of_http

__all__ = [
    "CODES",
    "AioRpcFailure",
    "RpcFailure",
    "answered",
    "broken",
    "noted",
    "peer_error",
    "shut",
    "stopped",
    "translated",
    "unreadable",
    "unwritable",
]

CODES: dict[int, Any] = {code.value[0]: code for code in grpc.StatusCode}
"""gRPC status number -> grpcio's enumeration; numbers that it does not know are UNKNOWN to it as well."""


class RpcFailure(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """An RPC that was ended here, on ``grpc`` channels.

    Attributes:
        mesh: The call that was routed, or None.
    """

    mesh: Call | None = None
    _status: Any = grpc.StatusCode.UNKNOWN
    _words: str = ""
    _initial: tuple[Any, ...] = ()
    _trailing: tuple[Any, ...] = ()

    def code(self) -> Any:
        """The gRPC status."""
        return self._status

    def details(self) -> str:
        """What happened and where."""
        return self._words

    def debug_error_string(self) -> str:
        """The same with the status, as grpcio has it."""
        return f"{self._status.name}:{self._words}"

    def initial_metadata(self) -> Any:
        """Of the last attempt, where it had any."""
        return self._initial

    def trailing_metadata(self) -> Any:
        """Of the last attempt, where it had any."""
        return self._trailing

    def is_active(self) -> bool:
        """It is over."""
        return False

    def time_remaining(self) -> Any:
        """There is nothing to wait for."""
        return None

    def cancel(self) -> bool:
        """It is over: there is nothing to cancel."""
        return False

    def add_callback(self, callback: Any) -> bool:
        """It is over: ``callback`` is not kept."""
        return False

    def __str__(self) -> str:
        """Status and details."""
        return f"{self._status.name}: {self._words}"


class AioRpcFailure(grpc.aio.AioRpcError):  # type: ignore[misc]
    """An RPC that was ended here, on ``grpc.aio`` channels.

    Attributes:
        mesh: The call that was routed, or None.
    """

    mesh: Call | None = None

    def __init__(self, *_: Any, **__: Any) -> None:
        """Filled in by ``_fill``."""


def _fill(error: Any, status: int, words: str, call: Call | None, metadata: tuple[Any, Any] = ((), ())) -> Any:
    code = CODES.get(status, grpc.StatusCode.UNKNOWN)
    error.mesh = call
    if isinstance(error, grpc.aio.AioRpcError):
        initial, trailing = (grpc.aio.Metadata(*pairs) for pairs in metadata)
        grpc.aio.AioRpcError.__init__(error, code, initial, trailing, words, f"{code.name}:{words}")
    else:
        error._status, error._words = code, words
        error._initial, error._trailing = tuple(metadata[0]), tuple(metadata[1])
    return error


_made: dict[tuple[type[errors.MeshError], bool], type[Any]] = {}


def _both(ours: type[errors.MeshError], aio: bool) -> type[Any]:
    """The class that is ``ours`` and gRPC's error, made at first use."""
    known = _made.get((ours, aio))
    if known is None:
        known = _made[ours, aio] = _combined(ours, AioRpcFailure if aio else RpcFailure)
    return known


def _combined(ours: type[errors.MeshError], face: Any) -> type[Any]:

    def start(self: Any, message: str, **facts: Any) -> None:
        errors.MeshError.__init__(self, message, **facts)

    members = {"__init__": start, "__str__": face.__str__, "__module__": __name__}
    return type(ours.__name__, (ours, face), members)


def translated(error: errors.MeshError, call: Call | None, *, aio: bool = False) -> Any:
    """Our error as one that is also gRPC's; one that is already comes back as it is."""
    if isinstance(error, grpc.RpcError):
        return error
    facts = {name: getattr(error, name) for name in ("route", "cluster", "endpoint", "attempts")}
    both = _both(type(error), aio)(str(error), **facts)
    late = isinstance(error, errors.DeadlineExceeded)
    status = 4 if late else grpc_of_http(error.status or 503)
    flag = f" [{error.flag}]" if error.flag != "-" else ""
    return _fill(both, status, f"{error}{flag}", call)


def answered(call: Call, headers: Iterable[tuple[str, str | bytes]] = (), *, aio: bool = False) -> Any:
    """The error of an answer that the configuration asks for."""
    reply = call.answer
    assert reply is not None
    status = reply.grpc_status if reply.grpc_status is not None else grpc_of_http(reply.status)
    words = reply.body.decode("utf-8", "replace") or next((str(v) for n, v in headers if n == "grpc-message"), "")
    if not status:
        status, words = 13, "the answer that the configuration asks for has no message"
    kept: tuple[Any, ...] = tuple(pair for pair in headers if not pair[0].startswith("grpc-"))
    made = AioRpcFailure() if aio else RpcFailure()
    return _fill(made, status, f"{words} ({call.where()}) [{call.flags}]", call, (kept, ()))


def broken(call: Call, outcome: Outcome, status: int, words: str, *, aio: bool = False) -> Any:
    """The error of an attempt that failed on the wire, where that stands."""
    failure = outcome.failure
    if failure is Failure.DEADLINE:
        return translated(call.error(errors.DeadlineExceeded, call.ran_out()), call, aio=aio)
    if failure is Failure.PER_TRY_TIMEOUT:
        return translated(call.error(errors.DeadlineExceeded, "the per-try timeout ran out"), call, aio=aio)
    if failure in (Failure.CONNECT, Failure.TLS):
        return translated(call.error(errors.ConnectFailure, f"connecting failed: {words}"), call, aio=aio)
    made = AioRpcFailure() if aio else RpcFailure()
    return _fill(made, status, f"{words} ({call.where()}) [{call.flags}]", call)


def peer_error(code: Any, words: str, metadata: tuple[Any, Any], *, aio: bool = False) -> Any:
    """The error of a status that an attempt ended with, in its own words."""
    return _fill(AioRpcFailure() if aio else RpcFailure(), code.value[0], words, None, metadata)


def unreadable(call: Call | None, *, aio: bool = False) -> Any:
    """The error of a message that the caller's deserializer refuses."""
    made = AioRpcFailure() if aio else RpcFailure()
    return _fill(made, 13, "Exception deserializing response!", call)


def unwritable(*, aio: bool = False) -> Any:
    """The error of a message that the caller's serializer refuses."""
    made = AioRpcFailure() if aio else RpcFailure()
    return _fill(made, 13, "Exception serializing request!", None)


def stopped(call: Call, *, aio: bool = False) -> Any:
    """The error of an RPC that the caller cancelled."""
    made = AioRpcFailure() if aio else RpcFailure()
    return _fill(made, 1, "Locally cancelled by application!", call)


def shut(call: Call) -> Any:
    """The error of an RPC whose channel was closed."""
    return _fill(RpcFailure(), 1, "Channel closed!", call)


def noted(error: Any, call: Call) -> Any:
    """What the peer said, with the facts of the mesh beside it."""
    error.mesh = call
    error.add_note(f"mesh: {call.where()}, flags {call.flags}")
    return error
