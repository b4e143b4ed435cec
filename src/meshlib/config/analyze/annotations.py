"""Annotations of ``*.istio.io``: known ones, on the kinds that they mean something for.

Source: Istio ``analyzers/annotations/annotations.go``; names from ``istio.io/api/annotation``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from meshlib.config.analyze.world import Item, World
from meshlib.model.problem import Problem

__all__ = ["alpha", "misused"]

ANY = frozenset({"Any"})
_POD = frozenset({"Pod"})
_SERVICE = frozenset({"Service"})
_GATEWAY = frozenset({"Gateway"})

_SIDECAR = (
    "agentLogLevel bootstrapOverride componentLogLevel controlPlaneAuthPolicy discoveryAddress enableCoreDump "
    "extraStatTags inject interceptionMode logLevel nativeSidecar proxyCPU proxyCPULimit proxyImage proxyImageType "
    "proxyMemory proxyMemoryLimit rewriteAppHTTPProbers statsCompression statsHistogramBuckets "
    "statsInclusionPrefixes statsInclusionRegexps statsInclusionSuffixes status userVolume userVolumeMount"
)
_TRAFFIC = (
    "excludeInboundPorts excludeInterfaces excludeOutboundIPRanges excludeOutboundPorts includeInboundPorts "
    "includeOutboundIPRanges includeOutboundPorts kubevirtInterfaces"
)
_READINESS = "applicationPorts failureThreshold initialDelaySeconds periodSeconds"

KNOWN: dict[str, frozenset[str]] = {
    **{f"sidecar.istio.io/{name}": _POD for name in _SIDECAR.split()},
    **{f"traffic.sidecar.istio.io/{name}": _POD for name in _TRAFFIC.split()},
    **{f"readiness.status.sidecar.istio.io/{name}": _POD for name in _READINESS.split()},
    "inject.istio.io/templates": _POD,
    "status.sidecar.istio.io/port": _POD,
    "alpha.istio.io/canonical-serviceaccounts": _SERVICE,
    "alpha.istio.io/identity": _POD,
    "alpha.istio.io/kubernetes-serviceaccounts": _SERVICE,
    "ambient.istio.io/bypass-inbound-capture": _POD,
    "ambient.istio.io/dns-capture": _POD,
    "ambient.istio.io/redirection": _POD,
    "ambient.istio.io/waypoint-inbound-binding": _GATEWAY,
    "galley.istio.io/analyze-suppress": ANY,
    "gateway.istio.io/controller-version": ANY,
    "gateway.istio.io/name-override": _GATEWAY,
    "gateway.istio.io/service-account": _GATEWAY,
    "gateway.istio.io/tls-terminate-mode": _GATEWAY,
    "install.operator.istio.io/chart-owner": ANY,
    "install.operator.istio.io/owner-generation": ANY,
    "install.operator.istio.io/version": ANY,
    "internal.istio.io/parents": ANY,
    "internal.istio.io/route-semantics": ANY,
    "istio.io/dry-run": frozenset({"AuthorizationPolicy"}),
    "istio.io/rev": _POD,
    "istio.io/workloadController": _POD,
    "networking.istio.io/address-type": _GATEWAY,
    "networking.istio.io/exportTo": _SERVICE,
    "networking.istio.io/service-type": _GATEWAY,
    "networking.istio.io/traffic-distribution": frozenset({"Service", "ServiceEntry", "Namespace"}),
    "prometheus.istio.io/merge-metrics": _POD,
    "proxy.istio.io/config": _POD,
    "proxy.istio.io/overrides": _POD,
    "security.istio.io/autoRegistrationGroup": frozenset({"WorkloadEntry"}),
    "telemetry.istio.io/canonical-name": _POD,
    "topology.istio.io/controlPlaneClusters": frozenset({"Namespace"}),
    "traffic.istio.io/nodeSelector": _SERVICE,
}
"""Annotation -> kinds that it may stand on."""

DEPRECATED = frozenset(
    {
        "alpha.istio.io/canonical-serviceaccounts",
        "alpha.istio.io/identity",
        "alpha.istio.io/kubernetes-serviceaccounts",
        "sidecar.istio.io/controlPlaneAuthPolicy",
        "sidecar.istio.io/discoveryAddress",
        "sidecar.istio.io/inject",
        "sidecar.istio.io/statsInclusionPrefixes",
        "sidecar.istio.io/statsInclusionRegexps",
        "sidecar.istio.io/statsInclusionSuffixes",
    }
)
"""Annotations that will not work for ever."""

_MATURE = frozenset({"sidecar.istio.io/inject", "proxy.istio.io/config"})
"""What is beta or stable; every other annotation is alpha."""
_MADE_BY_ISTIO = frozenset({"sidecar.istio.io/status"})
_MADE_BY_CNI = frozenset(
    {
        "sidecar.istio.io/interceptionMode",
        "traffic.sidecar.istio.io/excludeInboundPorts",
        "traffic.sidecar.istio.io/includeInboundPorts",
        "traffic.sidecar.istio.io/includeOutboundIPRanges",
    }
)

_OPEN = ("install.operator.istio.io/", "internal.istio.io/", "operator.istio.io/")
"""Prefixes whose names are not listed: Istio writes them itself."""


def _ports(text: str) -> bool:
    """Port numbers with commas, or ``*``, or nothing."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    return words == ["*"] or all(word.isdecimal() and 0 < int(word) < 65536 for word in words)


VALUES: dict[str, Callable[[str], bool]] = {
    "sidecar.istio.io/inject": lambda text: text.lower() in ("true", "false"),
    "sidecar.istio.io/interceptionMode": lambda text: text in ("REDIRECT", "TPROXY", "NONE"),
    "sidecar.istio.io/rewriteAppHTTPProbers": lambda text: text.lower() in ("true", "false"),
    "status.sidecar.istio.io/port": str.isdecimal,
    "traffic.sidecar.istio.io/excludeInboundPorts": _ports,
    "traffic.sidecar.istio.io/excludeOutboundPorts": _ports,
    "traffic.sidecar.istio.io/includeInboundPorts": _ports,
    "traffic.sidecar.istio.io/includeOutboundPorts": _ports,
}
"""Annotation -> whether a text is a value of it."""


def misused(world: World) -> Iterator[Problem]:
    """Names that Istio does not know, and names on a kind that does not read them."""
    for item in world.items:
        for name, value in item.annotations.items():
            path = f"metadata.annotations.{name}"
            if not _is_istios(name) or name.startswith(_OPEN):
                continue
            kinds = KNOWN.get(name)
            if kinds is None:
                yield item.report("IST0108", path, f"Istio knows no annotation {name!r}")
                continue
            if name in DEPRECATED and not (name == INJECT and INJECT in item.labels):
                yield item.report("IST0135", path, f"{name!r} is deprecated{_INSTEAD.get(name, '')}")
            if kinds is not ANY and item.resource.kind not in kinds:
                wanted = " or ".join(sorted(kinds))
                yield item.report("IST0107", path, f"{name!r} has an effect on a {wanted} only")
            elif name in VALUES and not VALUES[name](value):
                yield item.report("IST0125", path, f"{value!r} is no value of {name!r}")


INJECT = "sidecar.istio.io/inject"
_INSTEAD = {INJECT: ": use the label of that name"}
_ALPHA_KINDS = ("Namespace", "Service", "Pod", "Deployment")


def alpha(world: World) -> Iterator[Problem]:
    """Annotations of features that are not meant for production.

    Istio does not run this one by itself either: istiod sets such annotations on most pods.
    Source: Istio ``analyzers/maturity/maturity.go``.
    """
    for item in (each for kind in _ALPHA_KINDS for each in world.of(kind)):
        silent = _MADE_BY_ISTIO | (_MADE_BY_CNI if _is_set_up_by_cni(item) else frozenset())
        for name in item.annotations:
            if name in KNOWN and name not in _MATURE and name not in silent:
                path = f"metadata.annotations.{name}"
                yield item.report("IST0136", path, f"{name!r} belongs to a feature in alpha")


def _is_set_up_by_cni(item: Item) -> bool:
    """A pod without the container that redirects its traffic."""
    containers = item.spec.get("initContainers") or []
    return item.resource.kind == "Pod" and not any(each.get("name") == "istio-init" for each in containers)


def _is_istios(name: str) -> bool:
    domain = name.partition("/")[0]
    return domain == "istio.io" or domain.endswith(".istio.io")
