"""What a provider is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from meshlib.config.resources.base import Resource
from meshlib.model.problem import Problem
from meshlib.model.snapshot import Source

__all__ = ["Facts", "Provider", "ProviderError"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that one provider knows at one moment; never a difference.

    Whole sets are cheap to publish: an object that is the very Python object of before is not looked at again, so keep
    what did not change (see ``Objects``, which does that) and make only what did anew.

    Attributes:
        resources: Its objects: a tuple, or in chunks (``Parts``); never changed once published.
        problems: What it could not read.
        version: For status pages, ``""`` when it has none.
        view: What it knows in compiled form (hosts, clusters, endpoints), as a control plane of xDS sends it.
        routing: Identity of all of ``view`` but endpoints: while it stays the same object, only endpoints moved. None
            says nothing of it.
    """

    resources: Sequence[Resource[Any]] = ()
    problems: tuple[Problem, ...] = ()
    version: str = ""
    view: Source | None = None
    routing: object | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it knows nothing at all."""
        return not self.resources and self.view is None


class ProviderError(Exception):
    """Trying again cannot mend it: a missing dependency, a refused credential."""


class Provider(Protocol):
    """A source of facts about the mesh.

    ``run`` publishes everything it knows, again on each change, the empty set included; never a difference. It ends by
    cancellation. Whatever it raises is shown in ``mesh.status()`` and it is run again after a growing, jittered wait,
    except after ``ProviderError``.
    """

    name: str

    async def run(self, publish: Callable[[Facts], None]) -> None:
        """Publish until cancelled; runs in the mesh's own event loop (asyncio)."""
        ...
