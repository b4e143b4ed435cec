"""What interceptors of both stacks share: RPCs over the application's own channel are routed, and messages weighed."""

from __future__ import annotations

from typing import Any

from meshlib.context.current import NOTHING, current
from meshlib.dataplane import router
from meshlib.dataplane.call import Call
from meshlib.errors import MeshError, NotYet
from meshlib.grpc.failures import translated
from meshlib.grpc.rpc import Metadata, request_of_rpc, service_of
from meshlib.grpc.unpicked import unpicked_of
from meshlib.mesh import MeshSource, as_mesh
from meshlib.rate_limit_service import RateLimitServices
from meshlib.transport.targets import Targets
from meshlib.transport.tls import TlsContexts

__all__ = ["OwnWays", "size_of"]


def size_of(message: Any) -> int | None:
    """Bytes of a message as it will be serialized; None where it does not say."""
    if isinstance(message, bytes | bytearray | memoryview):
        return len(message)
    weigh = getattr(message, "ByteSize", None)
    return int(weigh()) if weigh is not None else None


class OwnWays:
    """Begins calls for channels of the application's own.

    Args:
        target: ``host:port`` of the service that the channel is for, as the configuration names it.
        mesh: A ``Mesh``, or what ``Mesh`` takes.
        aio: Which of gRPC's errors are raised.
    """

    def __init__(self, target: str, mesh: MeshSource, *, aio: bool) -> None:
        self.mesh, self.owns_mesh = as_mesh(mesh)
        self.service = service_of(target)
        self.aio = aio
        self.services = RateLimitServices(self.mesh, Targets(TlsContexts(), self.mesh.lookup))

    def begin(self, method: str, metadata: Metadata | None, timeout: float | None) -> Call | None:
        """Route an RPC; None for a host that the mesh does not know, whose RPCs are left alone.

        Raises:
            NotYet: A control plane was just asked for the host.
            MeshError: And ``grpc.RpcError``: it has no route.
        """
        mesh = self.mesh
        core = request_of_rpc(self.service, method, metadata, timeout, repeatable=False)
        context = current()
        if context is not NOTHING:
            context.lend(core)
        try:
            return router.begin(unpicked_of(mesh), core, mesh.clock.now(), mesh.rng, mesh.observer)
        except NotYet:
            raise
        except MeshError as error:
            raise translated(error, None, aio=self.aio) from None
