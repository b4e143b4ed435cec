"""What can go wrong with a call, as one tree; every class carries Envoy's response flag.

::

    MeshError
    ├── ConfigError             the configuration cannot be used; ``problems`` says why
    ├── NotReady                no snapshot has been published yet
    │   └── NotYet              nor has whoever was asked about this host (a control plane, DNS) answered
    ├── NotSent                 the request was not sent: always safe to repeat
    │   ├── NoRoute             NR   no virtual host or no rule matched
    │   │   └── UnknownHost     NR   the mesh is REGISTRY_ONLY and does not know the host
    │   ├── NoCluster           NC   the rule names a host, port or subset that does not exist
    │   ├── NoHealthyUpstream   UH   the cluster has no endpoint that may be picked
    │   ├── Overflow            UO   a circuit-breaker threshold is reached
    │   ├── RateLimited         RL   a rate limit is used up, and its policy asks to raise instead of to answer 429
    │   ├── PoolTimeout         UO   no connection became free within the caller's pool timeout
    │   └── ConnectFailure      UF   no connection to the endpoint could be made
    └── DeadlineExceeded        UT   the overall or per-try timeout ran out; the request may have been sent

The faces raise subclasses that are also the host library's own exceptions (``httpx.ConnectError``,
``grpc.RpcError``), so that code which has never heard of meshlib keeps working.

Source of the flags: Envoy access log documentation, ``%RESPONSE_FLAGS%``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "ConfigError",
    "ConnectFailure",
    "DeadlineExceeded",
    "MeshError",
    "NoCluster",
    "NoHealthyUpstream",
    "NoRoute",
    "NotReady",
    "NotSent",
    "NotYet",
    "Overflow",
    "PoolTimeout",
    "RateLimited",
    "UnknownHost",
]


class MeshError(Exception):
    """Base of everything meshlib raises on purpose.

    Attributes:
        flag: Envoy's response flag, ``-`` where none applies.
        status: The HTTP status a sidecar would have answered with; 0 where none applies.
        route: Name of the route that was taken, or None.
        cluster: Name of the cluster that was chosen, or None.
        endpoint: ``address:port`` of the endpoint that was picked, or None.
        attempts: How many attempts were begun before this was raised.
    """

    flag: ClassVar[str] = "-"
    status: ClassVar[int] = 0

    def __init__(
        self,
        message: str,
        *,
        route: str | None = None,
        cluster: str | None = None,
        endpoint: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message)
        self.route = route
        self.cluster = cluster
        self.endpoint = endpoint
        self.attempts = attempts


class ConfigError(MeshError):
    """The configuration cannot be used.

    Attributes:
        problems: Every problem found, in the order of the sources; each prints as one line.
    """

    def __init__(self, message: str, problems: Sequence[object] = ()) -> None:
        super().__init__("\n".join([message, *(f"  {problem}" for problem in problems)]))
        self.problems = tuple(problems)


class NotReady(MeshError):
    """No snapshot was published within the time given."""


class NotYet(NotReady):
    """Somebody was just asked for the first time; whoever may wait does so (``Mesh.wait_known``) and asks again.

    Attributes:
        host: Name of the host, lower case.
        port: Its port.
        cluster: Name of the cluster whose DNS names are looked up; None where a control plane was asked for the host.
    """

    def __init__(self, host: str, port: int, cluster: str | None = None, names: Sequence[str] = ()) -> None:
        asked = f"DNS has not answered yet for {', '.join(names)}"
        super().__init__(
            asked if names else f"the control plane has not answered yet what it knows of {host}:{port}",
            cluster=cluster,
        )
        self.host = host
        self.port = port


class NotSent(MeshError):
    """The request did not leave this process: repeating it is always safe."""

    status = 503


class NoRoute(NotSent):
    """No rule of the virtual service matched, or (``UnknownHost``) the mesh refuses hosts that it does not know."""

    flag = "NR"
    status = 404


class UnknownHost(NoRoute):
    """The host is not in the registry and the mesh is REGISTRY_ONLY; a sidecar answers 502 (``BlackHoleCluster``)."""

    status = 502


class NoCluster(NotSent):
    """The rule's destination names a host, port or subset that does not exist."""

    flag = "NC"


class NoHealthyUpstream(NotSent):
    """The cluster has no endpoint that may be picked now."""

    flag = "UH"


class Overflow(NotSent):
    """A circuit-breaker threshold of the cluster is reached."""

    flag = "UO"


class RateLimited(NotSent):
    """A rate limit is used up, and its policy asks to raise (``whenLimited: Raise``)."""

    flag = "RL"
    status = 429


class PoolTimeout(NotSent):
    """No connection became free in time; says nothing about the endpoint."""

    flag = "UO"


class ConnectFailure(NotSent):
    """No connection to the picked endpoint could be made."""

    flag = "UF"


class DeadlineExceeded(MeshError):
    """The overall or the per-try timeout ran out. The request may have been sent."""

    flag = "UT"
    status = 504
