"""One answer of ``/v1/health/service/NAME`` as ServiceEntry objects; pure.

An instance becomes an endpoint: its address (service, else node), its own port, its tags and meta as labels, its weight
by the worst of its checks, its place. What may not be called, as Consul's DNS sees it, is left out: instances with a
critical check, and those in maintenance (a critical check of its own).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshlib.config.validation.primitives import fqdn
from meshlib.config.validation.protocols import protocol
from meshlib.model.hosts import is_ip
from meshlib.providers.instances import Instance, labels_of, service_entries

__all__ = ["Naming", "datacenter_of", "instances", "objects"]

_MARK = "true"
"""Label value of a tag that has none."""
_OTHER_KINDS = frozenset({"connect-proxy", "mesh-gateway", "terminating-gateway", "ingress-gateway", "api-gateway"})


@dataclass(frozen=True, slots=True)
class Naming:
    """How Consul's services are called in the mesh.

    Attributes:
        domain: Consul's DNS domain.
        hosts: Further hosts of each service, with ``{service}``, ``{datacenter}`` and ``{domain}`` filled in.
        port: Port that HTTP services are called on, beside the one that all their instances listen on.
        address: Name of the tagged address to dial (``lan``, ``wan``, ``lan_ipv4``...); plain address where absent.
        namespace: Consul namespace, ``""`` for none.
        partition: Consul admin partition, ``""`` for none.
        passing_only: Leave out instances with a warning.
    """

    domain: str = "consul"
    hosts: tuple[str, ...] = ()
    port: int = 80
    address: str = "lan"
    namespace: str = ""
    partition: str = ""
    passing_only: bool = False

    def hosts_of(self, service: str, datacenter: str, *, local: bool) -> list[str]:
        """All hosts of a service; without the data centre in its name only where it is the agent's own."""
        middle = f".{self.namespace}.ns" if self.namespace else ""
        far = f"{middle}.{self.partition}.ap" if self.partition else middle
        found = [f"{service}.service{middle}.{self.domain}"] if local else []
        if datacenter:
            long = f".{datacenter}.dc" if far else f".{datacenter}"
            found.append(f"{service}.service{far}{long}.{self.domain}")
        filled = {"service": service, "datacenter": datacenter, "domain": self.domain}
        found += [template.format_map(filled) for template in self.hosts]
        return [host.lower() for host in dict.fromkeys(found)]


@dataclass(slots=True)
class _Read:
    """What an answer held."""

    usable: list[Instance] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    registered: int = 0


def instances(answer: Sequence[Any], naming: Naming) -> _Read:
    """The instances that may be called, in an order that depends on nothing but them; and those that cannot be read."""
    read, found = _Read(), []
    for each in answer:
        try:
            service = each["Service"]
            if str(service.get("Kind") or "") in _OTHER_KINDS:
                continue
            read.registered += 1
            key = (str(each["Node"].get("Node", "")), str(service.get("ID", "")))
            instance = _instance(each, naming)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            read.problems.append(f"an instance cannot be read: {type(error).__name__}: {error}")
            continue
        if instance is not None:
            found.append((key, instance))
    read.usable = [instance for _, instance in sorted(found, key=lambda pair: pair[0])]
    return read


def datacenter_of(answer: Sequence[Any]) -> str:
    """The data centre that the nodes of an answer are of; ``""`` when none says so."""
    for each in answer:
        node = each.get("Node") if isinstance(each, Mapping) else None
        found = node.get("Datacenter") if isinstance(node, Mapping) else None
        if isinstance(found, str) and not fqdn(found):
            return found
    return ""


def objects(service: str, naming: Naming, datacenter: str, usable: Sequence[Instance], *, local: bool) -> list[Any]:
    """The ServiceEntry objects of a service."""
    return service_entries("consul", naming.hosts_of(service, datacenter, local=local), usable, naming.port)


# One instance -------------------------------------------------------------------------------------------------------


def _instance(each: Mapping[str, Any], naming: Naming) -> Instance | None:
    """The instance, or None when it may not be called.

    Raises:
        ValueError: It has no port, or an address that is none.
    """
    service, node = each["Service"], each["Node"]
    weight = _weight(service.get("Weights") or {}, _worst(each.get("Checks") or ()), naming.passing_only)
    if not weight:
        return None
    address, port = _address(service, node, naming.address)
    if not 0 < port < 65_536:
        raise ValueError(f"{service.get('ID')!r} has no port to be called on")
    if not is_ip(address) and fqdn(address):
        raise ValueError(f"{service.get('ID')!r} has the address {address!r}")
    meta = {str(key): str(value) for key, value in (service.get("Meta") or {}).items()}
    spoken = meta.get("protocol", "").lower()
    spoken = "" if protocol(spoken) else spoken
    return Instance(address, port, _labels(service.get("Tags") or (), meta), weight, _place(service, node), spoken)


def _worst(checks: Sequence[Mapping[str, Any]]) -> str:
    """``passing``, ``warning`` or ``critical``: what is neither of the first two is the last."""
    states = {str(check.get("Status")) for check in checks}
    if states - {"passing", "warning"}:
        return "critical"
    return "warning" if "warning" in states else "passing"


def _weight(weights: Mapping[str, Any], state: str, passing_only: bool) -> int:
    """Consul's weight of an instance in this state; 0 is not to be called."""
    if state == "critical" or (state == "warning" and passing_only):
        return 0
    return max(0, int(weights.get(state.capitalize(), 1)))


def _address(service: Mapping[str, Any], node: Mapping[str, Any], tag: str) -> tuple[str, int]:
    """Of the service: the tagged address, else the plain one; else of its node the same."""
    port = int(service.get("Port") or _default_port(service.get("Ports") or ()))
    tagged = (service.get("TaggedAddresses") or {}).get(tag)
    if tagged and tagged.get("Address"):
        return str(tagged["Address"]), int(tagged.get("Port") or port)
    if service.get("Address"):
        return str(service["Address"]), port
    return str((node.get("TaggedAddresses") or {}).get(tag) or node.get("Address") or ""), port


def _default_port(ports: Sequence[Mapping[str, Any]]) -> int:
    """Of an instance with several named ports: the one marked as default, else the first; 0 for none."""
    marked = [each for each in ports if each.get("Default")] or ports
    return int(marked[0].get("Port") or 0) if marked else 0


def _labels(tags: Sequence[str], meta: Mapping[str, str]) -> dict[str, str]:
    """Meta, and tags: ``version=v1`` is a label, ``canary`` is ``canary: "true"``; what cannot be a label is none."""
    return labels_of({**dict(_pair(str(tag)) for tag in tags), **meta})


def _pair(tag: str) -> tuple[str, str]:
    key, equals, value = tag.partition("=")
    return key, value if equals else _MARK


def _place(service: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    """``region/zone``: of the service, of its node, of the node's meta, else the data centre as the region."""
    for given in (service.get("Locality"), node.get("Locality")):
        if given and given.get("Region"):
            return "/".join(_parts(given.get("Region"), given.get("Zone")))
    meta = node.get("Meta") or {}
    region = meta.get("topology.kubernetes.io/region") or meta.get("region")
    zone = meta.get("topology.kubernetes.io/zone") or meta.get("zone")
    return "/".join(_parts(region or node.get("Datacenter"), zone))


def _parts(*parts: Any) -> Iterator[str]:
    """Those up to the first that is absent."""
    for part in parts:
        if not part:
            return
        yield str(part)
