"""RPCs to hosts that a control plane was only just asked for: they wait for its word, within their own time."""

from __future__ import annotations

from meshlib.dataplane.call import Call
from meshlib.errors import DeadlineExceeded, MeshError, NotYet

__all__ = ["UnheardCall"]


class UnheardCall(Call):
    """Stands for the call until its host is known; nobody is sent to by it, and nobody is told of it.

    Attributes:
        asked: Whom the control plane was asked for.
    """

    __slots__ = ("asked",)

    asked: NotYet

    @property
    def patience(self) -> float | None:
        """Seconds for which the RPC may wait; None leaves it to the mesh."""
        return self.request.timeout

    def unanswered(self, error: MeshError, now: float) -> MeshError:
        """What the RPC failed with: its own time, or the mesh's patience, ran out."""
        if self.patience is not None and now >= self.started + self.patience:
            return DeadlineExceeded(f"{error} within {self.patience:g} s")
        return error
