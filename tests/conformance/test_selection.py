"""Which security and Telemetry objects are for a workload, and what they add up to: Istio's cases."""

from __future__ import annotations

import pytest

from meshlib.config.compile.attachment import AttachedService, Workload, attaches
from meshlib.config.compile.security_policies import SecurityPolicies
from meshlib.config.compile.telemetries import Telemetries
from meshlib.config.resources import load_dict
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.security import AuthorizationPolicySpec
from tests.conftest import data_cases

REGISTRIES = {"Kubernetes": "Service", "External": "ServiceEntry"}


def resources_of(objects):
    return [resource for given in objects for resource in load_dict(given).resources]


def workload_of(given):
    services = [
        AttachedService(REGISTRIES[s["registry"]], s["namespace"], s["name"]) for s in given.get("services", ())
    ]
    return Workload(given["namespace"], given["labels"], given.get("waypoint", False), tuple(services))


INCOMPLETE = {
    "attach/gateway-attached-policy-with-service": "a row with the very same input expects the opposite",
    "attach/gateway-attached-policy-with-multi-service": "a row with the very same input expects the opposite",
    "list/waypoint-with-default-policies": "the row does not say which service the waypoint stands in front of",
}
"""Rows of waypoints that lost a part of their input on the way here."""


@pytest.mark.parametrize("case", data_cases("model/policy_selection.json"))
def test_policies_of_a_workload(case):
    lost = INCOMPLETE.get(case["id"].removeprefix("model/policy_selection/"))
    if lost is not None:
        pytest.skip(lost)
    workload = workload_of(case["workload"])
    if case["check"] == "policy_attaches":
        references = AuthorizationPolicySpec.model_validate({"targetRefs": case["target_refs"] or []}).target_refs
        selecting = AuthorizationPolicySpec.model_validate({"selector": case["selector"]})
        policy = selecting.model_copy(update={"target_refs": references})  # both, which no loader lets through
        assert case["expect"] is attaches(
            policy,
            case["policy_namespace"],
            workload,
            "istio-system",
            selectors_for_gateways=case["enable_selector_policies"],
        )
        return
    applied = SecurityPolicies(resources_of(case["policies"]), "default", case["root_namespace"]).authorization(
        workload
    )
    found = {"CUSTOM": applied.custom, "DENY": applied.deny, "ALLOW": applied.allow, "AUDIT": applied.audit}
    assert {
        action: sorted(f"{policy.metadata.namespace}/{policy.metadata.name}" for policy in policies)
        for action, policies in found.items()
    } == case["expect"]


def shown(side):
    return {
        "provider": side.provider.name if side.provider is not None else None,
        "disabled": side.disabled,
        "sampling_percentage": side.random_sampling_percentage,
        "custom_tags": sorted(side.custom_tags),
        "use_request_id_for_sampling": side.use_request_id,
        "enable_istio_tags": side.enable_istio_tags,
        "disable_context_propagation": side.disable_context_propagation,
    }


@pytest.mark.parametrize("case", data_cases("model/telemetry_tracing.json"))
def test_tracing_of_a_workload(case):
    mesh = MeshConfig.model_validate({"defaultProviders": {"tracing": case["default_providers"]}})
    telemetries = Telemetries(resources_of(case["telemetries"]), "default", mesh)
    found = telemetries.tracing(workload_of(case["workload"]))
    assert (None if found is None else {"client": shown(found.client), "server": shown(found.server)}) == case["expect"]


def test_a_waypoint_takes_the_policies_of_the_services_that_it_stands_in_front_of():
    case = next(
        (c.values[0] for c in data_cases("model/policy_selection.json") if c.id.endswith("default-policies")), None
    )
    if case is None:
        pytest.skip("third-party test data is absent")
    service = {"name": "foo-svc", "namespace": "foo", "registry": "Kubernetes"}
    workload = workload_of({**case["workload"], "services": [service]})
    applied = SecurityPolicies(resources_of(case["policies"]), "default", case["root_namespace"]).authorization(
        workload
    )
    assert [policy.metadata.name for policy in applied.allow] == ["default", "authz-1"]
