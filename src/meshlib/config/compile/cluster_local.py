"""Hosts whose endpoints in other clusters are not used.

Source: Istio ``cluster_local.go``; MeshConfig ``serviceSettings``.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshlib.model.hosts import HostIndex

__all__ = ["ClusterLocalHosts"]


class ClusterLocalHosts:
    """What ``serviceSettings`` say, over Istio's defaults: the most specific pattern decides.

    Args:
        settings: (is local, host patterns) of each entry; of one pattern that stands twice, the first.
        domain: DNS suffix of the cluster.
    """

    def __init__(self, settings: Iterable[tuple[bool, Iterable[str]]], domain: str) -> None:
        self._patterns: HostIndex[bool] = HostIndex()
        for local, hosts in settings:
            for host in hosts:
                self._patterns.add(host.lower(), local)
        for host in (f"*.kube-system.svc.{domain}", f"kubernetes.default.svc.{domain}"):
            self._patterns.add(host, True)

    def covers(self, host: str) -> bool:
        """Whether only endpoints of the client's own cluster serve ``host``."""
        found = self._patterns.best(host)
        return bool(found) and found[0]
