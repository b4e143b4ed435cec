"""The endpoints of an EndpointSlice as they are kept: an address and a pod's name each, all else shared.

A cluster has a hundred thousand of them in every process that watches it. As messages they cost a kilobyte each, of
which all but the address and the name is the same for all endpoints of a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

__all__ = ["KnownEndpoint", "Place", "SliceEndpoints"]

_MOST = 8192
"""Places remembered before the memory starts over."""


class Place(NamedTuple):
    """Where an endpoint runs and how it is; the same object for all that are alike.

    Attributes:
        ready: None is unknown, which counts as ready.
        serving: As ``ready``.
        terminating: None is unknown.
        pod_namespace: Namespace of the Pod, ``""`` when it is not told.
        node: Name of the node.
        zone: Zone, as the slice tells it.
        hostname: Its own name below the service.
    """

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None
    pod_namespace: str = ""
    node: str = ""
    zone: str = ""
    hostname: str = ""


class KnownEndpoint(NamedTuple):
    """One endpoint of a slice.

    Attributes:
        addresses: All of them are the same endpoint; as a rule there is one.
        pod: Name of the Pod, ``""`` for none.
        place: The rest.
    """

    addresses: tuple[str, ...]
    pod: str
    place: Place


_places: dict[Place, Place] = {}


class SliceEndpoints:
    """Immutable; compared by value.

    Args:
        endpoints: Those of one slice, in order.
    """

    __slots__ = ("_addresses", "_places", "_pods")

    def __init__(self, endpoints: Iterable[KnownEndpoint] = ()) -> None:
        rows = list(endpoints)
        self._addresses = tuple(row.addresses[0] if len(row.addresses) == 1 else row.addresses for row in rows)
        self._pods = tuple(row.pod for row in rows)
        self._places = tuple(_shared(row.place) for row in rows)

    def __iter__(self) -> Iterator[KnownEndpoint]:
        """In the order of the slice."""
        for addresses, pod, place in zip(self._addresses, self._pods, self._places, strict=True):
            yield KnownEndpoint((addresses,) if isinstance(addresses, str) else addresses, pod, place)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._pods)

    def __eq__(self, other: object) -> bool:
        """Whether they are the same, in the same order."""
        return isinstance(other, SliceEndpoints) and self._columns == other._columns

    def __hash__(self) -> int:
        """By value."""
        return hash(self._columns)

    def __repr__(self) -> str:
        """All of them."""
        return f"SliceEndpoints({list(self)})"

    @property
    def pods(self) -> tuple[str, ...]:
        """The names of their Pods, ``""`` for those without."""
        return self._pods

    @property
    def _columns(self) -> tuple[Any, ...]:
        return self._addresses, self._pods, self._places

    def plain(self) -> list[dict[str, Any]]:
        """As they stand in an object, without what is unknown."""
        return [_plain(each) for each in self]


def _shared(place: Place) -> Place:
    if len(_places) >= _MOST:
        _places.clear()
    return _places.setdefault(place, place)


def _plain(endpoint: KnownEndpoint) -> dict[str, Any]:
    place = endpoint.place
    conditions = {name: getattr(place, name) for name in ("ready", "serving", "terminating")}
    reference = {"name": endpoint.pod, "namespace": place.pod_namespace}
    parts = {
        "conditions": {name: value for name, value in conditions.items() if value is not None},
        "targetRef": {name: value for name, value in reference.items() if value},
        "nodeName": place.node,
        "zone": place.zone,
        "hostname": place.hostname,
    }
    return {"addresses": list(endpoint.addresses), **{name: part for name, part in parts.items() if part}}
