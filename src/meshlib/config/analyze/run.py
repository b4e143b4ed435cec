"""Every analyzer over all objects, and what loading and validation found, in the order of the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from meshlib.config.analyze import (
    client_policies,
    conditions,
    conflicts,
    destination_rules,
    destinations,
    gateway_routes,
    gateways,
    in_force,
    injection,
    pitfalls,
    platform,
    rules,
    selectors,
)
from meshlib.config.analyze import services as ports
from meshlib.config.analyze.annotations import alpha, misused
from meshlib.config.analyze.codes import CODES
from meshlib.config.analyze.defaults import with_defaults
from meshlib.config.analyze.duplicates import distinct
from meshlib.config.analyze.identities import identities
from meshlib.config.analyze.suppress import without_suppressed
from meshlib.config.analyze.world import World
from meshlib.config.resources.base import Resource
from meshlib.config.resources.bounds import MAX_PROBLEMS
from meshlib.config.resources.not_honoured import UNKNOWN_FIELD
from meshlib.config.resources.not_honoured import not_honoured as fields_and_kinds
from meshlib.config.resources.yaml_lines import read
from meshlib.model.problem import Problem

__all__ = ["ANALYZERS", "ON_DEMAND", "analyze"]


def _schema(world: World) -> Iterator[Problem]:
    """What validation says of each object; unreachable rules are ``rules``' concern."""
    for item in world.items:
        yield from (problem for problem in world.problems[id(item.resource)] if problem.code != "IST0130")


def _not_honoured(world: World) -> Iterator[Problem]:
    """What meshlib does not do, or does in another way; loading has told of unknown fields."""
    for item in world.items:
        yield from (
            problem for problem in fields_and_kinds(item.resource) if not problem.message.endswith(UNKNOWN_FIELD)
        )


_NOT_HONOURED = "meshlib.NotHonoured"

ANALYZERS: dict[str, tuple[Callable[[World], Iterator[Problem]], ...]] = {
    "annotations.K8sAnalyzer": (misused,),
    "annotations.AlphaAnalyzer": (alpha,),
    "authn.BlockedCIDRsAnalyzer": (platform.jwks_addresses,),
    "authz.MutualTLS": (identities,),
    "authz.AuthorizationPoliciesAnalyzer": (selectors.authorization,),
    "conditions.ConditionAnalyzer": (conditions.conditions,),
    "deployment.ServiceAssociationAnalyzer": (ports.deployments,),
    "deployment.ApplicationUIDAnalyzer": (ports.application_users,),
    "deprecation.FieldAnalyzer": (rules.deprecated,),
    "destinationrule.CaCertificateAnalyzer": (destination_rules.certificates,),
    "destinationrule.PodNotSelectedAnalyzer": (destination_rules.subsets,),
    "gateway.CertificateAnalyzer": (gateways.repeated_certificates,),
    "gateway.ConflictingGatewayAnalyzer": (gateways.conflicting_gateways,),
    "gateway.IngressGatewayPortAnalyzer": (gateways.gateway_ports,),
    "gateway.SecretAnalyzer": (gateways.gateway_secrets,),
    "injection.Analyzer": (injection.injection,),
    "k8sgateway.CRDVersionAnalyzer": (platform.gateway_api_versions,),
    "k8sgateway.SelectorAnalyzer": (selectors.selectors_of_gateways,),
    "meshlib.ClientPolicies": (
        client_policies.known_hosts,
        client_policies.rivals,
        client_policies.breakers,
        client_policies.budgets,
    ),
    "meshlib.GatewayRoutes": (gateway_routes.routes,),
    "meshlib.InForce": (
        in_force.subsets_in_force,
        in_force.hidden_rules,
        in_force.ejections,
        in_force.duplicate_hosts,
    ),
    _NOT_HONOURED: (_not_honoured,),
    "meshlib.Pitfalls": (
        pitfalls.stars,
        pitfalls.retries,
        pitfalls.faults,
        pitfalls.credentials,
        pitfalls.outbound_policies,
    ),
    "meshnetworks.MeshNetworksAnalyzer": (platform.network_registries,),
    "schemaValidation.CollectionValidationAnalyzer": (_schema, rules.unreachable_rules),
    "service.PortNameAnalyzer": (ports.port_names,),
    "serviceentry.ConflictingServiceEntryProtocolAnalyzer": (conflicts.service_entry_protocols,),
    "serviceentry.ProtocolAddressesAnalyzer": (ports.service_entry_addresses,),
    "services.MultiClusterServiceAnalyzer": (platform.inconsistent_services,),
    "sidecar.SelectorAnalyzer": (selectors.sidecars,),
    "telemetry.DefaultSelectorAnalyzer": (selectors.default_telemetries,),
    "telemetry.LightstepAnalyzer": (rules.lightstep,),
    "telemetry.ProviderAnalyzer": (selectors.telemetry_providers,),
    "telemetry.SelectorAnalyzer": (selectors.telemetries,),
    "virtualservice.ConflictingMeshGatewayHostsAnalyzer": (conflicts.mesh_hosts,),
    "virtualservice.DestinationHostAnalyzer": (destinations.destination_hosts, destinations.hidden_subsets),
    "virtualservice.DestinationRuleAnalyzer": (destinations.destination_subsets,),
    "virtualservice.GatewayAnalyzer": (gateways.gateways_used,),
    "virtualservice.JWTClaimRouteAnalyzer": (gateways.claims_without_authentication,),
}
"""Istio's names of the analyzers -> ours; ``authz.MutualTLS`` and ``meshlib.*`` are our own."""

ON_DEMAND = frozenset({"annotations.AlphaAnalyzer", "injection.Analyzer"})
"""Analyzers that run only when they are named: they find something in every mesh, mostly nothing of concern."""


def analyze(
    resources: Sequence[Resource[Any]],
    *,
    loading: Sequence[Problem] = (),
    namespace: str = "default",
    mesh: Mapping[str, Any] | None = None,
    only: Collection[str] | None = None,
    suppress: Sequence[str] = (),
    not_honoured: bool = True,
    now: datetime | None = None,
) -> list[Problem]:
    """What ``istioctl analyze`` would say of these objects, as if they were all there is. Pure, but for ``now``.

    Args:
        resources: The objects.
        loading: What loading them found; part of the result.
        namespace: Where objects without a namespace are.
        mesh: MeshConfig; None takes it from a ConfigMap ``istio``.
        only: Names of ``ANALYZERS``; None runs all but those ``ON_DEMAND``.
        suppress: ``CODE=Kind name.namespace``, each silences a code for the objects that it names; ``*`` is any text.
        not_honoured: Whether to tell of fields and kinds that meshlib does not act upon (MESH010, MESH011).
        now: What certificates are judged by; None is the present.

    Raises:
        ConfigError: An entry of ``suppress`` is of another form.
    """
    settings = _mesh_config(resources) if mesh is None else mesh
    chosen, repeated = distinct(resources, namespace)
    world = World(with_defaults(chosen), namespace, settings, everywhere=resources, now=now)
    names = set(ANALYZERS) - ON_DEMAND if only is None else set(only)
    names -= set() if not_honoured else {_NOT_HONOURED}
    found = [*loading, *repeated]
    for name, functions in ANALYZERS.items():
        if name in names:
            found.extend(problem for function in functions for problem in _run(name, function, world))
    return list(_bounded(sorted(without_suppressed(world, dict.fromkeys(found), suppress), key=_place)))


def _bounded(found: Iterable[Problem]) -> Iterator[Problem]:
    """Of each code the first hundred about one object."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for problem in found:
        about = (problem.file, problem.resource, problem.code)
        counts[about] += 1
        if counts[about] <= MAX_PROBLEMS or not problem.resource:
            yield problem


def _run(name: str, function: Callable[[World], Iterator[Problem]], world: World) -> list[Problem]:
    """Kinds that are not modelled can hold anything: one that an analyzer cannot read is said, not raised."""
    found: list[Problem] = []
    try:
        found.extend(function(world))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        title, level = CODES["IST0001"]
        found.append(Problem("IST0001", title, level, "", f"{name} met a field of an unexpected form: {error}"))
    return found


def _place(problem: Problem) -> tuple[str, int, str]:
    return (problem.file, problem.line or 0, problem.code)


def _mesh_config(resources: Sequence[Resource[Any]]) -> Mapping[str, Any]:
    for resource in resources:
        if resource.kind == "ConfigMap" and resource.metadata.name == "istio":
            data = resource.spec.get("data") if isinstance(resource.spec, dict) else None
            text = data.get("mesh") if isinstance(data, dict) else None
            settings = read(text, 1).value if isinstance(text, str) else None
            return settings if isinstance(settings, dict) else {}
    return {}
