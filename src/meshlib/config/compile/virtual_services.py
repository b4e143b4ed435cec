"""VirtualServices that apply in the mesh, delegates merged in.

Source: Istio ``push_context.go`` (``initVirtualServices``): only those whose gateways include ``mesh``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshlib.config.compile.delegates import LostRule, PlacedRule, with_delegates
from meshlib.config.compile.matches import in_mesh
from meshlib.config.compile.registry import age
from meshlib.config.compile.routes import flatten
from meshlib.config.resources.base import Resource
from meshlib.config.resources.virtual_service import VirtualServiceSpec
from meshlib.model.hosts import expand

if TYPE_CHECKING:
    from meshlib.config.compile.actions import Actions
    from meshlib.config.compile.services import Service
    from meshlib.config.compile.sidecar import Listener
    from meshlib.model.route import Route, SkippedRule
    from meshlib.model.snapshot import Client

__all__ = ["MeshRules", "VirtualServices"]


@dataclass(frozen=True, slots=True)
class MeshRules:
    """A VirtualService bound to the mesh, delegates merged in; see ``HostRules``.

    Attributes:
        resource: The object.
        namespace: Where it stands.
        hosts: Its hosts in full.
        http: Its rules, each with the place that it came from.
        export_to: Who may see it.
        lost: Rules whose delegate lends them nothing.
    """

    resource: Resource[VirtualServiceSpec]
    namespace: str
    hosts: tuple[str, ...]
    http: tuple[PlacedRule, ...]
    export_to: tuple[str, ...]
    lost: tuple[LostRule, ...] = ()

    @property
    def age(self) -> tuple[float, str, str]:
        """See ``HostRules.age``."""
        return age(self.resource)

    @property
    def port(self) -> int:
        """Each rule says for which ports it is."""
        return 0

    @property
    def gateway_api(self) -> bool:
        """It is Istio's."""
        return False

    @property
    def virtual_service(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.resource.metadata.name}"

    @property
    def objects(self) -> tuple[str, ...]:
        """The VirtualService alone."""
        return (f"VirtualService {self.virtual_service}",)

    @property
    def gateway_semantics(self) -> bool:
        """Whether it was made from a route of the Gateway API, whose prefixes go by whole segments."""
        return self.resource.metadata.annotations.get("internal.istio.io/route-semantics") == "gateway"

    def serves(self, owner: Service | None, namespace: str) -> bool:
        """Any host, registered or not."""
        return True

    def imported(self, listener: Listener) -> bool:
        """One imported host brings all of them."""
        return listener.imports_rules(self.namespace, self.hosts)

    def routes(self, client: Client, port: int, actions: Actions) -> tuple[tuple[Route, ...], tuple[SkippedRule, ...]]:
        """See ``flatten``."""
        return flatten(self, client, port, actions)


class VirtualServices:
    """All VirtualServices that apply in the mesh, by age.

    Args:
        resources: All objects.
        namespace: For objects that name none.
        domain: DNS suffix of the cluster.
        default: The mesh's ``exportTo``.
        before: Of the same namespace, domain and default; what it made of objects that did not change is taken over.
    """

    def __init__(
        self,
        resources: Iterable[Resource[Any]],
        namespace: str,
        domain: str,
        default: Sequence[str],
        before: VirtualServices | None = None,
    ) -> None:
        objects = sorted((r for r in resources if r.kind == "VirtualService"), key=age)
        delegates = {(r.metadata.namespace or namespace, r.metadata.name): r for r in objects if not r.spec.hosts}
        known = before._by_spec() if before is not None else {}
        self._all = [
            _same_rules(known.get(id(r.spec)), r)
            or _rules(r, namespace, domain, tuple(r.spec.export_to or default), delegates, default)
            for r in objects
            if r.spec.hosts and in_mesh(r.spec.gateways)
        ]
        self.gateway_only = tuple(r for r in objects if r.spec.hosts and not in_mesh(r.spec.gateways))

    def _by_spec(self) -> dict[int, MeshRules]:
        """By the identity of the message, which outlives a move in the file."""
        return {id(rules.resource.spec): rules for rules in self._all}

    def __iter__(self) -> Iterator[MeshRules]:
        """Every one, by age."""
        return iter(self._all)


def _same_rules(before: MeshRules | None, resource: Resource[VirtualServiceSpec]) -> MeshRules | None:
    """What was made of the object before; None when it, or what it delegates to, may have changed."""
    if before is None or before.resource.spec is not resource.spec or before.resource.metadata is not resource.metadata:
        return None
    return None if before.lost or any(rule.delegate for rule in before.http) else before


def _rules(
    resource: Resource[VirtualServiceSpec],
    default_namespace: str,
    domain: str,
    export_to: tuple[str, ...],
    delegates: dict[tuple[str, str], Resource[VirtualServiceSpec]],
    default_export: Sequence[str],
) -> MeshRules:
    namespace = resource.metadata.namespace or default_namespace
    hosts = tuple(expand(host, namespace, domain) for host in resource.spec.hosts)
    found = list(with_delegates(resource, namespace, delegates, default_export))
    http = tuple(rule for rule in found if isinstance(rule, PlacedRule))
    lost = tuple(rule for rule in found if isinstance(rule, LostRule))
    return MeshRules(resource, namespace, hosts, http, export_to, lost)
