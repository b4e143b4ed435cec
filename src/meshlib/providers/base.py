"""What a provider is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from meshlib.config.resources.base import Resource
from meshlib.model.problem import Problem

__all__ = ["Facts", "Provider", "ProviderError"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that one provider knows at one moment; never a difference.

    Attributes:
        resources: Its objects.
        problems: What it could not read.
        version: For status pages, ``""`` when it has none.
    """

    resources: tuple[Resource[Any], ...] = ()
    problems: tuple[Problem, ...] = ()
    version: str = ""


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
