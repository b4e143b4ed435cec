"""DestinationRules: certificates that nobody checks, unknown hosts, subsets without pods.

Source: Istio ``analyzers/destinationrule/ca-certificates.go``, ``subset.go``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshlib.config.analyze.hosts import Registry
from meshlib.config.analyze.workloads import Population, workloads
from meshlib.config.analyze.world import Item, World
from meshlib.model.hosts import expand
from meshlib.model.problem import Problem

__all__ = ["certificates", "subsets"]


def certificates(world: World) -> Iterator[Problem]:
    """TLS without ``caCertificates``; a credential counts only where a workload selector makes it usable."""
    for item in world.of("DestinationRule"):
        policy = item.spec.get("trafficPolicy") or {}
        has_selector = bool(item.spec.get("workloadSelector"))
        yield from _certificate(item, "IST0128", "spec.trafficPolicy.tls", policy.get("tls"), has_selector)
        for number, port in enumerate(policy.get("portLevelSettings") or []):
            path = f"spec.trafficPolicy.portLevelSettings[{number}].tls"
            yield from _certificate(item, "IST0129", path, port.get("tls"), has_selector)


def _certificate(item: Item, code: str, path: str, tls: Any, has_selector: bool) -> Iterator[Problem]:
    if not tls or tls.get("mode") not in ("SIMPLE", "MUTUAL") or tls.get("insecureSkipVerify"):
        return
    if tls.get("caCertificates") or (tls.get("credentialName") and has_selector):
        return
    message = f"mode {tls['mode']} without caCertificates: the authorities of the operating system are trusted"
    yield item.report(code, f"{path}.mode", f"{message} for {item.spec.get('host')!r}")


def subsets(world: World) -> Iterator[Problem]:
    """Hosts that no service has; else subsets whose labels no workload has."""
    registry, everyone = Registry(world), workloads(world)
    for item in world.of("DestinationRule"):
        host = str(item.spec.get("host") or "")
        known = registry.find(expand(host, item.namespace, world.domain), item.namespace)
        if known is None:
            yield item.report("IST0174", "spec.host", f"no service has the host {host!r}")
            continue
        selector = (known.item.spec.get("workloadSelector") or {}).get("labels") or {}
        yield from _without_pods(item, selector, everyone)


def _without_pods(item: Item, selector: dict[str, str], everyone: Population) -> Iterator[Problem]:
    for number, subset in enumerate(item.spec.get("subsets") or []):
        labels = {**selector, **(subset.get("labels") or {})}
        if next(everyone.selected(labels), None) is None:
            pairs = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
            message = f"no workload has the labels {pairs} of subset {subset.get('name')!r}: requests to it fail (UH)"
            yield item.report("IST0173", f"spec.subsets[{number}]", message)
