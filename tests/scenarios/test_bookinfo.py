"""Istio's Bookinfo files, verbatim, against real servers: shares and matches are as the files' names say."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from meshlib import Mesh, MeshClient
from meshlib.config.resources import load_file
from tests.conftest import endpoint_slice

SERVICES = {"productpage": ["v1"], "details": ["v1", "v2"], "reviews": ["v1", "v2", "v3"], "ratings": ["v1", "v2"]}
COUNT = 300

# file below networking/ -> (service, headers, expected shares)
CASES = {
    "virtual-service-all-v1": [("reviews", {}, {"v1": 1}), ("ratings", {}, {"v1": 1}), ("productpage", {}, {"v1": 1})],
    "virtual-service-reviews-v3": [("reviews", {}, {"v3": 1})],
    "virtual-service-reviews-50-v3": [("reviews", {}, {"v1": 0.5, "v3": 0.5})],
    "virtual-service-reviews-80-20": [("reviews", {}, {"v1": 0.8, "v2": 0.2})],
    "virtual-service-reviews-90-10": [("reviews", {}, {"v1": 0.9, "v2": 0.1})],
    "virtual-service-reviews-v2-v3": [("reviews", {}, {"v2": 0.5, "v3": 0.5})],
    "virtual-service-reviews-test-v2": [("reviews", {"end-user": "jason"}, {"v2": 1}), ("reviews", {}, {"v1": 1})],
    "virtual-service-reviews-jason-v2-v3": [("reviews", {"end-user": "jason"}, {"v2": 1}), ("reviews", {}, {"v3": 1})],
    "virtual-service-details-v2": [("details", {}, {"v2": 1})],
    "virtual-service-ratings-test-abort": [("ratings", {"end-user": "jason"}, {500: 1}), ("ratings", {}, {"v1": 1})],
    "fault-injection-details-v1": [("details", {}, {555: 1})],
    "virtual-service-ratings-db": [("ratings", {}, {"v2": 1}), ("reviews", {}, {"v3": 1})],
}

CRITICAL = {1: 10.83}
"""Chi-square at one degree of freedom: exceeded by chance once in a thousand runs."""


@pytest.fixture
def bookinfo(shared_data, echo, tmp_path):
    """The sample's services, with endpoints on real servers."""
    slices = [
        endpoint_slice(service, version, ("127.0.0.1", echo(version).port))
        for service, versions in SERVICES.items()
        for version in versions
    ]
    (tmp_path / "endpoints.yaml").write_text("---\n".join(slices))
    return [shared_data / "samples/bookinfo/platform/kube/bookinfo.yaml", tmp_path / "endpoints.yaml"]


def test_every_networking_file_loads(shared_data):
    for path in sorted((shared_data / "samples/bookinfo/networking").glob("*.yaml")):
        loaded = load_file(path)
        assert loaded.resources, path
        assert loaded.problems == [], path


@pytest.mark.parametrize("name", CASES)
def test_traffic_obeys_the_file(name, bookinfo, shared_data):
    networking = shared_data / "samples/bookinfo/networking"
    sources = [networking / f"{name}.yaml", networking / "destination-rule-all.yaml", *bookinfo]
    with Mesh(*sources, telemetry=False, rng=random.Random(11)) as mesh, MeshClient(mesh) as client:
        for service, headers, shares in CASES[name]:
            counts: Counter[str | int] = Counter()
            for _ in range(COUNT if len(shares) > 1 else 20):
                response = client.get(f"http://{service}:9080/{service}/0", headers=headers)
                counts[response.json()["name"] if response.status_code == 200 else response.status_code] += 1
            _judge(counts, shares)


def _judge(counts, shares):
    total = sum(counts.values())
    assert set(counts) <= set(shares)
    if len(shares) == 1:
        return
    chi_square = sum((counts[name] - share * total) ** 2 / (share * total) for name, share in shares.items())
    assert chi_square < CRITICAL[len(shares) - 1], counts


def test_an_injected_delay_of_the_sample_is_explained(shared_data, bookinfo):
    networking = shared_data / "samples/bookinfo/networking"
    sources = [networking / "virtual-service-ratings-test-delay.yaml", networking / "destination-rule-all.yaml"]
    with Mesh(*sources, *bookinfo, telemetry=False) as mesh:
        decision = mesh.explain("GET", "http://ratings:9080/", {"end-user": "jason"})
        assert decision.details["fault"]["delay"] == {"percentage": 100.0, "fixed_delay_s": 7.0}
        assert mesh.explain("GET", "http://ratings:9080/").details["fault"] is None
