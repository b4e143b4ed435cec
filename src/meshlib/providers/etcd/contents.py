"""What the keys mean: objects under one prefix, instances under another, published as one set.

Events are noted, and read together a moment later: a key that is written a thousand times is read as often as it can be
used, not as often as it was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import monotonic

from meshlib.config.resources.load import load_bytes
from meshlib.model.problem import Problem, schema_warning
from meshlib.providers.base import Publish
from meshlib.providers.etcd.registry import host_of, instance_of, service_of
from meshlib.providers.instances import Instance, service_entries
from meshlib.providers.objects import Objects
from meshlib.providers.troubles import Troubles

__all__ = ["Contents", "Reading"]

_REST = 0.002
_SHARE = 4
"""Seconds of rest for each second that reading took."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How keys are read; see ``EtcdProvider``."""

    config: str
    registry: str
    domain: str = "etcd"
    port: int = 80
    strict: bool = False


class Contents:
    """What is known of both prefixes.

    Args:
        source: Name of the provider.
        how: How keys are read.
        publish: Gets all that is known, at each change.
    """

    def __init__(self, source: str, how: Reading, publish: Publish) -> None:
        self._source = source
        self._how = how
        self._publish_to = publish
        self._objects = Objects(source, strict=how.strict)
        self._instances: dict[str, dict[bytes, Instance]] = {}
        self._unread: dict[bytes, Problem] = {}
        self._troubles = Troubles()
        self._dirty: dict[tuple[str, bytes], Mapping[bytes, bytes]] = {}
        self._woken = asyncio.Event()
        self._version = 0

    def note(self, part: str, changed: set[bytes], values: Mapping[bytes, bytes]) -> None:
        """These keys of a part (``config`` or ``registry``) changed, and ``values`` has what they hold."""
        self._dirty.update(dict.fromkeys(((part, key) for key in changed), values))
        if changed:
            self._woken.set()

    def tell(self, part: str, words: str) -> None:
        """What a part is in trouble with; that it is over is told by a publication."""
        if self._troubles.tell(part, words):
            if text := str(self._troubles):
                self._publish_to.troubled(text)
            else:
                self._woken.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._woken.wait()
            began = monotonic()
            self.publish()
            await asyncio.sleep(max(_REST, _SHARE * (monotonic() - began)))

    def publish(self) -> None:
        """Read what changed and publish everything."""
        self._woken.clear()
        dirty, self._dirty = self._dirty, {}
        services: set[str] = set()
        for (part, key), values in dirty.items():
            if part == "config":
                self._take_objects(key, values.get(key))
            else:
                services |= self._take_instance(key, values.get(key))
        for service in services:
            self._take_service(service)
        self._version += 1
        facts = self._objects.facts()
        problems = (*facts.problems, *self._unread.values())
        self._publish_to(replace(facts, problems=problems, version=str(self._version)))
        if text := str(self._troubles):
            self._publish_to.troubled(text)

    def _take_objects(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._objects.remove(key)
        else:
            self._objects.put(key, load_bytes(value, self._called(key), strict=self._how.strict))

    def _take_instance(self, key: bytes, value: bytes | None) -> set[str]:
        """Note the instance; the services that it concerns."""
        self._unread.pop(key, None)
        service = service_of(key.decode("utf-8", "replace").removeprefix(self._how.registry))
        if service is None:
            if value is not None:
                self._unread[key] = schema_warning("", "the key is not SERVICE/INSTANCE", self._called(key))
            return set()
        known = self._instances.setdefault(service, {})
        known.pop(key, None)
        if value is not None:
            try:
                known[key] = instance_of(value)
            except ValueError as error:
                self._unread[key] = schema_warning("", f"the instance cannot be read: {error}", self._called(key))
        return {service}

    def _take_service(self, service: str) -> None:
        """A service that has no key any more stays known, without endpoints: whoever served it will be back."""
        instances = self._instances[service]
        usable = [instances[key] for key in sorted(instances) if instances[key].weight]
        values = service_entries("etcd", [host_of(service, self._how.domain)], usable, self._how.port)
        self._objects.put(("service", service), {"kind": "List", "items": values})

    def _called(self, key: bytes) -> str:
        return f"{self._source}{key.decode('utf-8', 'replace')}"
