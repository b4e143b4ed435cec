"""The part of a mesh that people ask: where a request would go and why, and where each value of a policy stands."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from meshlib.dataplane.connections import target_of
from meshlib.dataplane.decision import Decision
from meshlib.dataplane.explain import explain
from meshlib.dataplane.explain_connection import explain_connection
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import State
from meshlib.errors import ConfigError
from meshlib.model.cluster import cluster_name
from meshlib.model.hosts import expand
from meshlib.model.informed import PolicyValue

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.model.snapshot import Client, Snapshot

__all__ = ["ExplainsItself"]


class ExplainsItself:
    """What ``Mesh`` inherits; nothing is sent, drawn or counted by it."""

    if TYPE_CHECKING:  # the mesh's
        prepared: Prepared
        client: Client
        clock: Clock
        rng: random.Random

        def wait_ready(self, timeout: float | None = None) -> None: ...

        @property
        def snapshot(self) -> Snapshot: ...

    def explain(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        *,
        source_labels: Mapping[str, str] | None = None,
        source_namespace: str | None = None,
        sni: str | None = None,
    ) -> Decision:
        """What would happen to a request, and why: the code that routes live calls, without sending anything.

        Args:
            method: HTTP method.
            url: Absolute URL; ``tcp://host:port`` and ``tls://host:port`` ask about a raw connection.
            headers: Request headers by name; or pairs, where a name may stand several times.
            source_labels: Labels of the caller, instead of the mesh's own.
            source_namespace: Namespace of the caller, instead of the mesh's own.
            sni: Server name of the TLS handshake of a raw connection; by default the host of a ``tls://`` URL.

        Raises:
            NotReady: No configuration came in time.
            ConfigError: The URL is not absolute.
        """
        self.wait_ready()
        prepared = self.prepared
        if source_labels is not None or source_namespace is not None:
            seen = self.snapshot.seen_by(source_namespace, source_labels)
            prepared = Prepared(seen, State(), self.clock.now(), self.rng)
        try:
            if url.startswith(("tcp:", "tls:")):
                return explain_connection(prepared, target_of(url, sni), self.clock.now())
            request = request_of(method, url, headers or {})
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return explain(prepared, request, self.clock.now())

    def effective_policy(
        self, host: str, subset: str = "", port: int = 80, *, source_namespace: str | None = None
    ) -> tuple[PolicyValue, ...]:
        """Every value of the traffic policy towards a host, with the object and field that it came from.

        Args:
            host: Name of the service; a short one is meant in the caller's namespace.
            subset: Name of a subset, ``""`` for the whole service.
            port: Port of the service.
            source_namespace: Namespace of the caller, instead of the mesh's own.

        Raises:
            NotReady: No configuration came in time.
            ConfigError: Host, port or subset do not exist.
        """
        self.wait_ready()
        snapshot = self.snapshot if source_namespace is None else self.snapshot.seen_by(source_namespace, None)
        full = expand(host, source_namespace or self.client.namespace, self.client.cluster_domain)
        values = snapshot.policy_values(cluster_name(full, port, subset))
        if not values:
            raise ConfigError(f"no service {full} with port {port}" + (f" and subset {subset}" if subset else ""))
        return values
