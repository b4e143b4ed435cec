"""RPCs that cannot be routed yet: they wait for configuration, a control plane or DNS, within their time.

The configuration is waited for once in a mesh's life, a control plane's word where it is asked for hosts on demand, and
the answer of DNS by the first to use a cluster of names.
"""

from __future__ import annotations

from meshlib.dataplane.call import Call
from meshlib.errors import DeadlineExceeded, MeshError, NotYet
from meshlib.mesh import Mesh

__all__ = ["UnheardCall"]


class UnheardCall(Call):
    """Stands for the call until its host is known; nobody is sent to by it, and nobody is told of it.

    Attributes:
        asked: What was asked for; None where there is no configuration at all yet.
    """

    __slots__ = ("asked",)

    asked: NotYet | None

    @property
    def patience(self) -> float | None:
        """Seconds for which the RPC may wait; None leaves it to the mesh."""
        return self.request.timeout

    def wait(self, mesh: Mesh) -> None:
        """Return when it can be routed.

        Raises:
            NotReady: That was not so in time.
        """
        if self.asked is None:
            mesh.wait_ready(self.patience)
        else:
            mesh.wait_known(self.asked, self.patience)

    async def wait_aside(self, mesh: Mesh) -> None:
        """The cooperative form of ``wait``."""
        if self.asked is None:
            await mesh.await_ready(self.patience)
        else:
            await mesh.await_known(self.asked, self.patience)

    def unanswered(self, error: MeshError, now: float) -> MeshError:
        """What the RPC failed with: its own time, or the mesh's patience, ran out."""
        if self.patience is not None and now >= self.started + self.patience:
            return DeadlineExceeded(f"{error}; the RPC had {self.patience:g} s")
        return error
