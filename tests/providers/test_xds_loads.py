"""Load reports: what a control plane is told of the calls that follow its clusters."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("envoy.service.load_stats.v3")
pytest.importorskip("grpc")

from meshlib import Mesh, MeshClient
from meshlib.model.endpoint import Locality
from meshlib.providers import XdsProvider
from meshlib.providers.xds.loads import Load, Loads
from meshlib.xds import decode
from meshlib.xds.messages import config_source_pb2
from tests.providers.test_xds import NAME, SIDECAR, sidecar_set, until
from tests.xds.planes import ControlPlane
from tests.xds.resources import cluster


def reporting(*ports: int) -> list:
    served = sidecar_set(*ports)
    served[0].lrs_server.self.SetInParent()
    return served


def total(reports: list, field: str) -> int:
    """The sum of a counter over all reports."""
    rows = (row for each in reports for stats in each.get("cluster_stats", ()) for row in _rows(stats))
    return sum(int(row.get(field, 0)) for row in rows)


def _rows(stats: dict) -> list:
    assert stats["cluster_name"] == NAME
    assert stats["load_report_interval"].endswith("s")
    return stats.get("upstream_locality_stats", [])


def test_attempts_are_reported_by_cluster_and_locality(echo):
    one = echo("one")
    with ControlPlane() as plane:
        plane.serve(*reporting(one.port))
        with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR))) as mesh, MeshClient(mesh) as client:
            mesh.ready()
            first = until(plane.loads)[0]
            assert first["node"]["id"] == SIDECAR
            assert "envoy.lrs.supports_send_all_clusters" in first["node"]["client_features"]
            assert "cluster_stats" not in first
            until(lambda: len(plane.loads()) > 1)  # counting begins with the server's answer
            for _ in range(5):
                client.get("http://reviews:9080/")
            one.failing = 500
            for _ in range(3):
                client.get("http://reviews:9080/")
            until(lambda: total(plane.loads(), "total_error_requests") == 3)
            reports = plane.loads()
            assert total(reports, "total_successful_requests") == 5
            assert total(reports, "total_issued_requests") == 8
            rows = [row for each in reports for stats in each.get("cluster_stats", ()) for row in _rows(stats)]
            assert {row["locality"]["region"] for row in rows} == {"r"}


def test_nothing_is_reported_that_nobody_asks_for(echo):
    with ControlPlane() as plane:
        plane.serve(*sidecar_set(echo("one").port))
        with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR))) as mesh, MeshClient(mesh) as client:
            client.get("http://reviews:9080/")
            assert plane.loads() == []
            plane.serve(reporting(1)[0])
            until(plane.loads)


def test_reports_go_to_the_server_of_the_cluster_and_to_no_other():
    message = cluster("c")
    message.lrs_server.CopyFrom(config_source_pb2.ConfigSource(ads={}))
    with pytest.raises(decode.InvalidResource, match="lrs_server: must be self"):
        decode.cluster(message, decode.Profile.GRPC)
    assert decode.cluster(message).not_honoured == ("lrs_server",)
    assert not decode.cluster(message).value.reports_load


def test_what_is_in_progress_stays_counted_from_report_to_report():
    loads, place = Loads(), Locality("r")
    attempt = SimpleNamespace(cluster=SimpleNamespace(name="c"), endpoint=SimpleNamespace(locality=place))
    loads.started(attempt)
    loads.started(attempt)
    loads.dropped("c")
    assert loads.take() == {"c": ({place: Load(2, 0, 0, 2)}, 1)}
    loads.ended(attempt, True)
    assert loads.take() == {"c": ({place: Load(0, 1, 0, 1)}, 0)}
    loads.ended(attempt, False)
    assert loads.take() == {"c": ({place: Load(0, 0, 1, 0)}, 0)}
    assert loads.take() == {"c": ({place: Load(0, 0, 0, 0)}, 0)}
