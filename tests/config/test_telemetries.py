"""What Telemetry objects add up to for a workload: metrics, access logs, sampling."""

from __future__ import annotations

import pytest

from meshlib.config.compile.access_logs import AccessLog
from meshlib.config.compile.attachment import Workload
from meshlib.config.compile.telemetries import Telemetries, TracingSide, sampling_percentage
from meshlib.config.resources import load_text
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.telemetry import IstioMetric, WorkloadMode

WEB = Workload("shop", {"app": "web"})
BOTH = (WorkloadMode.CLIENT, WorkloadMode.SERVER)


def telemetry(name, spec, namespace="shop", created="2024-01-01T00:00:00Z"):
    return (
        f"apiVersion: telemetry.istio.io/v1\nkind: Telemetry\n"
        f"metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}\nspec: {{{spec}}}\n"
    )


def telemetries(*texts, **mesh):
    loaded = load_text("---\n".join(texts))
    assert not loaded.problems
    return Telemetries(loaded.resources, "default", MeshConfig.model_validate(mesh))


ROOT = {"namespace": "istio-system"}
METRICS = {"defaultProviders": {"metrics": ["prometheus"]}}
LOGS = {"defaultProviders": {"accessLogging": ["envoy"]}}


def test_without_any_telemetry_the_default_providers_get_everything():
    assert list(telemetries(**METRICS).metrics(WEB)) == ["prometheus"]
    assert telemetries().metrics(WEB) == {}


def test_changes_add_up_from_the_root_to_the_workload():
    found = telemetries(
        telemetry(
            "mesh", "metrics: [{overrides: [{tagOverrides: {zone: {value: x}, app: {operation: REMOVE}}}]}]", **ROOT
        ),
        telemetry(
            "web",
            "selector: {matchLabels: {app: web}}, metrics: [{overrides: [{match: {metric: REQUEST_COUNT, "
            "mode: CLIENT}, tagOverrides: {zone: {value: y}}}]}]",
        ),
        **METRICS,
    ).metrics(WEB)["prometheus"]
    assert found.client.overrides["REQUEST_COUNT"].tags["zone"].value == "y"
    assert found.client.overrides["REQUEST_COUNT"].tags["app"].operation == "REMOVE"
    assert found.client.overrides["REQUEST_DURATION"].tags["zone"].value == "x"
    assert found.server.overrides["REQUEST_COUNT"].tags["zone"].value == "x"
    assert len(found.server.overrides) == len(IstioMetric) - 1


def test_all_metrics_stay_off_until_a_narrower_object_changes_one_of_that_side():
    off = telemetry("mesh", "metrics: [{overrides: [{disabled: true}]}]", **ROOT)
    on = telemetry("web", "metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: SERVER}, disabled: false}]}]")
    before = telemetries(off, **METRICS).metrics(WEB)["prometheus"]
    assert (before.client.disabled, before.server.disabled) == (True, True)
    after = telemetries(off, on, **METRICS).metrics(WEB)["prometheus"]
    assert (after.client.disabled, after.server.disabled) == (True, False)
    assert not after.server.overrides["REQUEST_COUNT"].disabled


def test_the_last_object_that_names_providers_decides_which_get_metrics():
    mesh = telemetry("mesh", "metrics: [{providers: [{name: stackdriver}], overrides: [{disabled: true}]}]", **ROOT)
    own = telemetry("own", "metrics: [{providers: [{name: prometheus}], reportingInterval: 10s}]")
    found = telemetries(mesh, own, **METRICS).metrics(WEB)
    assert list(found) == ["prometheus"]
    assert found["prometheus"].reporting_interval == 10.0
    assert not found["prometheus"].client.disabled


def test_providers_that_do_not_exist_get_nothing():
    own = telemetry("own", "metrics: [{providers: [{name: nowhere}]}], accessLogging: [{providers: [{name: nowhere}]}]")
    found = telemetries(own, **METRICS)
    assert found.metrics(WEB) == {}
    assert found.access_logs(WEB, WorkloadMode.CLIENT) == {}


def test_access_logs_are_nobodys_business_without_telemetry_and_default_provider():
    assert telemetries().access_logs(WEB, WorkloadMode.CLIENT) is None
    assert telemetries(**LOGS).access_logs(WEB, WorkloadMode.CLIENT) == {"envoy": AccessLog()}


def test_access_logs_are_filtered_and_switched_off_by_side():
    found = telemetries(
        telemetry(
            "mesh",
            "accessLogging: [{providers: [{name: envoy}], filter: {expression: 'response.code >= 400'}}]",
            **ROOT,
        ),
        telemetry("own", "accessLogging: [{match: {mode: SERVER}, disabled: true}]"),
    )
    client, server = (found.access_logs(WEB, mode) for mode in BOTH)
    assert client == {"envoy": AccessLog(filter="response.code >= 400")}
    assert server == {"envoy": AccessLog(disabled=True)}


def test_the_narrowest_object_that_names_providers_of_access_logs_wins():
    found = telemetries(
        telemetry("mesh", "accessLogging: [{providers: [{name: envoy}]}]", **ROOT),
        telemetry("own", "accessLogging: [{providers: [{name: stackdriver}]}]"),
    )
    assert found.access_logs(WEB, WorkloadMode.CLIENT) == {"stackdriver": AccessLog()}
    assert found.access_logs(Workload("other"), WorkloadMode.CLIENT) == {"envoy": AccessLog()}


def test_only_the_oldest_general_object_of_a_namespace_counts():
    found = telemetries(
        telemetry("younger", "accessLogging: [{providers: [{name: stackdriver}]}]", created="2024-06-01T00:00:00Z"),
        telemetry("older", "accessLogging: [{providers: [{name: envoy}]}]"),
    )
    assert list(found.access_logs(WEB, WorkloadMode.CLIENT)) == ["envoy"]


def test_an_object_for_a_gateway_is_for_no_ordinary_workload():
    own = (
        "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}, tracing: [{disableSpanReporting: true}]"
    )
    assert telemetries(telemetry("own", own)).tracing(WEB) is None


SAMPLER = {"service": "dt", "port": 1, "dynatraceSampler": {"tenant": "t", "clusterId": 1}}


@pytest.mark.parametrize(
    ("given", "tracing", "percent"),
    [
        (None, {}, 1.0),
        (None, {"sampling": 0}, 1.0),
        (None, {"sampling": 12.5}, 12.5),
        (None, {"sampling": 250}, 1.0),
        (0.0, {"sampling": 12.5}, 0.0),
        (80.0, {"sampling": 12.5}, 80.0),
    ],
)
def test_sampling_is_telemetrys_then_the_meshs_then_one_percent(given, tracing, percent):
    mesh = MeshConfig.model_validate({"defaultConfig": {"tracing": tracing}})
    assert sampling_percentage(TracingSide(random_sampling_percentage=given), mesh) == percent


def test_a_provider_with_a_sampler_of_its_own_sees_every_trace():
    mesh = MeshConfig.model_validate({"extensionProviders": [{"name": "dt", "opentelemetry": SAMPLER}]})
    assert sampling_percentage(TracingSide(mesh.provider("DT"), random_sampling_percentage=5.0), mesh) == 100.0
