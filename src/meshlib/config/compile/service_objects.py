"""From a Kubernetes Service or a ServiceEntry to services of the registry.

Source: Istio ``serviceregistry/kube/conversion.go``, ``serviceregistry/serviceentry/conversion.go``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from meshlib.config.compile.locality import traffic_distribution
from meshlib.config.compile.services import Port, Resolution, Service, kubernetes_protocol, parse_protocol
from meshlib.config.resources.base import Resource
from meshlib.config.resources.kubernetes import KubernetesServiceSpec
from meshlib.config.resources.service_entry import Location, ServiceEntrySpec
from meshlib.config.resources.service_entry import Resolution as EntryResolution
from meshlib.model.spiffe import spiffe_uri

__all__ = ["created", "of_entry", "of_kubernetes"]

_DISTRIBUTION = "networking.istio.io/traffic-distribution"
_EXPORT_TO = "networking.istio.io/exportTo"
_CANONICAL_ACCOUNTS = "alpha.istio.io/canonical-serviceaccounts"
_KUBERNETES_ACCOUNTS = "alpha.istio.io/kubernetes-serviceaccounts"
_CONNECT_STRATEGY = "istio.io/connect-strategy"
_SESSIONS = ("istio.io/persistent-session", "istio.io/persistent-session-header")

_RESOLUTIONS = {
    EntryResolution.NONE: Resolution.NONE,
    EntryResolution.STATIC: Resolution.ENDPOINTS,
    EntryResolution.DNS: Resolution.DNS,
    EntryResolution.DNS_ROUND_ROBIN: Resolution.DNS_ROUND_ROBIN,
    EntryResolution.DYNAMIC_DNS: Resolution.DYNAMIC_DNS,
}


def created(resource: Resource[Any]) -> float:
    """Creation time in seconds; 0 when unknown, which counts as the oldest."""
    time = resource.metadata.creation_timestamp
    return time.timestamp() if time is not None else 0.0


def of_kubernetes(
    resource: Resource[KubernetesServiceSpec],
    namespace: str,
    domain: str,
    trust_domain: str,
    namespace_annotations: Mapping[str, str],
) -> Service:
    """The service that a Kubernetes Service stands for."""
    spec, metadata = resource.spec, resource.metadata
    annotations = metadata.annotations
    alias = spec.external_name or "" if spec.type == "ExternalName" else ""
    addresses = [a for a in (spec.cluster_ips or [spec.cluster_ip or ""]) if a and a != "None"]
    wishes = (spec.traffic_distribution, annotations.get(_DISTRIBUTION), namespace_annotations.get(_DISTRIBUTION))
    return Service(
        f"{metadata.name}.{namespace}.svc.{domain}".lower(),
        namespace,
        tuple(
            Port(p.port, p.name, kubernetes_protocol(p.protocol, p.app_protocol, p.name, p.port)) for p in spec.ports
        ),
        Resolution.ALIAS if alias else Resolution.ENDPOINTS,
        tuple(addresses),
        _list(annotations.get(_EXPORT_TO, "")),
        external=bool(alias),
        kubernetes=True,
        headless=spec.cluster_ip == "None",
        created=created(resource),
        alias_of=alias.lower().removesuffix("."),
        publish_not_ready=spec.publish_not_ready_addresses,
        object=f"Service {namespace}/{metadata.name}",
        traffic_distribution=traffic_distribution(*wishes),
        identities=_accounts(annotations, namespace, trust_domain),
        same_node=spec.internal_traffic_policy == "Local",
        keeps_sessions=any(label in metadata.labels for label in _SESSIONS),
        labels=metadata.labels,
        selector=spec.selector or None,
    )


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _accounts(annotations: Mapping[str, str], namespace: str, trust_domain: str) -> tuple[str, ...]:
    """Names as they are written, and service accounts of the Service's namespace."""
    accounts = (spiffe_uri(trust_domain, namespace, name) for name in _list(annotations.get(_KUBERNETES_ACCOUNTS, "")))
    return (*_list(annotations.get(_CANONICAL_ACCOUNTS, "")), *accounts)


def of_entry(
    resource: Resource[ServiceEntrySpec],
    namespace: str,
    export_to: Sequence[str],
    namespace_annotations: Mapping[str, str],
) -> Iterator[Service]:
    """The services that a ServiceEntry stands for, one for each host; ``export_to`` is who may see them."""
    spec, annotations = resource.spec, resource.metadata.annotations
    wishes = (annotations.get(_DISTRIBUTION), namespace_annotations.get(_DISTRIBUTION))
    service = Service(
        "",
        namespace,
        tuple(Port(p.number, p.name, parse_protocol(p.protocol), p.target_port) for p in spec.ports),
        _RESOLUTIONS[spec.resolution],
        export_to=tuple(export_to),
        external=spec.location is Location.MESH_EXTERNAL,
        created=created(resource),
        object=f"ServiceEntry {namespace}/{resource.metadata.name}",
        traffic_distribution=traffic_distribution(*wishes),
        identities=tuple(spec.subject_alt_names),
        races_addresses=annotations.get(_CONNECT_STRATEGY) == "RACE_FIRST_TCP_CONNECT",
        labels=resource.metadata.labels,
        selector=spec.workload_selector.labels if spec.workload_selector is not None else None,
    )
    for host in dict.fromkeys(host.lower() for host in spec.hosts):
        yield replace(service, host=host, addresses=tuple(spec.addresses) or _allocated(resource, host))


def _allocated(resource: Resource[Any], host: str) -> tuple[str, ...]:
    """Virtual IPs that istiod gave a host, from ``status.addresses``."""
    known = (resource.status or {}).get("addresses") or ()
    return tuple(
        each["value"] for each in known if isinstance(each, dict) and each.get("host") == host and each["value"]
    )
