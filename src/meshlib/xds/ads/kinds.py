"""The types of resources that are asked for, and how each is read."""

from __future__ import annotations

from enum import Enum
from typing import Any

from meshlib.xds import decode
from meshlib.xds.decode.filters import OPEN, HttpFilters
from meshlib.xds.decode.findings import Decoded, InvalidResource, Profile
from meshlib.xds.messages import (
    any_pb2,
    cluster_pb2,
    discovery_pb2,
    endpoint_pb2,
    listener_pb2,
    message,
    route_pb2,
    secret_pb2,
)

__all__ = ["EVERYTHING", "Kind", "decoded", "named", "unwrapped"]

EVERYTHING = "*"
"""The name that asks for all resources of a type; for listeners and clusters only."""


class Kind(Enum):
    """A type of resources; in the order in which they are asked for after a stream was opened."""

    CLUSTER = "envoy.config.cluster.v3.Cluster"
    ENDPOINT = "envoy.config.endpoint.v3.ClusterLoadAssignment"
    SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type
    LISTENER = "envoy.config.listener.v3.Listener"
    ROUTE = "envoy.config.route.v3.RouteConfiguration"

    @property
    def url(self) -> str:
        """The type URL."""
        return f"type.googleapis.com/{self.value}"

    @property
    def whole(self) -> bool:
        """Whether a state-of-the-world answer holds all there is, so that what is absent does not exist."""
        return self in (Kind.LISTENER, Kind.CLUSTER)

    @classmethod
    def of(cls, url: str) -> Kind | None:
        """The type of that URL; None for one that nobody here asks for."""
        return _BY_URL.get(url)


_BY_URL = {kind.url: kind for kind in Kind}
_MESSAGES = {
    Kind.CLUSTER: cluster_pb2.Cluster,
    Kind.ENDPOINT: endpoint_pb2.ClusterLoadAssignment,
    Kind.SECRET: secret_pb2.Secret,
    Kind.LISTENER: listener_pb2.Listener,
    Kind.ROUTE: route_pb2.RouteConfiguration,
}


def unwrapped(packed: Any) -> tuple[Any, str]:
    """What a resource of an answer is, and its own version where it is wrapped into a ``Resource``, else ``""``."""
    if not packed.Is(discovery_pb2.Resource.DESCRIPTOR):
        return packed, ""
    wrapper = discovery_pb2.Resource()
    packed.Unpack(wrapper)
    return wrapper.resource, str(wrapper.version)


def named(kind: Kind, packed: Any) -> tuple[str, Any]:
    """The name of a packed resource and its message.

    Raises:
        InvalidResource: It is of another type, or broken.
    """
    made = _MESSAGES[kind]()
    try:
        if not isinstance(packed, any_pb2.Any) or not packed.Unpack(made):
            raise InvalidResource(f"{packed.type_url or 'nothing'} is not {kind.value}")
    except message.DecodeError as error:
        raise InvalidResource(f"no {kind.value}: {error}") from error
    return str(made.cluster_name if kind is Kind.ENDPOINT else made.name), made


def decoded(kind: Kind, made: Any, profile: Profile, filters: HttpFilters = OPEN) -> Decoded[Any]:
    """What a message says; ``filters`` are those of the listener that a route table is for.

    Raises:
        InvalidResource: With everything that is wrong.
    """
    if kind is Kind.LISTENER:
        return decode.listener(made, profile)
    if kind is Kind.ROUTE:
        return decode.route_configuration(made, profile, filters)
    if kind is Kind.SECRET:
        return decode.secret(made, profile)
    if kind is Kind.CLUSTER:
        return decode.cluster(made, profile)
    return decode.load_assignment(made, profile)
