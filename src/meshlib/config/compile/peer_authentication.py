"""What servers accept, by PeerAuthentication, as a client reads it.

Source: Istio ``model/authentication.go``, ``authn/policy_applier.go``: the oldest policy of each level counts, UNSET
looks further out; policies with a selector do not count in the root namespace at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meshlib.config.compile.endpoints import selects
from meshlib.config.compile.registry import age
from meshlib.config.resources.base import Resource
from meshlib.config.resources.security import MutualTLS, MutualTLSMode, PeerAuthenticationSpec

__all__ = ["PeerAuthentications"]

_Policy = Resource[PeerAuthenticationSpec]


class PeerAuthentications:
    """All PeerAuthentications.

    Args:
        resources: Objects of any kinds.
        namespace: For objects that name none.
        root: The root namespace.
    """

    def __init__(self, resources: Iterable[Resource[Any]], namespace: str, root: str) -> None:
        self._whole: dict[str, _Policy] = {}
        self._workloads: dict[str, list[_Policy]] = {}
        self._root = root
        for policy in sorted((r for r in resources if r.kind == "PeerAuthentication"), key=age):
            own = policy.metadata.namespace or namespace
            if not _selector(policy):
                self._whole.setdefault(own, policy)
            elif own != root:
                self._workloads.setdefault(own, []).append(policy)

    def of_namespace(self, namespace: str) -> MutualTLSMode:
        """The mode of a whole namespace: its own, else the root's, else PERMISSIVE; workloads and ports left aside."""
        for name in (namespace, self._root):
            policy = self._whole.get(name)
            if policy is not None and (mode := _mode(policy.spec.mtls)):
                return mode
        return MutualTLSMode.PERMISSIVE

    def of_workload(self, namespace: str, labels: Mapping[str, str], port: int) -> MutualTLSMode:
        """The mode of one port (the workload's, not the service's) of the workload with these labels."""
        for policy in self._workloads.get(namespace, ()):
            if selects(_selector(policy), labels):
                mode = _mode(policy.spec.port_level_mtls.get(port)) or _mode(policy.spec.mtls)
                return mode or self.of_namespace(namespace)
        return self.of_namespace(namespace)

    def has_workload_policies(self, namespace: str) -> bool:
        """Whether the workloads of a namespace may differ in what they accept."""
        return namespace in self._workloads


def _selector(policy: _Policy) -> Mapping[str, str]:
    selector = policy.spec.selector
    return selector.match_labels if selector is not None else {}


def _mode(given: MutualTLS | None) -> MutualTLSMode | None:
    return None if given is None or given.mode is MutualTLSMode.UNSET else given.mode
