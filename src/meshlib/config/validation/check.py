"""From a kind to its checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from meshlib.config.resources.base import Resource
from meshlib.config.resources.gateway_api import GROUP
from meshlib.config.resources.mesh_config_map import PATH, carries_mesh_config, mesh_settings
from meshlib.config.validation.authentication import peer_authentication, request_authentication
from meshlib.config.validation.authorization import authorization_policy
from meshlib.config.validation.client_policy import client_policy
from meshlib.config.validation.destination_rule import destination_rule
from meshlib.config.validation.gateway import gateway
from meshlib.config.validation.gateway_api import grpc_route, http_route
from meshlib.config.validation.gateway_references import reference_grant
from meshlib.config.validation.mesh_config import mesh_config
from meshlib.config.validation.proxy_config import proxy_config
from meshlib.config.validation.report import Report
from meshlib.config.validation.service_entry import service_entry
from meshlib.config.validation.sidecar import sidecar
from meshlib.config.validation.telemetry import telemetry
from meshlib.config.validation.virtual_service import virtual_service
from meshlib.config.validation.workload_entry import workload_entry
from meshlib.config.validation.workload_group import workload_group
from meshlib.model.problem import Problem

__all__ = ["validate"]

_CHECKS: dict[tuple[str, str], Callable[[Report, Any], None]] = {
    ("networking.istio.io", "VirtualService"): virtual_service,
    ("networking.istio.io", "DestinationRule"): destination_rule,
    ("networking.istio.io", "ServiceEntry"): service_entry,
    ("networking.istio.io", "WorkloadEntry"): workload_entry,
    ("networking.istio.io", "WorkloadGroup"): workload_group,
    ("networking.istio.io", "Sidecar"): sidecar,
    ("networking.istio.io", "Gateway"): gateway,
    ("networking.istio.io", "ProxyConfig"): proxy_config,
    ("security.istio.io", "PeerAuthentication"): peer_authentication,
    ("security.istio.io", "RequestAuthentication"): request_authentication,
    ("security.istio.io", "AuthorizationPolicy"): authorization_policy,
    ("telemetry.istio.io", "Telemetry"): telemetry,
    ("meshlib.dev", "ClientPolicy"): client_policy,
    (GROUP, "HTTPRoute"): http_route,
    (GROUP, "GRPCRoute"): grpc_route,
    (GROUP, "ReferenceGrant"): reference_grant,
}
_DRY_RUN = "istio.io/dry-run"


def validate(resource: Resource[Any]) -> list[Problem]:
    """What is wrong with an object, by itself; pure.

    An object with a problem of level ``ERROR`` must not be used. Kinds without checks have no problems.
    """
    if carries_mesh_config(resource):
        return _mesh_settings(resource)
    group = resource.api_version.rpartition("/")[0]
    check = _CHECKS.get((group, resource.kind))
    if check is None or isinstance(resource.spec, dict):
        return []
    report = Report(resource)
    if _DRY_RUN in resource.metadata.annotations and resource.kind != "AuthorizationPolicy":
        report.error(f"metadata.annotations.{_DRY_RUN}", f"a {resource.kind} cannot be tried without effect")
    check(report, resource.spec)
    return report.problems


def _mesh_settings(resource: Resource[Any]) -> list[Problem]:
    """The mesh's settings stand in an object of no kind of ours, as a text."""
    settings = mesh_settings(resource)
    if settings.config is None:
        return settings.problems
    report = Report(replace(resource, origin=settings.origin))
    mesh_config(report, settings.config)
    return [*settings.problems, *(replace(each, path=f"{PATH}.{each.path}") for each in report.problems)]
