"""Ports of Services, ServiceEntries and the Deployments behind them.

Source: Istio ``analyzers/service/portname.go``, ``deployment/services.go``, ``serviceentry/protocoladdresses.go``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshlib.config.analyze.workloads import in_mesh
from meshlib.config.analyze.world import Item, World, selects
from meshlib.config.compile.services import AppProtocol, kubernetes_protocol
from meshlib.model.problem import Problem

__all__ = ["SYSTEM", "application_users", "deployments", "port_names", "service_entry_addresses"]

SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


def port_names(world: World) -> Iterator[Problem]:
    """Ports whose protocol Istio must guess; ExternalName ports that count as TCP and swallow other traffic."""
    for item in world.of("Service"):
        if _is_part_of_the_mesh(world, item):
            continue
        for number, port in enumerate(item.spec.get("ports") or []):
            yield from _port_name(item, f"spec.ports[{number}]", port)


def _is_part_of_the_mesh(world: World, item: Item) -> bool:
    """Kubernetes' and Istio's own services, and those of generated gateways."""
    istios = "istio" in item.labels or item.labels.get("release") == "istio"
    generated = "gateway.istio.io/managed" in item.labels
    return item.namespace in SYSTEM or generated or (item.namespace == world.root and istios)


def _port_name(item: Item, path: str, port: Any) -> Iterator[Problem]:
    name = str(port.get("name") or "")
    transport = str(port.get("protocol") or "TCP")
    protocol = kubernetes_protocol(transport, port.get("appProtocol"), name, port.get("port") or 0)
    external = item.spec.get("type") == "ExternalName"
    if external and (protocol is AppProtocol.UNSUPPORTED or protocol is AppProtocol.TCP):
        message = (
            f"port {name or port.get('port')} of an ExternalName service needs a name with a protocol other than tcp"
        )
        yield item.report("IST0150", path, message)
    elif protocol is AppProtocol.UNSUPPORTED:
        message = (
            f"port {port.get('port')} ({name or 'without name'}) tells no protocol: name it, for example, http-main"
        )
        yield item.report("IST0118", path, message)


def service_entry_addresses(world: World) -> Iterator[Problem]:
    """TCP ports need an address: nothing else tells the connections of two hosts apart."""
    settings = (world.mesh.get("defaultConfig") or {}).get("proxyMetadata") or {}
    if all(str(settings.get(f"ISTIO_META_DNS_{name}")).lower() == "true" for name in ("CAPTURE", "AUTO_ALLOCATE")):
        return
    for item in world.of("ServiceEntry"):
        if item.spec.get("addresses") or (item.resource.status or {}).get("addresses"):
            continue
        for number, port in enumerate(item.spec.get("ports") or []):
            if str(port.get("protocol") or "TCP").upper() == "TCP":
                message = f"port {port.get('number')} is TCP: without addresses, other hosts of that port share it"
                yield item.report("IST0134", f"spec.ports[{number}]", message)


def deployments(world: World) -> Iterator[Problem]:
    """Deployments of the mesh whose Services disagree about a port."""
    for item in world.of("Deployment"):
        if not in_mesh(world, item):
            continue
        labels = ((item.spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        services = world.in_namespace("Service", item.namespace)
        services = [each for each in services if each.spec.get("selector") and selects(each.spec["selector"], labels)]
        yield from _protocols(item, services)
        yield from _target_ports(item, services)


def _protocols(item: Item, services: list[Item]) -> Iterator[Problem]:
    protocols: dict[int, dict[str, list[str]]] = {}
    for service in services:
        for port in service.spec.get("ports") or []:
            by_protocol = protocols.setdefault(port.get("port") or 0, {})
            by_protocol.setdefault(str(port.get("protocol") or "TCP"), []).append(service.name)
    for number, found in protocols.items():
        if len(found) > 1:
            said = ", ".join(f"{protocol} in {' and '.join(names)}" for protocol, names in found.items())
            yield item.report("IST0116", "", f"port {number} has several protocols: {said}")


def _target_ports(item: Item, services: list[Item]) -> Iterator[Problem]:
    targets: dict[str, dict[int, list[str]]] = {}
    for service in services:
        for port in service.spec.get("ports") or []:
            if port.get("targetPort"):
                by_port = targets.setdefault(str(port["targetPort"]), {})
                by_port.setdefault(port.get("port") or 0, []).append(service.name)
    for target, found in targets.items():
        if len(found) > 1:
            said = ", ".join(f"{number} of {' and '.join(names)}" for number, names in found.items())
            yield item.report("IST0137", "", f"target port {target} stands behind several ports: {said}")


SIDECAR_USER = 1337


def application_users(world: World) -> Iterator[Problem]:
    """Containers that run as the sidecar's user: traffic of that user goes around the sidecar."""
    for item in (*world.of("Pod"), *world.of("Deployment")):
        template = item.resource.kind == "Deployment"
        spec = (item.spec.get("template") or {}).get("spec") or {} if template else item.spec
        path = "spec.template.spec" if template else "spec"
        if _user(spec) == SIDECAR_USER:
            yield item.report("IST0144", f"{path}.securityContext.runAsUser", "user 1337 is the sidecar's")
        for number, container in enumerate(spec.get("containers") or []):
            if _user(container) == SIDECAR_USER and container.get("name") not in ("istio-proxy", "enable-core-dump"):
                where = f"{path}.containers[{number}].securityContext.runAsUser"
                yield item.report("IST0144", where, "user 1337 is the sidecar's")


def _user(holder: Any) -> Any:
    return (holder.get("securityContext") or {}).get("runAsUser")
