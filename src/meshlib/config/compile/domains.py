"""The names that a service answers to, listed: what a control plane writes into ``domains`` of a virtual host.

Look-ups need no such list (``seen``, ``http_hosts`` find the service of a spelling); both follow the same rules.

Source: Istio ``core/httproute.go`` (``generateVirtualHostDomains``, ``GenerateAltVirtualHosts``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from meshlib.model.hosts import is_ip

__all__ = ["own_addresses", "short_names", "virtual_host_domains"]


def virtual_host_domains(
    host: str, dns_domain: str, addresses: Iterable[str] = (), *, headless: bool = False
) -> list[str]:
    """Every spelling of ``host`` that callers with that DNS domain (``ns.svc.cluster.local``) may use.

    The full name, the same with a trailing dot, short names, and virtual IPs; pods' names for a headless service.
    Ports are left out: the port of a Host header is ignored.
    """
    names = [host] if is_ip(host) else [host, f"{host}.", *short_names(host, dns_domain)]
    if headless:
        names += [f"*.{name}" for name in names]
    return [_bracketed(name) for name in dict.fromkeys([*names, *addresses])]


def short_names(host: str, dns_domain: str) -> list[str]:
    """``host`` without what it shares with the caller's DNS domain."""
    if ".svc." in dns_domain:
        return _kubernetes_names(host, dns_domain)
    unique, shared = _split(host.split("."), dns_domain.split("."))
    if not shared or not unique:
        return []
    name = ".".join(unique)
    return [name, f"{name}.{shared[0]}"] if len(unique) == 2 else [name]


def _kubernetes_names(host: str, dns_domain: str) -> list[str]:
    within, dot, _ = host.partition(".svc.")
    _, named, namespace = within.partition(".")
    if not dot or not named or not namespace:
        return []
    names = [within, f"{within}.svc"]
    same = namespace == dns_domain.partition(".svc.")[0]
    return [within.partition(".")[0], *names] if same else names


def _split(host: Sequence[str], domain: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The labels of ``host`` before, and those from where it ends as the caller's domain does."""
    count = 0
    while count < min(len(host), len(domain)) and host[-1 - count] == domain[-1 - count]:
        count += 1
    return host[: len(host) - count], host[len(host) - count :]


def own_addresses(addresses: Sequence[str], default: str, client_ips: Iterable[str]) -> list[str]:
    """The virtual IPs of the families that the caller has; the default one where none is left.

    Args:
        addresses: Virtual IPs in the caller's cluster.
        default: The service's address for callers elsewhere; ``0.0.0.0`` is none.
        client_ips: The caller's own addresses.
    """
    versions = {ip_address(own).version for own in client_ips}
    kept = [address for address in addresses if ip_address(address).version in versions]
    return kept or [address for address in [default] if address and not ip_address(address).is_unspecified]


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
