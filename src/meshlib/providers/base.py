"""What a provider is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from meshlib.config.resources.base import Resource
from meshlib.model.problem import Problem
from meshlib.model.snapshot import Source

__all__ = ["Facts", "Provider", "ProviderError", "Publish"]


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


class Publish(Protocol):
    """What a provider is handed to publish by. Call it, and its methods, in the event loop that ``run`` runs in."""

    def __call__(self, facts: Facts, /) -> None:
        """This is everything that is known now."""
        ...

    def alive(self) -> None:
        """The source gave a sign of life without news: a heartbeat, a bookmark, an answer that nothing changed."""
        ...

    def anew(self) -> None:
        """The next publication is the first over a new connection: if it is empty, it is not believed at once."""
        ...

    def troubled(self, why: str) -> None:
        """The source cannot be reached now; what was published stays in force, and the next publication clears it."""
        ...


class Provider(Protocol):
    """A source of facts about the mesh.

    ``run`` publishes everything it knows, again on each change, the empty set included; never a difference. It ends by
    cancellation. Whatever it raises is shown in ``mesh.status()`` and it is run again after a growing, jittered wait,
    except after ``ProviderError``; and so it is where it returns, for a watch that was closed politely is over all the
    same. What it published last stays in force all the while.

    A class that needs nothing but calls may annotate ``publish`` as ``Callable[[Facts], None]``. Three attributes are
    used where a provider has them:

    - ``silence``: seconds after which a run without a sign of life (a publication, ``publish.alive()``) is broken off
      and started again, for a peer that vanished without a word. Absent or None: never.
    - ``empty_lease``: seconds for which an empty answer over a new connection is held at most, 60 when absent; 0
      believes it at once.
    - ``judged(problems)``: called in the event loop of ``run`` after each publication of the mesh, with all that is
      wrong with its objects, for a source that wants to tell those who wrote them.
    """

    name: str

    async def run(self, publish: Publish, /) -> None:
        """Publish until cancelled; runs in the mesh's own event loop (asyncio)."""
        ...
