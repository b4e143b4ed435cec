"""What of Consul's catalogue is watched."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Scope"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What is watched, and how; see ``ConsulProvider``."""

    datacenters: tuple[str, ...] = ("",)
    services: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    filter: str = ""
    wait: float = 60.0
    lease: float = 60.0
    connections: int = 100

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Query parameters for instances."""
        return [*(("tag", tag) for tag in sorted(self.tags)), *([("filter", self.filter)] if self.filter else [])]
